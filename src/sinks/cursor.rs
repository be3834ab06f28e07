//! How far a sink has come, on disk.
//!
//! Knows nothing about records. Invariant: what is read is what was kept last, whole.

use std::borrow::Cow;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::audit::segments::Places;

/// Where a reader of the log stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The number of the next record
    pub position: u64,
    /// The number of the first record of the file that it is in, or behind
    pub segment: u64,
    /// Where in that file, in bytes
    pub offset: u64,
}

/// The same on disk: in which log.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept<'a> {
    #[serde(default, borrow)]
    log: Cow<'a, str>,
    position: u64,
    segment: u64,
    offset: u64,
}

fn path(places: &Places, name: &str) -> PathBuf {
    places.directory.join("sinks").join(format!("{name}.json"))
}

/// The one of that sink, if it has come anywhere, and in which log that was.
pub(super) fn read(places: &Places, name: &str) -> io::Result<Option<(String, Cursor)>> {
    let path = path(places, name);
    match fs::read(&path) {
        Ok(text) => {
            let kept: Kept<'_> = serde_json::from_slice(&text).map_err(|error| {
                let path = path.display();
                io::Error::other(format!(
                    "{path}: {error} (hint: without the file, all that the log has is sent again)"
                ))
            })?;
            let cursor = Cursor {
                position: kept.position,
                segment: kept.segment,
                offset: kept.offset,
            };
            Ok(Some((kept.log.into_owned(), cursor)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Keeps it.
pub(super) fn write(places: &Places, name: &str, log: &str, cursor: &Cursor) -> io::Result<()> {
    let path = path(places, name);
    if let Some(parent) = path.parent() {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(parent)?;
    }
    let new = path.with_extension("new");
    let mut options = OpenOptions::new();
    let options = options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(&new)?;
    let kept = Kept {
        log: log.into(),
        position: cursor.position,
        segment: cursor.segment,
        offset: cursor.offset,
    };
    serde_json::to_writer(&mut file, &kept)?;
    file.flush()?;
    // An older one that comes back after a failure sends some records twice; half a one
    // would send all of them.
    file.sync_data()?;
    fs::rename(&new, &path)
}
