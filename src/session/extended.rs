//! The extended protocol: Parse, Bind, Describe, Execute, Close.
//!
//! A statement is decided on at Parse. Whatever uses it later decides anew if
//! rights, catalog or search_path have changed since; a Bind whose statement
//! would now be sent otherwise has it parsed again, unseen by the client.
//!
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-EXT-QUERY>

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};

use super::End;
use super::names::{Change, NAME, Portal, Prepared};
use super::pipeline::{Assumed, Entry, Expect, Run};
use super::requests::{Refused, Requests, Step, Stop, malformed_bind, unsendable};
use super::simple::{no_portal, no_statement};
use crate::audit::Id;
use crate::error::{SqlState, Told};
use crate::sql::Effect;
use crate::upstream::frame::bind::Fields;
use crate::upstream::frame::body::Malformed;
use crate::upstream::frame::frontend::{
    Bind, Execute, Named, Parse, put_close, put_describe, put_execute, put_parse, tag,
};

/// Messages to be sent: what is expected for each, and all their bytes.
#[derive(Default)]
struct Messages {
    entries: Vec<Entry>,
    bytes: Vec<u8>,
}

/// Whether a statement would still be sent as it was.
enum Fresh {
    /// It would.
    Same,
    /// It would be sent like this.
    Differs(Box<Step>),
}

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Parse.
    pub(super) async fn parse(&mut self, parse: Parse<'_>) -> Result<(), End> {
        if self.session.pipeline().skipping {
            return Ok(());
        }
        match self.parsed(parse).await {
            Err(Stop::Refused(refused)) => self.deny_parse(refused).await,
            parsed => self.send_or_deny(parsed).await,
        }
    }

    async fn parsed(&mut self, parse: Parse<'_>) -> Result<Messages, Stop> {
        let name = checked(parse.name)?;
        let steps = self.decide(&Arc::from(parse.query), &parse.types).await?;
        let [step] =
            <[Step; 1]>::try_from(steps).map_err(|steps| Refused::together(several(), &steps))?;
        self.room()?;
        self.gate().await?;
        let mut messages = Messages::default();
        self.put_parse(&mut messages, &name, step, parse.types)?;
        Ok(messages)
    }

    /// A Parse of a statement that was decided on.
    fn put_parse(
        &self,
        messages: &mut Messages,
        name: &Arc<str>,
        step: Step,
        types: Vec<u32>,
    ) -> Result<Arc<Prepared>, End> {
        let comment = self.session.tag.lasting();
        put_parse(
            &mut messages.bytes,
            name,
            &step.decided.plan,
            comment,
            &types,
        )
        .map_err(|_| unsendable())?;
        let prepared = self.prepared(step, Some(types));
        let run = self.looking_at(&prepared);
        let entry = Entry::from(Expect::Parse(Box::new(run)))
            .changing(Change::Prepare(name.clone(), prepared.clone()));
        messages.entries.push(entry);
        Ok(prepared)
    }

    /// Bind: its names; the values pass as they arrive.
    pub(super) async fn bind(&mut self, len: usize) -> Result<(), End> {
        // Names that are served end within this.
        let head = len.min(2 * (NAME + 1));
        self.need(head).await?;
        if self.session.pipeline().skipping {
            return self.drop_body(len).await;
        }
        let head = self.from.here().get(..head).unwrap_or_default().to_vec();
        let (bound, names) = match Bind::of(&head) {
            Ok(bind) => (self.bound(bind).await, head.len() - bind.rest.len()),
            Err(Malformed::Unterminated) if head.len() < len => {
                (Err(Refused::from(long_name()).into()), 0)
            }
            Err(malformed) => {
                self.drop_body(len).await?;
                return self.malformed(tag::BIND, malformed, false).await;
            }
        };
        match bound {
            Ok(messages) => {
                // One that is here is checked before anything of it is sent.
                let whole = self.from.here().get(names..len).map(Fields::follow);
                if let Some(Err(malformed)) = whole {
                    return Err(malformed_bind(malformed));
                }
                if !self.send_all(messages) {
                    return self.drop_body(len).await;
                }
                self.from.skip(names);
                let names = head.get(..names).unwrap_or_default();
                let len = len - names.len();
                match whole {
                    Some(_) => self.stream(tag::BIND, names, len).await,
                    None => self.stream_bind(names, len).await,
                }
            }
            Err(Stop::Refused(refused)) => {
                self.drop_body(len).await?;
                self.deny(refused, false).await
            }
            Err(Stop::End(end)) => Err(end),
        }
    }

    async fn bound(&mut self, bind: Bind<'_>) -> Result<Messages, Stop> {
        let (portal, statement) = (checked(bind.portal)?, checked(bind.statement)?);
        self.sure_of_statement(&statement).await?;
        self.prepare().await?;
        self.room()?;
        self.gate().await?;
        let mut messages = Messages::default();
        let prepared = self.renewed(&mut messages, &statement).await?;
        let mut run = self.looking_at(&prepared);
        run.assumed
            .push(Assumed::Statement(statement, prepared.clone()));
        let opened = Portal {
            prepared,
            rows: AtomicU64::default(),
            hold: false,
        };
        let entry = Entry::from(Expect::Bind(Box::new(run)))
            .changing(Change::Open(portal, Arc::new(opened)));
        messages.entries.push(entry);
        Ok(messages)
    }

    /// A prepared statement as it may be used now; where upstream has it
    /// otherwise, after messages that prepare it anew.
    async fn renewed(
        &mut self,
        messages: &mut Messages,
        name: &Arc<str>,
    ) -> Result<Arc<Prepared>, Stop> {
        let prepared = self
            .statement(name, None)
            .ok_or_else(|| Refused::from(no_statement(name)))?;
        self.sure_of(&prepared.step.effect).await?;
        self.inner(&prepared).await?;
        let (step, types) = match (self.fresh(&prepared).await?, &prepared.types) {
            (Fresh::Same, _) => return Ok(prepared),
            (Fresh::Differs(_), None) => return Err(Refused::from(prepare_again()).into()),
            (Fresh::Differs(step), Some(types)) => (step, types.clone()),
        };
        put_close(&mut messages.bytes, Named::Statement(name)).map_err(|_| unsendable())?;
        let close = Entry::from(Expect::Close).changing(Change::Forget(name.clone()));
        messages.entries.push(close);
        let renewed = self.put_parse(messages, name, *step, types)?;
        for entry in &mut messages.entries {
            entry.hidden = true;
        }
        Ok(renewed)
    }

    /// Describe.
    pub(super) async fn describe(&mut self, named: Named<'_>) -> Result<(), End> {
        if self.session.pipeline().skipping {
            return Ok(());
        }
        let described = self.described(named).await;
        self.send_or_deny(described).await
    }

    async fn described(&mut self, named: Named<'_>) -> Result<Messages, Stop> {
        match named {
            Named::Statement(name) => self.sure_of_statement(name).await?,
            Named::Portal(name) => self.sure_of_portal(name).await?,
        }
        self.prepare().await?;
        self.gate().await?;
        let mut messages = Messages::default();
        let run = match named {
            Named::Statement(name) => {
                let name = checked(name)?;
                let prepared = self.renewed(&mut messages, &name).await?;
                let mut run = self.describing(&prepared);
                run.assumed.push(Assumed::Statement(name, prepared));
                run
            }
            Named::Portal(name) => {
                let name = checked(name)?;
                let portal = self
                    .portal(&name, None)
                    .ok_or_else(|| Refused::from(no_portal(&name)))?;
                self.unchanged(&portal.prepared).await?;
                let mut run = self.describing(&portal.prepared);
                run.assumed.push(Assumed::Portal(name, portal));
                run
            }
        };
        messages
            .entries
            .push(Expect::Describe(Box::new(run)).into());
        put_describe(&mut messages.bytes, named).map_err(|_| unsendable())?;
        Ok(messages)
    }

    /// Execute.
    pub(super) async fn execute(&mut self, execute: Execute<'_>) -> Result<(), End> {
        if self.session.pipeline().skipping {
            return Ok(());
        }
        let executed = self.executed(execute).await;
        self.send_or_deny(executed).await
    }

    async fn executed(&mut self, execute: Execute<'_>) -> Result<Messages, Stop> {
        let name = checked(execute.portal)?;
        self.sure_of_portal(&name).await?;
        self.prepare().await?;
        let portal = self
            .portal(&name, None)
            .ok_or_else(|| Refused::from(no_portal(&name)))?;
        self.sure_of(&portal.prepared.step.effect).await?;
        self.gate().await?;
        self.unchanged(&portal.prepared).await?;
        let mut messages = Messages::default();
        if !portal.prepared.described.load(Ordering::Relaxed) {
            self.put_describe(&mut messages, &name, &portal)?;
        }
        let mut run = self.run_of(&portal.prepared.step, None).await?;
        run.id = Some(Id::next());
        // A FETCH counts with the cursor that it fetches from.
        run.portal.get_or_insert_with(|| portal.clone());
        run.assumed.push(Assumed::Portal(name, portal));
        messages.entries.push(Expect::Execute(Box::new(run)).into());
        put_execute(&mut messages.bytes, execute).map_err(|_| unsendable())?;
        Ok(messages)
    }

    /// A Describe that the client did not ask for, so that no result passes that
    /// the tripwire has not seen.
    fn put_describe(
        &self,
        messages: &mut Messages,
        name: &Arc<str>,
        portal: &Arc<Portal>,
    ) -> Result<(), End> {
        let mut run = self.describing(&portal.prepared);
        run.assumed
            .push(Assumed::Portal(name.clone(), portal.clone()));
        let mut entry = Entry::from(Expect::Describe(Box::new(run)));
        entry.hidden = true;
        messages.entries.push(entry);
        put_describe(&mut messages.bytes, Named::Portal(name)).map_err(|_| unsendable())
    }

    /// Close: never a matter of rights.
    pub(super) async fn close(&mut self, named: Named<'_>) -> Result<(), End> {
        self.gate().await?;
        let change = match named {
            Named::Statement(name) => checked(name).map(Change::Forget),
            Named::Portal(name) => checked(name).map(Change::Close),
        };
        let closed = change.map_err(Stop::from).and_then(|change| {
            let mut messages = Messages::default();
            put_close(&mut messages.bytes, named).map_err(|_| unsendable())?;
            let entry = Entry::from(Expect::Close).changing(change);
            messages.entries.push(entry);
            Ok(messages)
        });
        self.send_or_deny(closed).await
    }

    async fn send_or_deny(&mut self, messages: Result<Messages, Stop>) -> Result<(), End> {
        match messages {
            Ok(messages) => {
                self.send_all(messages);
                Ok(())
            }
            Err(Stop::Refused(refused)) => self.deny(refused, false).await,
            Err(Stop::End(end)) => Err(end),
        }
    }

    /// All of them or, where upstream skips what comes, none: nothing can come
    /// in between. Says which.
    fn send_all(&mut self, messages: Messages) -> bool {
        let mut bytes = messages.bytes.as_slice();
        messages
            .entries
            .into_iter()
            .all(|entry| self.send(entry, std::mem::take(&mut bytes)))
    }

    /// A run whose answer is the description of a result. Where it fails, so do the
    /// executions that are sent behind it.
    fn describing(&self, prepared: &Arc<Prepared>) -> Run {
        prepared.described.store(true, Ordering::Relaxed);
        Run {
            described: Some(prepared.clone()),
            ..self.looking_at(prepared)
        }
    }

    /// A run that is recorded only if it fails.
    fn looking_at(&self, prepared: &Prepared) -> Run {
        let mut run = Run::new(
            prepared.step.decided.statement.clone(),
            Effect::None,
            Change::None,
            self.sight.clone(),
        );
        let inner = self.executed_by(prepared);
        let step = inner.as_deref().map_or(&prepared.step, |inner| &inner.step);
        run.origins = step.decided.plan.origins.clone();
        run
    }

    /// Whether a statement would still be sent as it was.
    async fn fresh(&mut self, prepared: &Prepared) -> Result<Fresh, Stop> {
        let scope = self.session.pipeline().path().effective();
        let now = self.sight.basis(&scope);
        let basis = || {
            let held = prepared.basis.lock();
            held.unwrap_or_else(PoisonError::into_inner)
        };
        if *basis() == now {
            return Ok(Fresh::Same);
        }
        let types = prepared.types.as_deref().unwrap_or_default();
        let steps = self.plan(&prepared.step.source, types, &scope).await??;
        let Ok([step]) = <[Step; 1]>::try_from(steps) else {
            return Err(Refused::from(several()).into());
        };
        if step.decided.plan.text() == prepared.step.decided.plan.text() {
            *basis() = now;
            return Ok(Fresh::Same);
        }
        Ok(Fresh::Differs(Box::new(step)))
    }

    /// Refuses what would no longer be sent as it was and cannot be sent anew.
    pub(super) async fn unchanged(&mut self, prepared: &Prepared) -> Result<(), Stop> {
        match self.fresh(prepared).await? {
            Fresh::Same => Ok(()),
            Fresh::Differs(_) => Err(Refused::from(prepare_again()).into()),
        }
    }

    /// What a statement executes by its name must still be allowed as well.
    async fn inner(&mut self, prepared: &Prepared) -> Result<(), Stop> {
        match self.executed_by(prepared) {
            Some(inner) => self.unchanged(&inner).await,
            None => Ok(()),
        }
    }

    /// What a statement executes by its name.
    fn executed_by(&self, prepared: &Prepared) -> Option<Arc<Prepared>> {
        match &prepared.step.effect {
            Effect::Execute(name) => self.statement(name, None),
            Effect::Fetch(name) => self
                .portal(name, None)
                .map(|portal| portal.prepared.clone()),
            _ => None,
        }
    }
}

/// A name that Postgres keeps as it is.
fn checked(name: &str) -> Result<Arc<str>, Refused> {
    match name.len() <= NAME {
        true => Ok(name.into()),
        false => Err(long_name().into()),
    }
}

fn long_name() -> Told {
    Told::error(
        SqlState::FEATURE_NOT_SUPPORTED,
        format!("names of prepared statements and portals have at most {NAME} bytes"),
    )
    .hint("Postgres would cut a longer one; give it a shorter name")
}

fn several() -> Told {
    Told::error(
        SqlState::SYNTAX_ERROR,
        "cannot insert multiple commands into a prepared statement",
    )
}

fn prepare_again() -> Told {
    Told::error(
        SqlState::INSUFFICIENT_PRIVILEGE,
        "what you may see, or where names are looked up, has changed since this was prepared",
    )
    .hint("prepare, bind or declare it again")
}
