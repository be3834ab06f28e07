//! Where records go: a file of one JSON object a line, written by one thread.
//!
//! Knows nothing about what the records say. Invariant: who appends hears back
//! only after the write; once a write has failed, [`Log::ready`] refuses until
//! one succeeds again. The seam for a tamper-evident log is the writer thread.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{mpsc, oneshot};

use super::Event;
use super::record::What;

/// Appends that may wait for the writer before further ones wait themselves.
const QUEUE: usize = 1024;
/// Appends that one write takes along.
const BATCH: usize = 64;
/// Bytes of records kept for later while the file cannot be written.
const BACKLOG: usize = 4 << 20;

/// An open log; clones share it.
#[derive(Clone, Debug)]
pub struct Log {
    queue: mpsc::Sender<Job>,
    failed: Arc<AtomicBool>,
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
        let failed = Arc::new(AtomicBool::new(false));
        let writer = Writer {
            file,
            failed: failed.clone(),
            backlog: Vec::new(),
            lost: 0,
            torn: false,
        };
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || writer.run(jobs))
            .map_err(fault)?;
        Ok(Self { queue, failed })
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
            serde_json::to_writer(&mut lines, event)
                .map_err(|error| LogError(error.to_string().into()))?;
            lines.push(b'\n');
        }
        self.write(lines, events.len() as u64).await
    }

    /// Whether statements may run: the last write succeeded, or a probe now does.
    ///
    /// # Errors
    /// Why they may not.
    pub async fn ready(&self) -> Result<(), LogError> {
        if !self.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // The probe writes no line of its own: the writer puts what it kept,
        // and a note of the gap, in front.
        self.write(Vec::new(), 0).await
    }

    async fn write(&self, lines: Vec<u8>, records: u64) -> Result<(), LogError> {
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
}

struct Writer {
    file: File,
    failed: Arc<AtomicBool>,
    /// Records that could not be written, to be written first.
    backlog: Vec<u8>,
    /// Records that could not even be kept.
    lost: u64,
    /// The last write may have ended within a line.
    torn: bool,
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(first) = jobs.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH {
                match jobs.try_recv() {
                    Ok(job) => batch.push(job),
                    Err(_) => break,
                }
            }
            let answer = self.write(&batch);
            self.failed.store(answer.is_err(), Ordering::Release);
            for job in batch {
                // Nobody may be waiting any more; the record is written all the same.
                let _ = job.answer.send(answer.clone());
            }
        }
    }

    fn write(&mut self, batch: &[Job]) -> Result<(), LogError> {
        let mut bytes = Vec::new();
        if self.failed.load(Ordering::Acquire) {
            if self.torn {
                bytes.push(b'\n');
            }
            bytes.extend_from_slice(&self.backlog);
            let gap = Event::now(None, What::LogResumed { lost: self.lost });
            if serde_json::to_writer(&mut bytes, &gap).is_ok() {
                bytes.push(b'\n');
            }
        }
        for job in batch {
            bytes.extend_from_slice(&job.lines);
        }
        match self.file.write_all(&bytes) {
            Ok(()) => {
                self.backlog = Vec::new();
                self.lost = 0;
                self.torn = false;
                Ok(())
            }
            Err(error) => {
                self.torn = true;
                for job in batch {
                    if self.backlog.len() + job.lines.len() <= BACKLOG {
                        self.backlog.extend_from_slice(&job.lines);
                    } else {
                        self.lost += job.records;
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
            failed: Arc::default(),
            backlog: Vec::new(),
            lost: 0,
            torn: false,
        };
        let job = |line: &str| Job {
            lines: format!("{line}\n").into_bytes(),
            records: 1,
            answer: oneshot::channel().0,
        };
        writer.write(&[job("1")]).unwrap_err();
        writer.failed.store(true, Ordering::Release);
        writer.file = file.try_clone().unwrap();
        writer.write(&[job("2")]).unwrap();
        let mut text = String::new();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::Read::read_to_string(&mut file, &mut text).unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!((lines[0], lines[2]), ("1", "2"));
        assert!(lines[1].contains("log_resumed"));
    }
}
