//! Removes files of records that are old enough, or too many, and can be missed.
//!
//! Knows nothing about who reads. Invariant: what is removed is whole files, the oldest,
//! whose records are signed, under a checkpoint that is held elsewhere, and taken by
//! everybody who is to have them; and a record that says so, signed itself, is there first.
//! Tiles stay, so that all that is left can still be verified: see [`super::verify`].

use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::Log;
use super::segments::{Places, Segment, lines};
use super::tree::note::{Removal, Verifier};
use crate::config::Retention;

/// What may be removed at the most, by those who need it.
#[derive(Clone, Copy, Debug)]
pub struct Spare {
    /// So many records have been taken by all who are to have them
    pub taken: u64,
    /// A checkpoint that is held elsewhere tells of so many
    pub copied: u64,
}

/// Removes what is to be removed; gives how many files that were.
///
/// # Errors
/// Where a file cannot be read or removed, or the log cannot be written.
pub async fn prune(
    places: &Places,
    log: &Log,
    rule: &Retention,
    spare: Spare,
) -> io::Result<usize> {
    let due = due(places, rule, spare, jiff::Timestamp::now())?;
    let (Some(oldest), false) = (places.all()?.into_iter().next(), due.files.is_empty()) else {
        return Ok(0);
    };
    // It is signed, or nothing is removed.
    let told = log.prune(oldest.first, due.first, due.files.len() as u64);
    told.await.map_err(io::Error::other)?;
    // The oldest first: what is left has no hole, whatever ends this.
    due.files.iter().try_for_each(fs::remove_file)?;
    Ok(due.files.len())
}

/// What is to be removed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    files: Vec<PathBuf>,
    /// The number of the first record that stays
    first: u64,
}

fn due(places: &Places, rule: &Retention, spare: Spare, now: jiff::Timestamp) -> io::Result<Due> {
    let all = places.all()?;
    let may = signed(places)?.min(spare.taken).min(spare.copied);
    let mut sizes = Vec::new();
    for segment in &all {
        sizes.push(segment.path.metadata()?.len());
    }
    let mut total: u64 = sizes.iter().sum();
    let mut due = Due::default();
    // The last one is appended to.
    for (pair, size) in all.windows(2).zip(sizes) {
        let [segment, next] = pair else { break };
        // All of it is older than what the next one begins with.
        let old = rule.age.is_some_and(|age| began(next, now) > Some(age));
        let large = rule.size.is_some_and(|most| total > most as u64);
        if next.first > may || !(old || large) {
            break;
        }
        total = total.saturating_sub(size);
        due.files.push(segment.path.clone());
        due.first = next.first;
    }
    Ok(due)
}

/// How long ago its first record was made.
fn began(segment: &Segment, now: jiff::Timestamp) -> Option<Duration> {
    #[derive(Deserialize)]
    struct Head {
        time: jiff::Timestamp,
    }
    let line = lines(&segment.path).ok()?.next()?.ok()?;
    let head: Head = serde_json::from_slice(&line).ok()?;
    Duration::try_from(now.duration_since(head.time)).ok()
}

/// How many records are under the latest checkpoint, which the proxy itself has made.
fn signed(places: &Places) -> io::Result<u64> {
    let note = places.tree().checkpoint()?.unwrap_or_default();
    let size = note.lines().nth(1).and_then(|size| size.parse().ok());
    Ok(size.unwrap_or(0))
}

/// What a record says to be removed, as far as the log's key has signed that itself. Who
/// appends a line to a log that is stopped has the next proxy sign the line, not its note.
pub(super) fn said(line: &[u8], verifier: &Verifier) -> Option<Pruned> {
    #[derive(Deserialize)]
    struct Record {
        id: String,
        time: String,
        note: String,
    }
    // It has no fields that sort before it.
    if !line.starts_with(b"{\"event\":\"log_pruned\"") {
        return None;
    }
    let Record { id, time, note } = serde_json::from_slice(line).ok()?;
    let removal = verifier.open_removal(&note).ok()?;
    Some(Pruned { id, time, removal })
}

/// A record of a removal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pruned {
    /// Its own
    pub id: String,
    /// When it was made
    pub time: String,
    /// What its note allows
    pub removal: Removal,
}

#[cfg(test)]
mod tests;
