//! Sends what the log holds elsewhere.
//!
//! Knows nothing about sessions or policy. Sinks read the log's own files: the log is what
//! they are spooled in, and each keeps on disk how far it has come. So one that is down
//! loses nothing, and keeps nobody waiting, unless it is `required`. Invariants: a sink is
//! sent only what a checkpoint has signed; it has come so far only when the other side has
//! said so. What is sent may be sent twice, by the same number.

mod batch;
mod cursor;
mod lag;
mod stdout;
mod syslog;
mod table;
mod tail;
mod webhook;

use std::error::Error;
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};

use crate::audit::Log;
use crate::audit::log::LogError;
use crate::audit::progress::{Progress, Reached};
use crate::audit::segments::Places;
use crate::config;
use batch::{Batch, Record};
use lag::Lag;
pub use table::SCHEMA;
use tail::{RECORDS, Tail};

/// How long a sink waits for records before it looks around.
const TICK: Duration = Duration::from_millis(500);
/// Between the first two tries, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(30));
/// How often a batch fails as it is, for whatever reason, before less of it is tried.
const PATIENT: u32 = 5;
/// How often a sink that is down is told of.
const TELL: Duration = Duration::from_secs(60);
/// How long all of one delivery may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// Why a delivery failed.
type Fault = Box<dyn Error + Send + Sync>;

/// What is wrong with a batch, and not with the way.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Refused(String);

/// The other side.
trait Deliver: Send {
    /// Sends records, and gives back when the other side has them.
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Fault>;

    /// Whether it is sent records, or checkpoints alone.
    fn takes_records(&self) -> bool {
        true
    }
}

/// Running sinks.
pub struct Sinks {
    threads: Vec<JoinHandle<()>>,
    progress: Arc<Progress>,
    lags: Vec<Arc<Lag>>,
}

/// Why sinks do not start.
#[derive(Debug, thiserror::Error)]
pub enum SinkError {
    /// The log has no files to read from.
    #[error("sinks read the log's files, and `audit.file` is none")]
    NoFile,
    /// One cannot be set up.
    #[error("sink {0}: {1}")]
    Setup(String, Fault),
}

impl Sinks {
    /// Starts those of a log.
    ///
    /// # Errors
    /// Where a secret or a file of one is not there. One that does not answer is no error.
    pub async fn start(config: &config::Audit, log: &Log) -> Result<Option<Self>, SinkError> {
        if config.sinks.is_empty() {
            return Ok(None);
        }
        let progress = log.progress().ok_or(SinkError::NoFile)?.clone();
        let places = Places::of(&config.file);
        let mut sinks = Self {
            threads: Vec::new(),
            progress: progress.clone(),
            lags: Vec::new(),
        };
        let mut required = Vec::new();
        for (name, one) in &config.sinks {
            let setup = |fault: Fault| SinkError::Setup(name.clone(), fault);
            let deliver = other_side(one).await.map_err(setup)?;
            let tail = Tail::open(&places, name, progress.name(), progress.now().signed)
                .map_err(|error| setup(error.into()))?;
            let lag = Arc::new(Lag::new(name, tail.at().position));
            if let Some(most) = one.required {
                required.push((lag.clone(), most));
            }
            sinks.lags.push(lag.clone());
            let one = One {
                deliver,
                format: one.format,
                tail,
                lag,
                progress: progress.clone(),
                most: RECORDS,
                again: None,
                failing: None,
            };
            let thread = std::thread::Builder::new()
                .name("audit-sink".into())
                .spawn(move || one.run())
                .map_err(|error| setup(error.into()))?;
            sinks.threads.push(thread);
        }
        let (lags, log) = (sinks.lags.clone(), log.clone());
        let watch = move || watch(&lags, &required, &progress, &log);
        std::thread::Builder::new()
            .name("audit-sinks".into())
            .spawn(watch)
            .map_err(|error| SinkError::Setup("all".into(), error.into()))?;
        Ok(Some(sinks))
    }

    /// Tells up to which record all of them have taken.
    pub fn taken(&self) -> impl Fn() -> u64 + Send + use<> {
        let lags = self.lags.clone();
        move || lags.iter().map(|lag| lag.taken()).min().unwrap_or(0)
    }

    /// Has each send what there still is, once, and waits for that, but not for long: the
    /// rest is sent by the next proxy.
    pub fn end(self, patience: Duration) {
        self.progress.end();
        let end = Instant::now() + patience;
        while !self.threads.iter().all(JoinHandle::is_finished) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Whether sinks can be set up, without sending anything.
///
/// # Errors
/// As [`Sinks::start`].
pub async fn check(config: &config::Audit) -> Result<(), SinkError> {
    for (name, one) in &config.sinks {
        let side = other_side(one).await;
        side.map_err(|fault| SinkError::Setup(name.clone(), fault))?;
    }
    Ok(())
}

async fn other_side(sink: &config::Sink) -> Result<Box<dyn Deliver>, Fault> {
    if let Some(webhook) = &sink.webhook {
        return Ok(Box::new(webhook::Hook::new(webhook).await?));
    }
    if let Some(syslog) = &sink.syslog {
        return Ok(Box::new(syslog::Collector::new(syslog)?));
    }
    match &sink.postgres {
        Some(postgres) => Ok(Box::new(table::Table::new(postgres).await?)),
        None => Ok(Box::new(stdout::Stdout)),
    }
}

/// Refuses statements while a sink that is required is too far behind.
fn watch(lags: &[Arc<Lag>], required: &[(Arc<Lag>, Duration)], progress: &Progress, log: &Log) {
    let mut held = false;
    loop {
        let reached = progress.pause(TICK);
        if reached.ended {
            return;
        }
        lags.iter().for_each(|lag| lag.see(reached.signed));
        let late = required
            .iter()
            .find_map(|(lag, most)| lag.late().filter(|late| late > most).map(|_| lag.name()));
        match late {
            Some(name) if !held => {
                tracing::error!(
                    sink = name,
                    "a required sink is too far behind: statements are refused"
                );
                let why = format!("sink {name} is required, and too far behind");
                log.hold(Some(LogError(why.into())));
            }
            None if held => {
                tracing::info!("required sinks have caught up: statements are served again");
                log.hold(None);
            }
            _ => {}
        }
        held = late.is_some();
    }
}

/// A sink at work.
struct One {
    deliver: Box<dyn Deliver>,
    format: config::Format,
    tail: Tail,
    lag: Arc<Lag>,
    progress: Arc<Progress>,
    /// So many records are sent at once: fewer where a batch is refused
    most: usize,
    /// What has not arrived, or nobody knows whether it has, and is sent again as it is
    again: Option<(Vec<Record>, Reached)>,
    /// Since when it fails, how often it has, and when that was told last
    failing: Option<(Instant, u32, Instant)>,
}

impl One {
    /// The thread's work, until nothing more is to come.
    fn run(mut self) {
        loop {
            let reached = self.progress.beyond(self.lag.taken(), TICK);
            let done = match reached.signed > self.lag.taken() {
                true => self.send(&reached),
                false => Ok(()),
            };
            match done {
                Ok(()) if reached.ended && self.lag.taken() >= reached.signed => return,
                Ok(()) => self.well(),
                Err(_) if reached.ended => return,
                Err(fault) => {
                    let pause = self.failed(fault.as_ref(), reached.signed);
                    self.progress.pause(pause);
                }
            }
        }
    }

    /// Sends some of what is signed.
    fn send(&mut self, reached: &Reached) -> Result<(), Fault> {
        let name = self.progress.name().clone();
        let (records, reached) = match self.again.take() {
            Some(again) => again,
            None => (self.read(reached)?, reached.clone()),
        };
        let batch = Batch {
            log: &name,
            records,
            format: self.format,
            signed: reached.signed,
            checkpoint: &reached.note,
        };
        if let Err(fault) = self.deliver.deliver(&batch) {
            self.again = Some((batch.records, reached));
            return Err(fault);
        }
        self.tail.keep()?;
        self.lag.take(self.tail.at().position);
        self.most = self.most.saturating_mul(2).min(RECORDS);
        Ok(())
    }

    /// What is sent next.
    fn read(&mut self, reached: &Reached) -> io::Result<Vec<Record>> {
        let signed = reached.signed;
        if !self.deliver.takes_records() {
            return Ok(self.tail.skip(signed));
        }
        let read = self.tail.read(signed, self.most)?;
        let good = self.tail.genuine(&read, reached)?;
        if good == read.len() {
            return Ok(read);
        }
        // What precedes it is sent first.
        self.tail.back();
        match self.tail.read(signed, good)? {
            none if none.is_empty() => Err(self.tail.changed()),
            read => Ok(read),
        }
    }

    fn well(&mut self) {
        if let Some((since, times, _)) = self.failing.take() {
            tracing::info!(
                sink = self.lag.name(), after = ?since.elapsed(), times,
                "a sink takes records again"
            );
        }
    }

    /// Says so, though not each time; gives how long to wait before it is tried again.
    fn failed(&mut self, fault: &(dyn Error + Send + Sync + 'static), signed: u64) -> Duration {
        let now = Instant::now();
        let (since, times, told) = self.failing.unwrap_or((now, 0, now));
        let count = self.again.as_ref().map_or(0, |(records, _)| records.len());
        if self.again.is_none() {
            // It could not even be read.
            self.tail.back();
        } else if count > 1 && (fault.is::<Refused>() || times >= PATIENT) {
            // Whatever is refused in it keeps only itself from arriving.
            self.again = None;
            self.tail.back();
            self.most = count / 2;
        }
        let tell = times == 0 || told.elapsed() >= TELL;
        if tell {
            tracing::error!(
                sink = self.lag.name(), error = %fault, since = ?since.elapsed(),
                waiting = signed.saturating_sub(self.lag.taken()),
                "a sink does not take records; tried again, they stay in the log"
            );
        }
        let told = if tell { now } else { told };
        self.failing = Some((since, times.saturating_add(1), told));
        let (first, most) = RETRY;
        jittered(first.saturating_mul(1 << times.min(10)).min(most))
    }
}

/// Between half of it and all: not all proxies come again at once.
fn jittered(time: Duration) -> Duration {
    let mut random = [0; 2];
    // Without randomness, half.
    let _ = SystemRandom::new().fill(&mut random);
    let part = f64::from(u16::from_be_bytes(random)) / f64::from(u16::MAX);
    time.mul_f64(0.5 + part / 2.0)
}

/// How far a sink has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Behind {
    /// How many records it has taken
    pub taken: u64,
    /// How many more are signed
    pub waiting: u64,
    /// When the first of those was made
    pub oldest: Option<String>,
}

/// How far a sink of a log has come, whether the proxy runs or not.
///
/// # Errors
/// Where that cannot be read.
pub fn behind(places: &Places, name: &str) -> io::Result<Behind> {
    let note = places.tree().checkpoint()?.unwrap_or_default();
    let (mut lines, log) = (note.lines().skip(1), note.lines().next());
    let signed = lines.next().and_then(|size| size.parse().ok());
    let signed = signed.unwrap_or(0_u64);
    let mut tail = Tail::open(places, name, log.unwrap_or_default(), signed)?;
    let taken = tail.at().position;
    let waiting = signed.saturating_sub(taken);
    let next = match waiting {
        0 => None,
        _ => tail.read(taken.saturating_add(1), 1)?.pop(),
    };
    let oldest = next.and_then(|next| {
        let record: serde_json::Value = serde_json::from_str(&next.line).ok()?;
        Some(record.get("time")?.as_str()?.to_owned())
    });
    Ok(Behind {
        taken,
        waiting,
        oldest,
    })
}

#[cfg(test)]
mod tests;
