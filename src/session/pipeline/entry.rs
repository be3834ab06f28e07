//! What a message that was sent is to be answered with.
//!
//! Knows nothing about the order of the queue.

use std::collections::VecDeque;

use super::run::Run;
use crate::error::Told;
use crate::session::names::Change;

/// What a message is to be answered with.
#[derive(Debug)]
pub(crate) enum Expect {
    /// Query: each statement's answer in turn, then ReadyForQuery.
    Query(VecDeque<Run>),
    /// ParseComplete; the run is recorded if it fails.
    Parse(Box<Run>),
    /// BindComplete
    Bind(Box<Run>),
    /// RowDescription or NoData
    Describe(Box<Run>),
    /// Rows, then CommandComplete, EmptyQueryResponse or PortalSuspended
    Execute(Box<Run>),
    /// CloseComplete
    Close,
    /// ReadyForQuery
    Sync,
    /// Nothing: where a COPY's data ended
    CopyEnd,
    /// The ErrorResponse of a message sent to fail, which this takes the place of
    Denied(Told),
    /// The same, of which the client has been told before
    Failing,
    /// Nothing from upstream: this goes to the client when it is its turn
    Local(Vec<u8>),
    /// Nothing from upstream: the session ends when it is its turn
    End(Told),
}

/// An entry of the queue.
#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) expect: Expect,
    /// What the names are once it is answered (a Query's runs have their own).
    pub(crate) change: Change,
    /// The client did not ask: its answer is swallowed.
    pub(crate) hidden: bool,
    /// Its message has been written, or there is none.
    pub(super) sent: bool,
}

impl From<Expect> for Entry {
    fn from(expect: Expect) -> Self {
        Self {
            sent: matches!(expect, Expect::Local(_) | Expect::End(_)),
            expect,
            change: Change::None,
            hidden: false,
        }
    }
}

impl Entry {
    pub(crate) fn changing(self, change: Change) -> Self {
        Self { change, ..self }
    }

    /// What it runs.
    pub(crate) fn runs(&self) -> impl Iterator<Item = &Run> {
        let (many, one) = match &self.expect {
            Expect::Query(runs) => (Some(runs), None),
            Expect::Execute(run) => (None, Some(&**run)),
            _ => (None, None),
        };
        many.into_iter().flatten().chain(one)
    }

    /// The same, to keep.
    pub(crate) fn into_runs(self) -> Vec<Run> {
        match self.expect {
            Expect::Query(runs) => runs.into(),
            Expect::Execute(run) => vec![*run],
            Expect::Describe(run) => {
                run.forget_description();
                Vec::new()
            }
            _ => Vec::new(),
        }
    }

    /// Whether ReadyForQuery answers it, and an error before it has no part in what
    /// comes after.
    pub(super) fn ends_group(&self) -> bool {
        matches!(self.expect, Expect::Query(_) | Expect::Sync)
    }

    /// Whether anything that it runs stays, whatever the client is told.
    pub(super) fn lasts(&self) -> bool {
        self.runs().any(|run| run.lasting)
    }

    /// All that it may change, in order.
    pub(super) fn changes(&self) -> impl Iterator<Item = &Change> {
        self.runs()
            .map(|run| &run.change)
            .chain([&self.change])
            .filter(|change| !change.is_none())
    }
}
