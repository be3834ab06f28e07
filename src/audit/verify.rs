//! Verifies a log from its files and a public key alone.
//!
//! Knows nothing about what records say. What was signed is right; the records are
//! held against it, and tiles only help to say which record is the first that is wrong.
//! Invariant: what is said to be whole has, for every checkpoint that was given, that
//! checkpoint's root.
//!
//! The key's holder can sign another history. That shows only beside a checkpoint that
//! somebody else has kept: give those, too.

use std::cmp::Reverse;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use super::retention::{self, Pruned};
use super::segments::{Places, Segment, lines};
use super::tree::note::{Checkpoint, NoteError, Removal, Verifier};
use super::tree::store::Store;
use super::tree::{Hash, Kind, Tile, Tree, WIDTH, entry, leaf};

/// How often a log is read, at most.
const TRIES: usize = 3;

/// What a log that is whole comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Whole {
    /// Records under the latest checkpoint
    pub size: u64,
    /// Its root
    pub root: Hash,
    /// Of those, the first so many are removed, as a signed record says
    pub pruned: u64,
    /// The last such record
    pub said: Option<Pruned>,
    /// When the oldest record that is left was made
    pub since: Option<String>,
    /// Records behind the latest checkpoint: nobody has signed them yet
    pub unsigned: u64,
    /// Files that the records are in
    pub files: usize,
    /// Checkpoints that it was held against, those that were given included
    pub checkpoints: usize,
}

/// What is wrong with a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// In what way
    pub how: How,
    /// The first record that is wrong, from 0, or the first that may be
    pub index: u64,
    /// Where it is not known which, the last that may be
    pub last: u64,
    /// Which record stands there now, if one does
    pub id: Option<String>,
    /// Where that is: a file and a line of it, from 1
    pub place: Option<(PathBuf, u64)>,
}

/// In what way a log is not what was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// A record is another.
    Edited,
    /// A record is missing.
    Deleted,
    /// Records stand in another order.
    Reordered,
    /// There is a record that was not.
    Inserted,
    /// Records at the end are missing.
    Truncated,
    /// A checkpoint is known that is larger than the log: it is an old copy.
    RolledBack,
    /// A checkpoint is known that has another history.
    Forked,
    /// Records and tiles were changed together; which of them cannot be told.
    Rewritten,
    /// The records are right, a tile is not.
    Tile,
}

impl fmt::Display for Broken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.index;
        match self.how {
            How::Edited => write!(out, "edited: record {at} is not the one that was signed"),
            How::Deleted => write!(out, "deleted: record {at} is missing"),
            How::Reordered => write!(out, "reordered: record {at} stands in another's place"),
            How::Inserted => write!(out, "inserted: record {at} was not there"),
            How::Truncated => write!(out, "truncated: record {at} and what follows are missing"),
            How::RolledBack => write!(
                out,
                "rolled back: record {at} and what follows are missing, of which a checkpoint is \
                 known"
            ),
            How::Forked => write!(
                out,
                "forked: a checkpoint is known of a history that differs, first in one of the \
                 records {at} to {}",
                self.last
            ),
            How::Rewritten => write!(
                out,
                "edited, with its tiles: one of the records {at} to {} is the first that is not \
                 what was signed",
                self.last
            ),
            How::Tile => write!(out, "a tile at record {at} is not what the records make"),
        }?;
        if let Some(id) = &self.id {
            write!(out, "; there is {id}")?;
        }
        match &self.place {
            Some((path, line)) => write!(out, " ({}:{line})", path.display()),
            None => Ok(()),
        }
    }
}

/// Why a log is not, or cannot be, verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// It is not what was signed.
    #[error("{0}")]
    Broken(Box<Broken>),
    /// A checkpoint is not one of this log.
    #[error("the checkpoint {0}: {1} (hint: is the key this log's?)")]
    Checkpoint(String, NoteError),
    /// There is none.
    #[error(
        "there is no checkpoint in {0}, so nothing to verify (hint: name the log's own file; the \
         proxy makes one every few seconds)"
    )]
    NoCheckpoint(PathBuf),
    /// A file cannot be read.
    #[error("{0}: {1}")]
    Read(PathBuf, io::Error),
}

impl From<Broken> for VerifyError {
    fn from(broken: Broken) -> Self {
        Self::Broken(Box::new(broken))
    }
}

/// Verifies a log, against its own checkpoints and those that are known from elsewhere.
///
/// # Errors
/// Where it is not what was signed, or cannot be read.
pub fn verify(
    places: &Places,
    verifier: &Verifier,
    known: &[String],
) -> Result<Whole, VerifyError> {
    again(|| places.closed().ok(), || once(places, verifier, known))
}

/// A proxy may be writing: where it closed a file while the files were read, they are
/// read again. Not for ever: one that is broken stays so while it writes.
fn again<S: PartialEq>(
    files: impl Fn() -> S,
    mut once: impl FnMut() -> Result<Whole, VerifyError>,
) -> Result<Whole, VerifyError> {
    let mut before = files();
    for _ in 1..TRIES {
        let verified = once();
        let after = files();
        match verified {
            Err(VerifyError::Broken(_) | VerifyError::Read(..)) if before != after => {
                before = after;
            }
            verified => return verified,
        }
    }
    once()
}

fn once(places: &Places, verifier: &Verifier, known: &[String]) -> Result<Whole, VerifyError> {
    let read = |error| VerifyError::Read(places.directory.clone(), error);
    let store = places.tree();
    // What is written first is read last: the history before the latest checkpoint, and
    // that before the records. So whatever a proxy adds meanwhile, none tells of more than
    // the next.
    let history = store.history().map_err(read)?;
    let latest = store
        .checkpoint()
        .map_err(read)?
        .ok_or_else(|| VerifyError::NoCheckpoint(places.directory.clone()))?;
    let open = |name: &str, note: &str| {
        verifier
            .open(note)
            .map_err(|error| VerifyError::Checkpoint(name.to_owned(), error))
    };
    let latest = open("that is the latest", &latest)?;
    let mut own = vec![latest.clone()];
    for (at, note) in (1..).zip(history) {
        own.push(open(&format!("{at} of the history"), &note)?);
    }
    let mut elsewhere = Vec::new();
    for (at, note) in (1..).zip(known) {
        elsewhere.push(open(&format!("{at} of those given"), note)?);
    }
    own.sort_by_key(|checkpoint| checkpoint.size);
    elsewhere.sort_by_key(|checkpoint| checkpoint.size);

    let log = Log::read(places, verifier, store, latest)?;
    log.against(&own)?;
    log.beside(&elsewhere)?;
    log.tiles()?;
    Ok(Whole {
        size: log.latest.size,
        root: log.latest.root,
        pruned: log.pruned,
        said: log.said.clone(),
        since: log.since.clone(),
        unsigned: log.end().saturating_sub(log.latest.size),
        files: log.files.len(),
        checkpoints: own.len() + elsewhere.len(),
    })
}

/// A log as it is on disk.
struct Log {
    store: Store,
    latest: Checkpoint,
    /// How many records are removed, which the tiles have the entries of
    pruned: u64,
    /// The record that says so
    said: Option<Pruned>,
    /// When the oldest record was made
    since: Option<String>,
    /// Its files, in order, and which record each begins with
    files: Vec<(u64, PathBuf)>,
    /// The entries of its records
    entries: Vec<Hash>,
}

/// Where the first checkpoint stands that the records do not have the root of, and the
/// last before it that they have.
struct Gap {
    good: u64,
    bad: Checkpoint,
}

impl Log {
    /// What a file's name says of where it begins is nobody's word.
    fn read(
        places: &Places,
        verifier: &Verifier,
        store: Store,
        latest: Checkpoint,
    ) -> Result<Self, VerifyError> {
        let read = |path: &Path| {
            let path = path.to_owned();
            |error| VerifyError::Read(path, error)
        };
        let (mut files, mut entries) = (Vec::new(), Vec::new());
        let all = places.all().map_err(read(&places.live))?;
        let oldest = all.first().map_or(0, |segment| segment.first);
        let (mut told, mut since) = (Vec::new(), None);
        for Segment { path, .. } in all {
            files.push((entries.len() as u64, path.clone()));
            for line in lines(&path).map_err(read(&path))? {
                let line = line.map_err(read(&path))?;
                // It may stand anywhere: its note is signed by itself.
                told.extend(retention::said(&line, verifier));
                if entries.is_empty() {
                    since = time(&line);
                }
                entries.push(entry(&line));
            }
        }
        let mut log = Self {
            store,
            latest,
            pruned: 0,
            said: None,
            since,
            files,
            entries,
        };
        // The one that allows most, of this history; there may be those of another that the
        // same key has signed.
        told.sort_by_key(|pruned| Reverse(pruned.removal.first));
        // What is said again is by who cannot sign, perhaps; what was said first is not.
        told.dedup_by(|again, pruned| again.removal == pruned.removal);
        for pruned in told {
            if log.allowed(oldest, &pruned.removal) {
                log.said = Some(pruned);
                break;
            }
        }
        Ok(log)
    }

    /// Puts in the place of what is removed what the tree has of it, where the tree had the
    /// root that the removal is for. With the records it has to have the same roots as
    /// before: nothing is missing that no note allows, or that a note for another history does.
    fn allowed(&mut self, oldest: u64, removal: &Removal) -> bool {
        let Removal { first, head } = removal;
        if first > &head.size || head.size > self.latest.size {
            return false;
        }
        let Ok(mut before) = self.store.entries(0, head.size, self.latest.size) else {
            return false;
        };
        if root(&before.iter().map(leaf).collect::<Vec<_>>()) != head.root {
            return false;
        }
        self.pruned = oldest.min(*first);
        before.truncate(usize::try_from(self.pruned).unwrap_or(usize::MAX));
        before.append(&mut self.entries);
        self.entries = before;
        self.files
            .iter_mut()
            .for_each(|(at, _)| *at = at.saturating_add(self.pruned));
        true
    }

    fn end(&self) -> u64 {
        self.entries.len() as u64
    }

    /// The first checkpoint that the records do not have the root of.
    fn gap(&self, checkpoints: &[Checkpoint]) -> Option<Gap> {
        let (mut tree, mut all) = (Tree::default(), self.entries.iter());
        let mut good = 0;
        for checkpoint in checkpoints {
            while tree.size() < checkpoint.size {
                match all.next() {
                    Some(entry) => tree.push(*entry),
                    None => break,
                }
                tree.take_full();
            }
            if tree.size() != checkpoint.size || tree.root() != checkpoint.root {
                let bad = checkpoint.clone();
                return Some(Gap { good, bad });
            }
            good = checkpoint.size;
        }
        None
    }

    /// Holds the records against the log's own checkpoints.
    fn against(&self, own: &[Checkpoint]) -> Result<(), VerifyError> {
        let Some(Gap { good, bad }) = self.gap(own) else {
            // Its history is written after it.
            return match own.last() {
                Some(last) if last.size > self.latest.size => {
                    let (from, to) = (self.latest.size, last.size - 1);
                    Err(self.broken(How::RolledBack, from, to).into())
                }
                _ => Ok(()),
            };
        };
        if bad.size > self.latest.size {
            return Err(self
                .broken(How::RolledBack, self.latest.size, bad.size - 1)
                .into());
        }
        let all: Vec<Hash> = self.entries.iter().map(leaf).collect();
        // As many as there are: they say what became of the one that is wrong.
        let signed = self.signed(&self.latest).or_else(|| self.signed(&bad));
        let Some(signed) = signed else {
            return Err(match (all.len() as u64) < bad.size {
                true => self.broken(How::Truncated, all.len() as u64, bad.size - 1),
                false => self.broken(How::Rewritten, good, bad.size - 1),
            }
            .into());
        };
        let from = usize::try_from(good).unwrap_or(usize::MAX);
        let own = all.get(from..).unwrap_or_default();
        let signed = signed.get(from..).unwrap_or_default();
        let at = signed
            .iter()
            .zip(own)
            .position(|(one, other)| one != other)
            .unwrap_or(own.len());
        let how = how(own.get(at..), signed.get(at..));
        let at = good + at as u64;
        Err(self.broken(how, at, at).into())
    }

    /// The leaves that a checkpoint was made of, where a tile still has them.
    fn signed(&self, checkpoint: &Checkpoint) -> Option<Vec<Hash>> {
        let size = checkpoint.size;
        let has_root = |leaves: &[Hash]| root(leaves) == checkpoint.root;
        let latest = self.latest.size;
        let entries = self.store.entries(0, size, latest).ok();
        let leaves = entries.map(|entries| entries.iter().map(leaf).collect::<Vec<_>>());
        if let Some(leaves) = leaves.filter(|leaves| has_root(leaves)) {
            return Some(leaves);
        }
        let mut leaves = Vec::new();
        for index in 0..size.div_ceil(WIDTH as u64) {
            let held = (latest - index * WIDTH as u64).min(WIDTH as u64);
            leaves.extend(
                self.store
                    .tile(Kind::Hashes(0), index, held as usize)
                    .ok()?,
            );
        }
        leaves.truncate(usize::try_from(size).unwrap_or(usize::MAX));
        has_root(&leaves).then_some(leaves)
    }

    /// Holds the records against checkpoints that are known from elsewhere.
    fn beside(&self, known: &[Checkpoint]) -> Result<(), VerifyError> {
        match self.gap(known) {
            None => Ok(()),
            Some(Gap { bad, .. }) if bad.size > self.end() => Err(self
                .broken(How::RolledBack, self.end(), bad.size - 1)
                .into()),
            Some(Gap { good, bad }) => Err(self.broken(How::Forked, good, bad.size - 1).into()),
        }
    }

    /// Holds the tiles against the records.
    fn tiles(&self) -> Result<(), VerifyError> {
        let mut tree = Tree::default();
        let size = usize::try_from(self.latest.size).unwrap_or(usize::MAX);
        let wrong = |at: u64| self.broken(How::Tile, at, at);
        let check = |tiles: Vec<Tile>| {
            for tile in tiles {
                let held = self.store.raw(tile.kind, tile.index, tile.width);
                if held.is_ok_and(|held| held == tile.bytes) {
                    continue;
                }
                let span = match tile.kind {
                    Kind::Entries => WIDTH as u64,
                    Kind::Hashes(level) => {
                        (WIDTH as u64).saturating_pow(u32::from(level).saturating_add(1))
                    }
                };
                return Err(wrong(tile.index.saturating_mul(span)));
            }
            Ok(())
        };
        for entry in self.entries.iter().take(size) {
            tree.push(*entry);
            check(tree.take_full())?;
        }
        check(tree.partial())?;
        Ok(())
    }

    /// What is wrong, with what stands there now.
    fn broken(&self, how: How, index: u64, last: u64) -> Broken {
        let file = self.files.iter().rev().find(|(first, _)| *first <= index);
        let here = file.and_then(|(first, path)| {
            let at = usize::try_from(index - first).ok()?;
            let line = lines(path).ok()?.nth(at)?.ok()?;
            Some((path.clone(), index - first + 1, line))
        });
        let (place, line) = match here {
            Some((path, number, line)) => (Some((path, number)), Some(line)),
            None => (None, None),
        };
        let id = line.and_then(|line| {
            let record: serde_json::Value = serde_json::from_slice(&line).ok()?;
            Some(record.get("id")?.as_str()?.to_owned())
        });
        Broken {
            how,
            index,
            last,
            id,
            place,
        }
    }
}

/// When a record was made.
fn time(line: &[u8]) -> Option<String> {
    let record: serde_json::Value = serde_json::from_slice(line).ok()?;
    Some(record.get("time")?.as_str()?.to_owned())
}

fn root(leaves: &[Hash]) -> Hash {
    let mut tree = Tree::default();
    for leaf in leaves {
        tree.push_leaf(*leaf);
        tree.take_full();
    }
    tree.root()
}

/// In what way records are not those that were signed, from where they differ on.
fn how(own: Option<&[Hash]>, signed: Option<&[Hash]>) -> How {
    let (Some([here, own @ ..]), Some([there, signed @ ..])) = (own, signed) else {
        return How::Truncated;
    };
    match (signed.contains(here), own.contains(there)) {
        (true, true) => How::Reordered,
        (true, false) => How::Deleted,
        (false, true) => How::Inserted,
        (false, false) => How::Edited,
    }
}

#[cfg(test)]
mod tests;
