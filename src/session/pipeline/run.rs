//! One execution of one statement, from when it is decided on to its record.
//!
//! Knows nothing about the queue that it waits in.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use crate::audit::record::{Intent, Statement, What};
use crate::audit::{Event, Fields, Id};
use crate::session::authority::Sight;
use crate::session::names::{Change, Names, Portal, Prepared};
use crate::session::settings::SearchPath;
use crate::sql::Effect;
use crate::sql::origins::Origins;

/// One execution of one statement.
#[derive(Debug)]
pub(crate) struct Run {
    /// Its record's, where an intent has named it or it is part of what was sent;
    /// otherwise its record gets one.
    pub(crate) id: Option<Id>,
    pub(crate) time: jiff::Timestamp,
    pub(crate) began: Instant,
    pub(crate) statement: Arc<Statement>,
    pub(crate) effect: Effect,
    pub(crate) change: Change,
    pub(crate) sight: Arc<Sight>,
    /// What names were taken to mean when this was decided on.
    pub(crate) assumed: Vec<Assumed>,
    /// The portal that counts its rows over several fetches.
    pub(crate) portal: Option<Arc<Portal>>,
    /// Rows and bytes so far.
    pub(crate) rows: u64,
    pub(crate) bytes: u64,
    /// The code that the proxy ended it with.
    pub(crate) ended: Option<&'static str>,
    /// What it does stays, even if the client is told that it failed.
    pub(crate) lasting: bool,
    /// The next row is no row but a COPY's heading.
    pub(crate) heading: bool,
    /// It copies in binary.
    pub(crate) binary: bool,
    /// Which stored columns its result's are, where a scan keeps upstream from
    /// saying so.
    pub(crate) origins: Option<Arc<Origins>>,
    /// What it is to describe.
    pub(crate) described: Option<Arc<Prepared>>,
}

impl Run {
    pub(crate) fn new(
        statement: Arc<Statement>,
        effect: Effect,
        change: Change,
        sight: Arc<Sight>,
    ) -> Self {
        Self {
            id: None,
            time: jiff::Timestamp::now(),
            began: Instant::now(),
            statement,
            effect,
            change,
            sight,
            assumed: Vec::new(),
            portal: None,
            rows: 0,
            bytes: 0,
            ended: None,
            lasting: false,
            heading: false,
            binary: false,
            origins: None,
            described: None,
        }
    }

    /// What is recorded before it is sent, if anything is.
    pub(crate) fn intent(&self) -> Option<Event> {
        let query = self.id.filter(|_| self.effect != Effect::Empty)?;
        let intent = Intent {
            query,
            statement: self.statement.clone(),
            policy: self.sight.standing.policy.clone(),
        };
        let what = What::Intent(Box::new(intent));
        Some(Event::now(Some(self.sight.who.clone()), what))
    }

    /// What is recorded where it was not run after all.
    pub(crate) fn not_run(&self) -> Option<Event> {
        let id = self.id.filter(|_| self.effect != Effect::Empty)?;
        Some(Event {
            id,
            ..Event::now(Some(self.sight.who.clone()), What::NotRun)
        })
    }

    /// The commit that a Sync makes.
    pub(super) fn commit(sight: Arc<Sight>) -> Self {
        let statement = Statement {
            kind: "COMMIT",
            normalized: "COMMIT".into(),
            fingerprint: 0,
            relations: Vec::new(),
            fields: Fields::default(),
        };
        Self::new(statement.into(), Effect::Commit, Change::None, sight)
    }

    /// What it was to describe has not been.
    pub(crate) fn forget_description(&self) {
        if let Some(prepared) = &self.described {
            prepared.described.store(false, Ordering::Relaxed);
        }
    }

    /// How many more rows it may return; `None` without a limit.
    pub(crate) fn allowance(&self) -> Option<u64> {
        let limit = self.sight.standing.limits.rows_per_query?;
        let taken = match &self.portal {
            Some(portal) => portal.rows.load(Ordering::Relaxed),
            None => self.rows,
        };
        Some(limit.saturating_sub(taken))
    }

    /// Rows have passed.
    pub(crate) fn count(&mut self, rows: u64) {
        self.rows += rows;
        if let Some(portal) = &self.portal {
            portal.rows.fetch_add(rows, Ordering::Relaxed);
        }
    }
}

/// What a message was decided to mean by a name, before all earlier answers
/// were in.
#[derive(Debug)]
pub(crate) enum Assumed {
    Statement(Arc<str>, Arc<Prepared>),
    Portal(Arc<str>, Arc<Portal>),
}

impl Assumed {
    /// Whether the name means that now that they are in.
    pub(super) fn holds(&self, names: &Names) -> bool {
        match self {
            Self::Statement(name, assumed) => names
                .statement(name)
                .is_some_and(|found| Arc::ptr_eq(found, assumed)),
            Self::Portal(name, assumed) => names
                .portal(name)
                .is_some_and(|found| Arc::ptr_eq(found, assumed)),
        }
    }
}

/// A reason that the next statement must wait for answers.
pub(super) fn unsettling(run: &Run) -> bool {
    SearchPath::concerns(&run.effect) || run.effect == Effect::Ddl
}
