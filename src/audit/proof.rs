//! A record and the proof that it is in a log, as one text that can be verified with
//! nothing but the log's public key (C2SP tlog-proof).
//!
//! Source: <https://c2sp.org/tlog-proof>

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::segments::{Places, lines};
use super::tree::note::{NoteError, Verifier};
use super::tree::{Hash, entry, includes, leaf};

/// What it begins with.
const FORM: &str = "c2sp.org/tlog-proof@v1";

/// Why there is no proof, or none that holds.
#[derive(Debug, thiserror::Error)]
pub enum ProofError {
    /// A file cannot be read.
    #[error("the log cannot be read: {0}")]
    Read(#[from] io::Error),
    /// No such record.
    #[error("no record has the id `{0}`")]
    Unknown(String),
    /// Not yet signed.
    #[error("record {0} is not under a checkpoint yet (hint: try again in a few seconds)")]
    Unsigned(u64),
    /// The checkpoint is not one.
    #[error("its checkpoint: {0}")]
    Checkpoint(#[from] NoteError),
    /// Not a proof.
    #[error("it is not a proof as `pgveil audit prove` writes it")]
    Form,
    /// It does not prove it.
    #[error("the record is not record {0} of the log that was signed")]
    Wrong(u64),
}

/// What a proof has proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proved {
    /// The record's line
    pub record: String,
    /// Which one of the log it is, from 0
    pub index: u64,
    /// How many the log had
    pub size: u64,
}

/// Makes a proof of the record with that id.
///
/// # Errors
/// Where there is none, or none that is under a checkpoint.
pub fn prove(places: &Places, verifier: &Verifier, id: &str) -> Result<String, ProofError> {
    let (index, line) = find(places, id)?;
    of(places, verifier, index, &line)
}

/// Makes a proof of a record whose number and line are known.
///
/// # Errors
/// Where it is not under a checkpoint, or another one is.
pub fn of(
    places: &Places,
    verifier: &Verifier,
    index: u64,
    line: &[u8],
) -> Result<String, ProofError> {
    let store = places.tree();
    let note = store.checkpoint()?.ok_or(ProofError::Unsigned(index))?;
    let size = verifier.open(&note)?.size;
    if index >= size {
        return Err(ProofError::Unsigned(index));
    }
    let mut text = format!("{FORM}\nextra {}\nindex {index}\n", STANDARD.encode(line));
    for hash in store.inclusion(index, size)? {
        text.push_str(&STANDARD.encode(hash));
        text.push('\n');
    }
    text.push('\n');
    text.push_str(&note);
    // What was made from files that somebody may have changed is worth nothing.
    check(&text, verifier)?;
    Ok(text)
}

/// An intent has the `id` of its own; what became of it, that of the statement.
fn find(places: &Places, id: &str) -> Result<(u64, Vec<u8>), ProofError> {
    let quoted = format!("\"id\":\"{id}\"");
    for segment in places.all()? {
        for (index, line) in (segment.first..).zip(lines(&segment.path)?) {
            let line = line?;
            let here = std::str::from_utf8(&line).is_ok_and(|line| line.contains(&quoted));
            let is_it = |record: serde_json::Value| record.get("id").is_some_and(|own| own == id);
            if here && serde_json::from_slice(&line).is_ok_and(is_it) {
                return Ok((index, line));
            }
        }
    }
    Err(ProofError::Unknown(id.to_owned()))
}

/// Whether a text is one.
pub fn is_one(text: &str) -> bool {
    text.starts_with(FORM)
}

/// Verifies a proof.
///
/// # Errors
/// Where it does not hold.
pub fn check(text: &str, verifier: &Verifier) -> Result<Proved, ProofError> {
    let (head, note) = text.split_once("\n\n").ok_or(ProofError::Form)?;
    let mut lines = head.lines();
    if lines.next() != Some(FORM) {
        return Err(ProofError::Form);
    }
    let decode = |text: &str| STANDARD.decode(text).map_err(|_| ProofError::Form);
    let extra = lines.next().and_then(|line| line.strip_prefix("extra "));
    let record = decode(extra.ok_or(ProofError::Form)?)?;
    let index = lines
        .next()
        .and_then(|line| line.strip_prefix("index ")?.parse().ok())
        .ok_or(ProofError::Form)?;
    let path: Vec<Hash> = lines
        .map(|line| decode(line)?.try_into().map_err(|_| ProofError::Form))
        .collect::<Result<_, _>>()?;
    let checkpoint = verifier.open(note)?;
    let leaf = leaf(&entry(&record));
    if !includes(&leaf, index, checkpoint.size, &path, &checkpoint.root) {
        return Err(ProofError::Wrong(index));
    }
    Ok(Proved {
        record: String::from_utf8(record).map_err(|_| ProofError::Form)?,
        index,
        size: checkpoint.size,
    })
}
