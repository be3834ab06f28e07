//! Cancel keys: ours towards clients, each standing for one of Postgres's.
//!
//! Invariant: a request is passed on only with the exact key that its session
//! was given; anything else does nothing, and nobody is told which it was.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use ring::rand::{SecureRandom, SystemRandom};

use crate::upstream::connect::{CancelKey, Target, cancel};

/// What it takes to cancel one session's statement upstream.
#[derive(Clone)]
pub struct Canceller {
    target: Arc<Target>,
    key: Option<CancelKey>,
    /// Whether the session has sent something that is not yet answered.
    pub(crate) busy: Arc<AtomicBool>,
}

impl Canceller {
    /// Of a session with that key, if its upstream gave one.
    pub fn new(target: Arc<Target>, key: Option<CancelKey>) -> Self {
        Self {
            target,
            key,
            busy: Arc::default(),
        }
    }

    /// Asks Postgres to stop what the session is doing, if it does anything.
    pub async fn cancel(&self) {
        let Some(key) = self
            .key
            .as_ref()
            .filter(|_| self.busy.load(Ordering::Acquire))
        else {
            return;
        };
        if let Err(error) = cancel(&self.target, key).await {
            tracing::warn!(dataset = %self.target.dataset, %error, "upstream could not be asked to cancel");
        }
    }
}

/// The keys of all sessions; clones share it.
#[derive(Clone, Default)]
pub struct Cancels {
    sessions: Arc<Mutex<HashMap<i32, Registered>>>,
}

struct Registered {
    secret: Vec<u8>,
    canceller: Canceller,
}

impl Cancels {
    /// Gives a session its key: four bytes of secret under protocol 3.0,
    /// thirty-two under 3.2. `None` without a source of randomness: a key that
    /// can be guessed is worse than none.
    ///
    /// Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-CANCELING-REQUESTS>
    pub fn register(&self, canceller: Canceller, minor: u16) -> Option<Key> {
        let random = SystemRandom::new();
        let mut secret = vec![0; if minor >= 2 { 32 } else { 4 }];
        random.fill(&mut secret).ok()?;
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let pid = loop {
            let mut pid = [0; 4];
            random.fill(&mut pid).ok()?;
            // Positive, as a process id is.
            let pid = i32::from_be_bytes(pid) & i32::MAX;
            if pid != 0 && !sessions.contains_key(&pid) {
                break pid;
            }
        };
        sessions.insert(
            pid,
            Registered {
                secret: secret.clone(),
                canceller,
            },
        );
        drop(sessions);
        Some(Key {
            pid,
            secret,
            cancels: self.clone(),
        })
    }

    /// Serves a CancelRequest. A wrong key does nothing.
    pub async fn cancel(&self, pid: i32, secret: &[u8]) {
        let canceller = {
            let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
            sessions
                .get(&pid)
                .filter(|session| same(&session.secret, secret))
                .map(|session| session.canceller.clone())
        };
        if let Some(canceller) = canceller {
            canceller.cancel().await;
        }
    }
}

/// A session's registration: ends with it.
pub struct Key {
    /// As the client knows it
    pub pid: i32,
    /// As the client knows it
    pub secret: Vec<u8>,
    cancels: Cancels,
}

impl Drop for Key {
    fn drop(&mut self) {
        self.cancels
            .sessions
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&self.pid);
    }
}

/// Compares in a time that depends on the lengths alone.
fn same(left: &[u8], right: &[u8]) -> bool {
    left.len() == right.len()
        && left
            .iter()
            .zip(right)
            .fold(0, |difference, (one, other)| difference | (one ^ other))
            == 0
}
