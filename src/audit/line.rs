//! A record as a line of canonical JSON (RFC 8785).
//!
//! Knows nothing about what a record says. What does not change from one execution
//! to the next, who is asking and what is asked, is made into text once and kept
//! beside it: most of a line, and most of the work of making it. Invariant: a line
//! is the canonical form of what serde makes of the event: keys in order, no space.
//!
//! serde_json writes strings as RFC 8785 asks (section 3.2.2.2), and its objects are
//! sorted by key; keys here are ASCII, so bytes order them as UTF-16 does. Numbers are
//! integers, and below 2^53 unless somebody counts for centuries.

use std::io::Write;
use std::sync::OnceLock;

use serde::Serialize;
use serde_json::Value;

use super::Event;
use super::record::{Execution, Intent, What, micros};

/// The fields of a value as JSON, in order; made at their first use, so it is for
/// values that are shared and do not change.
#[derive(Debug, Default)]
pub struct Fields(OnceLock<Parts>);

/// Keys, and their values as JSON.
type Parts = Box<[(Box<str>, Box<str>)]>;

impl Fields {
    fn of<T: Serialize>(&self, value: &T) -> serde_json::Result<&Parts> {
        if let Some(parts) = self.0.get() {
            return Ok(parts);
        }
        let mut parts = Vec::new();
        if let Value::Object(fields) = serde_json::to_value(value)? {
            for (key, value) in fields {
                parts.push((key.into(), value.to_string().into()));
            }
        }
        Ok(self.0.get_or_init(|| parts.into()))
    }
}

/// A clone may be changed, so it starts without.
impl Clone for Fields {
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// Puts an event's line, without its end.
pub(super) fn put(out: &mut Vec<u8>, event: &Event) -> serde_json::Result<()> {
    match &event.what {
        What::Statement(execution) => executed(out, event, execution),
        What::Intent(intent) => intended(out, event, intent),
        // Through a value, whose objects are in order.
        _ => serde_json::to_writer(out, &serde_json::to_value(event)?),
    }
}

/// A line in the making.
#[derive(Default)]
struct Line<'a> {
    parts: Vec<(&'a str, Part<'a>)>,
    own: Vec<u8>,
}

enum Part<'a> {
    /// Kept beside what it is about.
    Kept(&'a str),
    /// So many bytes of the line's own, from there on.
    Own(usize, usize),
}

impl<'a> Line<'a> {
    fn of(event: &'a Event, name: &str) -> serde_json::Result<Self> {
        let mut line = Self::default();
        line.parts.reserve(24);
        line.own.reserve(256);
        line.text("id", |own| own.extend_from_slice(&event.id.text()));
        line.text("time", |own| micros(&event.time, own));
        line.text("event", |own| own.extend_from_slice(name.as_bytes()));
        if let Some(who) = &event.who {
            line.kept(who.fields.of(&**who)?);
        }
        Ok(line)
    }

    fn kept(&mut self, parts: &'a Parts) {
        let parts = parts.iter().map(|(key, value)| (&**key, Part::Kept(value)));
        self.parts.extend(parts);
    }

    /// A value that `put` writes as JSON.
    fn own<T>(&mut self, key: &'a str, put: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let from = self.own.len();
        let result = put(&mut self.own);
        let len = self.own.len() - from;
        self.parts.push((key, Part::Own(from, len)));
        result
    }

    /// A string that needs no escaping.
    fn text(&mut self, key: &'a str, put: impl FnOnce(&mut Vec<u8>)) {
        self.own(key, |own| {
            own.push(b'"');
            put(own);
            own.push(b'"');
        });
    }

    fn number(&mut self, key: &'a str, number: u64) {
        // Writing to a Vec does not fail.
        let _ = self.own(key, |own| write!(own, "{number}"));
    }

    fn json<T: Serialize>(&mut self, key: &'a str, value: &T) -> serde_json::Result<()> {
        self.own(key, |own| serde_json::to_writer(own, value))
    }

    fn put(mut self, out: &mut Vec<u8>) {
        self.parts.sort_unstable_by_key(|(key, _)| *key);
        let mut before = b'{';
        for (key, part) in &self.parts {
            out.push(before);
            before = b',';
            out.push(b'"');
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(b"\":");
            out.extend_from_slice(match part {
                Part::Kept(text) => text.as_bytes(),
                Part::Own(from, len) => self.own.get(*from..from + len).unwrap_or_default(),
            });
        }
        out.push(b'}');
    }
}

fn intended(out: &mut Vec<u8>, event: &Event, intent: &Intent) -> serde_json::Result<()> {
    let Intent {
        query,
        statement,
        policy,
    } = intent;
    let mut line = Line::of(event, "intent")?;
    line.kept(statement.fields.of(&**statement)?);
    line.text("query", |own| own.extend_from_slice(&query.text()));
    // Its two fields are in order.
    line.json("policy", policy)?;
    line.put(out);
    Ok(())
}

fn executed(out: &mut Vec<u8>, event: &Event, execution: &Execution) -> serde_json::Result<()> {
    let Execution {
        statement,
        decision,
        outcome,
        policy,
        sqlstate,
        rows,
        bytes,
        duration,
    } = execution;
    let mut line = Line::of(event, "statement")?;
    line.kept(statement.fields.of(&**statement)?);
    line.json("decision", decision)?;
    line.json("outcome", outcome)?;
    // Its two fields are in order.
    line.json("policy", policy)?;
    line.json("sqlstate", sqlstate)?;
    line.number("rows", *rows);
    line.number("bytes", *bytes);
    let duration = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    line.number("duration_us", duration);
    line.put(out);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::audit::record::{Identity, Outcome, PolicyStamp, Statement};
    use crate::audit::{Id, Who};
    use crate::identity::Kind;
    use crate::sql::{ColumnUse, RelationUse};

    fn identity(name: &str) -> Identity {
        Identity {
            name: name.into(),
            kind: Kind::Agent,
            roles: vec!["a".into(), "b\"".into()],
            on_behalf_of: None,
            token: None,
            certificate: None,
        }
    }

    #[test]
    fn a_line_is_the_canonical_form_of_what_serde_makes_of_it() {
        let who = Arc::new(Who {
            principal: Identity {
                on_behalf_of: Some(Box::new(identity("human"))),
                ..identity("trainer\n\u{1}")
            },
            session: Id::next(),
            client: ([127, 0, 0, 1], 5432).into(),
            tls: Some("TLSv1.3".into()),
            application: Some("\"}{ ü \\".into()),
            dataset: "shop".into(),
            environment: Some("production".into()),
            fields: Fields::default(),
        });
        let statement = Arc::new(Statement {
            kind: "SELECT",
            normalized: "SELECT \"a\" FROM t WHERE x = $1 -- ü".into(),
            fingerprint: 7,
            relations: vec![RelationUse {
                relation: "public.t".into(),
                columns: vec![ColumnUse {
                    column: "a".into(),
                    treatment: "mask:email".into(),
                    tag: None,
                    rule: "role x (roles.yaml:3)".into(),
                }],
                rule: Some("role x".into()),
                row_filter: None,
                oid: 1,
            }],
            fields: Fields::default(),
        });
        let policy = || PolicyStamp {
            epoch: u64::MAX,
            digest: "\"".into(),
        };
        let intent = Intent {
            query: Id::next(),
            statement: statement.clone(),
            policy: policy(),
        };
        let event = |who: Option<&Arc<Who>>, statement: &Arc<Statement>| Event {
            who: who.cloned(),
            ..Event::now(
                None,
                What::Statement(Box::new(Execution {
                    statement: statement.clone(),
                    decision: "allow",
                    outcome: Outcome::BrokenOff,
                    policy: policy(),
                    sqlstate: "0000\u{0}".into(),
                    rows: 3,
                    bytes: 5,
                    duration: Duration::MAX,
                })),
            )
        };
        let other = Arc::new(Statement {
            kind: "INSERT",
            ..Statement::clone(&statement)
        });
        let stranger = Arc::new(Who {
            application: None,
            tls: None,
            ..Who::clone(&who)
        });
        for event in [
            event(Some(&who), &statement),
            // Again, and what was cloned after the first time.
            event(Some(&who), &statement),
            event(Some(&stranger), &other),
            event(None, &other),
            Event::now(Some(who.clone()), What::Intent(Box::new(intent))),
            Event::now(Some(who.clone()), What::NotRun),
        ] {
            let mut line = Vec::new();
            put(&mut line, &event).unwrap();
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line, serde_json::to_value(&event).unwrap().to_string());
            let keys = |line: &str| -> Vec<String> {
                let value: Value = serde_json::from_str(line).unwrap();
                value.as_object().unwrap().keys().cloned().collect()
            };
            assert!(keys(&line).is_sorted(), "{line}");
        }
    }
}
