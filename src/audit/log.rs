//! Where records go: a file of one JSON object a line.
//!
//! Knows nothing about what the records say. Invariant: who appends hears back
//! only after the write, and who intends only once it is as durable as configured;
//! once a write has failed, [`Log::ready`] refuses until one succeeds again.
//!
//! Under `flush`, who appends to a file writes by itself, where nobody else does:
//! handing it to another thread and back takes several times as long as the write. The
//! thread is for what may take long: whatever is not a file, a file whose last writes
//! were not all quick, those who find the writer taken, and everything under `fsync`: a
//! file system that commits its journal lets no write pass meanwhile, and a runtime's
//! thread serves many sessions. So under `fsync` a disk that stops answering stops none
//! of the runtime's threads, under `flush` one at most, with the sessions that wait for
//! it there.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{mpsc, oneshot};

use super::Event;
use super::commit::Commit;
use super::open;
use super::open::Opened;
use super::progress::Progress;
use super::record::What;
use super::seal::{self, Ask, Sealer, Sealing};
use super::segments::Places;
use super::writer::{Lines, STEADY, Writer};
pub use crate::config::Durability;

/// Appends that may wait for the writer before further ones wait themselves.
const QUEUE: usize = 1024;
/// Appends that one write takes along.
const BATCH: usize = 64;

/// An open log; clones share it.
#[derive(Clone, Debug)]
pub struct Log(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    queue: mpsc::Sender<Job>,
    writer: Arc<Mutex<Writer>>,
    state: Arc<State>,
    durability: Durability,
    /// Asks for a checkpoint
    sealer: Option<std::sync::mpsc::Sender<seal::Asked>>,
    progress: Option<Arc<Progress>>,
}

/// How writing goes.
#[derive(Debug, Default)]
pub(super) struct State {
    /// The last write failed.
    pub(super) failed: AtomicBool,
    /// A write may take long, until so many in a row have not.
    pub(super) slow: AtomicU32,
    /// Nothing more is to come: no other file begins.
    pub(super) closing: AtomicBool,
    /// Somebody who must get the records does not.
    held: AtomicBool,
    /// Who, and since when.
    holds: Mutex<Option<LogError>>,
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
    lines: Lines,
    /// Who waits, if anybody does, and for what
    waits: Option<(Until, Answer)>,
}

/// What who appends waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Until {
    Written,
    /// As durable as is configured
    Durable,
}

/// Who hears what became of what was appended.
pub(super) type Answer = oneshot::Sender<Result<(), LogError>>;

/// Tells all of them.
pub(super) fn tell(waiting: impl IntoIterator<Item = Answer>, what: &Result<(), LogError>) {
    for answer in waiting {
        // Nobody may be waiting any more; the record is written all the same.
        let _ = answer.send(what.clone());
    }
}

impl Log {
    /// Opens (creates, appends to) a file of one JSON record a line, readable
    /// by its owner alone. What it finds there that was begun and not ended is told
    /// in the log itself.
    ///
    /// # Errors
    /// Where the file cannot be opened, another proxy writes to it, or its writer
    /// cannot be started.
    pub fn open(path: &Path, durability: Durability) -> Result<Self, LogError> {
        Self::start(path, durability, None)
    }

    /// The same of a log that shows tampering.
    ///
    /// # Errors
    /// As [`Log::open`]; and where the log is not what its last checkpoint says.
    pub fn sealed(path: &Path, durability: Durability, sealing: Sealing) -> Result<Self, LogError> {
        Self::start(path, durability, Some(sealing))
    }

    fn start(
        path: &Path,
        durability: Durability,
        sealing: Option<Sealing>,
    ) -> Result<Self, LogError> {
        let fault = |error: std::io::Error| LogError(format!("{}: {error}", path.display()).into());
        let places = Places::of(path);
        // Between one file and the next there is none to be locked.
        let alone = match &sealing {
            Some(_) if !open::is_special(path) => {
                Some(open::alone(&places.directory).map_err(fault)?)
            }
            _ => None,
        };
        let opened = Opened::open(path, &open::before(&places).map_err(fault)?).map_err(fault)?;
        let state = Arc::new(State::default());
        if !opened.regular {
            state.slow.store(STEADY, Ordering::Release);
        }
        let sealer = match sealing {
            Some(sealing) if opened.regular => {
                Some(Sealer::new(places, sealing, &opened, alone).map_err(fault)?)
            }
            Some(_) => {
                tracing::warn!(
                    file = %path.display(),
                    "the audit log is no file: it is not sealed, and cannot be verified"
                );
                None
            }
            None => None,
        };
        let size = opened.entries.len() as u64;
        let progress = sealer.as_ref().map(|sealer| sealer.progress().clone());
        let found = found(&opened, path, sealer.as_ref().map_or(size, Sealer::size));
        let keeps = durability == Durability::Fsync && opened.regular;
        let mut writer = Writer::new(opened, keeps, sealer.is_some(), state.clone());
        if !found.is_empty() {
            writer.write(&[&Lines::of(&found)?])?;
        }
        let writer = Arc::new(Mutex::new(writer));
        let commit = match keeps {
            true => Some(Commit::start(writer.clone()).map_err(fault)?),
            false => None,
        };
        let sealer = match sealer {
            Some(sealer) => {
                let (ask, asked) = std::sync::mpsc::channel();
                let own = writer.clone();
                std::thread::Builder::new()
                    .name("audit-seal".into())
                    .spawn(move || sealer.run(&own, &asked))
                    .map_err(fault)?;
                Some(ask)
            }
            None => None,
        };
        let (queue, jobs) = mpsc::channel(QUEUE);
        let own = writer.clone();
        std::thread::Builder::new()
            .name("audit".into())
            .spawn(move || run(&own, commit.as_ref(), jobs))
            .map_err(fault)?;
        Ok(Self(Arc::new(Parts {
            queue,
            writer,
            state,
            durability,
            sealer,
            progress,
        })))
    }

    /// Appends one record.
    ///
    /// # Errors
    /// Where it could not be written: the caller must refuse what it was for.
    pub async fn append(&self, event: &Event) -> Result<(), LogError> {
        self.append_all(std::slice::from_ref(event)).await
    }

    /// Appends one, and waits for that however records are written else.
    ///
    /// # Errors
    /// Where it could not be written.
    pub(super) async fn keep(&self, event: &Event) -> Result<(), LogError> {
        let lines = Lines::of(std::slice::from_ref(event))?;
        self.send(lines, Some(Until::Written)).await
    }

    /// Appends records in one write.
    ///
    /// # Errors
    /// Where they could not be written: the caller must refuse what follows.
    pub async fn append_all(&self, events: &[Event]) -> Result<(), LogError> {
        self.write(Lines::of(events)?, Until::Written).await
    }

    /// Appends what is about to be done, and waits until that is as durable as is
    /// configured.
    ///
    /// # Errors
    /// Where it is not: the caller must not do it.
    pub async fn intend(&self, events: &[Event]) -> Result<(), LogError> {
        self.write(Lines::of(events)?, Until::Durable).await
    }

    /// Whether statements may run: the last write succeeded, or a probe now does.
    ///
    /// # Errors
    /// Why they may not.
    pub async fn ready(&self) -> Result<(), LogError> {
        if self.0.state.held.load(Ordering::Acquire) {
            let holds = self.0.state.holds.lock();
            let holds = holds.unwrap_or_else(PoisonError::into_inner).clone();
            return holds.map_or(Ok(()), Err);
        }
        if !self.0.state.failed.load(Ordering::Acquire) {
            return Ok(());
        }
        // The probe writes no line of its own: the writer puts what it kept,
        // and a note of the gap, in front.
        self.send(Lines::default(), Some(Until::Written)).await
    }

    /// No statement may run while somebody who must get the records does not; `None`: they
    /// do again.
    pub fn hold(&self, why: Option<LogError>) {
        let state = &self.0.state;
        let held = why.is_some();
        *state.holds.lock().unwrap_or_else(PoisonError::into_inner) = why;
        state.held.store(held, Ordering::Release);
    }

    /// How far it is signed, where it is.
    pub fn progress(&self) -> Option<&Arc<Progress>> {
        self.0.progress.as_ref()
    }

    /// Says that nothing more is to come, and brings all there is to disk.
    ///
    /// # Errors
    /// Where it could not be.
    pub async fn close(&self) -> Result<(), LogError> {
        self.0.state.closing.store(true, Ordering::Release);
        // Through the queue, behind what is in it.
        let closed = Lines::of(&[Event::now(None, What::LogClosed)])?;
        self.send(closed, Some(Until::Written)).await?;
        self.seal().await?;
        let writer = self.0.writer.clone();
        let synced = tokio::task::spawn_blocking(move || {
            let syncing = lock(&writer).syncing();
            let _alone = syncing.lock().unwrap_or_else(PoisonError::into_inner);
            lock(&writer).sync()
        });
        synced.await.map_err(|_| gone())?
    }

    /// Has a checkpoint made of all that was written, where the log has them.
    ///
    /// # Errors
    /// Where it could not be.
    pub async fn seal(&self) -> Result<(), LogError> {
        self.ask(Ask::Seal).await
    }

    /// The same, and begins another file.
    ///
    /// # Errors
    /// Where it could not be.
    pub async fn rotate(&self) -> Result<(), LogError> {
        self.ask(Ask::Rotate).await
    }

    /// Has it on record, signed, that so many files are removed: those from a record on to
    /// the first one that stays.
    ///
    /// # Errors
    /// Where it could not be: nothing may be removed.
    pub async fn prune(&self, from: u64, first: u64, files: u64) -> Result<(), LogError> {
        if self.0.sealer.is_none() {
            return Err(LogError("it is not sealed".into()));
        }
        self.ask(Ask::Prune { from, first, files }).await
    }

    /// How long the file is that is appended to, in bytes, as far as it was written.
    pub(super) fn len(&self) -> u64 {
        lock(&self.0.writer).len()
    }

    async fn ask(&self, what: Ask) -> Result<(), LogError> {
        let Some(sealer) = &self.0.sealer else {
            return Ok(());
        };
        let (answer, answered) = oneshot::channel();
        let asked = seal::Asked { what, answer };
        sealer.send(asked).map_err(|_| gone())?;
        answered.await.map_err(|_| gone())?
    }

    async fn write(&self, lines: Lines, until: Until) -> Result<(), LogError> {
        if self.0.durability == Durability::Async {
            return self.send(lines, None).await;
        }
        match self.write_here(&lines) {
            Some(written) => written,
            None => self.send(lines, Some(until)).await,
        }
    }

    /// Has the thread write, and waits so long.
    async fn send(&self, lines: Lines, until: Option<Until>) -> Result<(), LogError> {
        let (answer, answered) = oneshot::channel();
        let waits = until.map(|until| (until, answer));
        let waiting = waits.is_some();
        let job = Job { lines, waits };
        self.0.queue.send(job).await.map_err(|_| gone())?;
        match waiting {
            true => answered.await.map_err(|_| gone())?,
            false => Ok(()),
        }
    }

    /// Writes on this thread, where that can be expected to be quick.
    fn write_here(&self, lines: &Lines) -> Option<Result<(), LogError>> {
        let State { failed, slow, .. } = &*self.0.state;
        if self.0.durability != Durability::Flush {
            return None;
        }
        if failed.load(Ordering::Acquire) || slow.load(Ordering::Acquire) > 0 {
            return None;
        }
        let mut writer = self.0.writer.try_lock().ok()?;
        Some(writer.write(&[lines]))
    }
}

fn gone() -> LogError {
    LogError("its writer has ended".into())
}

fn lock(writer: &Mutex<Writer>) -> std::sync::MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What is to be said first, of what the last proxy left.
fn found(opened: &Opened, path: &Path, size: u64) -> Vec<Event> {
    let Opened { torn, unknown, .. } = opened;
    if !opened.regular {
        return Vec::new();
    }
    if *torn > 0 || !unknown.is_empty() {
        tracing::warn!(
            file = %path.display(), torn_bytes = torn, unknown_outcomes = unknown.len(),
            "the audit log was not closed: an unfinished line is cut off, and statements \
             whose outcome is not known are said to be so"
        );
    }
    let first = What::LogOpened {
        first: size,
        torn: *torn,
        unknown: unknown.len() as u64,
    };
    let unknown = unknown.iter().map(|id| Event {
        id: *id,
        ..Event::now(None, What::OutcomeUnknown)
    });
    std::iter::once(Event::now(None, first))
        .chain(unknown)
        .collect()
}

/// The thread's work. Who waits for the disk is handed on, to where that is waited for.
fn run(writer: &Mutex<Writer>, commit: Option<&Commit>, mut jobs: mpsc::Receiver<Job>) {
    while let Some(first) = jobs.blocking_recv() {
        let mut batch = vec![first];
        while batch.len() < BATCH {
            match jobs.try_recv() {
                Ok(job) => batch.push(job),
                Err(_) => break,
            }
        }
        let lines: Vec<_> = batch.iter().map(|job| &job.lines).collect();
        let written = lock(writer).write(&lines);
        let waiting = batch.into_iter().filter_map(|job| job.waits);
        let (durable, others): (Vec<_>, Vec<_>) =
            waiting.partition(|(until, _)| *until == Until::Durable);
        let durable = durable.into_iter().map(|(_, answer)| answer);
        match (&written, commit) {
            (Ok(()), Some(commit)) => commit.wait(durable.collect()),
            _ => tell(durable, &written),
        }
        tell(others.into_iter().map(|(_, answer)| answer), &written);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::audit::Id;
    use crate::audit::record::{Intent, PolicyStamp, Statement};

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

    fn records(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).unwrap();
        let records = text.lines().map(|line| serde_json::from_str(line).unwrap());
        records.collect()
    }

    #[tokio::test]
    async fn every_append_is_a_line_of_a_private_file() {
        for durability in [Durability::Fsync, Durability::Flush, Durability::Async] {
            every_append(durability).await;
        }
    }

    async fn every_append(durability: Durability) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        std::fs::write(&path, "").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let log = Log::open(&path, durability).unwrap();
        let tasks: Vec<_> = (0..200)
            .map(|epoch| {
                let log = log.clone();
                tokio::spawn(async move { log.intend(&[event(epoch)]).await.unwrap() })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        log.close().await.unwrap();
        let records = records(&path);
        assert_eq!(records.len(), 202, "{durability:?}");
        assert_eq!(records[0]["event"], "log_opened");
        assert_eq!(records[201]["event"], "log_closed");
        let mode = std::fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_full_disk_refuses_until_a_probe_succeeds() {
        let log = Log::open(Path::new("/dev/full"), Durability::Fsync).unwrap();
        log.ready().await.unwrap();
        log.append(&event(1)).await.unwrap_err();
        log.ready().await.unwrap_err();
    }

    #[tokio::test]
    async fn what_can_be_quick_is_written_at_once_and_what_cannot_elsewhere() {
        let once = |log: &Log| log.write_here(&Lines::of(&[event(1)]).unwrap()).is_some();
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let log = Log::open(&path, Durability::Flush).unwrap();
        assert!(once(&log));
        // While somebody else writes.
        let taken = log.0.writer.lock().unwrap();
        assert!(!once(&log));
        drop(taken);
        // After a write that was not quick, until many in a row are.
        log.0.state.slow.store(2, Ordering::Release);
        assert!(!once(&log));
        let mut before = 0;
        while !once(&log) {
            log.append(&event(1)).await.unwrap();
            before += 1;
        }
        assert!(before >= 2, "{before}");
        assert_eq!(records(&path).len(), 3 + before);
        // Where the disk is waited for, never.
        let path = directory.path().join("durable.jsonl");
        let log = Log::open(&path, Durability::Fsync).unwrap();
        assert!(!once(&log));
        log.append(&event(1)).await.unwrap();
        assert_eq!(records(&path).len(), 2);
        // What is no file can always take long.
        let log = Log::open(Path::new("/dev/null"), Durability::Flush).unwrap();
        log.append(&event(1)).await.unwrap();
        assert!(!once(&log));
    }

    pub(in crate::audit) fn intent(query: Id) -> Event {
        let statement = Statement {
            kind: "SELECT",
            normalized: "SELECT 1".into(),
            fingerprint: 1,
            relations: Vec::new(),
            fields: crate::audit::Fields::default(),
        };
        let policy = PolicyStamp::default();
        let intent = Intent {
            query,
            statement: statement.into(),
            policy,
        };
        Event::now(None, What::Intent(Box::new(intent)))
    }

    #[tokio::test]
    async fn what_was_begun_and_not_ended_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("audit.jsonl");
        let (ended, begun) = (Id::next(), Id::next());
        {
            let log = Log::open(&path, Durability::Fsync).unwrap();
            log.intend(&[intent(ended), intent(begun)]).await.unwrap();
            let ended = Event {
                id: ended,
                ..Event::now(None, What::NotRun)
            };
            log.append(&ended).await.unwrap();
            // Nobody else meanwhile.
            let other = Log::open(&path, Durability::Fsync).unwrap_err();
            assert!(other.to_string().contains("another proxy"), "{other}");
        }
        // Its threads end by themselves.
        let mut half = std::fs::read(&path).unwrap();
        half.extend_from_slice(b"{\"event\":\"stat");
        std::fs::write(&path, half).unwrap();
        let log = again(&path).await;
        log.append(&event(7)).await.unwrap();
        let told = records(&path);
        let events: Vec<&str> = told.iter().filter_map(|it| it["event"].as_str()).collect();
        assert_eq!(
            events[..],
            [
                "log_opened",
                "intent",
                "intent",
                "not_run",
                "log_opened",
                "outcome_unknown",
                "policy_load"
            ]
        );
        assert_eq!(
            (&told[4]["torn"], &told[4]["unknown"]),
            (&14.into(), &1.into())
        );
        assert_eq!(told[5]["id"], begun.to_string());
        // Once said, it is not said again.
        drop(log);
        again(&path).await;
        let told = records(&path);
        assert_eq!(told.len(), 8);
        assert_eq!(
            (&told[7]["torn"], &told[7]["unknown"]),
            (&0.into(), &0.into())
        );
    }

    async fn again(path: &Path) -> Log {
        for _ in 0..100 {
            if let Ok(log) = Log::open(path, Durability::Fsync) {
                return log;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("the file stays locked")
    }
}
