//! Where records go: a file of one JSON object a line.
//!
//! Knows nothing about what the records say. Invariant: who appends hears back
//! only after the write; once a write has failed, [`Log::ready`] refuses until
//! one succeeds again. The seam for a tamper-evident log is the [`Writer`].
//!
//! Who appends to a file writes by itself, where nobody else does: handing it to
//! another thread and back takes several times as long as the write. The thread is
//! for what may take long: whatever is not a file, a file whose last write was not
//! quick, and those who find the writer taken. So a disk that stops answering stops
//! one of the runtime's threads, never all of them.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use super::Event;
use super::line;
use super::record::What;

/// Appends that may wait for the writer before further ones wait themselves.
const QUEUE: usize = 1024;
/// Appends that one write takes along.
const BATCH: usize = 64;
/// Bytes of records kept for later while the file cannot be written.
const BACKLOG: usize = 4 << 20;
/// A write that takes longer is no longer made by who appends.
const QUICK: Duration = Duration::from_millis(1);

/// An open log; clones share it.
#[derive(Clone, Debug)]
pub struct Log {
    queue: mpsc::Sender<Job>,
    writer: Arc<Mutex<Writer>>,
    state: Arc<State>,
}

/// How writing goes.
#[derive(Debug, Default)]
struct State {
    /// The last write failed.
    failed: AtomicBool,
    /// A write may take long.
    slow: AtomicBool,
}

/// The log cannot be written.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct LogError(pub Arc<str>);

impl crate::error::Tell for LogError {
    fn tell(&self) -> crate::error::Told {
        crate::error::Told::error(
            crate::error::SqlState::IO_ERROR,
            "no record of this could be kept, so it is refused",
        )
        .hint("the audit log cannot be written; tell the operator of this proxy")
    }
}

#[derive(Debug)]
struct Job {
    lines: Vec<u8>,
    records: u64,
    answer: oneshot::Sender<Result<(), LogError>>,
}

impl Log {
    /// Opens (creates, appends to) a file of one JSON record a line, readable
    /// by its owner alone.
    ///
    /// # Errors
    /// Where the file cannot be opened or its writer not be started.
    pub fn open(path: &Path) -> Result<Self, LogError> {
        let fault = |error: std::io::Error| LogError(format!("{}: {error}", path.display()).into());
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(fault)?;
        let kind = file.metadata().map_err(fault)?;
        if kind.is_file() && kind.permissions().mode() & 0o077 != 0 {
            file.set_permissions(std::fs::Permissions::from_mode(0o600))
                .map_err(fault)?;
        }
        let (queue, jobs) = mpsc::channel(QUEUE);
        let state = Arc::new(State::default());
        state.slow.store(!kind.is_file(), Ordering::Release);
        let writer = Arc::new(Mutex::new(Writer {
            file,
            is_file: kind.is_file(),
            state: state.clone(),
            backlog: Vec::new(),
            lost: 0,
            torn: false,
        }));
        let own = writer.clone();
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || run(&own, jobs))
            .map_err(fault)?;
        Ok(Self {
            queue,
            writer,
            state,
        })
    }

    /// Appends one record.
    ///
    /// # Errors
    /// Where it could not be written: the caller must refuse what it was for.
    pub async fn append(&self, event: &Event) -> Result<(), LogError> {
        self.append_all(std::slice::from_ref(event)).await
    }

    /// Appends records in one write.
    ///
    /// # Errors
    /// Where they could not be written: the caller must refuse what follows.
    pub async fn append_all(&self, events: &[Event]) -> Result<(), LogError> {
        let mut lines = Vec::with_capacity(events.len() * 512);
        for event in events {
            line::put(&mut lines, event).map_err(|error| LogError(error.to_string().into()))?;
            lines.push(b'\n');
        }
        self.write(lines, events.len() as u64).await
    }

    /// Whether statements may run: the last write succeeded, or a probe now does.
    ///
    /// # Errors
    /// Why they may not.
    pub async fn ready(&self) -> Result<(), LogError> {
        if !self.state.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // The probe writes no line of its own: the writer puts what it kept,
        // and a note of the gap, in front.
        self.write(Vec::new(), 0).await
    }

    async fn write(&self, lines: Vec<u8>, records: u64) -> Result<(), LogError> {
        if let Some(written) = self.write_here(&lines, records) {
            return written;
        }
        let gone = || LogError("its writer has ended".into());
        let (answer, answered) = oneshot::channel();
        let job = Job {
            lines,
            records,
            answer,
        };
        self.queue.send(job).await.map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    /// Writes on this thread, where that can be expected to be quick.
    fn write_here(&self, lines: &[u8], records: u64) -> Option<Result<(), LogError>> {
        let State { failed, slow } = &*self.state;
        if failed.load(Ordering::Acquire) || slow.load(Ordering::Acquire) {
            return None;
        }
        let mut writer = self.writer.try_lock().ok()?;
        Some(writer.write(&[(lines, records)]))
    }
}

#[derive(Debug)]
struct Writer {
    file: File,
    is_file: bool,
    state: Arc<State>,
    /// Records that could not be written, to be written first.
    backlog: Vec<u8>,
    /// Records that could not even be kept.
    lost: u64,
    /// The last write may have ended within a line.
    torn: bool,
}

/// The thread's work.
fn run(writer: &Mutex<Writer>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let lines: Vec<_> = batch
            .iter()
            .map(|job| (job.lines.as_slice(), job.records))
            .collect();
        let answer = writer
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write(&lines);
        for job in batch {
            // Nobody may be waiting any more; the record is written all the same.
            let _ = job.answer.send(answer.clone());
        }
    }
}

impl Writer {
    /// Writes lines, each with how many records they are.
    fn write(&mut self, batch: &[(&[u8], u64)]) -> Result<(), LogError> {
        let began = Instant::now();
        let written = self.written(batch);
        let quick = self.is_file && began.elapsed() <= QUICK;
        self.state.slow.store(!quick, Ordering::Release);
        self.state.failed.store(written.is_err(), Ordering::Release);
        written
    }

    fn written(&mut self, batch: &[(&[u8], u64)]) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        if self.state.failed.load(Ordering::Acquire) {
            if self.torn {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(&self.backlog);
            let gap = Event::now(None, What::LogResumed { lost: self.lost });
            if serde_json::to_writer(&mut bytes, &gap).is_ok() {
                bytes.push(b'\n');
            }
        }
        let all = match batch {
            [(lines, _)] if bytes.is_empty() => lines,
            _ => {
                for (lines, _) in batch {
                    bytes.extend_from_slice(lines);
                }
                bytes.as_slice()
            }
        };
        match self.file.write_all(all) {
            Ok(()) => {
                self.backlog = Vec::new();
                self.lost = 0;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                self.torn = true;
                for (lines, records) in batch {
                    if self.backlog.len() + lines.len() <= BACKLOG {
                        self.backlog.extend_from_slice(lines);
                    } else {
                        self.lost += records;
                    }
                }
                tracing::error!(%error, lost = self.lost, "audit log cannot be written");
                Err(LogError(error.to_string().into()))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::record::PolicyStamp;

    fn event(epoch: u64) -> Event {
        Event::now(
            None,
            What::PolicyLoad {
                policy: PolicyStamp {
                    epoch,
                    digest: "".into(),
                },
                error: None,
            },
        )
    }

    #[tokio::test]
    async fn every_append_is_a_line_of_a_private_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let log = Log::open(&path).unwrap();
        let tasks: Vec<_> = (0..200)
            .map(|epoch| {
                let log = log.clone();
                tokio::spawn(async move { log.append(&event(epoch)).await.unwrap() })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let text = std::fs::read_to_string(&path).unwrap();
        assert_eq!(text.lines().count(), 200);
        for line in text.lines() {
            serde_json::from_str::<serde_json::Value>(line).unwrap();
        }
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_full_disk_refuses_until_a_probe_succeeds() {
        let log = Log::open(Path::new("/dev/full")).unwrap();
        log.ready().await.unwrap();
        log.append(&event(1)).await.unwrap_err();
        log.ready().await.unwrap_err();
    }

    #[test]
    fn what_could_not_be_written_is_written_first_when_it_can_be() {
        let mut file = tempfile::tempfile().unwrap();
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut writer = Writer {
            file: full,
            is_file: false,
            state: Arc::default(),
            backlog: Vec::new(),
            lost: 0,
            torn: false,
        };
        writer.write(&[(b"1\n", 1)]).unwrap_err();
        writer.file = file.try_clone().unwrap();
        writer.write(&[(b"2\n", 1)]).unwrap();
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!((lines[0], lines[2]), ("1", "2"));
        assert!(lines[1].contains("log_resumed"));
    }

    #[tokio::test]
    async fn what_can_be_quick_is_written_at_once_and_what_cannot_elsewhere() {
        let once = |log: &Log| log.write_here(b"{}\n", 1).is_some();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let log = Log::open(&path).unwrap();
        assert!(once(&log));
        // While somebody else writes.
        let taken = log.writer.lock().unwrap();
        assert!(!once(&log));
        drop(taken);
        // After a write that was not quick, until one is.
        log.state.slow.store(true, Ordering::Release);
        assert!(!once(&log));
        log.append(&event(1)).await.unwrap();
        assert!(once(&log));
        assert_eq!(std::fs::read_to_string(&path).unwrap().lines().count(), 3);
        // What is no file can always take long.
        let log = Log::open(Path::new("/dev/null")).unwrap();
        log.append(&event(1)).await.unwrap();
        assert!(!once(&log));
    }
}
