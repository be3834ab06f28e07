//! Reads a log from where a sink stands, up to what is signed.
//!
//! Knows nothing about what is done with it. Invariant: records come in order, each once,
//! until it is told to go back; what is kept is where the next one begins.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;

use super::batch::Record;
use super::cursor::{self, Cursor};
use crate::audit::progress::Reached;
use crate::audit::segments::Places;
use crate::audit::tree::note::Checkpoint;
use crate::audit::tree::signed::Signed;

/// What is read at once: so many records, and no further one from so many bytes on.
pub(super) const RECORDS: usize = 500;
const BYTES: usize = 256 << 10;
/// Files may be closed while they are looked for.
const TRIES: usize = 5;

/// A reader.
#[derive(Debug)]
pub(super) struct Tail {
    places: Places,
    name: Box<str>,
    /// What the log is called
    log: Box<str>,
    /// Where it stands on disk, and where it has come
    kept: Cursor,
    at: Cursor,
    file: Option<BufReader<File>>,
}

impl Tail {
    /// One of that name: at the oldest record, if it has never been anywhere in that log, of
    /// which so many records are signed.
    pub(super) fn open(places: &Places, name: &str, log: &str, signed: u64) -> io::Result<Self> {
        let first = places.all()?.first().map_or(0, |file| file.first);
        let oldest = Cursor {
            position: first,
            segment: first,
            offset: 0,
        };
        let mut at = match cursor::read(places, name)? {
            Some((own, at)) if own == log && at.position <= signed => at,
            Some((own, at)) => {
                tracing::error!(
                    sink = name,
                    was = own,
                    at = at.position,
                    signed,
                    "a sink has come further than this log has, so in another: it begins anew"
                );
                oldest
            }
            None => oldest,
        };
        if at.position < oldest.position {
            tracing::error!(
                sink = name,
                from = at.position,
                to = oldest.position,
                "a sink has not taken records that are there no more"
            );
            at = oldest;
        }
        Ok(Self {
            places: places.clone(),
            name: name.into(),
            log: log.into(),
            kept: at,
            at,
            file: None,
        })
    }

    /// Where the next record begins.
    pub(super) fn at(&self) -> &Cursor {
        &self.at
    }

    /// What was read has arrived.
    pub(super) fn keep(&mut self) -> io::Result<()> {
        cursor::write(&self.places, &self.name, &self.log, &self.at)?;
        self.kept = self.at;
        Ok(())
    }

    /// What was read has not arrived.
    pub(super) fn back(&mut self) {
        self.at = self.kept;
        self.file = None;
    }

    /// Passes over all records up to that one. The file that it is in is looked for later.
    pub(super) fn skip(&mut self, upto: u64) -> Vec<Record> {
        self.at = Cursor {
            position: upto,
            segment: upto,
            offset: 0,
        };
        self.file = None;
        Vec::new()
    }

    /// How many of what was read are what was signed: under the root that the proxy itself
    /// has come to, whatever else lies beside the log.
    pub(super) fn genuine(&self, records: &[Record], reached: &Reached) -> io::Result<usize> {
        let head = Checkpoint {
            size: reached.signed,
            root: reached.root,
        };
        let mut signed = Signed::new(self.places.tree(), head);
        for (at, record) in records.iter().enumerate() {
            if !signed.holds(record.position, record.line.as_bytes())? {
                return Ok(at);
            }
        }
        Ok(records.len())
    }

    /// That the next record is none.
    pub(super) fn changed(&self) -> io::Error {
        let Cursor { position, .. } = self.at;
        io::Error::other(format!(
            "record {position} is not what was signed (hint: `pgveil audit verify`)"
        ))
    }

    /// Some records before that one, so many at most, and one at least.
    pub(super) fn read(&mut self, upto: u64, most: usize) -> io::Result<Vec<Record>> {
        let (mut records, mut bytes) = (Vec::new(), 0);
        while self.at.position < upto && records.len() < most && bytes < BYTES {
            let line = self.line()?;
            bytes += line.len();
            records.push(Record {
                position: self.at.position,
                line,
            });
            self.at.position += 1;
        }
        Ok(records)
    }

    /// The next line, which is there: it is signed.
    fn line(&mut self) -> io::Result<String> {
        for _ in 0..TRIES {
            let file = match &mut self.file {
                Some(file) => file,
                None => {
                    let file = self.find()?;
                    self.file.insert(file)
                }
            };
            let mut line = Vec::new();
            file.read_until(b'\n', &mut line)?;
            if line.pop() == Some(b'\n') {
                self.at.offset += line.len() as u64 + 1;
                // What is none is not what was signed, either.
                return Ok(String::from_utf8_lossy(&line).into_owned());
            }
            // The end of a file, which is closed since the record is not in it.
            self.file = None;
            self.at.segment = self.at.position;
            self.at.offset = 0;
        }
        Err(self.missing())
    }

    fn missing(&self) -> io::Error {
        let Cursor { position, .. } = self.at;
        io::Error::other(format!(
            "record {position} is signed, and not in the log (hint: `pgveil audit verify`)"
        ))
    }

    /// The file of the next record, at that.
    fn find(&mut self) -> io::Result<BufReader<File>> {
        for _ in 0..TRIES {
            let all = self.places.all()?;
            let after = all.partition_point(|file| file.first <= self.at.position);
            let Some(segment) = after.checked_sub(1).and_then(|at| all.get(at)) else {
                return Err(self.missing());
            };
            let file = match File::open(&segment.path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            // Another may have begun under that name meanwhile.
            let own = file.metadata()?.ino();
            let again = self.places.all()?;
            let is_it = |it: &&crate::audit::segments::Segment| it.first == segment.first;
            let still = again.iter().find(is_it).map(|it| it.path.metadata());
            if !still.is_some_and(|it| it.is_ok_and(|it| it.ino() == own)) {
                continue;
            }
            let mut file = BufReader::with_capacity(1 << 17, file);
            if self.at.segment == segment.first && self.at.offset > 0 {
                file.seek(SeekFrom::Start(self.at.offset))?;
            } else {
                self.at.segment = segment.first;
                self.at.offset = 0;
                for _ in segment.first..self.at.position {
                    let mut line = Vec::new();
                    self.at.offset += file.read_until(b'\n', &mut line)? as u64;
                }
            }
            return Ok(file);
        }
        Err(self.missing())
    }
}
