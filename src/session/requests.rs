//! Client to upstream: reads messages, has them decided on, and sends what may
//! run.
//!
//! Knows nothing about answers beyond what the [`super::pipeline::Pipeline`] says.
//! Invariant: a
//! message is put in the queue in the order in which it is sent, and none whose
//! meaning hangs on an answer that is not yet in is decided before it is.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt};
use tokio::runtime::RuntimeFlavor;
use tokio::sync::watch;

use super::authority::{Decided, Sight};
use super::incoming::Incoming;
use super::names::{Names, Portal, Prepared};
use super::pipeline::{DEPTH, Entry, Expect};
use super::{End, Session};
use crate::audit::record::{Refusal, What};
use crate::audit::{Event, Who};
use crate::error::{Severity, SqlState, Tell, Told};
use crate::sql::{Denial, Effect, Reason, Scope};
use crate::upstream::frame::body::Malformed;
use crate::upstream::frame::frontend::{
    self, Execute, Named, Parse, put_execute, put_flush, put_sync, put_terminate, tag,
};
use crate::upstream::frame::{self, HEADER};
use crate::wire;

/// The longest SQL text.
pub(super) const SQL: usize = 16 << 20;
/// `PQ_LARGE_MESSAGE_LIMIT` (MaxAllocSize - 1): values and copied data.
const LARGE: usize = 0x3fff_fffe;
/// `PQ_SMALL_MESSAGE_LIMIT`
const SMALL: usize = 10_000;
/// What is gathered before it is written, unless the client pauses.
const GATHER: usize = 32 << 10;
/// How long a client that broke the protocol may take to hear of it.
const LAST: Duration = Duration::from_secs(5);

/// A refusal: what the client hears, and what the record says.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) told: Told,
    refusal: Option<Box<Refusal>>,
}

impl From<Told> for Refused {
    fn from(told: Told) -> Self {
        Self {
            told,
            refusal: None,
        }
    }
}

impl From<Denial> for Refused {
    fn from(denial: Denial) -> Self {
        let told = denial.tell();
        // Postgres's grammar quotes what it stumbles on; a setting's value is
        // a literal. Neither belongs into a record.
        let quotes = matches!(denial.reason, Reason::Syntax | Reason::Setting);
        let refusal = Refusal {
            decision: "deny",
            sqlstate: told.state.0,
            reason: match told.state {
                SqlState::INSUFFICIENT_PRIVILEGE => "policy",
                SqlState::FEATURE_NOT_SUPPORTED => "unsupported",
                SqlState::SYNTAX_ERROR => "syntax",
                SqlState::INVALID_PARAMETER_VALUE => "setting",
                SqlState::STATEMENT_TOO_COMPLEX => "too complex",
                _ => "unknown name",
            },
            message: (!quotes).then(|| denial.message.clone()),
            normalized: denial.normalized,
            relations: denial.touched,
            policy: Default::default(),
        };
        Self {
            told,
            refusal: Some(Box::new(refusal)),
        }
    }
}

/// One statement of a message, decided.
#[derive(Clone, Debug)]
pub(crate) struct Step {
    /// What goes upstream, and how the record shows it.
    pub(super) decided: Decided,
    /// What it does to the session.
    pub(super) effect: Effect,
    /// The client's text of this one statement.
    pub(super) source: Arc<str>,
    /// Where its names were looked up.
    pub(super) scope: Scope,
}

/// One direction of a session.
pub(super) struct Requests<'a, R, W> {
    pub(super) session: &'a Session,
    pub(super) from: Incoming<R>,
    pub(super) to: W,
    pub(super) out: Vec<u8>,
    pub(super) sight: Arc<Sight>,
    pub(super) draining: watch::Receiver<bool>,
}

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Runs until one side ends.
    pub(super) async fn run(mut self) -> End {
        let end = match self.serve().await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        let End::Told(told) = end else {
            return end;
        };
        // The other direction says it when what came before has been answered,
        // for which Postgres may need to be told to send what it has.
        let mut last = told.clone();
        last.severity = Severity::Fatal;
        self.session.pipeline().push(Entry::from(Expect::End(last)));
        self.session.ours.notify_one();
        put_flush(&mut self.out);
        let _ = self.flush().await;
        // A COPY that waits for data is never answered.
        if !self.session.pipeline().copying_in {
            tokio::time::sleep(LAST).await;
        }
        End::Told(told)
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        loop {
            self.need(HEADER).await?;
            let (tag, len) = match frame::header(self.from.here()) {
                Ok(Some(header)) => header,
                Ok(None) => continue,
                Err(error) => return Err(violation(error.to_string())),
            };
            bounded(tag, len)?;
            self.from.skip(HEADER);
            self.message(tag, len).await?;
            if self.out.len() >= GATHER {
                self.flush().await?;
            }
            self.wait(|pipeline| pipeline.len() < DEPTH).await?;
        }
    }

    async fn message(&mut self, tag: u8, len: usize) -> Result<(), End> {
        let copying_in = self.session.pipeline().copying_in;
        match tag {
            tag::COPY_DATA => return self.stream(tag, &[], len).await,
            tag::COPY_DONE | tag::COPY_FAIL => return self.copy_end(tag, len).await,
            // Postgres ignores these while COPY FROM STDIN reads (CopyGetData).
            tag::FLUSH | tag::SYNC if copying_in => return Ok(()),
            tag::TERMINATE => {}
            _ if copying_in => {
                return Err(violation("a message came between COPY's data".into()));
            }
            _ => {}
        }
        match tag {
            tag::QUERY => match self.text(len).await? {
                None => self.deny(too_long().into(), true).await,
                Some(body) => match frontend::query(&body) {
                    Ok(text) => self.query(text).await,
                    Err(malformed) => self.malformed(tag, malformed, true).await,
                },
            },
            tag::PARSE => match self.text(len).await? {
                None => self.deny(too_long().into(), false).await,
                Some(body) => match Parse::of(&body) {
                    Ok(parse) => self.parse(parse).await,
                    Err(malformed) => self.malformed(tag, malformed, false).await,
                },
            },
            tag::BIND => self.bind(len).await,
            tag::DESCRIBE => match Named::of(&self.body(len).await?) {
                Ok(named) => self.describe(named).await,
                Err(malformed) => self.malformed(tag, malformed, false).await,
            },
            tag::EXECUTE => match Execute::of(&self.body(len).await?) {
                Ok(execute) => self.execute(execute).await,
                Err(malformed) => self.malformed(tag, malformed, false).await,
            },
            tag::CLOSE => match Named::of(&self.body(len).await?) {
                Ok(named) => self.close(named).await,
                Err(malformed) => self.malformed(tag, malformed, false).await,
            },
            tag::FLUSH => {
                put_flush(&mut self.out);
                Ok(())
            }
            tag::SYNC => {
                self.sync();
                Ok(())
            }
            tag::FUNCTION_CALL => {
                self.drop_body(len).await?;
                self.deny(function_call().into(), true).await
            }
            tag::TERMINATE => {
                put_terminate(&mut self.out);
                self.session.pipeline().terminated = true;
                self.flush().await?;
                Err(End::Terminated)
            }
            _ => Err(violation(format!(
                "a client cannot send the message `{}` here",
                tag.escape_ascii()
            ))),
        }
    }

    /// Text that is not UTF-8 is a statement's fault; anything else leaves no
    /// doubt that this client does not speak the protocol.
    pub(super) async fn malformed(
        &mut self,
        tag: u8,
        malformed: Malformed,
        whole: bool,
    ) -> Result<(), End> {
        match malformed {
            Malformed::Encoding => self.deny(not_text().into(), whole).await,
            _ => Err(violation(format!("{malformed} (`{}`)", tag.escape_ascii()))),
        }
    }

    fn sync(&mut self) {
        let mut pipeline = self.session.pipeline();
        pipeline.skipping = false;
        pipeline.unsynced = false;
        pipeline.push(Expect::Sync.into());
        self.session.canceller.busy.store(true, Ordering::Release);
        drop(pipeline);
        put_sync(&mut self.out);
    }

    async fn copy_end(&mut self, tag: u8, len: usize) -> Result<(), End> {
        {
            let mut pipeline = self.session.pipeline();
            if !std::mem::take(&mut pipeline.copying_in) && !pipeline.is_empty() {
                pipeline.push(Expect::CopyEnd.into());
            }
        }
        self.stream(tag, &[], len).await
    }

    /// Puts an entry in the queue and its message behind those to be written;
    /// nothing of it where upstream skips it anyway.
    pub(super) fn send(&mut self, entry: Entry, message: &[u8]) {
        let mut pipeline = self.session.pipeline();
        if pipeline.skipping {
            return;
        }
        pipeline.unsynced = !matches!(entry.expect, Expect::Query(_));
        pipeline.push(entry);
        self.session.canceller.busy.store(true, Ordering::Release);
        drop(pipeline);
        self.out.extend_from_slice(message);
    }

    /// Refuses a message in its place. `whole`: it is answered by
    /// ReadyForQuery, as Query is; otherwise Sync will be.
    ///
    /// Where upstream is doing nothing, we answer. Otherwise upstream gets a
    /// message that fails in the place of this one, and its error is replaced:
    /// so what the failure does to the transaction and to what follows is
    /// Postgres's own doing.
    pub(super) async fn deny(&mut self, refused: Refused, whole: bool) -> Result<(), End> {
        let Refused { told, refusal } = refused;
        if self.session.pipeline().skipping {
            return Ok(());
        }
        let refusal = refusal.unwrap_or_else(|| {
            Box::new(Refusal {
                decision: "deny",
                sqlstate: told.state.0,
                reason: "protocol",
                message: Some(told.message.to_string()),
                normalized: None,
                relations: Vec::new(),
                policy: Default::default(),
            })
        });
        self.note(*refusal).await;
        if told.severity == Severity::Fatal {
            return Err(End::Told(told));
        }
        if whole && self.session.pipeline().unsynced {
            // Only upstream knows whether it would skip this message.
            self.settle().await?;
        }
        let mut pipeline = self.session.pipeline();
        if pipeline.skipping {
            return Ok(());
        }
        if pipeline.is_quiescent() {
            let mut bytes = Vec::new();
            told.encode(&mut bytes);
            if whole {
                let ready = wire::ReadyForQuery::new(wire::TransactionStatus::Idle);
                wire::put(&mut bytes, &ready);
            }
            pipeline.skipping = !whole;
            pipeline.push(Expect::Local(bytes).into());
            drop(pipeline);
            self.session.ours.notify_one();
            return Ok(());
        }
        pipeline.push(Expect::Denied(told).into());
        pipeline.unsynced = !whole;
        if whole {
            pipeline.push(Expect::Sync.into());
        }
        self.session.canceller.busy.store(true, Ordering::Release);
        drop(pipeline);
        let ghost = Execute {
            portal: &self.session.ghost,
            max_rows: 0,
        };
        // Its name is ours and has no NUL.
        put_execute(&mut self.out, ghost).map_err(|_| unsendable())?;
        if whole {
            put_sync(&mut self.out);
        }
        Ok(())
    }

    async fn note(&self, refusal: Refusal) {
        let refusal = Refusal {
            policy: self.sight.standing.policy.clone(),
            ..refusal
        };
        tracing::info!(
            session = %self.sight.who.session, principal = %self.sight.who.principal.name,
            sqlstate = refusal.sqlstate, reason = refusal.reason, "refused"
        );
        let what = What::Denial(Box::new(refusal));
        // It is refused in any case; if this fails, so is what comes next.
        let _ = self
            .session
            .shared
            .log
            .append(&Event::now(Some(self.sight.who.clone()), what))
            .await;
    }

    /// Decides each statement of a text, once all is in that it hangs on.
    pub(super) async fn decide(&mut self, text: &Arc<str>) -> Result<Vec<Step>, Stop> {
        self.prepare().await?;
        let scope = self.session.pipeline().path().effective();
        let (mut told, mut tries) = (self.plan(text, &scope), 0);
        // A name may be newer than the catalog.
        while let Err(denial) = &told
            && tries == 0
            && matches!(denial.tell().state.0, "42P01" | "42883")
        {
            tries += 1;
            let seen = self.sight.catalog.epoch;
            let session = self.session;
            self.flush().await?;
            session
                .dataset
                .refresh(seen, None, &session.shared.log)
                .await;
            self.look()?;
            if self.sight.catalog.epoch == seen {
                break;
            }
            told = self.plan(text, &scope);
        }
        Ok(told.map_err(Refused::from)?)
    }

    /// Waits until nothing in flight can change what the next statement means,
    /// and looks at what may be done now.
    pub(super) async fn prepare(&mut self) -> Result<(), Stop> {
        let session = self.session;
        if let Err(error) = session.shared.log.ready().await {
            return Err(Refused::from(error.tell()).into());
        }
        if !session.pipeline().is_settled() {
            self.settle().await?;
        }
        let stale = session.pipeline().stale_catalog.take();
        if stale.is_some() {
            self.flush().await?;
            session.dataset.refresh(0, stale, &session.shared.log).await;
        }
        self.look()?;
        if self.sight.standing.nothing {
            return Err(Refused::from(no_grant(&session.dataset.name)).into());
        }
        Ok(())
    }

    /// Renews what decisions rest on, where anything of it has changed.
    fn look(&mut self) -> Result<(), Refused> {
        let session = self.session;
        let now = jiff::Timestamp::now();
        let epoch = session.shared.authority.epoch();
        let catalog = session.dataset.catalog();
        let application = session.pipeline().application.clone();
        let old = &self.sight;
        let standing_holds =
            old.epoch == epoch && old.standing.valid_until.is_none_or(|until| now < until);
        let who_holds = old.who.application == application;
        if standing_holds && who_holds && Arc::ptr_eq(&old.catalog, &catalog) {
            return Ok(());
        }
        let standing = match standing_holds {
            true => old.standing.clone(),
            false => session.shared.authority.standing(
                &old.standing.principal,
                &session.dataset.name,
                now,
            )?,
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
            session.dataset.name.clone(),
            who,
            epoch,
        ));
        Ok(())
    }

    pub(super) fn plan(&self, text: &Arc<str>, scope: &Scope) -> Result<Vec<Step>, Denial> {
        apart(text.len(), || self.planned(text, scope))
    }

    fn planned(&self, text: &Arc<str>, scope: &Scope) -> Result<Vec<Step>, Denial> {
        let authority = &self.session.shared.authority;
        let whole = authority.decide(text, &self.sight, scope);
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
            return Err(whole.err().unwrap_or_else(unsplit));
        }
        // Each statement in the light of those before it.
        let mut paths = self.session.pipeline().path().clone();
        let mut steps = Vec::with_capacity(sources.len());
        for source in sources {
            let scope = paths.effective();
            for decided in authority.decide(&source, &self.sight, &scope)?.iter() {
                paths.apply(&decided.plan.effect, decided.plan.kind.as_bytes());
                steps.push(self.step(decided, &source, &scope));
            }
        }
        Ok(steps)
    }

    fn step(&self, decided: &Decided, source: &Arc<str>, scope: &Scope) -> Step {
        let mut step = Step {
            decided: decided.clone(),
            effect: decided.plan.effect.clone(),
            source: source.clone(),
            scope: scope.clone(),
        };
        // What a client calls itself stands behind who it is.
        if let Effect::ApplicationName(Some(claim)) = &step.effect {
            let name = self.session.tag.application_name(Some(claim));
            step.decided.plan = self.session.shared.authority.application_name(&name);
        }
        step
    }

    /// Waits until everything sent has been answered.
    pub(super) async fn settle(&mut self) -> Result<(), End> {
        if self.session.pipeline().unsynced {
            put_flush(&mut self.out);
        }
        self.flush().await?;
        self.wait(|pipeline| pipeline.is_empty()).await
    }

    /// Waits until upstream has been asked to cancel, so that it does not hit
    /// what is sent next.
    pub(super) async fn gate(&mut self) -> Result<(), End> {
        let session = self.session;
        if session.cancelling.load(Ordering::Acquire) {
            self.flush().await?;
            while session.cancelling.load(Ordering::Acquire) {
                session.progress.notified().await;
            }
        }
        Ok(())
    }

    async fn wait(
        &mut self,
        until: impl Fn(&super::pipeline::Pipeline) -> bool,
    ) -> Result<(), End> {
        if until(&self.session.pipeline()) {
            return Ok(());
        }
        if self.session.pipeline().unsynced {
            put_flush(&mut self.out);
        }
        self.flush().await?;
        while !until(&self.session.pipeline()) {
            self.session.progress.notified().await;
        }
        Ok(())
    }

    pub(super) async fn flush(&mut self) -> Result<(), End> {
        let upstream = |error| End::Upstream(Some(error));
        if !self.out.is_empty() {
            self.to.write_all(&self.out).await.map_err(upstream)?;
            self.out.clear();
            self.out.shrink_to(GATHER);
            self.to.flush().await.map_err(upstream)?;
        }
        Ok(())
    }

    /// Waits for that many bytes of the client's. What was gathered is written
    /// before anybody waits.
    pub(super) async fn need(&mut self, len: usize) -> Result<(), End> {
        while self.from.here().len() < len {
            self.flush().await?;
            self.read().await?;
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), End> {
        let session = self.session;
        loop {
            let drains = *self.draining.borrow_and_update();
            if drains && self.from.here().is_empty() && session.pipeline().is_quiescent() {
                return Err(End::Told(shutting_down()));
            }
            tokio::select! {
                read = self.from.read() => {
                    return match read.map_err(End::client)? {
                        true => Ok(()),
                        false => Err(End::Client(None)),
                    };
                }
                // Without a sender there is nothing to wait for.
                Ok(()) = self.draining.changed() => {}
                () = session.progress.notified(), if drains => {}
            }
        }
    }

    async fn body(&mut self, len: usize) -> Result<Vec<u8>, End> {
        self.need(len).await?;
        Ok(self.from.take(len).to_vec())
    }

    /// A body with SQL; `None`, and dropped, where it is longer than is served.
    async fn text(&mut self, len: usize) -> Result<Option<Vec<u8>>, End> {
        if len > SQL {
            self.drop_body(len).await?;
            return Ok(None);
        }
        Ok(Some(self.body(len).await?))
    }

    pub(super) async fn drop_body(&mut self, mut len: usize) -> Result<(), End> {
        while len > 0 {
            self.need(1).await?;
            let here = len.min(self.from.here().len());
            self.from.skip(here);
            len -= here;
        }
        Ok(())
    }

    /// Sends a message as its bytes arrive: `head`, then `len` of the client's.
    pub(super) async fn stream(&mut self, tag: u8, head: &[u8], len: usize) -> Result<(), End> {
        let whole = u32::try_from(head.len() + len + 4).unwrap_or(u32::MAX);
        self.out.push(tag);
        self.out.extend_from_slice(&whole.to_be_bytes());
        self.out.extend_from_slice(head);
        let mut left = len;
        while left > 0 {
            if self.from.here().is_empty() {
                self.flush().await?;
                self.read().await?;
            }
            let part = self.from.take(left);
            left -= part.len();
            self.out.extend_from_slice(&part);
            if self.out.len() >= GATHER {
                self.flush().await?;
            }
        }
        Ok(())
    }

    /// What a name stands for: among `names`, where the statements of a message
    /// have changed them, or else as the session will have them.
    pub(super) fn statement(&self, name: &str, names: Option<&Names>) -> Option<Arc<Prepared>> {
        match names {
            Some(names) => names.statement(name).cloned(),
            None => self.session.pipeline().names().statement(name).cloned(),
        }
    }

    /// As [`Self::statement`].
    pub(super) fn portal(&self, name: &str, names: Option<&Names>) -> Option<Arc<Portal>> {
        match names {
            Some(names) => names.portal(name).cloned(),
            None => self.session.pipeline().names().portal(name).cloned(),
        }
    }
}

/// A text this long can take a while to plan: other sessions' tasks are moved off
/// the thread first.
const LONG: usize = 8 << 10;

fn apart<T>(length: usize, work: impl FnOnce() -> T) -> T {
    let flavor = tokio::runtime::Handle::try_current().map(|handle| handle.runtime_flavor());
    match flavor {
        Ok(RuntimeFlavor::MultiThread) if length > LONG => tokio::task::block_in_place(work),
        _ => work(),
    }
}

/// Why a message goes no further.
pub(super) enum Stop {
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

/// Whether a later statement of the same message may mean something else, or
/// whether this one's own text will be needed again.
fn carries_on(effect: &Effect) -> bool {
    match effect {
        Effect::None
        | Effect::Empty
        | Effect::Begin
        | Effect::Savepoint(_)
        | Effect::ApplicationName(_)
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

/// Bounds of Postgres's own (`SocketBackend`).
fn bounded(tag: u8, len: usize) -> Result<(), End> {
    let bound = match tag {
        b'Q' | b'P' | b'B' | b'F' | b'd' => LARGE,
        b'S' | b'H' | b'c' | b'X' => 0,
        _ => SMALL,
    };
    match len <= bound {
        true => Ok(()),
        false => Err(violation(format!(
            "a message `{}` cannot have {len} bytes",
            tag.escape_ascii()
        ))),
    }
}

pub(super) fn violation(what: String) -> End {
    End::Told(Told::fatal(SqlState::PROTOCOL_VIOLATION, what))
}

/// What cannot be put into a message: a fault of the proxy itself.
pub(super) fn unsendable() -> End {
    End::Told(Told::fatal(
        SqlState::INTERNAL_ERROR,
        "a message to the upstream database could not be made",
    ))
}

fn too_long() -> Told {
    Told::error(
        SqlState::PROGRAM_LIMIT_EXCEEDED,
        format!("the statement is longer than {} MiB", SQL >> 20),
    )
    .hint("pass long values as parameters, or by COPY")
}

pub(super) fn not_text() -> Told {
    Told::error(
        SqlState::CHARACTER_NOT_IN_REPERTOIRE,
        "the statement is not valid UTF-8",
    )
    .hint("set client_encoding to UTF8 and send text in it")
}

fn function_call() -> Told {
    Told::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        "the function call message is not served",
    )
    .hint("call the function by SELECT")
}

fn unsplit() -> Denial {
    Denial {
        reason: Reason::Unsupported,
        message: "the message could not be split into its statements".into(),
        position: None,
        hint: Some("send them one by one".into()),
        touched: Vec::new(),
        normalized: None,
    }
}

pub(super) fn no_grant(dataset: &str) -> Told {
    Told::error(
        SqlState::INSUFFICIENT_PRIVILEGE,
        format!("no grant of yours names the dataset `{dataset}`"),
    )
    .hint("ask for a role that does")
}

fn shutting_down() -> Told {
    Told::fatal(SqlState::ADMIN_SHUTDOWN, "the proxy is shutting down")
        .hint("connect again in a moment")
}
