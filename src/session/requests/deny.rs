//! Refusals: what the client hears, in the place where it belongs, and what the
//! record says.
//!
//! Knows nothing about why. Invariant: a refusal never closes the connection,
//! unless it is FATAL.

use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite};

use super::{Requests, Step};
use crate::audit::Event;
use crate::audit::record::{Refusal, Statement, What};
use crate::error::{Severity, SqlState, Tell, Told};
use crate::session::End;
use crate::session::authority::Standing;
use crate::session::names::Change;
use crate::session::pipeline::{Entry, Expect, Pipeline, Run};
use crate::sql::{self, Denial, Effect, Reason};
use crate::upstream::frame::body::Malformed;
use crate::upstream::frame::frontend::{put_sync, tag};
use crate::wire;

/// A refusal: what the client hears, and what the record says.
#[derive(Debug)]
pub(in crate::session) struct Refused {
    pub(in crate::session) told: Told,
    /// One for each statement of the message, in order, as far as there are any.
    refusals: Vec<Refusal>,
}

impl From<Told> for Refused {
    fn from(told: Told) -> Self {
        Self {
            told,
            refusals: Vec::new(),
        }
    }
}

impl Refused {
    /// The steps of a message, or why none of them is taken: the client hears of the
    /// first that is refused, and every statement is put on record.
    pub(in crate::session) fn unless_all(
        outcomes: Vec<Result<Step, Self>>,
    ) -> Result<Vec<Step>, Self> {
        let Some(first) = outcomes.iter().position(Result::is_err) else {
            return outcomes.into_iter().collect();
        };
        let code = |outcome: &Result<Step, Self>| outcome.as_ref().err().map(|it| it.told.state.0);
        let sqlstate = outcomes.get(first).and_then(code).unwrap_or_default();
        let (mut told, mut refusals) = (None, Vec::with_capacity(outcomes.len()));
        for outcome in outcomes {
            match outcome {
                Ok(step) if step.effect == Effect::Empty => {}
                Ok(step) => refusals.push(Refusal {
                    sqlstate,
                    message: Some(beside(first)),
                    ..of_statement(&step.decided.statement)
                }),
                Err(refused) => {
                    let (own, all) = refused.into_refusals();
                    refusals.extend(all);
                    told.get_or_insert(own);
                }
            }
        }
        match told {
            Some(told) => Err(Self { told, refusals }),
            None => Ok(Vec::new()),
        }
    }

    /// One of a message's statements cannot be run, though it may be.
    pub(in crate::session) fn one_of(steps: Vec<Step>, at: usize, mut refused: Self) -> Self {
        if let (true, Some(step)) = (refused.refusals.is_empty(), steps.get(at)) {
            refused.refusals.push(Refusal {
                sqlstate: refused.told.state.0,
                reason: PROTOCOL,
                message: Some(refused.told.message.to_string()),
                ..of_statement(&step.decided.statement)
            });
        }
        let mut outcomes: Vec<_> = steps.into_iter().map(Ok).collect();
        let told = refused.told.clone();
        match outcomes.get_mut(at) {
            Some(outcome) => *outcome = Err(refused),
            None => outcomes.push(Err(refused)),
        }
        match Self::unless_all(outcomes) {
            Err(refused) => refused,
            Ok(_) => told.into(),
        }
    }

    /// A message is refused for what its statements are together.
    pub(in crate::session) fn together(told: Told, steps: &[Step]) -> Self {
        let refusal = |step: &Step| Refusal {
            sqlstate: told.state.0,
            reason: PROTOCOL,
            message: Some(told.message.to_string()),
            ..of_statement(&step.decided.statement)
        };
        let refusals = steps.iter().map(refusal).collect();
        Self { told, refusals }
    }

    /// What was decided on and is not sent, since no record of it could be kept.
    pub(in crate::session) fn unrecorded(told: Told, runs: &[Run]) -> Self {
        let refusals = runs.iter().map(|run| Refusal {
            sqlstate: told.state.0,
            reason: PROTOCOL,
            message: Some(told.message.to_string()),
            query: run.id,
            ..of_statement(&run.statement)
        });
        let refusals = refusals.collect();
        Self { told, refusals }
    }

    /// What the client hears, and what is put on record for it.
    fn into_refusals(self) -> (Told, Vec<Refusal>) {
        let Self { told, mut refusals } = self;
        if refusals.is_empty() {
            refusals.push(Refusal {
                decision: "deny",
                sqlstate: told.state.0,
                reason: PROTOCOL,
                message: Some(told.message.to_string()),
                ..Refusal::default()
            });
        }
        (told, refusals)
    }
}

/// The reason of what is refused whatever it says.
const PROTOCOL: &str = "protocol";

/// The refusal of a statement that would have been run by itself.
fn of_statement(statement: &Statement) -> Refusal {
    Refusal {
        decision: "deny",
        reason: "another statement",
        kind: Some(statement.kind),
        normalized: Some(statement.normalized.clone()),
        fingerprint: Some(statement.fingerprint),
        relations: statement.relations.clone(),
        ..Refusal::default()
    }
}

fn beside(first: usize) -> String {
    let number = first + 1;
    format!("statement {number} of the same message is refused, so none of them runs")
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        let told = denial.tell();
        // Postgres's grammar quotes what it stumbles on; a setting's value is
        // a literal. Neither belongs into a record.
        let quotes = matches!(
            denial.reason,
            Reason::Syntax | Reason::Grammar(_) | Reason::Setting | Reason::UnknownText
        );
        let refusal = Refusal {
            decision: "deny",
            sqlstate: told.state.0,
            reason: match told.state {
                _ if matches!(denial.reason, Reason::Grammar(_)) => "syntax",
                SqlState::INSUFFICIENT_PRIVILEGE => "policy",
                SqlState::FEATURE_NOT_SUPPORTED => "unsupported",
                SqlState::SYNTAX_ERROR => "syntax",
                SqlState::INVALID_PARAMETER_VALUE => "setting",
                SqlState::STATEMENT_TOO_COMPLEX => "too complex",
                SqlState::PROGRAM_LIMIT_EXCEEDED => "too large",
                _ => "unknown name",
            },
            message: (!quotes).then(|| denial.message.clone()),
            kind: denial.kind,
            fingerprint: denial.normalized.as_deref().map(sql::fingerprint),
            normalized: denial.normalized,
            relations: denial.touched,
            ..Refusal::default()
        };
        Self {
            told,
            refusals: vec![refusal],
        }
    }
}

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Text that is not UTF-8 is a statement's fault; anything else leaves no
    /// doubt that this client does not speak the protocol.
    pub(in crate::session) async fn malformed(
        &mut self,
        tag: u8,
        malformed: Malformed,
        whole: bool,
    ) -> Result<(), End> {
        match malformed {
            Malformed::Encoding if tag == tag::PARSE => self.deny_parse(not_text().into()).await,
            Malformed::Encoding => self.deny(not_text().into(), whole).await,
            _ => Err(violation(format!("{malformed} (`{}`)", tag.escape_ascii()))),
        }
    }

    /// Refuses a message in its place. `whole`: it is answered by
    /// ReadyForQuery, as Query is; otherwise Sync will be.
    ///
    /// Where upstream is doing nothing, we answer. Otherwise upstream gets a
    /// message that fails in the place of this one, and its error is replaced:
    /// so what the failure does to the transaction and to what follows is
    /// Postgres's own doing.
    pub(in crate::session) async fn deny(
        &mut self,
        refused: Refused,
        whole: bool,
    ) -> Result<(), End> {
        self.deny_changing(refused, whole, Change::None).await
    }

    /// Refuses a Parse: as by one that fails, the unnamed statement is gone.
    pub(in crate::session) async fn deny_parse(&mut self, refused: Refused) -> Result<(), End> {
        self.deny_changing(refused, false, Change::Forget("".into()))
            .await
    }

    async fn deny_changing(
        &mut self,
        refused: Refused,
        whole: bool,
        change: Change,
    ) -> Result<(), End> {
        if self.session.pipeline().skipping {
            return Ok(());
        }
        let (told, refusals) = refused.into_refusals();
        self.note(refusals).await;
        if told.severity == Severity::Fatal {
            return Err(End::Told(told));
        }
        if whole && self.session.pipeline().unsynced {
            // Only upstream knows whether it would skip this message.
            self.settle().await?;
        }
        let session = self.session;
        let mut pipeline = session.pipeline();
        if pipeline.skipping {
            return Ok(());
        }
        self.fail_first(&mut pipeline);
        if pipeline.is_quiescent() {
            let mut bytes = Vec::new();
            told.encode(&mut bytes);
            if whole {
                let ready = wire::ReadyForQuery::new(wire::TransactionStatus::Idle);
                wire::put(&mut bytes, &ready);
            }
            pipeline.skipping = !whole;
            pipeline.push(Entry::from(Expect::Local(bytes)).changing(change));
            drop(pipeline);
            self.session.ours.notify_one();
            return Ok(());
        }
        pipeline.push(Entry::from(Expect::Denied(told)).changing(change));
        pipeline.unsynced = !whole;
        // Upstream skips what follows, too.
        pipeline.skipping = !whole;
        if whole {
            pipeline.push(Expect::Sync.into());
        }
        self.session.canceller.busy.store(true, Ordering::Release);
        drop(pipeline);
        self.out.extend_from_slice(&session.ghost);
        if whole {
            put_sync(&mut self.out);
        }
        Ok(())
    }

    /// Fails the transaction, where the client has been told that it has failed,
    /// before anything else is sent.
    pub(in crate::session) fn fail_first(&mut self, pipeline: &mut Pipeline) {
        if std::mem::take(&mut pipeline.to_fail) {
            pipeline.push(Expect::Failing.into());
            pipeline.push(Expect::Sync.into());
            self.session.canceller.busy.store(true, Ordering::Release);
            self.out.extend_from_slice(&self.session.ghost);
            put_sync(&mut self.out);
        }
    }

    async fn note(&self, refusals: Vec<Refusal>) {
        let who = &self.sight.who;
        let event = |refusal: Refusal| {
            tracing::info!(
                session = %who.session, principal = %who.principal.name,
                sqlstate = refusal.sqlstate, reason = refusal.reason, "refused"
            );
            let refusal = Refusal {
                policy: self.sight.standing.policy.clone(),
                ..refusal
            };
            let id = refusal.query;
            let event = Event::now(Some(who.clone()), What::Denial(Box::new(refusal)));
            Event {
                id: id.unwrap_or(event.id),
                ..event
            }
        };
        let events: Vec<Event> = refusals.into_iter().map(event).collect();
        // It is refused in any case; if this fails, so is what comes next.
        let _ = self.session.shared.log.append_all(&events).await;
    }
}

pub(super) fn too_long(len: usize, limit: usize) -> Told {
    Told::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("a text of {len} bytes is larger than this proxy plans (limit {limit})"),
    )
    .hint("split it, load values with COPY or pass them as parameters")
}

fn not_text() -> Told {
    Told::error(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        "the statement is not valid UTF-8",
    )
    .hint("set client_encoding to UTF8 and send text in it")
}

pub(super) fn function_call() -> Told {
    Told::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        "the function call message is not served",
    )
    .hint("call the function by SELECT")
}

pub(in crate::session) fn no_grant(dataset: &str, standing: &Standing) -> Told {
    let told = Told::error(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("no grant of yours names the dataset `{dataset}`"),
    );
    match standing.rights.wants_factor(None) {
        true => told.hint(sql::step_up::HINT),
        false => told.hint("ask for a role that does"),
    }
}

pub(super) fn violation(what: String) -> End {
    End::Told(Told::fatal(SqlState::PROTOCOL_VIOLATION, what))
}

/// What cannot be put into a message: a fault of the proxy itself.
pub(in crate::session) fn unsendable() -> End {
    End::Told(Told::fatal(
        SqlState::INTERNAL_ERROR,
        "a message to the upstream database could not be made",
    ))
}
