//! Shows entries: to people, to programs, to spreadsheets.
//!
//! Knows nothing about which. Invariant: what a client has written comes to a terminal
//! without control characters, and to a spreadsheet not as a formula.

use std::io::{self, Write};

use serde_json::Value;

use crate::audit::ocsf;
use crate::audit::read::Entry;

/// How.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum Format {
    /// Lines to read
    #[default]
    Table,
    /// The records, one JSON object a line
    Json,
    /// RFC 4180
    Csv,
    /// OCSF 1.8.0 Datastore Activity, one JSON object a line
    Ocsf,
}

/// Columns of a CSV.
const COLUMNS: [&str; 18] = [
    "time",
    "id",
    "event",
    "decision",
    "outcome",
    "sqlstate",
    "kind",
    "principal",
    "on_behalf_of",
    "dataset",
    "session",
    "client",
    "rows",
    "bytes",
    "duration_us",
    "relations",
    "statement",
    "message",
];

/// Shows.
pub(super) struct Show<W: Write> {
    format: Format,
    out: W,
    begun: bool,
}

impl<W: Write> Show<W> {
    pub(super) fn new(format: Format, out: W) -> Self {
        Self {
            format,
            out,
            begun: false,
        }
    }

    pub(super) fn flush(&mut self) -> io::Result<()> {
        self.head()?;
        self.out.flush()
    }

    fn head(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) || self.format != Format::Csv {
            return Ok(());
        }
        write!(self.out, "{}\r\n", COLUMNS.join(","))
    }

    pub(super) fn entry(&mut self, entry: &Entry) -> io::Result<()> {
        self.head()?;
        match self.format {
            Format::Table => self.lines(entry),
            Format::Json => {
                serde_json::to_writer(&mut self.out, &entry.0)?;
                self.out.write_all(b"\n")
            }
            Format::Csv => {
                let fields = COLUMNS.map(|column| quoted(&field(entry, column)));
                write!(self.out, "{}\r\n", fields.join(","))
            }
            Format::Ocsf => match ocsf::of(entry) {
                Some(event) => writeln!(self.out, "{event}"),
                None => Ok(()),
            },
        }
    }

    fn lines(&mut self, entry: &Entry) -> io::Result<()> {
        let time = entry.text("time");
        let time = time.get(..19).unwrap_or(time).replace('T', " ");
        let mut what = vec![time];
        let name = entry.principal("name");
        if !name.is_empty() {
            let kind = entry.principal("kind");
            let who = if kind.is_empty() {
                name.to_owned()
            } else {
                format!("{kind}:{name}")
            };
            what.push(match entry.on_behalf_of() {
                "" => who,
                human => format!("{who} for {human}"),
            });
        }
        what.push(match (entry.text("event"), entry.decision()) {
            ("statement" | "denial", decision) => decision.to_owned(),
            (event, _) => event.replace('_', " "),
        });
        match (entry.text("outcome"), entry.number("rows")) {
            ("completed" | "", Some(rows)) => what.push(format!("{rows} rows")),
            ("completed" | "", None) => what.extend(some(entry.text("sqlstate"))),
            (outcome, _) => {
                what.push(format!(
                    "{} {}",
                    outcome.replace('_', " "),
                    entry.text("sqlstate")
                ));
            }
        }
        writeln!(
            self.out,
            "{}  {}",
            plain(entry.text("id")),
            plain(&what.join("  "))
        )?;
        for text in [
            entry.text("statement"),
            entry.text("message"),
            entry.text("line"),
        ] {
            if !text.is_empty() {
                writeln!(self.out, "    {}", plain(text))?;
            }
        }
        for relation in entry.relations() {
            writeln!(self.out, "    {}", plain(&touched(relation)))?;
        }
        Ok(())
    }
}

fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A relation and its columns, with their treatments.
pub(super) fn touched(relation: &Value) -> String {
    let text = |value: &Value, key: &str| {
        let text = value.get(key).and_then(Value::as_str);
        text.unwrap_or_default().to_owned()
    };
    let columns = relation.get("columns").and_then(Value::as_array);
    let columns: Vec<String> = columns
        .into_iter()
        .flatten()
        .map(|column| format!("{} {}", text(column, "column"), text(column, "treatment")))
        .collect();
    let rows = match text(relation, "row_filter").as_str() {
        "" => String::new(),
        rule => format!("; rows by {rule}"),
    };
    format!(
        "{}: {}{rows}",
        text(relation, "relation"),
        columns.join(", ")
    )
}

fn field(entry: &Entry, column: &str) -> String {
    match column {
        "principal" => match entry.principal("kind") {
            "" => entry.principal("name").to_owned(),
            kind => format!("{kind}:{}", entry.principal("name")),
        },
        "on_behalf_of" => entry.on_behalf_of().to_owned(),
        "decision" => entry.decision().to_owned(),
        "relations" => entry
            .relations()
            .map(touched)
            .collect::<Vec<_>>()
            .join("; "),
        "rows" | "bytes" | "duration_us" => entry
            .number(column)
            .map_or_else(String::new, |it| it.to_string()),
        _ => entry.text(column).to_owned(),
    }
}

/// A field of a CSV. One that a spreadsheet would take for a formula is marked as text.
pub(super) fn quoted(text: &str) -> String {
    let formula = text.starts_with(['=', '+', '-', '@', '\t', '\r']);
    let text = if formula {
        format!("'{text}")
    } else {
        text.to_owned()
    };
    match text.contains(['"', ',', '\n', '\r']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

/// Without characters that a terminal takes for more than text.
pub(super) fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        // Controls, and those that change the direction of what follows.
        let acts = c.is_control()
            || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
        match acts {
            true => out.extend(c.escape_unicode()),
            false => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn shown(format: Format) -> String {
        let record = json!({
            "event": "denial", "id": "one", "time": "2026-11-25T10:00:00.123456Z",
            "principal": { "name": "trainer", "kind": "agent", "on_behalf_of": { "name": "analyst" } },
            "decision": "deny", "sqlstate": "42501", "dataset": "shop",
            "statement": "SELECT \"\u{1b}[2J\u{202e}\", \"a,\"\"b\"", "message": "=cmd()",
            "relations": [{ "relation": "public.t", "row_filter": "role x", "columns": [
                { "column": "ssn", "treatment": "block" },
            ] }],
        });
        let mut out = Vec::new();
        let mut show = Show::new(format, &mut out);
        show.entry(&Entry(record.as_object().unwrap().clone()))
            .unwrap();
        show.flush().unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_table_is_for_people() {
        assert_eq!(
            shown(Format::Table),
            "one  2026-11-25 10:00:00  agent:trainer for analyst  deny  42501\n    \
             SELECT \"\\u{1b}[2J\\u{202e}\", \"a,\"\"b\"\n    \
             =cmd()\n    \
             public.t: ssn block; rows by role x\n"
        );
    }

    #[test]
    fn a_csv_is_for_spreadsheets() {
        let text = shown(Format::Csv);
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], COLUMNS.join(","));
        assert_eq!(
            lines[1],
            "2026-11-25T10:00:00.123456Z,one,denial,deny,,42501,,agent:trainer,analyst,shop,,,,,,\
             public.t: ssn block; rows by role x,\
             \"SELECT \"\"\u{1b}[2J\u{202e}\"\", \"\"a,\"\"\"\"b\"\"\",'=cmd()"
        );
    }

    #[test]
    fn json_is_the_record() {
        let value: Value = serde_json::from_str(&shown(Format::Json)).unwrap();
        assert_eq!(value["principal"]["on_behalf_of"]["name"], "analyst");
    }
}
