//! `pgveil audit query`: searches the log's own files.

use std::error::Error;
use std::io;
use std::time::Duration;

use super::show::{Format, Show};
use super::{Which, note};
use crate::audit::read::filter::Filter;
use crate::audit::read::{self, Entry, Follow, Joined};
use crate::audit::readers::Did;
use crate::config;

/// How often the log is looked at while it is followed.
const PAUSE: Duration = Duration::from_millis(200);

/// Search the log: one line for each decision. All that is given must be so.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Query {
    #[command(flatten)]
    which: Which,
    /// The identity
    #[arg(long)]
    principal: Option<String>,
    /// What it is
    #[arg(long, value_parser = ["human", "agent", "service"])]
    kind: Option<String>,
    /// The human for whom an agent acted
    #[arg(long, value_name = "HUMAN")]
    on_behalf_of: Option<String>,
    /// The dataset
    #[arg(long)]
    dataset: Option<String>,
    /// A relation, with or without its schema
    #[arg(long)]
    relation: Option<String>,
    /// A column, with or without its relation: `customers.ssn`
    #[arg(long)]
    column: Option<String>,
    /// What the column holds
    #[arg(long)]
    tag: Option<String>,
    /// How it was treated: clear, mask, mask:email, block, hide
    #[arg(long)]
    treatment: Option<String>,
    /// What was decided; `unknown`: how it ended is not known
    #[arg(long, value_parser = ["allow", "deny", "unknown", "not_run"])]
    decision: Option<String>,
    /// The kind of event, such as statement, denial, connect, authentication_failure
    #[arg(long)]
    event: Option<String>,
    /// A part of the statement, in upper or lower case
    #[arg(long)]
    statement: Option<String>,
    /// From then on: `2026-11-25`, `2026-11-25T10:00:00Z`, or so long ago: `90m`
    #[arg(long, value_parser = moment)]
    since: Option<String>,
    /// Before then
    #[arg(long, value_parser = moment)]
    until: Option<String>,
    /// The session
    #[arg(long)]
    session: Option<String>,
    /// A part of a rule that decided, such as `roles.yaml:12`
    #[arg(long)]
    rule: Option<String>,
    /// Also what is no decision, and what is about catalogs alone
    #[arg(long)]
    all: bool,
    /// How it is shown
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Go on with what is written from now on
    #[arg(long, short = 'f')]
    follow: bool,
}

impl Query {
    pub(in crate::cli) fn run(self) -> Result<(), Box<dyn Error>> {
        let (places, _) = self.which.places()?;
        let (format, follow) = (self.format, self.follow);
        note(&places, Did::Read, &self.asked());
        let filter = self.filter();
        let mut show = Show::new(format, io::BufWriter::new(io::stdout().lock()));
        let searched = match follow {
            true => forever(places, &filter, &mut show),
            false => read::all(&places.hold()?, |entry| take(&filter, &mut show, &entry)),
        };
        match searched.and_then(|()| show.flush()) {
            // Whoever reads has read enough.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
            done => Ok(done?),
        }
    }

    /// What is asked for, but for a statement's text, which could hold anything.
    fn asked(&self) -> String {
        let statement = self.statement.as_ref().map(|_| "…".to_owned());
        let all = [
            ("principal", &self.principal),
            ("kind", &self.kind),
            ("on-behalf-of", &self.on_behalf_of),
            ("dataset", &self.dataset),
            ("relation", &self.relation),
            ("column", &self.column),
            ("tag", &self.tag),
            ("treatment", &self.treatment),
            ("decision", &self.decision),
            ("event", &self.event),
            ("statement", &statement),
            ("since", &self.since),
            ("until", &self.until),
            ("session", &self.session),
            ("rule", &self.rule),
        ];
        let asked = all
            .into_iter()
            .filter_map(|(name, value)| Some(format!("{name} {}", value.as_ref()?)));
        let asked: Vec<String> = asked.collect();
        match asked.is_empty() {
            true => "everything".into(),
            false => asked.join(", "),
        }
    }

    fn filter(self) -> Filter {
        Filter {
            principal: self.principal,
            kind: self.kind,
            on_behalf_of: self.on_behalf_of,
            dataset: self.dataset,
            relation: self.relation,
            column: self.column,
            tag: self.tag,
            treatment: self.treatment,
            decision: self.decision,
            event: self.event,
            statement: self.statement,
            since: self.since,
            until: self.until,
            session: self.session,
            rule: self.rule,
            all: self.all,
        }
    }
}

fn take<W: io::Write>(filter: &Filter, show: &mut Show<W>, entry: &Entry) -> io::Result<()> {
    match filter.takes(entry) {
        true => show.entry(entry),
        false => Ok(()),
    }
}

fn forever<W: io::Write>(
    places: crate::audit::segments::Places,
    filter: &Filter,
    show: &mut Show<W>,
) -> io::Result<()> {
    let mut joined = Joined::default();
    let mut line = |line: &[u8], show: &mut Show<W>| match joined.line(line) {
        Some(entry) => take(filter, show, &entry),
        None => Ok(()),
    };
    let mut follow = Follow::start(places, |text| line(text, show))?;
    loop {
        show.flush()?;
        std::thread::sleep(PAUSE);
        follow.more(|text| line(text, show))?;
    }
}

/// A moment as records have it.
pub(super) fn moment(text: &str) -> Result<String, String> {
    let ago = || {
        let ago = jiff::SignedDuration::try_from(config::duration_of(text)?).ok()?;
        jiff::Timestamp::now().checked_sub(ago).ok()
    };
    let day = || {
        let day: jiff::civil::Date = text.parse().ok()?;
        jiff::tz::TimeZone::UTC
            .to_timestamp(day.at(0, 0, 0, 0))
            .ok()
    };
    text.parse()
        .ok()
        .or_else(ago)
        .or_else(day)
        .map(|time: jiff::Timestamp| format!("{time:.6}"))
        .ok_or_else(|| "not a moment such as 2026-11-25T10:00:00Z, 2026-11-25 or 90m".to_owned())
}
