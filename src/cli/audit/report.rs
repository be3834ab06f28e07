//! `pgveil audit report`: what reviewers ask again and again, and the evidence of it.

mod pack;

use std::error::Error;
use std::io::{self, Write};
use std::path::PathBuf;

use super::query::moment;
use super::show::{plain, quoted};
use super::{Which, note};
use crate::audit::read;
use crate::audit::readers::Did;
use crate::audit::report::{About, Hours, Report as Answer};

/// Say who saw what, summed up; or put it together as evidence.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Report {
    #[command(subcommand)]
    about: Asked,
    #[command(flatten)]
    which: Which,
    /// From then on: `2026-11-25`, `2026-11-25T10:00:00Z`, or so long ago: `90d`
    #[arg(long, value_parser = moment, global = true)]
    since: Option<String>,
    /// Before then
    #[arg(long, value_parser = moment, global = true)]
    until: Option<String>,
    /// How it is shown
    #[arg(long, value_enum, default_value_t, global = true)]
    format: Format,
    /// A directory to make: the report as a page, the records that it is made of, a proof
    /// of each, and what verifies them
    #[arg(long, global = true, value_name = "DIRECTORY")]
    pack: Option<PathBuf>,
    /// For a pack, the log's public key, or the file it is in; else the one beside the log
    #[arg(long, short, global = true)]
    key: Option<String>,
}

/// What is asked.
#[derive(Debug, clap::Subcommand)]
enum Asked {
    /// Who saw a column, in clear or masked, or tried
    Column {
        /// With or without its relation: `customers.ssn`
        column: String,
    },
    /// What an identity saw, by itself or through an agent that acted for it
    Identity {
        /// Its name
        name: String,
    },
    /// Who was refused what
    Denials,
    /// Who came outside these hours
    OutsideHours {
        /// Such as `08:00-18:00`
        hours: String,
        /// On which days those are: `mon-fri`, `mon,wed`
        #[arg(long, default_value = "mon-fri")]
        days: String,
        /// In whose time
        #[arg(long, default_value = "UTC")]
        zone: String,
    },
    /// Humans, agents and services beside each other
    Kinds,
}

/// How.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
enum Format {
    /// Lines to read
    #[default]
    Text,
    /// RFC 4180
    Csv,
}

impl Report {
    pub(super) fn run(self) -> Result<(), Box<dyn Error>> {
        let (places, beside) = self.which.places()?;
        let about = match self.about {
            Asked::Column { column } => About::Column(column),
            Asked::Identity { name } => About::Identity(name),
            Asked::Denials => About::Denials,
            Asked::OutsideHours { hours, days, zone } => {
                About::OutsideHours(Hours::parse(&hours, &days, &zone)?)
            }
            Asked::Kinds => About::Kinds,
        };
        let mut answer = Answer::new(about, self.since, self.until);
        let log = places.hold()?;
        let mut oldest = String::new();
        read::all(&log, |entry| {
            if oldest.is_empty() {
                entry.text("time").clone_into(&mut oldest);
            }
            answer.see(&entry);
            Ok(())
        })?;
        if let Some(first) = log
            .files()
            .first()
            .map(|file| file.first)
            .filter(|it| *it > 0)
        {
            eprintln!(
                "the log begins with record {first}, of {oldest}: what was before is not in here"
            );
        }
        let did = if self.pack.is_some() {
            Did::Exported
        } else {
            Did::Read
        };
        note(&places, did, &format!("report: {}", answer.title()));
        if let Some(directory) = &self.pack {
            let verifier = super::verifier(self.key.as_deref(), &beside)?;
            let packed = pack::make(directory, &places, &log, &verifier, &answer)?;
            writeln!(io::stderr(), "{}: {packed}", directory.display())?;
        }
        let shown = match self.format {
            Format::Text => text(&answer),
            Format::Csv => csv(&answer),
        };
        match io::stdout().write_all(shown.as_bytes()) {
            // Whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => Ok(done?),
        }
    }
}

/// Lines to read.
fn text(answer: &Answer) -> String {
    let head = answer.head().into_iter().map(str::to_owned).collect();
    let mut rows: Vec<Vec<String>> = vec![head];
    let plain = |row: Vec<String>| row.iter().map(|value| plain(value)).collect();
    rows.extend(answer.rows().into_iter().map(plain));
    let width = |at: usize| {
        let values = rows.iter().filter_map(|row| row.get(at));
        values.map(|value| value.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..answer.head().len()).map(width).collect();
    let mut out = String::new();
    for row in &rows {
        let values = row.iter().zip(&widths);
        let line: Vec<String> = values
            .map(|(value, width)| format!("{value:width$}"))
            .collect();
        out.push_str(line.join("  ").trim_end());
        out.push('\n');
    }
    out
}

/// RFC 4180.
fn csv(answer: &Answer) -> String {
    let mut out = answer.head().join(",") + "\r\n";
    for row in answer.rows() {
        let row: Vec<String> = row.iter().map(|value| quoted(value)).collect();
        out.push_str(&row.join(","));
        out.push_str("\r\n");
    }
    out
}
