//! The record of those who were not let in, bounded in size and number.
//!
//! Knows nothing about why. Invariant: whoever has no credentials cannot fill the
//! disk that every statement's record depends on; what is left out is counted.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::audit::record::{What, clipped};
use crate::audit::{Event, Log};
use crate::listener::{Refusal, Refused};

/// So many are recorded one by one, and as many of those who have a password and not the code
/// that goes with it: nobody else can keep out of the record that somebody guesses codes…
const FAILURES: u32 = 20;
/// … in this time; of the others there is one record, at its end.
const WINDOW: Duration = Duration::from_secs(1);
/// A reason quotes the name, once.
const REASON: usize = 200;

/// Records failures.
#[derive(Clone)]
pub(super) struct Failures {
    log: Log,
    window: Arc<Mutex<Window>>,
}

struct Window {
    began: Instant,
    recorded: u32,
    /// Of those who had proved a password.
    recorded_halfway: u32,
    omitted: u64,
}

impl Failures {
    pub(super) fn new(log: Log) -> Self {
        let window = Window {
            began: Instant::now(),
            recorded: 0,
            recorded_halfway: 0,
            omitted: 0,
        };
        Self {
            log,
            window: Arc::new(Mutex::new(window)),
        }
    }

    /// Records a refusal of somebody who came so far as to say a name, or to show a
    /// certificate.
    pub(super) async fn record(&self, refusal: &Refusal<'_>) {
        let showed = matches!(refusal.why, Refused::Key(_));
        let halfway = matches!(refusal.why, Refused::Login { .. });
        if refusal.user.is_none() && !showed || !self.has_room(halfway) {
            return;
        }
        let why = refusal.why.to_string();
        let shown = refusal.tls.and_then(|tls| tls.shown());
        let what = What::AuthenticationFailure {
            user: refusal.user.map(|user| clipped(user).to_owned()),
            client: refusal.peer,
            tls: refusal.tls.map(|tls| tls.version),
            dataset: refusal.dataset.map(|name| clipped(name).to_owned()),
            application: refusal
                .application_name
                .map(|name| clipped(name).to_owned()),
            certificate: shown.and_then(|shown| shown.fingerprint()),
            serial: shown.and_then(|shown| shown.serial()),
            reason: why.chars().take(REASON).collect(),
        };
        // It is refused in any case.
        let _ = self.log.append(&Event::now(None, what)).await;
    }

    /// Whether this one is recorded by itself; otherwise it is counted.
    fn has_room(&self, halfway: bool) -> bool {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        if window.began.elapsed() >= WINDOW {
            window.began = Instant::now();
            (window.recorded, window.recorded_halfway) = (0, 0);
        }
        let recorded = match halfway {
            true => &mut window.recorded_halfway,
            false => &mut window.recorded,
        };
        if *recorded < FAILURES {
            *recorded += 1;
            return true;
        }
        window.omitted += 1;
        if window.omitted == 1 {
            let (failures, left) = (self.clone(), WINDOW.saturating_sub(window.began.elapsed()));
            tokio::spawn(async move {
                tokio::time::sleep(left).await;
                failures.sum_up().await;
            });
        }
        false
    }

    async fn sum_up(&self) {
        let count = {
            let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::take(&mut window.omitted)
        };
        let what = What::AuthenticationFailuresOmitted { count };
        let _ = self.log.append(&Event::now(None, what)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Durability;
    use crate::error::Tell as _;
    use crate::identity::login::LoginError;

    #[tokio::test]
    async fn a_flood_is_counted_and_a_name_is_cut() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("records");
        let failures = Failures::new(Log::open(&path, Durability::Flush).unwrap());
        let name = "ä".repeat(5_000);
        let why = Refused::Password(name.clone());
        let refusal = Refusal {
            peer: "127.0.0.1:1".parse().unwrap(),
            tls: None,
            user: Some(&name),
            dataset: Some(&name),
            application_name: Some(&name),
            told: why.tell(),
            why: &why,
        };
        for _ in 0..500 {
            failures.record(&refusal).await;
        }
        // Who has the password of somebody is on record by itself all the same.
        let guess = Refused::Login {
            user: "jo".into(),
            why: LoginError::Wrong,
        };
        let guessing = Refusal {
            user: Some("jo"),
            told: guess.tell(),
            why: &guess,
            ..refusal
        };
        failures.record(&guessing).await;
        tokio::time::sleep(WINDOW + Duration::from_millis(200)).await;
        let text = std::fs::read_to_string(&path).unwrap();
        let records: Vec<serde_json::Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let of = |event: &str| {
            let found = records.iter().filter(|record| record["event"] == event);
            found.collect::<Vec<_>>()
        };
        let (one_by_one, summed) = (
            of("authentication_failure"),
            of("authentication_failures_omitted"),
        );
        let omitted: u64 = summed.iter().map(|it| it["count"].as_u64().unwrap()).sum();
        assert_eq!(one_by_one.len() as u64 + omitted, 501);
        assert!(one_by_one.iter().any(|it| it["user"] == "jo"), "{text}");
        assert!(one_by_one.len() < 100, "{}", one_by_one.len());
        for field in ["user", "dataset", "application"] {
            assert_eq!(one_by_one[0][field], "ä".repeat(31));
        }
        assert!(text.len() / records.len() < 900, "{text}");
    }
}
