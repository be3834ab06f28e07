//! What a log comes to, by a question that reviewers ask again and again.
//!
//! Knows nothing about how it is shown. Invariant: each decision counts once, with what
//! became of it; one that nobody knows the end of counts as `unknown`.

pub mod hours;

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::read::Entry;
use super::read::filter::Filter;
pub use hours::Hours;

/// What is asked.
#[derive(Clone, Debug)]
pub enum About {
    /// Who saw a column: in clear, masked, or tried
    Column(String),
    /// What an identity saw, by itself or through an agent that acted for it
    Identity(String),
    /// Who was refused what
    Denials,
    /// Who came outside these hours
    OutsideHours(Hours),
    /// Humans, agents and services beside each other
    Kinds,
}

/// What is a decision about somebody's access, with what became of it.
const DECISIONS: [&str; 7] = [
    "statement",
    "denial",
    "intent",
    "outcome_unknown",
    "tripwire",
    "authentication_failure",
    "authentication_failures_omitted",
];

/// What there is of one kind.
#[derive(Clone, Debug, Default)]
struct Sum {
    count: u64,
    rows: u64,
    first: String,
    last: String,
}

/// An answer in the making.
#[derive(Debug)]
pub struct Report {
    about: About,
    filter: Filter,
    groups: BTreeMap<Vec<String>, Sum>,
    ids: BTreeSet<String>,
}

impl Report {
    /// One about that, of what was decided between two moments.
    pub fn new(about: About, since: Option<String>, until: Option<String>) -> Self {
        let filter = Filter {
            column: match &about {
                About::Column(column) => Some(column.clone()),
                About::Identity(_) | About::Denials | About::OutsideHours(_) | About::Kinds => None,
            },
            since,
            until,
            ..Filter::default()
        };
        Self {
            about,
            filter,
            groups: BTreeMap::new(),
            ids: BTreeSet::new(),
        }
    }

    /// An entry passes; whether it is about that.
    pub fn see(&mut self, entry: &Entry) -> bool {
        let about = match &self.about {
            About::Column(_) | About::Kinds => true,
            // By a name alone, nobody is anybody yet.
            About::Identity(name) => {
                let known = entry.0.contains_key("principal");
                (known && entry.principal("name") == name) || entry.on_behalf_of() == name
            }
            About::Denials => entry.decision() == "deny",
            About::OutsideHours(hours) => hours.are_over(entry.text("time")),
        };
        let decision = DECISIONS.contains(&entry.text("event"));
        if !decision || !about || !self.filter.takes(entry) {
            return false;
        }
        let time = entry.text("time");
        for group in self.of(entry) {
            let sum = self.groups.entry(group).or_default();
            sum.count = sum.count.saturating_add(entry.count());
            sum.rows = sum.rows.saturating_add(entry.number("rows").unwrap_or(0));
            if sum.first.is_empty() || time < sum.first.as_str() {
                sum.first = time.to_owned();
            }
            if time > sum.last.as_str() {
                sum.last = time.to_owned();
            }
        }
        match entry.text("id") {
            "" => {}
            id => {
                self.ids.insert(id.to_owned());
            }
        }
        true
    }

    /// What it counts under.
    fn of(&self, entry: &Entry) -> BTreeSet<Vec<String>> {
        let decision = entry.decision().to_owned();
        let dataset = entry.text("dataset").to_owned();
        let group = |columns: Vec<String>| BTreeSet::from([columns]);
        match &self.about {
            About::Column(_) => columns(entry)
                .filter(|(relation, column)| self.filter.takes_column(relation, column))
                .map(|(relation, column)| {
                    let (column, treatment) = told(relation, column);
                    vec![who(entry), column, treatment, decision.clone()]
                })
                .collect(),
            About::Identity(_) => {
                let all = columns(entry).map(|(relation, column)| {
                    let (column, treatment) = told(relation, column);
                    vec![who(entry), column, treatment, decision.clone()]
                });
                let all: BTreeSet<_> = all.collect();
                match all.is_empty() {
                    true => group(vec![who(entry), "-".into(), "-".into(), decision]),
                    false => all,
                }
            }
            About::Denials => {
                let blocked = columns(entry)
                    .map(|(relation, column)| told(relation, column))
                    .filter(|(_, treatment)| matches!(treatment.as_str(), "block" | "hide"));
                let blocked: Vec<String> = blocked.map(|(column, _)| column).collect();
                let state = entry.text("sqlstate").to_owned();
                let event = entry.text("event").replace('_', " ");
                group(vec![who(entry), event, state, blocked.join(", ")])
            }
            About::OutsideHours(hours) => {
                group(vec![who(entry), dataset, hours.day(entry.text("time"))])
            }
            About::Kinds => {
                let kind = match entry.principal("kind") {
                    "" => "unknown",
                    kind => kind,
                };
                group(vec![kind.to_owned(), dataset, decision])
            }
        }
    }

    /// What its columns are called.
    pub fn head(&self) -> Vec<&'static str> {
        let own: &[&str] = match self.about {
            About::Column(_) | About::Identity(_) => &["who", "column", "treatment", "decision"],
            About::Denials => &["who", "event", "sqlstate", "columns"],
            About::OutsideHours(_) => &["who", "dataset", "day"],
            About::Kinds => &["kind", "dataset", "decision"],
        };
        let sums = ["statements", "rows", "first", "last"];
        own.iter().copied().chain(sums).collect()
    }

    /// Its rows.
    pub fn rows(&self) -> Vec<Vec<String>> {
        let row = |(group, sum): (&Vec<String>, &Sum)| {
            let mut row = group.clone();
            row.extend([sum.count.to_string(), sum.rows.to_string()]);
            row.extend([sum.first.clone(), sum.last.clone()]);
            row
        };
        self.groups.iter().map(row).collect()
    }

    /// What it is about, in words, and of when.
    pub fn title(&self) -> String {
        let mut title = match &self.about {
            About::Column(column) => format!("who saw {column}"),
            About::Identity(name) => format!("what {name} saw"),
            About::Denials => "what was refused".into(),
            About::OutsideHours(hours) => format!("access outside {hours}"),
            About::Kinds => "humans, agents and services".into(),
        };
        for (word, moment) in [("from", &self.filter.since), ("before", &self.filter.until)] {
            if let Some(moment) = moment {
                title.push_str(&format!(", {word} {moment}"));
            }
        }
        title
    }

    /// The entries that it is made of, by their `id`.
    pub fn ids(&self) -> &BTreeSet<String> {
        &self.ids
    }
}

fn who(entry: &Entry) -> String {
    let name = match (entry.principal("kind"), entry.principal("name")) {
        ("", name) => name.to_owned(),
        (kind, name) => format!("{kind}:{name}"),
    };
    match entry.on_behalf_of() {
        "" => name,
        human => format!("{name} for {human}"),
    }
}

/// Each relation's name with each of its columns.
fn columns(entry: &Entry) -> impl Iterator<Item = (&str, &Value)> {
    entry.relations().flat_map(|relation| {
        let name = relation.get("relation").and_then(Value::as_str);
        let columns = relation.get("columns").and_then(Value::as_array);
        let columns = columns.into_iter().flatten();
        columns.map(move |column| (name.unwrap_or_default(), column))
    })
}

fn told(relation: &str, column: &Value) -> (String, String) {
    let text = |key: &str| column.get(key).and_then(Value::as_str).unwrap_or_default();
    (
        format!("{relation}.{}", text("column")),
        text("treatment").to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn entry(name: &str, human: Option<&str>, hour: u32, decision: &str) -> Entry {
        let mut principal = json!({ "name": name, "kind": "agent" });
        if let Some(human) = human {
            principal["on_behalf_of"] = json!({ "name": human });
        }
        let record = json!({
            "event": if decision == "deny" { "denial" } else { "statement" },
            "id": format!("{name}-{hour}"), "time": format!("2026-11-25T{hour:02}:30:00.000000Z"),
            "principal": principal, "decision": decision, "dataset": "shop", "rows": 3,
            "sqlstate": "42501", "relations": [{ "relation": "public.t", "columns": [
                { "column": "ssn", "treatment": if decision == "deny" { "block" } else { "clear" } },
                { "column": "id", "treatment": "clear" },
            ] }],
        });
        Entry(record.as_object().unwrap().clone())
    }

    fn rows(about: About) -> Vec<String> {
        let mut report = Report::new(about, None, None);
        for entry in [
            entry("a", None, 10, "allow"),
            entry("a", None, 20, "allow"),
            entry("b", Some("h"), 11, "deny"),
        ] {
            report.see(&entry);
        }
        assert_eq!(report.head().len(), report.rows()[0].len());
        report.rows().iter().map(|row| row.join(" ")).collect()
    }

    #[test]
    fn each_question_has_its_rows() {
        let (ten, eleven, twenty) = (
            "2026-11-25T10:30:00.000000Z",
            "2026-11-25T11:30:00.000000Z",
            "2026-11-25T20:30:00.000000Z",
        );
        assert_eq!(
            rows(About::Column("t.ssn".into())),
            [
                format!("agent:a public.t.ssn clear allow 2 6 {ten} {twenty}"),
                format!("agent:b for h public.t.ssn block deny 1 3 {eleven} {eleven}"),
            ]
        );
        assert_eq!(rows(About::Identity("h".into())).len(), 2);
        assert_eq!(
            rows(About::Denials),
            [format!(
                "agent:b for h denial 42501 public.t.ssn 1 3 {eleven} {eleven}"
            )]
        );
        assert_eq!(
            rows(About::Kinds),
            [
                format!("agent shop allow 2 6 {ten} {twenty}"),
                format!("agent shop deny 1 3 {eleven} {eleven}"),
            ]
        );
        let hours = Hours::parse("08:00-18:00", "mon-fri", "UTC").unwrap();
        assert_eq!(
            rows(About::OutsideHours(hours)),
            [format!("agent:a shop wed 2026-11-25 1 3 {twenty} {twenty}")]
        );
    }

    #[test]
    fn all_that_is_refused_counts_and_nothing_that_is_nobody_s_access() {
        let of = |record: Value| Entry(record.as_object().unwrap().clone());
        let time = "2026-11-25T20:30:00.000000Z";
        let all = || {
            [
                json!({ "event": "authentication_failure", "id": "1", "time": time, "user": "a" }),
                json!({ "event": "authentication_failures_omitted", "id": "2", "time": time, "count": 5000 }),
                json!({ "event": "tokens_load", "id": "3", "time": time }),
                json!({ "event": "log_resumed", "id": "4", "time": time, "lost": 1 }),
                json!({ "event": "not_a_record", "line": "x" }),
            ]
            .map(of)
        };
        let made = |about: About| {
            let mut report = Report::new(about, None, None);
            for entry in all() {
                report.see(&entry);
            }
            let rows = report.rows();
            let counts = rows.iter().map(|row| row[row.len() - 4].clone());
            let ids: Vec<String> = report.ids().iter().cloned().collect();
            (counts.collect::<Vec<_>>(), ids.join(" "))
        };
        let counts = |all: &[&str]| all.iter().map(|it| (*it).to_owned()).collect::<Vec<_>>();
        assert_eq!(made(About::Denials), (counts(&["5000", "1"]), "1 2".into()));
        let hours = Hours::parse("08:00-18:00", "mon-fri", "UTC").unwrap();
        assert_eq!(made(About::OutsideHours(hours)).1, "1 2");
        assert_eq!(made(About::Kinds), (counts(&["5001"]), "1 2".into()));
        // Who only said so is not who it said.
        assert_eq!(
            made(About::Identity("a".into())),
            (counts(&[]), String::new())
        );
    }
}
