//! Opens the log's file, in whatever state the last proxy left it.
//!
//! Knows nothing about writing. Invariant: of one log there is one writer; behind its
//! last whole line there is nothing.

use std::collections::HashSet;
use std::fs::{DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use super::Id;
use super::segments::{self, Places};
use super::tree::{self, Hash};

/// A file that can be appended to.
#[derive(Debug)]
pub(super) struct Opened {
    pub(super) file: File,
    /// It is a file: not a pipe or a device.
    pub(super) regular: bool,
    /// How long it is.
    pub(super) len: u64,
    /// Bytes of a line without an end, which have been cut off.
    pub(super) torn: u64,
    /// The entries of its lines.
    pub(super) entries: Vec<Hash>,
    /// What its intents without an outcome call that.
    pub(super) unknown: Vec<Id>,
}

impl Opened {
    /// Opens (creates) a file of one JSON record a line, readable by its owner alone.
    /// What was begun in the files before it may have ended here.
    pub(super) fn open(path: &Path, before: &[PathBuf]) -> io::Result<Self> {
        let special = path.metadata().is_ok_and(|kind| {
            let kind = kind.file_type();
            kind.is_fifo() || kind.is_char_device()
        });
        let file = OpenOptions::new()
            .read(!special)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let kind = file.metadata()?;
        let mut opened = Self {
            file,
            regular: kind.is_file(),
            len: kind.len(),
            torn: 0,
            entries: Vec::new(),
            unknown: Vec::new(),
        };
        if !opened.regular {
            return Ok(opened);
        }
        lock(&opened.file)?;
        if kind.permissions().mode() & 0o077 != 0 {
            opened
                .file
                .set_permissions(std::fs::Permissions::from_mode(0o600))?;
        }
        opened.read(before)?;
        if opened.torn > 0 {
            opened.len -= opened.torn;
            opened.file.set_len(opened.len)?;
        }
        Ok(opened)
    }

    /// Reads it through for what was begun and not ended.
    fn read(&mut self, before: &[PathBuf]) -> io::Result<()> {
        let mut lines = BufReader::with_capacity(1 << 20, &self.file);
        let (mut line, mut ids) = (Vec::new(), Intents::default());
        for before in before {
            for line in segments::lines(before)? {
                ids.see(&line?);
            }
        }
        loop {
            line.clear();
            if lines.read_until(b'\n', &mut line)? == 0 {
                break;
            }
            if line.last() != Some(&b'\n') {
                self.torn = line.len() as u64;
                break;
            }
            line.pop();
            self.entries.push(tree::entry(&line));
            ids.see(&line);
        }
        self.unknown = ids.open();
        Ok(())
    }
}

/// Of a log, the only writer: until what this gives is dropped.
pub(super) fn alone(directory: &Path) -> io::Result<File> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)?;
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(false).mode(0o600);
    let file = options.open(directory.join("lock"))?;
    lock(&file)?;
    Ok(file)
}

fn lock(file: &File) -> io::Result<()> {
    match file.try_lock() {
        Ok(()) => Ok(()),
        Err(TryLockError::WouldBlock) => Err(io::Error::other("another proxy is writing to it")),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// A pipe or a device: it has nothing to be read, or no end, and nothing beside it.
pub(super) fn is_special(path: &Path) -> bool {
    path.metadata().is_ok_and(|it| !it.is_file())
}

/// The closed files in which something may have begun that has no end yet. A proxy that
/// opens a log says of all that is before what has none, so no further back than that; one
/// that closed it has left little open, if anything.
pub(super) fn before(places: &Places) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    if is_special(&places.live) {
        return Ok(files);
    }
    let (mut settled, closed) = ends(&places.live)?;
    for segment in places.closed()?.into_iter().rev() {
        if settled || (closed && !files.is_empty()) {
            break;
        }
        (settled, _) = ends(&segment.path)?;
        files.push(segment.path);
    }
    files.reverse();
    Ok(files)
}

/// Whether a file tells of all that was open before it, and whether it ends with the
/// log's being closed.
fn ends(path: &Path) -> io::Result<(bool, bool)> {
    let (mut left, mut closed) = (None, false);
    for line in segments::lines(path)? {
        let line = line?;
        // These have no fields that sort before it.
        let is = |head: &str| line.starts_with(head.as_bytes());
        if is("{\"event\":\"log_opened\"") {
            let opened: Option<Unknown> = serde_json::from_slice(&line).ok();
            left = opened.map(|opened| opened.unknown);
        } else if is("{\"event\":\"outcome_unknown\"") {
            left = left.map(|left| left.saturating_sub(1));
        }
        closed = is("{\"event\":\"log_closed\"");
    }
    // All of them were written together, but may not all have got there.
    Ok((left == Some(0), closed))
}

/// How many a record of opening says will follow.
#[derive(Deserialize)]
struct Unknown {
    unknown: u64,
}

/// Which intents have an outcome.
#[derive(Debug, Default)]
pub(super) struct Intents {
    open: Vec<Id>,
    closed: HashSet<Id>,
}

/// As much of a record as that takes.
#[derive(Deserialize)]
struct Head<'a> {
    event: &'a str,
    id: &'a str,
    query: Option<&'a str>,
}

impl Intents {
    /// A record passes. What is not one says nothing of this.
    pub(super) fn see(&mut self, line: &[u8]) {
        let Ok(head) = serde_json::from_slice::<Head<'_>>(line) else {
            return;
        };
        match head.event {
            "intent" => self.open.extend(head.query.and_then(Id::read)),
            "statement" | "denial" | "not_run" | "outcome_unknown" => {
                self.closed.extend(Id::read(head.id));
            }
            _ => {}
        }
    }

    /// Those without one, in order.
    pub(super) fn open(self) -> Vec<Id> {
        let mut open = self.open;
        open.retain(|id| !self.closed.contains(id));
        open
    }
}
