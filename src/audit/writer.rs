//! Puts lines at the end of the log's file.
//!
//! Knows nothing about what the lines say, or who waits for them. Invariant: what
//! could not be written is written first, in order, before anything else is; a file
//! never holds half a line in front of another.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use super::Event;
use super::line;
use super::log::{LogError, State};
use super::open::Opened;
use super::record::What;
use super::tree::{self, Hash};

/// Bytes of records kept for later while the file cannot be written.
const BACKLOG: usize = 4 << 20;
/// A write that takes longer is no longer made by who appends.
const QUICK: Duration = Duration::from_millis(1);
/// So many quick ones in a row, and writes are made by who appends again.
pub(super) const STEADY: u32 = 256;
/// Bytes that may wait for the disk: they are kept, to be written again if need be.
const UNSYNCED: usize = 256 << 20;

/// Whole lines, each a record.
#[derive(Debug, Default)]
pub(super) struct Lines {
    pub(super) bytes: Vec<u8>,
    /// What the tree holds of each
    pub(super) entries: Vec<Hash>,
}

impl Lines {
    /// Those of events.
    pub(super) fn of(events: &[Event]) -> Result<Self, LogError> {
        let mut lines = Self {
            bytes: Vec::with_capacity(events.len() * 1024),
            entries: Vec::with_capacity(events.len()),
        };
        for event in events {
            lines.push(event)?;
        }
        Ok(lines)
    }

    fn push(&mut self, event: &Event) -> Result<(), LogError> {
        let at = self.bytes.len();
        if let Err(error) = line::put(&mut self.bytes, event) {
            self.bytes.truncate(at);
            return Err(LogError(error.to_string().into()));
        }
        self.entries
            .push(tree::entry(self.bytes.get(at..).unwrap_or_default()));
        self.bytes.push(b'\n');
        Ok(())
    }

    fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
        self.entries.extend_from_slice(&other.entries);
    }
}

/// The one that writes.
#[derive(Debug)]
pub(super) struct Writer {
    file: Arc<File>,
    regular: bool,
    state: Arc<State>,
    /// How long the file is, as far as it holds whole lines.
    len: u64,
    /// Bytes written since it was opened, and how many of them are on disk.
    written: u64,
    /// Held by who syncs, from before it looks how far the file goes until it has said
    /// what came of it: of a write that failed, one sync alone hears. Taken before the
    /// writer's own lock.
    syncing: Arc<Mutex<()>>,
    /// What may not be on disk yet, where somebody relies on that.
    unsynced: Option<Vec<u8>>,
    /// Of that, the system may have dropped what it was given.
    dropped: bool,
    /// Records that could not be written, to be written first.
    backlog: Lines,
    /// Records that could not even be kept.
    lost: u64,
    /// The last write may have ended within a line.
    torn: bool,
    /// What was written and the tree has not yet, where there is one.
    entries: Option<Vec<Hash>>,
}

impl Writer {
    /// Writes to what was opened; `keeps` what is not on disk yet, to write it again
    /// where it does not get there; `sealed`: there is a tree.
    pub(super) fn new(opened: Opened, keeps: bool, sealed: bool, state: Arc<State>) -> Self {
        Self {
            entries: sealed.then(Vec::new),
            file: Arc::new(opened.file),
            regular: opened.regular,
            state,
            len: opened.len,
            written: 0,
            syncing: Arc::default(),
            unsynced: ((keeps || sealed) && opened.regular).then(Vec::new),
            dropped: false,
            backlog: Lines::default(),
            lost: 0,
            torn: false,
        }
    }

    /// Writes lines.
    pub(super) fn write(&mut self, batch: &[&Lines]) -> Result<(), LogError> {
        let began = Instant::now();
        let written = self.write_all(batch);
        let quick = self.regular && began.elapsed() <= QUICK;
        let slow = match quick {
            true => self.state.slow.load(Ordering::Acquire).saturating_sub(1),
            false => STEADY,
        };
        self.state.slow.store(slow, Ordering::Release);
        self.state.failed.store(written.is_err(), Ordering::Release);
        written
    }

    fn write_all(&mut self, batch: &[&Lines]) -> Result<(), LogError> {
        let mut first = Lines::default();
        if self.state.failed.load(Ordering::Acquire) {
            first.append(&self.backlog);
            first.push(&Event::now(None, What::LogResumed { lost: self.lost }))?;
        }
        let put = match batch {
            [lines] if first.entries.is_empty() => self.put(lines),
            _ => {
                batch.iter().for_each(|lines| first.append(lines));
                self.put(&first)
            }
        };
        match put {
            Ok(()) => {
                self.backlog = Lines::default();
                self.lost = 0;
                Ok(())
            }
            Err(error) => {
                self.torn = true;
                for lines in batch {
                    if self.backlog.bytes.len() + lines.bytes.len() <= BACKLOG {
                        self.backlog.append(lines);
                    } else {
                        self.lost += lines.entries.len() as u64;
                    }
                }
                tracing::error!(%error, lost = self.lost, "audit log cannot be written");
                Err(LogError(error.to_string().into()))
            }
        }
    }

    fn put(&mut self, lines: &Lines) -> io::Result<()> {
        if !self.regular {
            let mut file = &*self.file;
            if self.torn {
                file.write_all(b"\n")?;
                self.torn = false;
            }
            return file.write_all(&lines.bytes);
        }
        self.put_again()?;
        if self.waits_for_disk() > UNSYNCED {
            return Err(io::Error::other("the disk does not take what it was given"));
        }
        if self.torn {
            self.file.set_len(self.len)?;
            self.torn = false;
        }
        self.file.write_all_at(&lines.bytes, self.len)?;
        let bytes = lines.bytes.len() as u64;
        self.len += bytes;
        self.written += bytes;
        if let Some(unsynced) = &mut self.unsynced {
            unsynced.extend_from_slice(&lines.bytes);
        }
        if let Some(entries) = &mut self.entries {
            entries.extend_from_slice(&lines.entries);
        }
        Ok(())
    }

    /// How many entries the tree has not yet.
    pub(super) fn entries(&self) -> usize {
        self.entries.as_ref().map_or(0, Vec::len)
    }

    /// Those.
    pub(super) fn take_entries(&mut self) -> Vec<Hash> {
        self.entries
            .as_mut()
            .map(std::mem::take)
            .unwrap_or_default()
    }

    /// How many bytes wait for the disk, where that is known.
    pub(super) fn waits_for_disk(&self) -> usize {
        self.unsynced.as_ref().map_or(0, Vec::len)
    }

    /// What who syncs must hold.
    pub(super) fn syncing(&self) -> Arc<Mutex<()>> {
        self.syncing.clone()
    }

    /// How long the file is.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// The file, and how far it goes.
    pub(super) fn reached(&self) -> (Arc<File>, u64) {
        (self.file.clone(), self.written)
    }

    /// Whether all that was to be written has been, and more is to come.
    pub(super) fn goes_on(&self) -> bool {
        let State {
            failed, closing, ..
        } = &*self.state;
        let ends = failed.load(Ordering::Acquire) || closing.load(Ordering::Acquire);
        !self.dropped && !self.torn && !ends
    }

    /// Goes on in another file. All of this one is on disk.
    pub(super) fn turn_to(&mut self, next: Opened) {
        self.file = Arc::new(next.file);
        self.len = next.len;
    }

    /// After an fsync that failed, the system may take for written what it was given
    /// and has dropped: it is given it once more.
    pub(super) fn put_again(&mut self) -> io::Result<()> {
        if let (true, Some(unsynced)) = (self.dropped, &mut self.unsynced) {
            let from = self.len.saturating_sub(unsynced.len() as u64);
            self.file.write_all_at(unsynced, from)?;
            self.file.sync_data()?;
            unsynced.clear();
            self.dropped = false;
        }
        Ok(())
    }

    /// What is to be brought to disk, if anything is: the file, and how far it goes.
    pub(super) fn unsynced(&self) -> Option<(Arc<File>, u64)> {
        let unsynced = self.unsynced.as_ref()?;
        (!unsynced.is_empty() && !self.dropped).then(|| (self.file.clone(), self.written))
    }

    /// Whether all that was written is on disk, where nothing is left to be brought.
    pub(super) fn all_synced(&self) -> Result<(), LogError> {
        match self.dropped {
            true => Err(LogError("an fsync has failed".into())),
            false => Ok(()),
        }
    }

    /// It is on disk up to there, or could not be brought there.
    pub(super) fn synced(&mut self, upto: u64, synced: io::Result<()>) -> Result<(), LogError> {
        match synced {
            // Whoever heard of the failure, it is not forgotten until all is written again.
            Ok(()) if self.dropped => self.all_synced(),
            Ok(()) => {
                let after = usize::try_from(self.written - upto).unwrap_or(usize::MAX);
                if let Some(unsynced) = &mut self.unsynced {
                    let done = unsynced.len().saturating_sub(after);
                    unsynced.drain(..done);
                }
                Ok(())
            }
            Err(error) => {
                self.dropped = true;
                self.state.failed.store(true, Ordering::Release);
                tracing::error!(%error, "audit log cannot be brought to disk");
                Err(LogError(error.to_string().into()))
            }
        }
    }

    /// Brings everything to disk.
    pub(super) fn sync(&mut self) -> Result<(), LogError> {
        if !self.regular {
            return Ok(());
        }
        let upto = self.written;
        let again = self.put_again();
        let synced = again.and_then(|()| self.file.sync_data());
        self.synced(upto, synced)
    }
}

#[cfg(test)]
mod tests {
    use std::fs::OpenOptions;

    use super::*;

    fn opened(file: File, regular: bool) -> Opened {
        Opened {
            len: file.metadata().unwrap().len(),
            file,
            regular,
            torn: 0,
            entries: Vec::new(),
            unknown: Vec::new(),
        }
    }

    fn lines(text: &str) -> Lines {
        Lines {
            bytes: format!("{text}\n").into(),
            entries: vec![[0; 32]],
        }
    }

    fn text(file: &File) -> String {
        let mut file = file.try_clone().unwrap();
        std::io::Seek::rewind(&mut file).unwrap();
        std::io::read_to_string(file).unwrap()
    }

    #[test]
    fn what_could_not_be_written_is_written_first_when_it_can_be() {
        let full = OpenOptions::new().append(true).open("/dev/full").unwrap();
        let mut writer = Writer::new(opened(full, false), false, false, Arc::default());
        writer.write(&[&lines("1")]).unwrap_err();
        let file = tempfile::tempfile().unwrap();
        writer.file = Arc::new(file.try_clone().unwrap());
        writer.write(&[&lines("2")]).unwrap();
        let text = text(&file);
        let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), 3, "{text}");
        assert_eq!((lines[0], lines[2]), ("1", "2"));
        assert!(lines[1].contains("log_resumed"));
    }

    #[test]
    fn a_failed_fsync_is_not_forgotten_by_the_next() {
        let file = tempfile::tempfile().unwrap();
        let own = file.try_clone().unwrap();
        // What is sealed is kept as well, however durable it is to be.
        let mut writer = Writer::new(opened(own, true), false, true, Arc::default());
        writer.write(&[&lines("1")]).unwrap();
        let (_, upto) = writer.reached();
        let lost = || io::Error::other("a disk that is going");
        writer.synced(upto, Err(lost())).unwrap_err();
        // The system tells of it once: the next sync succeeds, and says nothing of this.
        writer.synced(upto, Ok(())).unwrap_err();
        assert!(!writer.goes_on());
        assert_eq!(writer.waits_for_disk(), 2);
        file.set_len(0).unwrap();
        writer.sync().unwrap();
        writer.all_synced().unwrap();
        assert_eq!((text(&file).as_str(), writer.waits_for_disk()), ("1\n", 0));
    }

    #[test]
    fn what_a_failed_fsync_may_have_dropped_is_written_again() {
        let file = tempfile::tempfile().unwrap();
        let mut writer = Writer::new(
            opened(file.try_clone().unwrap(), true),
            true,
            false,
            Arc::default(),
        );
        writer.write(&[&lines("1")]).unwrap();
        let (_, upto) = writer.unsynced().unwrap();
        writer.synced(upto, Ok(())).unwrap();
        writer.write(&[&lines("2")]).unwrap();
        let (_, upto) = writer.unsynced().unwrap();
        writer.write(&[&lines("3")]).unwrap();
        let lost = io::Error::other("a disk that is going");
        writer.synced(upto, Err(lost)).unwrap_err();
        assert!(writer.state.failed.load(Ordering::Acquire));
        // As if the system had dropped both, and half a line is all there is of a third.
        file.set_len(2).unwrap();
        file.write_all_at(b"\0\0\0\0{\"hal", 2).unwrap();
        writer.torn = true;
        writer.write(&[&lines("4")]).unwrap();
        assert!(!writer.state.failed.load(Ordering::Acquire));
        let text = text(&file);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[..3], ["1", "2", "3"], "{text:?}");
        assert!(
            lines[3].contains("log_resumed") && lines[4] == "4",
            "{text:?}"
        );
        assert_eq!(lines.len(), 5);
    }
}
