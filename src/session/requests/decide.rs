//! Has each statement decided on, once all is in that it hangs on.
//!
//! Knows nothing about how it is sent. Invariant: none whose meaning hangs on an
//! answer that is not yet in is decided before it is.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::oneshot;

use super::Requests;
use super::deny::{Refused, no_grant};
use crate::audit::Who;
use crate::catalog::Oid;
use crate::error::{SqlState, Tell, Told};
use crate::session::authority::{Decided, Sight};
use crate::session::planning::{STACK, Turn};
use crate::session::settings::SearchPath;
use crate::session::{End, Shared, Tag};
use crate::sql::{self, Denial, Effect, Reason, Scope};

/// How often a session waits for a name that is not found, where the catalog has just
/// been read: whoever asks for what is not there again and again need not be slow.
const PATIENCE: Duration = Duration::from_secs(10);

/// One statement of a message, decided.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What goes upstream, and how the record shows it.
    pub(in crate::session) decided: Decided,
    /// What it does to the session.
    pub(in crate::session) effect: Effect,
    /// The client's text of this one statement.
    pub(in crate::session) source: Arc<str>,
    /// Where its names were looked up.
    pub(in crate::session) scope: Scope,
}

/// Why a message goes no further.
pub(in crate::session) enum Stop {
    /// It is refused.
    Refused(Refused),
    /// The session ends.
    End(End),
}

impl From<Refused> for Stop {
    fn from(refused: Refused) -> Self {
        Self::Refused(refused)
    }
}

impl From<End> for Stop {
    fn from(end: End) -> Self {
        Self::End(end)
    }
}

impl<'a, R, W> Requests<'a, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Decides each statement of a text, once all is in that it hangs on. `types`
    /// are those that the client gives its parameters.
    pub(in crate::session) async fn decide(
        &mut self,
        text: &Arc<str>,
        types: &[Oid],
    ) -> Result<Vec<Step>, Stop> {
        let asked = Instant::now();
        self.prepare().await?;
        let scope = self.session.pipeline().path().effective();
        let (mut told, mut tries) = (self.plan(text, types, &scope).await?, 0);
        // A name may be newer than the catalog.
        while let Err(refused) = &told
            && tries == 0
            && matches!(refused.told.state.0, "42P01" | "42703" | "42704" | "42883")
        {
            tries += 1;
            let seen = self.sight.catalog.epoch;
            let session = self.session;
            self.flush().await?;
            let patient = self.waited.is_none_or(|at| at.elapsed() >= PATIENCE);
            let looked = session.dataset.look(asked, patient, &session.shared.log);
            let waited = tokio::select! {
                waited = looked => waited,
                Err(gone) = self.from.watch() => return Err(gone.into()),
            };
            if waited {
                self.waited = Some(Instant::now());
            }
            self.look()?;
            if self.sight.catalog.epoch == seen {
                break;
            }
            told = self.plan(text, types, &scope).await?;
        }
        Ok(told?)
    }

    /// Waits until nothing in flight can change what the next statement means,
    /// and looks at what may be done now.
    pub(in crate::session) async fn prepare(&mut self) -> Result<(), Stop> {
        let session = self.session;
        if let Err(error) = session.shared.log.ready().await {
            return Err(Refused::from(error.tell()).into());
        }
        if !session.pipeline().is_settled() {
            self.settle().await?;
        }
        if session.dataset.is_old() {
            self.flush().await?;
            let renewed = tokio::select! {
                renewed = session.dataset.renew(&session.shared.log) => renewed,
                Err(gone) = self.from.watch() => return Err(gone.into()),
            };
            renewed.map_err(Refused::from)?;
        }
        self.look()?;
        if self.sight.standing.nothing {
            let told = no_grant(&session.dataset.name, &self.sight.standing);
            return Err(Refused::from(told).into());
        }
        Ok(())
    }

    /// Renews what decisions rest on, where anything of it has changed.
    fn look(&mut self) -> Result<(), Stop> {
        let session = self.session;
        let now = jiff::Timestamp::now();
        let epoch = session.shared.authority.epoch();
        let catalog = session.dataset.catalog();
        let application = session.pipeline().path().claim();
        let old = &self.sight;
        let standing_holds =
            old.epoch == epoch && old.standing.valid_until.is_none_or(|until| now < until);
        let who_holds = old.who.application == application;
        if standing_holds && who_holds && Arc::ptr_eq(&old.catalog, &catalog) {
            return Ok(());
        }
        let standing = match standing_holds {
            true => old.standing.clone(),
            false => {
                let authority = &session.shared.authority;
                let principal = &old.standing.principal;
                let standing = authority.standing(principal, &session.dataset.name, now);
                let standing = standing.map_err(Refused::from)?;
                session.outgrown(&standing.rights).map_err(End::Told)?;
                standing
            }
        };
        let who = match standing_holds && who_holds {
            true => old.who.clone(),
            false => Arc::new(Who {
                principal: (&standing.principal).into(),
                application,
                ..Who::clone(&old.who)
            }),
        };
        self.sight = Arc::new(Sight::new(
            standing,
            catalog,
            session.dataset.view.clone(),
            who,
            epoch,
        ));
        Ok(())
    }

    /// Plans a text, once it is its turn.
    pub(in crate::session) async fn plan(
        &mut self,
        text: &Arc<str>,
        types: &[Oid],
        scope: &Scope,
    ) -> Result<Result<Vec<Step>, Refused>, End> {
        let turn = self.turn(text.len()).await?;
        let session = self.session;
        if turn.is_none() {
            let planner = Planner {
                shared: &session.shared,
                sight: &self.sight,
                tag: &session.tag,
                path: &|| session.pipeline().path().clone(),
            };
            return Ok(planner.planned(text, types, scope));
        }
        let (shared, sight, tag) = (
            session.shared.clone(),
            self.sight.clone(),
            session.tag.clone(),
        );
        let path = session.pipeline().path().clone();
        let (text, types, scope) = (text.clone(), types.to_vec(), scope.clone());
        let plan = move || {
            let planner = Planner {
                shared: &shared,
                sight: &sight,
                tag: &tag,
                path: &|| path.clone(),
            };
            planner.planned(&text, &types, &scope)
        };
        apart(turn, plan).await.ok_or_else(|| {
            End::Told(Told::fatal(
                SqlState::INTERNAL_ERROR,
                "the statement could not be planned: a fault of pgveil",
            ))
        })
    }

    /// Waits until a text of that length may be planned.
    async fn turn(&mut self, length: usize) -> Result<Turn, End> {
        let planning = &self.session.shared.planning;
        if let Some(turn) = planning.now(length) {
            return Ok(turn);
        }
        self.flush().await?;
        tokio::select! {
            biased;
            turn = planning.turn(length) => Ok(turn),
            Err(gone) = self.from.watch() => Err(gone),
        }
    }
}

/// What planning needs of a session, on whatever thread.
struct Planner<'a> {
    shared: &'a Shared,
    sight: &'a Sight,
    tag: &'a Tag,
    path: &'a dyn Fn() -> SearchPath,
}

impl Planner<'_> {
    fn planned(&self, text: &Arc<str>, types: &[Oid], scope: &Scope) -> Result<Vec<Step>, Refused> {
        let authority = &self.shared.authority;
        let whole = authority.decide(text, types, self.sight, scope);
        let one_by_one = match &whole {
            Ok(decided) => {
                decided.len() > 1 && decided.iter().any(|it| carries_on(&it.plan.effect))
            }
            Err(_) => true,
        };
        if !one_by_one {
            let whole = whole?;
            if whole.is_empty() {
                let empty = Decided::from(crate::sql::empty());
                return Ok(vec![self.step(&empty, text, scope)]);
            }
            return Ok(whole
                .iter()
                .map(|decided| self.step(decided, text, scope))
                .collect());
        }
        let sources = authority.statements(text)?;
        if sources.len() < 2 {
            return Err(whole.err().unwrap_or_else(unsplit).into());
        }
        // Each statement in the light of those before it.
        let mut paths = (self.path)();
        let mut outcomes = Vec::with_capacity(sources.len());
        for source in sources {
            let scope = paths.effective();
            match authority.decide(&source, types, self.sight, &scope) {
                Ok(decided) => {
                    for decided in decided.iter() {
                        paths.apply(&decided.plan.effect, decided.plan.kind.as_bytes());
                        outcomes.push(Ok(self.step(decided, &source, &scope)));
                    }
                }
                Err(denial) => outcomes.push(Err(Refused::from(denial))),
            }
        }
        Refused::unless_all(outcomes)
    }

    fn step(&self, decided: &Decided, source: &Arc<str>, scope: &Scope) -> Step {
        let mut step = Step {
            decided: decided.clone(),
            effect: decided.plan.effect.clone(),
            source: source.clone(),
            scope: scope.clone(),
        };
        // What a client calls itself stands behind who it is.
        if let Effect::ApplicationName {
            claim: Some(claim),
            local,
        } = &step.effect
        {
            let name = self.tag.application_name(Some(claim));
            step.decided.plan = sql::set_application_name(&name, *local);
        }
        step
    }
}

/// A text that can take a while has a thread of its own, so that other sessions go on;
/// where there can be no more threads, this one does it. It keeps its turn until it is
/// done, whoever still waits for it. What it leaves to the allocator is the next one's,
/// for the C library gives a new thread the memory of one that has ended. `None` where
/// it panics.
async fn apart<T: Send + 'static>(
    turn: Turn,
    work: impl Fn() -> T + Send + Sync + 'static,
) -> Option<T> {
    let work = Arc::new((turn, work));
    let (done, outcome) = oneshot::channel();
    let own = work.clone();
    let thread = thread::Builder::new().stack_size(STACK);
    let started = thread.spawn(move || {
        let made = (own.1)();
        drop(own);
        // Who asked may be gone.
        let _ = done.send(made);
    });
    match started {
        Ok(_) => {
            drop(work);
            outcome.await.ok()
        }
        Err(_) => Some((work.1)()),
    }
}

/// Whether a later statement of the same message may mean something else, or
/// whether this one's own text will be needed again.
fn carries_on(effect: &Effect) -> bool {
    match effect {
        Effect::None
        | Effect::Empty
        | Effect::Begin
        | Effect::Savepoint(_)
        | Effect::ApplicationName { .. }
        | Effect::Execute(_)
        | Effect::Deallocate(_)
        | Effect::Fetch(_)
        | Effect::CloseCursor(_)
        | Effect::Ddl => false,
        Effect::SearchPath { .. }
        | Effect::CreateTemporary(_)
        | Effect::DropTemporary(_)
        | Effect::ResetAll
        | Effect::DiscardAll
        | Effect::Commit
        | Effect::Rollback
        | Effect::RollbackTo(_)
        | Effect::Release(_)
        | Effect::Prepare(_)
        | Effect::Declare(_) => true,
    }
}

fn unsplit() -> Denial {
    Denial {
        reason: Reason::Unsupported,
        message: "the message could not be split into its statements".into(),
        position: None,
        hint: Some("send them one by one".into()),
        touched: Vec::new(),
        normalized: None,
        kind: None,
    }
}
