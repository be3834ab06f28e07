//! What readers of a log did with it, on its way into the log itself.
//!
//! Knows nothing about how it was read. The proxy alone writes to its log, so who verifies,
//! exports or reads it leaves a note beside it, which the proxy takes in. Nobody has to:
//! who reads the files by other means leaves none, and whoever may write there can remove
//! one before it is taken in. Invariant: who it was is what the system says of the note's
//! owner, not what the note says.

use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::record::{Reading, What};
use super::segments::Places;
use super::{Event, Id, Log};

/// A note is this long at most, in bytes, and so are its parts together.
const LONGEST: u64 = 4096;
/// So much is taken in at a time.
const TOGETHER: usize = 100;

/// What was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// It was verified.
    Verified,
    /// A record was exported, with its proof.
    Exported,
    /// It was searched.
    Read,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Note {
    did: Did,
    at: jiff::Timestamp,
    what: String,
}

/// Leaves a note, and says which file that is.
///
/// # Errors
/// Where there is no log that a proxy writes, or nothing may be written beside it.
pub fn tell(places: &Places, did: Did, what: &str) -> io::Result<PathBuf> {
    let directory = places.directory.join("readers");
    // Only beside a log; whose it is, who may write there.
    fs::metadata(&places.directory)?;
    make(&directory)?;
    let end = what.floor_char_boundary(LONGEST as usize / 8);
    let note = Note {
        did,
        at: jiff::Timestamp::now(),
        what: what.get(..end).unwrap_or_default().to_owned(),
    };
    let path = directory.join(format!("{}.json", Id::next()));
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    // Whoever the proxy runs as reads it.
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&new)?;
    file.write_all(serde_json::to_string(&note)?.as_bytes())?;
    fs::rename(&new, &path)?;
    Ok(path)
}

/// Has notes taken in that a proxy before this one had begun to: once too often rather than
/// not at all.
///
/// # Errors
/// Where there is a directory of them that cannot be read.
pub fn resume(places: &Places) -> io::Result<()> {
    let entries = match fs::read_dir(places.directory.join("readers")) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "taken") {
            // One that cannot be moved could not be taken in either.
            let _ = fs::rename(&path, path.with_extension("json"));
        }
    }
    Ok(())
}

/// Takes notes into the log.
///
/// # Errors
/// Where the log cannot be written: they stay.
pub async fn take_in(places: &Places, log: &Log) -> io::Result<()> {
    let directory = places.directory.join("readers");
    if !places.directory.is_dir() {
        return Ok(());
    }
    // Whoever reads first is not to be whose it is.
    make(&directory)?;
    let mut fault = None;
    for path in notes(&directory)? {
        // What cannot be taken away would be taken in again and again.
        let taken = path.with_extension("taken");
        if let Err(error) = fs::rename(&path, &taken) {
            let path = path.display();
            fault = Some(io::Error::new(error.kind(), format!("{path}: {error}")));
            continue;
        }
        let Some(event) = read(&taken) else {
            tracing::warn!(file = %path.display(), "no note of a reader; it is removed");
            fault = remove(&taken).err().or(fault);
            continue;
        };
        if let Err(error) = log.keep(&event).await {
            fs::rename(&taken, &path)?;
            return Err(io::Error::other(error));
        }
        fault = remove(&taken).err().or(fault);
    }
    fault.map_or(Ok(()), Err)
}

fn make(directory: &Path) -> io::Result<()> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
}

/// Somebody may have made a directory in its place.
fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path).or_else(|error| fs::remove_dir_all(path).map_err(|_| error))
}

fn notes(directory: &Path) -> io::Result<Vec<PathBuf>> {
    let entries = fs::read_dir(directory)?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "json") {
            paths.push(path);
        }
        if paths.len() >= TOGETHER {
            break;
        }
    }
    paths.sort();
    Ok(paths)
}

fn read(path: &Path) -> Option<Event> {
    let metadata = fs::symlink_metadata(path).ok()?;
    if !metadata.is_file() || metadata.len() > LONGEST {
        return None;
    }
    let mut text = String::new();
    let file = fs::File::open(path).ok()?;
    file.take(LONGEST).read_to_string(&mut text).ok()?;
    let note: Note = serde_json::from_str(&text).ok()?;
    let reading = Reading {
        by: owner(metadata.uid()),
        at: format!("{:.6}", note.at),
        what: note.what,
    };
    let what = match note.did {
        Did::Verified => What::LogVerified(reading),
        Did::Exported => What::LogExported(reading),
        Did::Read => What::LogRead(reading),
    };
    // One of its own: what its file is called is its writer's word.
    path.file_stem().and_then(|name| Id::read(name.to_str()?))?;
    Some(Event::now(None, what))
}

/// A user of this machine: the name, or the number where there is none.
fn owner(uid: u32) -> String {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let name = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let (name, own) = (fields.next()?, fields.nth(1)?);
        (own.parse() == Ok(uid)).then(|| name.to_owned())
    });
    name.unwrap_or_else(|| uid.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::Durability;

    #[tokio::test]
    async fn what_readers_did_is_taken_in_once_and_rubbish_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::of(&directory.path().join("records.jsonl"));
        // Where there is no log.
        tell(&places, Did::Read, "all").unwrap_err();
        fs::create_dir(&places.directory).unwrap();
        let readers = places.directory.join("readers");
        let log = Log::open(&places.live, Durability::Flush).unwrap();
        take_in(&places, &log).await.unwrap();
        assert!(readers.is_dir());
        // Before all others, and more than are taken in together.
        fs::create_dir(readers.join("0.json")).unwrap();
        (0..TOGETHER).for_each(|at| fs::write(readers.join(format!("{at}.new")), "{").unwrap());
        tell(&places, Did::Verified, "ok, 7 records").unwrap();
        tell(&places, Did::Exported, "one").unwrap();
        tell(&places, Did::Read, &"é".repeat(5000)).unwrap();
        fs::write(readers.join("rubbish.json"), "{}").unwrap();
        fs::write(readers.join("large.json"), vec![b' '; 10_000]).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", readers.join("link.json")).unwrap();
        for _ in 0..2 {
            take_in(&places, &log).await.unwrap();
        }
        let text = fs::read_to_string(&places.live).unwrap();
        let records: Vec<serde_json::Value> = text
            .lines()
            .skip(1)
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let events: Vec<_> = records
            .iter()
            .map(|it| it["event"].as_str().unwrap())
            .collect();
        assert_eq!(events, ["log_verified", "log_exported", "log_read"]);
        assert_eq!(records[0]["what"], "ok, 7 records");
        let own = owner(fs::metadata("/proc/self").unwrap().uid());
        assert_eq!(records[1]["by"], own.as_str());
        assert_eq!(records[2]["what"].as_str().unwrap().len(), 512);
        assert_eq!(fs::read_dir(&readers).unwrap().count(), TOGETHER);
        // What a proxy that was killed had begun to take in.
        let note = tell(&places, Did::Verified, "begun").unwrap();
        fs::rename(&note, note.with_extension("taken")).unwrap();
        resume(&places).unwrap();
        take_in(&places, &log).await.unwrap();
        resume(&places).unwrap();
        take_in(&places, &log).await.unwrap();
        let text = fs::read_to_string(&places.live).unwrap();
        assert_eq!(text.matches("begun").count(), 1);
        // What cannot be taken away is not taken in, and keeps nothing else from being.
        let note = tell(&places, Did::Read, "stays").unwrap();
        fs::create_dir(note.with_extension("taken")).unwrap();
        tell(&places, Did::Read, "goes").unwrap();
        for _ in 0..2 {
            take_in(&places, &log).await.unwrap_err();
        }
        let text = fs::read_to_string(&places.live).unwrap();
        assert!(!text.contains("stays"), "{text}");
        assert_eq!(text.matches("goes").count(), 1);
    }
}
