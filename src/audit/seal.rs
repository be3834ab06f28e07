//! Grows the tree over what has been written, and signs it.
//!
//! Knows nothing about what records say. A thread of its own does it, every few seconds
//! while there are records, and adds a heartbeat where there are none: a log that is
//! silent is not one that nobody writes to. Invariant: a checkpoint tells only of
//! records that are on disk; a log that is not what its checkpoint says is not
//! appended to.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Event;
use super::copies::Copies;
use super::log::LogError;
use super::open::Opened;
use super::progress::Progress;
use super::record::What;
use super::retention;
use super::segments::{Places, lines};
use super::tree::note::{Checkpoint, Removal, Signer};
use super::tree::store::Store;
use super::tree::{Hash, Tile, Tree, entry};
use super::writer::{Lines, Writer};

/// How long who asks for a checkpoint waits for its copy elsewhere.
const COPIED: Duration = Duration::from_secs(1);
/// Bytes that wait for the disk, and a checkpoint is made before its time.
const WAITING: usize = 8 << 20;

/// How a log is sealed.
#[derive(Debug)]
pub struct Sealing {
    /// Who signs
    pub signer: Signer,
    /// The key has just been made: what the log holds, nobody can have signed
    pub first: bool,
    /// How often, while there are records
    pub every: Duration,
    /// How long nothing may happen without a record that says so
    pub heartbeat: Duration,
    /// How long a file of records may become
    pub segment: u64,
    /// Where else checkpoints are put: one that is held elsewhere shows what is cut off
    pub copies: Option<PathBuf>,
}

/// What it is asked for: a checkpoint, and what else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    Seal,
    /// To begin another file
    Rotate,
    /// To say that files of records are removed
    Prune {
        from: u64,
        first: u64,
        files: u64,
    },
}

/// That, and who is told when it is done.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) what: Ask,
    pub(super) answer: oneshot::Sender<Result<(), LogError>>,
}

/// The one that seals.
pub(super) struct Sealer {
    places: Places,
    store: Store,
    sealing: Sealing,
    tree: Tree,
    /// The first record of the file that is appended to.
    first: u64,
    /// Entries that are on their way into the tree.
    waiting: Vec<Hash>,
    /// Full tiles that are to be written.
    full: Vec<Tile>,
    /// Tiles that are not full, as they are on disk.
    partial: Vec<Tile>,
    /// Puts checkpoints elsewhere, too.
    copies: Option<Copies>,
    progress: Arc<Progress>,
    /// Held open, and so locked
    _alone: Option<fs::File>,
    /// How many the last checkpoint tells of, if there is one.
    signed: Option<u64>,
    /// The first record that stays, as it has said last.
    pruned: u64,
    sealed: Instant,
    heard: Instant,
}

impl Sealer {
    /// For a log that was opened, where it is what its last checkpoint says.
    pub(super) fn new(
        places: Places,
        sealing: Sealing,
        opened: &Opened,
        alone: Option<fs::File>,
    ) -> io::Result<Self> {
        let store = places.tree();
        let first = places.all()?.last().map_or(0, |live| live.first);
        let progress = Arc::new(Progress::new(sealing.signer.verifier().name()));
        let copies = match &sealing.copies {
            Some(file) => Some(Copies::start(file.clone(), progress.clone())?),
            None => None,
        };
        let mut sealer = Self {
            tree: Tree::default(),
            waiting: Vec::new(),
            full: Vec::new(),
            partial: Vec::new(),
            copies,
            progress,
            _alone: alone,
            signed: None,
            pruned: 0,
            sealed: Instant::now(),
            heard: Instant::now(),
            places,
            store,
            sealing,
            first,
        };
        sealer.resume(&opened.entries)?;
        if sealer.signed.is_none() {
            // Before there is a record: a log without a checkpoint is one that lost it.
            opened.file.sync_all()?;
            sealer.sign()?;
        }
        Ok(sealer)
    }

    /// How far it has come, for who waits for that.
    pub(super) fn progress(&self) -> &Arc<Progress> {
        &self.progress
    }

    /// How many records the log has.
    pub(super) fn size(&self) -> u64 {
        self.tree.size() + self.waiting.len() as u64
    }

    fn resume(&mut self, live: &[Hash]) -> io::Result<()> {
        let size = match self.store.checkpoint()? {
            None if !live.is_empty() && !self.sealing.first => {
                return Err(unlike("it holds records, and its checkpoint is missing"));
            }
            None => 0,
            Some(note) => {
                let verifier = self.sealing.signer.verifier();
                let checkpoint = verifier
                    .open(&note)
                    .map_err(|error| unlike(&format!("of its checkpoint, {error}")))?;
                self.tree = self.store.tree(checkpoint.size).map_err(|error| {
                    unlike(&format!("a tile of its checkpoint cannot be read: {error}"))
                })?;
                if self.tree.root() != checkpoint.root {
                    return Err(unlike("its tiles are not what was signed"));
                }
                self.signed = Some(checkpoint.size);
                self.progress.sign(&checkpoint, &note);
                if let Some(copies) = &self.copies {
                    // Whether the last proxy came to that, nobody knows.
                    copies.give(checkpoint.size, note);
                }
                checkpoint.size
            }
        };
        let end = self.first + live.len() as u64;
        let closed = self.unsigned(size)?;
        if end < size || closed.len() as u64 != self.first.saturating_sub(size) {
            return Err(unlike(&format!(
                "it holds records {} to {end}, and {size} were signed",
                self.first
            )));
        }
        let signed = self.store.entries(self.first, size, size)?;
        let wrong = signed
            .iter()
            .zip(live)
            .position(|(one, other)| one != other);
        if let Some(at) = wrong {
            let at = self.first + at as u64;
            return Err(unlike(&format!(
                "record {at} is not the one that was signed"
            )));
        }
        self.waiting = closed;
        self.waiting
            .extend_from_slice(live.get(signed.len()..).unwrap_or_default());
        Ok(())
    }

    /// What is in closed files and not signed yet: the proxy ended just after it began
    /// another file.
    fn unsigned(&self, size: u64) -> io::Result<Vec<Hash>> {
        let mut entries = Vec::new();
        if self.first <= size {
            return Ok(entries);
        }
        let closed = self.places.closed()?;
        let from = closed.partition_point(|segment| segment.first <= size);
        for segment in closed.get(from.saturating_sub(1)..).unwrap_or_default() {
            let signed = size.saturating_sub(segment.first);
            for (at, line) in (0..).zip(lines(&segment.path)?) {
                let line = line?;
                if at >= signed {
                    entries.push(entry(&line));
                }
            }
        }
        Ok(entries)
    }

    /// The thread's work, until nobody can ask any more.
    pub(super) fn run(mut self, writer: &Mutex<Writer>, asked: &Receiver<Asked>) {
        let tick = self.sealing.every.min(self.sealing.heartbeat);
        let tick = tick.clamp(Duration::from_millis(10), Duration::from_secs(1));
        loop {
            let asked = asked.recv_timeout(tick);
            if let Err(RecvTimeoutError::Timeout) = asked {
                self.tick(writer);
                continue;
            }
            let done = match asked.as_ref().map(|asked| asked.what) {
                Ok(Ask::Rotate) => self.rotate(writer),
                Ok(Ask::Prune { from, first, files }) => self.prune(writer, from, first, files),
                Ok(Ask::Seal) | Err(_) => self.seal(writer),
            };
            match asked {
                Ok(asked) => {
                    if self.copies.is_some() {
                        self.progress.wait_for_copy(COPIED);
                    }
                    // Who asked may have gone.
                    drop(asked.answer.send(done.map_err(fault)));
                }
                Err(_) => return,
            }
        }
    }

    fn tick(&mut self, writer: &Mutex<Writer>) {
        let (pending, len, waits) = {
            let writer = lock(writer);
            (writer.entries(), writer.len(), writer.waits_for_disk())
        };
        if pending > 0 {
            self.heard = Instant::now();
        } else if self.heard.elapsed() >= self.sealing.heartbeat {
            self.heard = Instant::now();
            let beat = Lines::of(&[Event::now(None, What::Heartbeat)]);
            // What it could not write it has logged.
            let _ = beat.and_then(|beat| lock(writer).write(&[&beat]));
        }
        let unsealed = pending > 0 || !self.waiting.is_empty() || !self.full.is_empty();
        let done = match () {
            () if len >= self.sealing.segment => self.rotate(writer),
            () if unsealed && self.sealed.elapsed() >= self.sealing.every => self.seal(writer),
            () if waits >= WAITING => self.seal(writer),
            () => Ok(()),
        };
        if let Err(error) = done {
            tracing::error!(%error, "no checkpoint of the audit log; tried again");
        }
    }

    /// Brings what was written to disk, into the tree, and under a checkpoint.
    fn seal(&mut self, writer: &Mutex<Writer>) -> io::Result<()> {
        let syncing = lock(writer).syncing();
        let alone = syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let (file, upto) = {
            let mut writer = lock(writer);
            writer.put_again()?;
            self.waiting.extend(writer.take_entries());
            writer.reached()
        };
        let synced = file.sync_data();
        lock(writer)
            .synced(upto, synced)
            .map_err(io::Error::other)?;
        drop(alone);
        self.sign()
    }

    fn sign(&mut self) -> io::Result<()> {
        if self.waiting.is_empty() && self.signed == Some(self.tree.size()) {
            return Ok(());
        }
        for entry in self.waiting.drain(..) {
            self.tree.push(entry);
        }
        self.full.extend(self.tree.take_full());
        let partial = self.tree.partial();
        let new = partial.iter().filter(|tile| !self.partial.contains(tile));
        self.store.put(self.full.iter().chain(new))?;
        let head = self.head();
        let note = self.sealing.signer.sign(head.size, &head.root);
        self.store.put_checkpoint(&note)?;
        self.store.sweep(&self.full);
        self.full.clear();
        self.partial = partial;
        self.signed = Some(head.size);
        self.sealed = Instant::now();
        if let Some(copies) = &self.copies {
            copies.give(head.size, note.clone());
        }
        self.progress.sign(&head, &note);
        Ok(())
    }

    fn head(&self) -> Checkpoint {
        Checkpoint {
            size: self.tree.size(),
            root: self.tree.root(),
        }
    }

    /// Says that files of records are removed, once for as long as those are the same: they
    /// may be where they cannot be. It is written here, behind nothing that is queued.
    fn prune(
        &mut self,
        writer: &Mutex<Writer>,
        from: u64,
        first: u64,
        files: u64,
    ) -> io::Result<()> {
        self.seal(writer)?;
        let head = self.head();
        if first > head.size {
            return Err(io::Error::other(format!("record {first} is not signed")));
        }
        if first <= self.pruned {
            return Ok(());
        }
        retention::check(&self.places, first, &head)?;
        let note = self.sealing.signer.sign_removal(&Removal { first, head });
        let pruned = What::LogPruned {
            from,
            first,
            files,
            note,
        };
        let pruned = Lines::of(&[Event::now(None, pruned)]).map_err(io::Error::other)?;
        lock(writer).write(&[&pruned]).map_err(io::Error::other)?;
        self.seal(writer)?;
        self.pruned = first;
        Ok(())
    }

    /// Closes the file that is appended to and begins another, and signs what it came to.
    fn rotate(&mut self, writer: &Mutex<Writer>) -> io::Result<()> {
        self.seal(writer)?;
        self.turn(writer)?;
        self.sign()
    }

    /// Nobody writes meanwhile, so all that was written before is on disk first: little is
    /// left to be. It is signed when they write again.
    fn turn(&mut self, writer: &Mutex<Writer>) -> io::Result<()> {
        let syncing = lock(writer).syncing();
        let _alone = syncing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut writer = lock(writer);
        if !writer.goes_on() {
            return Ok(());
        }
        writer.sync().map_err(io::Error::other)?;
        self.waiting.extend(writer.take_entries());
        let closed = self.places.closing(self.first);
        if let Some(parent) = closed.parent() {
            DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(parent)?;
        }
        fs::rename(&self.places.live, &closed)?;
        let next = Opened::open(&self.places.live, &[]).inspect_err(|_| {
            // As it was; whoever appends has the file open.
            let _ = fs::rename(&closed, &self.places.live);
        })?;
        self.first = self.size();
        writer.turn_to(next);
        let begins = What::LogRotated { first: self.first };
        let begins = Lines::of(&[Event::now(None, begins)]).map_err(io::Error::other)?;
        writer.write(&[&begins]).map_err(io::Error::other)
    }
}

fn lock(writer: &Mutex<Writer>) -> std::sync::MutexGuard<'_, Writer> {
    writer.lock().unwrap_or_else(PoisonError::into_inner)
}

fn fault(error: io::Error) -> LogError {
    LogError(Arc::from(error.to_string()))
}

fn unlike(why: &str) -> io::Error {
    io::Error::other(format!(
        "the log is not what its checkpoint says: {why} (hint: `pgveil audit verify` says more; \
         move log, tiles and checkpoint aside together to begin a new log)"
    ))
}

#[cfg(test)]
mod tests;
