//! Records on their way, in the form that the other side wants.
//!
//! Knows nothing about the way.

use serde_json::{Map, Value};

use crate::audit::ocsf;
use crate::audit::read::Entry;
use crate::config::Format;

/// A record of the log, as it stands there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Record {
    /// Its number, from 0
    pub(super) position: u64,
    /// Its line, without its end
    pub(super) line: String,
}

/// Records that go together.
#[derive(Debug)]
pub(super) struct Batch<'a> {
    /// What the log is called
    pub(super) log: &'a str,
    /// In order
    pub(super) records: Vec<Record>,
    pub(super) format: Format,
    /// How many records the checkpoint tells of
    pub(super) signed: u64,
    /// That
    pub(super) checkpoint: &'a str,
}

impl Batch<'_> {
    /// Each record as a JSON object, those that have that form.
    pub(super) fn texts(&self) -> impl Iterator<Item = (&Record, String)> {
        let text = |record| Some((record, self.text(record)?));
        self.records.iter().filter_map(text)
    }

    fn text(&self, record: &Record) -> Option<String> {
        let log = Value::from(self.log);
        let Record { position, line } = record;
        match self.format {
            // The line's own bytes: who has them can make its hash.
            Format::Native => Some(format!(
                "{{\"log\":{log},\"position\":{position},\"record\":{line}}}"
            )),
            Format::Ocsf => {
                let fields: Map<String, Value> = serde_json::from_str(line).ok()?;
                let entry = Entry(fields);
                // Of what was about to be, nobody can take back there that it was not: what
                // became of it is an event of its own.
                if entry.text("event") == "intent" {
                    return None;
                }
                let mut event = ocsf::of(&entry)?;
                let metadata = event.get_mut("metadata")?.as_object_mut()?;
                metadata.insert("log_name".into(), log);
                metadata.insert("sequence".into(), (*position).into());
                Some(event.to_string())
            }
        }
    }
}
