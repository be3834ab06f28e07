//! Which entries a reader wants.
//!
//! Knows nothing about where they come from.

use serde_json::Value;

use super::Entry;

/// What is asked for; what is not given does not matter.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The principal's name
    pub principal: Option<String>,
    /// `human`, `agent` or `service`
    pub kind: Option<String>,
    /// The human that an agent acted for
    pub on_behalf_of: Option<String>,
    /// The dataset
    pub dataset: Option<String>,
    /// A relation, with or without its schema
    pub relation: Option<String>,
    /// A column, with or without its relation
    pub column: Option<String>,
    /// What the column holds
    pub tag: Option<String>,
    /// `clear`, `mask`, `mask:email`, `block` or `hide`
    pub treatment: Option<String>,
    /// `allow`, `deny`, `unknown` or `not_run`
    pub decision: Option<String>,
    /// The kind of event
    pub event: Option<String>,
    /// A part of the statement's text, in any case
    pub statement: Option<String>,
    /// From then on, as records have it
    pub since: Option<String>,
    /// Before then
    pub until: Option<String>,
    /// The session
    pub session: Option<String>,
    /// A part of a rule that decided
    pub rule: Option<String>,
    /// What is hidden unless it is asked for, too
    pub all: bool,
}

/// What is no decision about anybody's data.
const ASIDE: [&str; 16] = [
    "connect",
    "disconnect",
    "policy_load",
    "tokens_load",
    "certificates_load",
    "log_resumed",
    "catalog_refresh",
    "log_opened",
    "log_closed",
    "log_rotated",
    "log_pruned",
    "log_verified",
    "log_exported",
    "log_read",
    "heartbeat",
    "not_run",
];

impl Filter {
    /// Whether an entry is asked for.
    pub fn takes(&self, entry: &Entry) -> bool {
        let is = |wanted: &Option<String>, own: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == own)
        };
        let time = entry.text("time");
        is(&self.principal, entry.principal("name"))
            && is(&self.kind, entry.principal("kind"))
            && is(&self.on_behalf_of, entry.on_behalf_of())
            && is(&self.dataset, entry.text("dataset"))
            && is(&self.decision, entry.decision())
            && is(&self.event, entry.text("event"))
            && is(&self.session, entry.text("session"))
            && self.since.as_deref().is_none_or(|since| time >= since)
            && self.until.as_deref().is_none_or(|until| time < until)
            && self.takes_statement(entry.text("statement"))
            && self.takes_relations(entry)
            && self.takes_rule(entry)
            && (self.all || !self.hides(entry))
    }

    fn hides(&self, entry: &Entry) -> bool {
        let event = entry.text("event");
        let aside = ASIDE.contains(&event);
        let asked = self.event.is_some() || (event == "not_run" && self.decision.is_some());
        (aside && !asked) || (entry.is_catalog_noise() && self.relation.is_none())
    }

    fn takes_statement(&self, statement: &str) -> bool {
        self.statement.as_deref().is_none_or(|wanted| {
            statement
                .to_lowercase()
                .contains(wanted.to_lowercase().as_str())
        })
    }

    /// All that is asked of a column must be so of one.
    fn takes_relations(&self, entry: &Entry) -> bool {
        let column = self.column.is_some() || self.tag.is_some() || self.treatment.is_some();
        if self.relation.is_none() && !column {
            return true;
        }
        entry.relations().any(|relation| {
            let name = text(relation, "relation");
            let columns = relation.get("columns").and_then(Value::as_array);
            let named = |wanted: &String| *wanted == name || ends(name, wanted);
            self.relation.as_ref().is_none_or(named)
                && (!column
                    || columns
                        .into_iter()
                        .flatten()
                        .any(|column| self.takes_column(name, column)))
        })
    }

    /// Whether what is asked of a column is so of that one.
    pub fn takes_column(&self, relation: &str, column: &Value) -> bool {
        let name = text(column, "column");
        let is_it = |wanted: &String| match wanted.rsplit_once('.') {
            Some((of, wanted)) => wanted == name && (of == relation || ends(relation, of)),
            None => wanted == name,
        };
        let treatment = text(column, "treatment");
        let treated = |wanted: &String| {
            wanted == treatment || treatment.split(':').next() == Some(wanted.as_str())
        };
        self.column.as_ref().is_none_or(is_it)
            && self.treatment.as_ref().is_none_or(treated)
            && self
                .tag
                .as_deref()
                .is_none_or(|tag| tag == text(column, "tag"))
    }

    fn takes_rule(&self, entry: &Entry) -> bool {
        let Some(wanted) = &self.rule else {
            return true;
        };
        let holds = |value: &Value, key: &str| text(value, key).contains(wanted.as_str());
        entry.text("message").contains(wanted.as_str())
            || entry.relations().any(|relation| {
                let columns = relation.get("columns").and_then(Value::as_array);
                holds(relation, "rule")
                    || holds(relation, "row_filter")
                    || columns
                        .into_iter()
                        .flatten()
                        .any(|column| holds(column, "rule"))
            })
    }
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value.get(key).and_then(Value::as_str).unwrap_or_default()
}

/// Whether a name is that one, without its schema.
fn ends(name: &str, wanted: &str) -> bool {
    name.strip_suffix(wanted)
        .is_some_and(|schema| schema.ends_with('.'))
}

#[cfg(test)]
mod tests;
