//! Which files a log's records are in, and which of them each begins with.
//!
//! Knows nothing about what records say. The file that is appended to keeps its name;
//! when it is long enough it is moved to the directory beside it, under the number of
//! its first record, and a new one begins.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// How often the file that is appended to is looked for.
const TRIES: usize = 5;

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
        let first = first_of(|| lines(&self.live), &segments)?;
        segments.push(Segment {
            first,
            path: self.live.clone(),
        });
        Ok(segments)
    }

    /// The same, of this moment, for who reads them through.
    ///
    /// # Errors
    /// Where they cannot be read, or there are none.
    pub fn hold(&self) -> io::Result<Held> {
        Held::new(self)
    }

    /// The one that is appended to. Between its being moved and the next one's beginning
    /// there is none.
    fn open_live(&self) -> io::Result<Option<File>> {
        for _ in 0..TRIES {
            match File::open(&self.live) {
                Ok(file) => return Ok(Some(file)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(None)
    }
}

/// The number of the first record in the file that is appended to.
fn first_of<L: Iterator<Item = io::Result<Vec<u8>>>>(
    live: impl FnOnce() -> io::Result<L>,
    closed: &[Segment],
) -> io::Result<u64> {
    if let Some(line) = live()?.next() {
        let head = serde_json::from_slice::<Head>(&line?).ok();
        let begins =
            head.filter(|head| matches!(head.event.as_str(), "log_opened" | "log_rotated"));
        if let Some(first) = begins.and_then(|head| head.first) {
            return Ok(first);
        }
    }
    match closed.last() {
        Some(last) => {
            let mut first = last.first;
            for line in lines(&last.path)? {
                line?;
                first = first.saturating_add(1);
            }
            Ok(first)
        }
        None => Ok(0),
    }
}

/// A log's files at one moment. A proxy may close the one that is appended to, and begin
/// another in its place, while they are read: the one meant stays open.
#[derive(Debug)]
pub struct Held {
    files: Vec<Segment>,
    /// The last of those
    live: Option<(PathBuf, File)>,
}

impl Held {
    fn new(places: &Places) -> io::Result<Self> {
        let live = places.open_live()?;
        let mut files = places.closed()?;
        let Some(live) = live else {
            return match files.is_empty() {
                true => Err(io::ErrorKind::NotFound.into()),
                false => Ok(Self { files, live: None }),
            };
        };
        // What was closed since it was opened is this one, or began later.
        let own = live.metadata()?.ino();
        let is_it = |file: &Segment| file.path.metadata().is_ok_and(|it| it.ino() == own);
        if let Some(at) = files.iter().position(is_it) {
            files.truncate(at);
        }
        let mut held = Self {
            files,
            live: Some((places.live.clone(), live)),
        };
        let first = first_of(|| held.lines(&places.live), &held.files)?;
        held.files.push(Segment {
            first,
            path: places.live.clone(),
        });
        Ok(held)
    }

    /// Those, in order.
    pub fn files(&self) -> &[Segment] {
        &self.files
    }

    /// The whole lines of one of them.
    ///
    /// # Errors
    /// Where it cannot be read, or is there no more.
    pub fn lines(
        &self,
        path: &Path,
    ) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
        let file = match &self.live {
            Some((live, file)) if live == path => {
                let mut file = file.try_clone()?;
                file.rewind()?;
                file
            }
            _ => File::open(path).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => io::Error::other(format!(
                    "{} was removed while the log was read (hint: try again)",
                    path.display()
                )),
                _ => error,
            })?,
        };
        Ok(lines_of(Some(file)))
    }
}

/// The whole lines of a file, without their ends; none of one that is not there.
///
/// # Errors
/// Where it cannot be read.
pub fn lines(path: &Path) -> io::Result<impl Iterator<Item = io::Result<Vec<u8>>> + use<>> {
    match File::open(path) {
        Ok(file) => Ok(lines_of(Some(file))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(lines_of(None)),
        Err(error) => Err(error),
    }
}

fn lines_of(file: Option<File>) -> impl Iterator<Item = io::Result<Vec<u8>>> + use<> {
    let mut reader = file.map(|file| BufReader::with_capacity(1 << 18, file));
    std::iter::from_fn(move || {
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
    })
}
