//! What has been sent upstream and is not yet answered, in order, and what the
//! session is as far as upstream has confirmed.
//!
//! Knows nothing about sockets. Both directions of a session share one
//! [`Pipeline`] behind a lock that is never held across an await. Invariant: an
//! answer belongs to the front of the queue; what a message changes takes hold
//! when its answer arrives, never before.

mod entry;
mod run;

use std::collections::VecDeque;
use std::sync::Arc;

pub(crate) use entry::{Entry, Expect};
pub(crate) use run::{Assumed, Run};

use super::authority::Sight;
use super::names::{Change, Names};
use super::settings::{Path, SearchPath};
use crate::error::{Severity, Told};
use crate::sql::Effect;
use crate::upstream::frame::backend::Transaction;
use run::unsettling;

/// Entries that may wait for answers before no more is sent.
pub(crate) const DEPTH: usize = 16_384;

/// The state both directions share.
#[derive(Debug)]
pub(crate) struct Pipeline {
    queue: VecDeque<Entry>,
    /// As upstream has them.
    confirmed: Names,
    /// As upstream will have them if nothing in the queue fails.
    projected: Names,
    /// Entries in the queue that change names.
    changing: usize,
    /// Entries in the queue after which a statement may mean something else.
    unsettling: usize,
    path: SearchPath,
    pub(crate) transaction: Transaction,
    /// Extended-protocol messages have been sent since the last Sync.
    pub(crate) unsynced: bool,
    /// Upstream ignores what comes until Sync, and so do we.
    pub(crate) skipping: bool,
    /// The client hears of an error that upstream does not know of: answers are
    /// dropped until ReadyForQuery.
    pub(crate) discarding: bool,
    /// That error, until upstream has ended what it is about.
    withheld: Option<Told>,
    /// That error, where upstream has completed what it is about all the same.
    spoiled: Option<Told>,
    /// The transaction is to be failed before anything else is sent, for the client
    /// has been told so.
    pub(crate) to_fail: bool,
    /// Since the last ReadyForQuery, something has completed that stays.
    lasting: bool,
    /// Who has completed something since the last ReadyForQuery.
    last: Option<Arc<Sight>>,
    /// COPY FROM STDIN waits for data.
    pub(crate) copying_in: bool,
    /// An error since the last ReadyForQuery.
    failed: bool,
    /// The catalog changes when the transaction commits.
    ddl: bool,
    /// The client said Terminate: it hears nothing more of ours.
    pub(crate) terminated: bool,
}

impl Pipeline {
    pub(crate) fn new(path: Path, application: Option<Arc<str>>) -> Self {
        Self {
            queue: VecDeque::new(),
            confirmed: Names::default(),
            projected: Names::default(),
            changing: 0,
            unsettling: 0,
            path: SearchPath::new(path, application),
            transaction: Transaction::Idle,
            unsynced: false,
            skipping: false,
            discarding: false,
            withheld: None,
            spoiled: None,
            to_fail: false,
            lasting: false,
            last: None,
            copying_in: false,
            failed: false,
            ddl: false,
            terminated: false,
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Nothing is in flight, no transaction is open or could be.
    pub(crate) fn is_quiescent(&self) -> bool {
        self.queue.is_empty() && self.transaction == Transaction::Idle && !self.unsynced
    }

    /// Whether the next statement can be decided on now: nothing in flight can
    /// change what it means.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.is_empty() || (self.unsettling == 0 && !self.path.is_dirty() && !self.ddl)
    }

    pub(crate) fn path(&self) -> &SearchPath {
        &self.path
    }

    pub(crate) fn names(&self) -> &Names {
        &self.projected
    }

    /// Whether what a statement's name means hangs on an answer that is not yet in.
    pub(crate) fn doubts_statement(&self, name: &str) -> bool {
        let (now, then) = (
            self.confirmed.statement(name),
            self.projected.statement(name),
        );
        differ(now, then) && self.changed_before(|change| change.concerns_statement(name))
    }

    /// The same of a portal's name.
    pub(crate) fn doubts_portal(&self, name: &str) -> bool {
        let (now, then) = (self.confirmed.portal(name), self.projected.portal(name));
        differ(now, then) && self.changed_before(|change| change.concerns_portal(name))
    }

    /// Whether the last such change that is in flight can fail without what is
    /// sent next being skipped: it is not in the same group.
    fn changed_before(&self, concerns: impl Fn(&Change) -> bool) -> bool {
        let mut earlier = false;
        for entry in self.queue.iter().rev() {
            earlier |= entry.ends_group();
            if entry.changes().any(&concerns) {
                return earlier;
            }
        }
        false
    }

    pub(crate) fn push(&mut self, entry: Entry) {
        let mut changes = false;
        for change in entry.changes() {
            self.projected.apply(change);
            changes = true;
        }
        self.changing += usize::from(changes);
        self.unsettling += usize::from(entry.runs().any(unsettling));
        self.queue.push_back(entry);
    }

    /// What is in the queue is written now, or as much of it as can be.
    pub(crate) fn written(&mut self) {
        let unsent = self.queue.iter_mut().rev().take_while(|entry| !entry.sent);
        unsent.for_each(|entry| entry.sent = true);
    }

    /// Takes out what has not been written, and will not be.
    pub(crate) fn retract(&mut self) -> Vec<Entry> {
        let all = std::mem::take(&mut self.queue);
        let (sent, unsent): (VecDeque<Entry>, VecDeque<Entry>) =
            all.into_iter().partition(|entry| entry.sent);
        self.queue = sent;
        self.reproject();
        unsent.into()
    }

    /// The entry that the next answer belongs to.
    pub(crate) fn front(&mut self) -> Option<&mut Entry> {
        while let Some(Expect::CopyEnd) = self.queue.front().map(|entry| &entry.expect) {
            self.queue.pop_front();
        }
        self.queue.front_mut()
    }

    /// The run that the next answer belongs to.
    pub(crate) fn run(&mut self) -> Option<&mut Run> {
        match &mut self.front()?.expect {
            Expect::Query(runs) => runs.front_mut(),
            Expect::Parse(run)
            | Expect::Bind(run)
            | Expect::Describe(run)
            | Expect::Execute(run) => Some(run),
            _ => None,
        }
    }

    /// Whether what the front's run rests on is so; asked at its first answer.
    pub(crate) fn verify(&mut self) -> bool {
        let assumed = match self.run() {
            Some(run) => std::mem::take(&mut run.assumed),
            None => return true,
        };
        assumed.iter().all(|assumed| assumed.holds(&self.confirmed))
    }

    /// The front has been answered.
    pub(crate) fn pop(&mut self) -> Option<Entry> {
        self.front();
        let entry = self.queue.pop_front()?;
        // A Query's runs have been taken out one by one by now, or have failed.
        let changing = entry.changes().next().is_some();
        if !entry.change.is_none() {
            self.confirmed.apply(&entry.change);
        }
        self.changing -= usize::from(changing);
        self.unsettling -= usize::from(entry.runs().any(unsettling));
        Some(entry)
    }

    /// A statement has completed with that command tag: what it does takes hold.
    pub(crate) fn complete(&mut self, tag: &[u8]) -> Option<Run> {
        let entry = self.front()?;
        let (had_changes, had_unsettling) = (
            entry.changes().next().is_some(),
            entry.runs().any(unsettling),
        );
        let (run, done) = match &mut entry.expect {
            Expect::Query(runs) => (runs.pop_front()?, false),
            Expect::Execute(_) => match self.queue.pop_front()?.expect {
                Expect::Execute(run) => (*run, true),
                _ => return None,
            },
            _ => return None,
        };
        let (has_changes, has_unsettling) = match self.queue.front() {
            Some(entry) if !done => (
                entry.changes().next().is_some(),
                entry.runs().any(unsettling),
            ),
            _ => (false, false),
        };
        self.changing -= usize::from(had_changes && !has_changes);
        self.unsettling -= usize::from(had_unsettling && !has_unsettling);
        self.lasting |= run.lasting;
        self.last = Some(run.sight.clone());
        self.confirmed.apply(&run.change);
        self.path.apply(&run.effect, tag);
        self.ddl |= run.effect == Effect::Ddl;
        Some(run)
    }

    /// A portal's rows are at their limit for now; the portal stays.
    pub(crate) fn suspend(&mut self) -> Option<Run> {
        if !matches!(self.front()?.expect, Expect::Execute(_)) {
            return None;
        }
        match self.pop()?.expect {
            Expect::Execute(run) => {
                self.lasting |= run.lasting;
                self.last = Some(run.sight.clone());
                Some(*run)
            }
            _ => None,
        }
    }

    /// The front has failed.
    pub(crate) fn fail(&mut self) -> Failed {
        self.failed = true;
        self.copying_in = false;
        let mut failed = Failed {
            run: None,
            skipped: Vec::new(),
            instead: self.withheld.take(),
            silent: self.discarding,
        };
        if let Some(entry) = self.front() {
            match &mut entry.expect {
                // ReadyForQuery follows; the rest of the message does not run.
                Expect::Query(runs) => {
                    failed.run = runs.pop_front();
                    failed.skipped.extend(runs.drain(..));
                }
                // A commit that failed: ReadyForQuery follows.
                Expect::Sync => failed.run = self.commit(),
                Expect::Local(_) | Expect::End(_) => {}
                _ => {
                    if let Some(entry) = self.queue.pop_front() {
                        self.failed_alone(entry, &mut failed);
                    }
                    self.skip(&mut failed.skipped);
                }
            }
        }
        self.reproject();
        failed
    }

    fn failed_alone(&mut self, entry: Entry, failed: &mut Failed) {
        match entry.expect {
            Expect::Parse(run) | Expect::Bind(run) | Expect::Execute(run) => {
                failed.run = Some(*run);
            }
            Expect::Describe(run) => {
                run.forget_description();
                failed.run = Some(*run);
            }
            Expect::Denied(told) => {
                self.confirmed.apply(&entry.change);
                if !failed.silent {
                    failed.instead = Some(told);
                }
            }
            Expect::Failing => failed.silent = true,
            Expect::Query(_)
            | Expect::Close
            | Expect::Sync
            | Expect::CopyEnd
            | Expect::Local(_)
            | Expect::End(_) => {}
        }
    }

    /// The commit that a Sync makes where no transaction is open.
    fn commit(&mut self) -> Option<Run> {
        let sight = self.last.take()?;
        (self.transaction == Transaction::Idle).then(|| Run::commit(sight))
    }

    /// Upstream skips everything up to the next Sync.
    fn skip(&mut self, skipped: &mut Vec<Run>) {
        let ends = |entry: &mut Entry| matches!(entry.expect, Expect::Sync | Expect::End(_));
        while self.queue.front_mut().is_some_and(|front| !ends(front)) {
            skipped.extend(
                self.queue
                    .pop_front()
                    .map(Entry::into_runs)
                    .unwrap_or_default(),
            );
        }
        if self.queue.is_empty() {
            self.skipping = true;
        }
    }

    fn reproject(&mut self) {
        if self.changing > 0 {
            self.projected = self.confirmed.clone();
        }
        self.changing = 0;
        self.unsettling = 0;
        for entry in &self.queue {
            let mut changes = false;
            for change in entry.changes() {
                self.projected.apply(change);
                changes = true;
            }
            self.changing += usize::from(changes);
            self.unsettling += usize::from(entry.runs().any(unsettling));
        }
    }

    /// The client is to hear that error, and nothing else up to ReadyForQuery, once
    /// upstream has ended the front. Says whether upstream may be asked to cancel:
    /// nothing has been sent behind that the request could hit instead.
    pub(crate) fn withhold(&mut self, told: Told) -> bool {
        if let Some(run) = self.run() {
            run.ended = Some(told.state.0);
        }
        self.withheld = Some(told);
        self.discarding = true;
        let end = self.queue.iter().position(Entry::ends_group);
        self.skipping |= end.is_none();
        end.is_none_or(|end| end + 1 == self.queue.len())
    }

    /// Upstream has completed what the client is to hear has failed, if it is. Gives
    /// what the client hears: that error, where nothing of it stays but what the end
    /// of the transaction takes back, and the session's end otherwise.
    pub(crate) fn spoil(&mut self) -> Option<Told> {
        let told = self.withheld.take()?;
        let end = self.queue.iter().position(Entry::ends_group);
        let group = end.map_or(self.queue.len(), |end| end + 1);
        if self.lasting || self.queue.iter().take(group).any(Entry::lasts) {
            return Some(untrue(told));
        }
        self.spoiled = Some(told.clone());
        Some(told)
    }

    /// COPY FROM STDIN begins: Postgres ignores Sync and Flush until its data
    /// ends (`CopyGetData`), those that were already sent too.
    pub(crate) fn copy_in(&mut self) {
        self.front();
        let end = self
            .queue
            .iter()
            .position(|entry| matches!(entry.expect, Expect::CopyEnd));
        let before = end.unwrap_or(self.queue.len());
        let mut at = 0;
        self.queue.retain(|entry| {
            let here = at;
            at += 1;
            let ignored = here > 0 && here < before && matches!(entry.expect, Expect::Sync);
            !ignored && Some(here) != end
        });
        self.copying_in = end.is_none();
    }

    /// Whether the catalog may have changed, as of this ReadyForQuery.
    pub(crate) fn take_change(&mut self) -> bool {
        self.transaction == Transaction::Idle && std::mem::take(&mut self.ddl)
    }

    /// ReadyForQuery. `None` where it does not answer the front.
    pub(crate) fn ready(&mut self, transaction: Transaction) -> Option<Ready> {
        match self.front()?.expect {
            Expect::Query(_) | Expect::Sync => {}
            _ => return None,
        }
        self.pop();
        self.transaction = transaction;
        self.discarding = false;
        self.copying_in = false;
        self.lasting = false;
        self.last = None;
        if transaction == Transaction::Idle {
            match self.failed {
                true => self.path.rollback(),
                false => self.path.commit(),
            }
            self.confirmed.end_transaction();
            if self.queue.is_empty() {
                self.projected.end_transaction();
            }
        }
        self.failed = false;
        Some(match self.spoiled.take() {
            Some(told) if transaction == Transaction::Open => {
                // What is sent already would run in it.
                if !self.queue.is_empty() || self.unsynced {
                    return Some(Ready::End(untrue(told)));
                }
                self.to_fail = true;
                Ready::Failing
            }
            _ => Ready::Told,
        })
    }

    /// Runs that were sent and are not answered, for the record of a session
    /// that ends.
    pub(crate) fn unanswered(&mut self) -> Vec<Run> {
        let mut runs = Vec::new();
        for entry in self.queue.drain(..) {
            match entry.expect {
                Expect::Query(waiting) => runs.extend(waiting),
                Expect::Execute(run) => runs.push(*run),
                _ => {}
            }
        }
        runs
    }
}

/// What has failed.
#[derive(Debug)]
pub(crate) struct Failed {
    /// The run, if a run did.
    pub(crate) run: Option<Run>,
    /// What is not run because of it.
    pub(crate) skipped: Vec<Run>,
    /// What takes the place of upstream's error, if anything.
    pub(crate) instead: Option<Told>,
    /// Otherwise, the client hears nothing of it.
    pub(crate) silent: bool,
}

/// What ReadyForQuery comes to.
#[derive(Debug)]
pub(crate) enum Ready {
    /// The client hears it.
    Told,
    /// The transaction is to be failed first.
    Failing,
    /// The session ends.
    End(Told),
}

fn differ<T>(now: Option<&Arc<T>>, then: Option<&Arc<T>>) -> bool {
    now.is_some_and(|now| !then.is_some_and(|then| Arc::ptr_eq(now, then)))
}

/// An error that is not the whole truth.
fn untrue(told: Told) -> Told {
    Told {
        severity: Severity::Fatal,
        ..told
    }
    .hint("whether it took effect is not known; connect again and check")
}
