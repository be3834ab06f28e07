//! Reads a log as its readers mean it: each decision once, with what became of it.
//!
//! Knows nothing about who reads. An intent is held until its outcome comes; one that
//! never got any is given at the end. Invariant: nothing that ran is left out, whatever
//! state the log is in; a line that is not a record is given as it is.

pub mod filter;
mod follow;

use std::collections::{HashMap, HashSet};
use std::io;

use serde_json::{Map, Value, json};

use super::segments::Held;
pub use follow::Follow;

/// Something of the log, to be read.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry(pub Map<String, Value>);

impl Entry {
    /// A field that is text; empty where there is none.
    pub fn text(&self, key: &str) -> &str {
        self.0.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// A field that is a number.
    pub fn number(&self, key: &str) -> Option<u64> {
        self.0.get(key).and_then(Value::as_u64)
    }

    /// The principal's name, kind, …; empty where there is none.
    pub fn principal(&self, key: &str) -> &str {
        let principal = self.0.get("principal");
        let field = principal.and_then(|principal| principal.get(key)?.as_str());
        // Somebody who could not be identified has only claimed to be one.
        field.unwrap_or_else(|| match key {
            "name" => self.text("user"),
            _ => "",
        })
    }

    /// The human that an agent acted for.
    pub fn on_behalf_of(&self) -> &str {
        let name = self
            .0
            .get("principal")
            .and_then(|principal| principal.pointer("/on_behalf_of/name")?.as_str());
        name.unwrap_or_default()
    }

    /// Of how many decisions it tells.
    pub fn count(&self) -> u64 {
        match self.text("event") {
            "authentication_failures_omitted" => self.number("count").unwrap_or(1),
            _ => 1,
        }
    }

    /// `allow`, `deny`, or what else became of it.
    pub fn decision(&self) -> &str {
        match self.text("event") {
            "intent" | "outcome_unknown" => "unknown",
            "not_run" => "not_run",
            "authentication_failure" | "authentication_failures_omitted" | "tripwire" => "deny",
            _ => self.text("decision"),
        }
    }

    /// The relations that it touches.
    pub fn relations(&self) -> impl Iterator<Item = &Value> {
        let relations = self.0.get("relations").and_then(Value::as_array);
        relations.into_iter().flatten()
    }

    /// Whether it is about what the database says of itself, and nothing else.
    pub fn is_catalog_noise(&self) -> bool {
        let mut relations = self.relations().peekable();
        let own = |relation: &Value| {
            let name = relation.get("relation").and_then(Value::as_str);
            name.is_some_and(|name| {
                name.starts_with("pg_catalog.") || name.starts_with("information_schema.")
            })
        };
        self.text("event") == "statement" && relations.peek().is_some() && relations.all(own)
    }
}

/// Joins intents with their outcomes.
#[derive(Debug, Default)]
pub struct Joined {
    /// Intents that have no outcome yet, by what it is to be called
    open: HashMap<String, Entry>,
    /// In their order
    order: Vec<String>,
    /// What did not run, and is told before it was to
    early: HashSet<String>,
}

impl Joined {
    /// A line passes; gives what is known of it now, if anything is.
    pub fn line(&mut self, line: &[u8]) -> Option<Entry> {
        let mut fields = match serde_json::from_slice(line) {
            Ok(Value::Object(fields)) => fields,
            _ => {
                let text = String::from_utf8_lossy(line).into_owned();
                let odd = json!({ "event": "not_a_record", "line": text });
                return odd.as_object().cloned().map(Entry);
            }
        };
        let entry = Entry(std::mem::take(&mut fields));
        let id = entry.text("id").to_owned();
        match entry.text("event") {
            "intent" => {
                let query = entry.text("query").to_owned();
                if !self.early.remove(&query) {
                    self.order.push(query.clone());
                    self.open.insert(query, entry);
                }
                None
            }
            "statement" | "denial" => {
                self.open.remove(&id);
                Some(entry)
            }
            event @ ("not_run" | "outcome_unknown") => match self.open.remove(&id) {
                Some(mut intent) => {
                    intent.0.insert("event".into(), event.into());
                    intent.0.insert("id".into(), id.into());
                    Some(intent)
                }
                None => {
                    self.early.insert(id);
                    Some(entry)
                }
            },
            _ => Some(entry),
        }
    }

    /// The intents that have no outcome.
    pub fn rest(mut self) -> impl Iterator<Item = Entry> {
        let order = std::mem::take(&mut self.order);
        order
            .into_iter()
            .filter_map(move |id| self.open.remove(&id))
    }
}

/// Gives all that the log holds, in order.
///
/// # Errors
/// Where it cannot be read, or `to` fails.
pub fn all(log: &Held, mut to: impl FnMut(Entry) -> io::Result<()>) -> io::Result<()> {
    let mut joined = Joined::default();
    for segment in log.files() {
        for line in log.lines(&segment.path)? {
            if let Some(entry) = joined.line(&line?) {
                to(entry)?;
            }
        }
    }
    joined.rest().try_for_each(to)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::audit::segments::Places;

    fn log() -> (tempfile::TempDir, Places) {
        let directory = tempfile::tempdir().unwrap();
        let places = Places::of(&directory.path().join("records.jsonl"));
        fs::create_dir_all(places.closing(0).parent().unwrap()).unwrap();
        fs::write(places.closing(0), "{\"id\":\"0\"}\n{\"id\":\"1\"}\n").unwrap();
        fs::write(&places.live, "{\"id\":\"2\"}\n").unwrap();
        (directory, places)
    }

    #[test]
    fn what_is_closed_meanwhile_is_read() {
        let (_directory, places) = log();
        let held = places.hold().unwrap();
        let mut seen = Vec::new();
        all(&held, |entry| {
            if seen.is_empty() {
                fs::rename(&places.live, places.closing(2))?;
                fs::write(&places.live, "{\"id\":\"3\"}\n")?;
            }
            seen.push(entry.text("id").to_owned());
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, ["0", "1", "2"]);
        // And again, in the same place.
        assert_eq!(held.files().last().unwrap().first, 2);
        let line = held.lines(&places.live).unwrap().next().unwrap().unwrap();
        assert_eq!(line, b"{\"id\":\"2\"}");
        // One that is closed, and the next not begun.
        fs::rename(&places.live, places.closing(3)).unwrap();
        let mut count = 0;
        all(&places.hold().unwrap(), |_| {
            count += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(count, 4);
    }

    #[test]
    fn what_is_removed_meanwhile_is_no_empty_file() {
        let (_directory, places) = log();
        let held = places.hold().unwrap();
        fs::remove_file(places.closing(0)).unwrap();
        let error = all(&held, |_| Ok(())).unwrap_err().to_string();
        assert!(error.contains("was removed while"), "{error}");
        // Nor is a log that is not there.
        fs::remove_file(&places.live).unwrap();
        places.hold().unwrap_err();
    }
}
