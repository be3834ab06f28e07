//! The simple protocol: one Query, any number of statements, one decision each
//! and all of them before the first runs.
//!
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SIMPLE-QUERY>

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::io::{AsyncRead, AsyncWrite};

use super::End;
use super::names::{Change, Held, Names, Portal, Prepared};
use super::pipeline::{Assumed, Expect, Run};
use super::requests::{Refused, Requests, Step, Stop, unsendable};
use crate::audit::Id;
use crate::audit::record::Statement;
use crate::error::{SqlState, Told};
use crate::policy::Action;
use crate::sql::{Effect, Plan};
use crate::upstream::frame::frontend::put_query;

/// Names that one session may have at a time.
const NAMES: usize = 10_000;
/// What they may take, in bytes, and what each takes beside its texts.
const BYTES: usize = 64 << 20;
const PREPARED: usize = 512;

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// A Query.
    pub(super) async fn query(&mut self, text: &str) -> Result<(), End> {
        if self.session.pipeline().skipping {
            return Ok(());
        }
        match self.runs(&Arc::from(text)).await {
            Ok((runs, message)) => {
                self.gate().await?;
                self.send(Expect::Query(runs).into(), &message);
                Ok(())
            }
            Err(Stop::Refused(refused)) => self.deny(refused, true).await,
            Err(Stop::End(end)) => Err(end),
        }
    }

    /// What is to run, and the message that is sent for it.
    async fn runs(&mut self, text: &Arc<str>) -> Result<(VecDeque<Run>, Vec<u8>), Stop> {
        let mut steps = self.decide(text, &[]).await?;
        if steps.len() > 1 {
            steps.retain(|step| step.effect != Effect::Empty);
        }
        // Where there are several, one can use the names that another makes.
        let mut names = (steps.len() > 1).then(|| self.session.pipeline().names().clone());
        let mut runs = VecDeque::with_capacity(steps.len());
        let mut comments = Vec::with_capacity(steps.len());
        for (at, step) in steps.iter().enumerate() {
            self.sure_of(&step.effect).await?;
            let mut run = match self.run_of(step, names.as_ref()).await {
                Ok(run) => run,
                Err(Stop::Refused(refused)) => {
                    return Err(Refused::one_of(steps, at, refused).into());
                }
                Err(end) => return Err(end),
            };
            if let Some(names) = &mut names {
                names.apply(&run.change);
            }
            let id = Id::next();
            run.id = Some(id);
            runs.push_back(run);
            comments.push(self.session.tag.once(id));
        }
        let plans = steps.iter().map(|step| &*step.decided.plan);
        let mut message = Vec::new();
        put_query(&mut message, plans.zip(&comments)).map_err(|_| unsendable())?;
        Ok((runs, message))
    }

    /// One execution of a step, with what it does to the names and takes them
    /// to mean.
    pub(super) async fn run_of(&mut self, step: &Step, names: Option<&Names>) -> Result<Run, Stop> {
        let effect = step.effect.clone();
        let change = self.change_of(step);
        if !change.is_none() {
            self.room()?;
        }
        let mut run = Run::new(
            step.decided.statement.clone(),
            effect,
            change,
            self.sight.clone(),
        );
        run.heading = step.decided.plan.heading;
        run.lasting = lasts(&step.decided.plan);
        run.origins = step.decided.plan.origins.clone();
        self.assume(&mut run, names).await?;
        Ok(run)
    }

    /// Refuses a name where there are too many, or they take too much.
    pub(super) fn room(&self) -> Result<(), Refused> {
        let session = self.session;
        if session.pipeline().names().len() >= NAMES {
            return Err(too_many_names().into());
        }
        match session.held.load(Ordering::Relaxed) < BYTES {
            true => Ok(()),
            false => Err(too_many_bytes().into()),
        }
    }

    /// A statement with a name, as it was decided on.
    pub(super) fn prepared(&self, step: Step, types: Option<Vec<u32>>) -> Arc<Prepared> {
        let plan = &step.decided.plan;
        let texts = step.source.len() + plan.text().len() + plan.normalized.len();
        let types_bytes = 4 * types.as_ref().map_or(0, Vec::len);
        Arc::new(Prepared {
            _held: Held::new(&self.session.held, PREPARED + texts + types_bytes),
            basis: self.sight.basis(&step.scope).into(),
            step,
            types,
            described: AtomicBool::new(false),
        })
    }

    /// What EXECUTE and FETCH stand for: it must still be allowed as it is.
    async fn assume(&mut self, run: &mut Run, names: Option<&Names>) -> Result<(), Stop> {
        match &run.effect {
            Effect::Execute(name) => {
                let prepared = self
                    .statement(name, names)
                    .ok_or_else(|| Refused::from(no_statement(name)))?;
                self.unchanged(&prepared).await?;
                run.statement = standing_for(&run.statement, &prepared);
                run.lasting |= lasts(&prepared.step.decided.plan);
                run.origins = prepared.step.decided.plan.origins.clone();
                run.assumed.push(Assumed::Statement(name.clone(), prepared));
            }
            Effect::Fetch(name) => {
                let portal = self
                    .portal(name, names)
                    .ok_or_else(|| Refused::from(no_cursor(name)))?;
                self.unchanged(&portal.prepared).await?;
                run.statement = standing_for(&run.statement, &portal.prepared);
                run.portal = Some(portal.clone());
                run.origins = portal.prepared.step.decided.plan.origins.clone();
                run.assumed.push(Assumed::Portal(name.clone(), portal));
            }
            _ => {}
        }
        Ok(())
    }

    /// What a statement does to the names once it has completed.
    pub(super) fn change_of(&self, step: &Step) -> Change {
        let prepared = || self.prepared(step.clone(), None);
        match &step.effect {
            Effect::Prepare(name) => Change::Prepare(name.clone(), prepared()),
            Effect::Deallocate(Some(name)) => Change::Forget(name.clone()),
            Effect::Deallocate(None) => Change::ForgetAll,
            Effect::Declare(name) => {
                let portal = Portal {
                    prepared: prepared(),
                    rows: AtomicU64::default(),
                    // Only ever too often: what is kept too long fails upstream.
                    hold: step
                        .decided
                        .plan
                        .text()
                        .to_ascii_uppercase()
                        .contains("WITH HOLD"),
                };
                Change::Open(name.clone(), Arc::new(portal))
            }
            Effect::CloseCursor(Some(name)) => Change::Close(name.clone()),
            Effect::CloseCursor(None) => Change::CloseAll,
            Effect::DiscardAll => Change::Discard,
            _ => Change::None,
        }
    }
}

/// The record of a statement that executes another: its own kind and text, the
/// other's relations.
fn standing_for(own: &Arc<Statement>, prepared: &Prepared) -> Arc<Statement> {
    Arc::new(Statement {
        relations: prepared.step.decided.statement.relations.clone(),
        ..Statement::clone(own)
    })
}

/// Whether what a statement does stays when the client has heard of an error: more
/// than the end of its transaction takes back, or than could be told apart.
///
/// A function that policy trusts may write as well; where it does in a SELECT that
/// ends at a limit, that is the function's own matter.
fn lasts(plan: &Plan) -> bool {
    match &plan.effect {
        Effect::Empty | Effect::Begin | Effect::Savepoint(_) | Effect::Fetch(_) => false,
        Effect::None | Effect::Execute(_) => plan.action != Some(Action::Read),
        Effect::Commit
        | Effect::Rollback
        | Effect::RollbackTo(_)
        | Effect::Release(_)
        | Effect::SearchPath { .. }
        | Effect::ApplicationName { .. }
        | Effect::ResetAll
        | Effect::DiscardAll
        | Effect::Prepare(_)
        | Effect::Deallocate(_)
        | Effect::Declare(_)
        | Effect::CloseCursor(_)
        | Effect::CreateTemporary(_)
        | Effect::DropTemporary(_)
        | Effect::Ddl => true,
    }
}

pub(super) fn no_statement(name: &str) -> Told {
    Told::error(
        SqlState::UNDEFINED_STATEMENT,
        match name {
            "" => "unnamed prepared statement does not exist".to_owned(),
            name => format!("prepared statement \"{name}\" does not exist"),
        },
    )
}

fn no_cursor(name: &str) -> Told {
    Told::error(
        SqlState::UNDEFINED_CURSOR,
        format!("cursor \"{name}\" does not exist"),
    )
}

pub(super) fn no_portal(name: &str) -> Told {
    Told::error(
        SqlState::UNDEFINED_CURSOR,
        format!("portal \"{name}\" does not exist"),
    )
}

fn too_many_names() -> Told {
    Told::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!(
            "the session has {NAMES} prepared statements and cursors, the most that are served"
        ),
    )
    .hint("close or DEALLOCATE those that are no longer used")
}

fn too_many_bytes() -> Told {
    Told::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!(
            "the session's prepared statements and cursors take {} MiB, the most that is served",
            BYTES >> 20
        ),
    )
    .hint("close or DEALLOCATE those that are no longer used")
}
