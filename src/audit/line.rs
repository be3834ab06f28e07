//! A record as a line of JSON.
//!
//! Knows nothing about what a record says. What does not change from one execution
//! to the next, who is asking and what is asked, is made into text once and kept
//! beside it: most of a line, and most of the work of making it. Invariant: a line
//! is what serde makes of the event.

use std::io::Write;
use std::sync::OnceLock;

use serde::Serialize;

use super::Event;
use super::record::{Execution, What, micros};

/// The fields of a value as JSON, without the braces around them; made at their
/// first use, so it is for values that are shared and do not change.
#[derive(Debug, Default)]
pub struct Fields(OnceLock<Box<str>>);

impl Fields {
    fn of<T: Serialize>(&self, value: &T) -> serde_json::Result<&str> {
        if let Some(text) = self.0.get() {
            return Ok(text);
        }
        let text = serde_json::to_string(value)?;
        let fields = text
            .strip_prefix('{')
            .and_then(|text| text.strip_suffix('}'))
            .unwrap_or_default();
        Ok(self.0.get_or_init(|| fields.into()))
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
        _ => serde_json::to_writer(out, event),
    }
}

fn executed(out: &mut Vec<u8>, event: &Event, execution: &Execution) -> serde_json::Result<()> {
    let Execution {
        statement,
        decision,
        policy,
        sqlstate,
        rows,
        bytes,
        duration,
    } = execution;
    out.extend_from_slice(b"{\"id\":\"");
    out.extend_from_slice(&event.id.text());
    out.extend_from_slice(b"\",\"time\":\"");
    micros(&event.time, out);
    out.push(b'"');
    if let Some(who) = &event.who {
        out.push(b',');
        out.extend_from_slice(who.fields.of(&**who)?.as_bytes());
    }
    out.extend_from_slice(b",\"event\":\"statement\",");
    out.extend_from_slice(statement.fields.of(&**statement)?.as_bytes());
    out.extend_from_slice(b",\"decision\":");
    serde_json::to_writer(&mut *out, decision)?;
    out.extend_from_slice(b",\"policy\":");
    serde_json::to_writer(&mut *out, policy)?;
    out.extend_from_slice(b",\"sqlstate\":");
    serde_json::to_writer(&mut *out, sqlstate)?;
    let duration = u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
    write!(
        out,
        ",\"rows\":{rows},\"bytes\":{bytes},\"duration_us\":{duration}}}"
    )
    .map_err(serde_json::Error::io)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::audit::record::{Identity, PolicyStamp, Statement};
    use crate::audit::{Id, Who};
    use crate::identity::Kind;
    use crate::sql::{ColumnUse, RelationUse};

    fn identity(name: &str) -> Identity {
        Identity {
            name: name.into(),
            kind: Kind::Agent,
            roles: vec!["a".into(), "b\"".into()],
            on_behalf_of: None,
        }
    }

    #[test]
    fn a_line_is_what_serde_makes_of_it() {
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
        let event = |who: Option<&Arc<Who>>, statement: &Arc<Statement>| Event {
            who: who.cloned(),
            ..Event::now(
                None,
                What::Statement(Box::new(Execution {
                    statement: statement.clone(),
                    decision: "allow",
                    policy: PolicyStamp {
                        epoch: u64::MAX,
                        digest: "\"".into(),
                    },
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
        ] {
            let mut line = Vec::new();
            put(&mut line, &event).unwrap();
            let line = String::from_utf8(line).unwrap();
            assert_eq!(line, serde_json::to_string(&event).unwrap());
        }
    }
}
