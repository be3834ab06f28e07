//! Opens the log's file, in whatever state the last proxy left it.
//!
//! Knows nothing about writing. Invariant: of one log there is one writer; behind its
//! last whole line there is nothing.

use std::collections::HashSet;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, BufRead, BufReader};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use serde::Deserialize;

use super::Id;
use super::segments;
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
    /// What was begun in the file before it may have ended here.
    pub(super) fn open(path: &Path, before: Option<&Path>) -> io::Result<Self> {
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
        match opened.file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(io::Error::other("another proxy is writing to it"));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
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
    fn read(&mut self, before: Option<&Path>) -> io::Result<()> {
        let mut lines = BufReader::with_capacity(1 << 20, &self.file);
        let (mut line, mut ids) = (Vec::new(), Intents::default());
        if let Some(before) = before {
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
