//! Which files a log's records are in, and which of them each begins with.
//!
//! Knows nothing about what records say. The file that is appended to keeps its name;
//! when it is long enough it is moved to the directory beside it, under the number of
//! its first record, and a new one begins.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Where a log's files are.
#[derive(Clone, Debug)]
pub struct Places {
    /// The records that are appended to
    pub live: PathBuf,
    /// Beside it, what is closed, and the tree
    pub directory: PathBuf,
}

/// A file of records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The number of its first record, from 0
    pub first: u64,
    /// Where it is
    pub path: PathBuf,
}

/// As much of a file's first record as says which it is.
#[derive(Deserialize)]
struct Head {
    event: String,
    first: Option<u64>,
}

impl Places {
    /// Those of a log that is appended to that file.
    pub fn of(live: &Path) -> Self {
        Self {
            live: live.to_owned(),
            directory: live.with_extension("tlog"),
        }
    }

    /// Where the tree is.
    pub fn tree(&self) -> super::tree::store::Store {
        super::tree::store::Store::new(self.directory.clone())
    }

    /// The closed ones, in order.
    ///
    /// # Errors
    /// Where the directory cannot be read.
    pub fn closed(&self) -> io::Result<Vec<Segment>> {
        let entries = match fs::read_dir(self.directory.join("segments")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut segments = Vec::new();
        for entry in entries {
            let path = entry?.path();
            let name = path.file_name().and_then(|name| name.to_str());
            let number = name.and_then(|name| name.strip_suffix(".jsonl"));
            if let Some(first) = number.and_then(|number| number.parse().ok()) {
                segments.push(Segment { first, path });
            }
        }
        segments.sort_by_key(|segment| segment.first);
        Ok(segments)
    }

    /// Where one that begins with that record goes when it is closed.
    pub fn closing(&self, first: u64) -> PathBuf {
        self.directory
            .join("segments")
            .join(format!("{first:020}.jsonl"))
    }

    /// All of them, in order, the one that is appended to last.
    ///
    /// # Errors
    /// Where they cannot be read.
    pub fn all(&self) -> io::Result<Vec<Segment>> {
        let mut segments = self.closed()?;
        let first = self.live_first(&segments)?;
        segments.push(Segment {
            first,
            path: self.live.clone(),
        });
        Ok(segments)
    }

    /// The number of the first record in the file that is appended to.
    fn live_first(&self, closed: &[Segment]) -> io::Result<u64> {
        if let Some(line) = lines(&self.live)?.next() {
            let head = serde_json::from_slice::<Head>(&line?).ok();
            let begins =
                head.filter(|head| matches!(head.event.as_str(), "log_opened" | "log_rotated"));
            if let Some(first) = begins.and_then(|head| head.first) {
                return Ok(first);
            }
        }
        match closed.last() {
            Some(last) => {
                let mut count = 0;
                for line in lines(&last.path)? {
                    line?;
                    count += 1;
                }
                Ok(last.first + count)
            }
            None => Ok(0),
        }
    }
}

/// The whole lines of a file, without their ends; none of one that is not there.
///
/// # Errors
/// Where it cannot be read.
pub fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
    let mut reader = match File::open(path) {
        Ok(file) => Some(BufReader::with_capacity(1 << 18, file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    Ok(std::iter::from_fn(move || {
        let mut line = Vec::new();
        match reader.as_mut()?.read_until(b'\n', &mut line) {
            Ok(_) if line.pop() == Some(b'\n') => Some(Ok(line)),
            // What has no end is not yet, or not any more, a line.
            Ok(_) => None,
            Err(error) => {
                reader = None;
                Some(Err(error))
            }
        }
    }))
}
