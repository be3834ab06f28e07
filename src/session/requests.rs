//! Client to upstream: reads messages, has them decided on, and sends what may
//! run.
//!
//! Knows nothing about answers beyond what the [`super::pipeline::Pipeline`] says.
//! Invariant: a message is put in the queue in the order in which it is sent.

mod decide;
mod deny;
mod intend;
mod read;
mod wait;

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::watch;

pub(crate) use decide::Step;
pub(super) use decide::Stop;
pub(super) use deny::{Refused, no_grant, unsendable};
pub(super) use read::{malformed_bind, shutting_down};

use super::authority::Sight;
use super::incoming::Incoming;
use super::names::{Names, Portal, Prepared};
use super::pipeline::{DEPTH, Entry, Expect, Run};
use super::{End, Session};
use crate::audit::Event;
use crate::error::Severity;
use crate::sql::Effect;
use crate::stage::Stage;
use crate::upstream::frame::frontend::{
    self, Execute, Named, Parse, put_flush, put_sync, put_terminate, tag,
};
use crate::upstream::frame::{self, HEADER};
use deny::{function_call, too_long, violation};
use read::bounded;
use wait::between_data;

/// What is gathered before it is written, unless the client pauses.
const GATHER: usize = 32 << 10;
/// How long a client that broke the protocol may take to hear of it.
const LAST: Duration = Duration::from_secs(5);

/// One direction of a session.
pub(super) struct Requests<'a, R, W> {
    pub(super) session: &'a Session,
    pub(super) from: Incoming<R>,
    pub(super) to: W,
    pub(super) out: Vec<u8>,
    pub(super) sight: Arc<Sight>,
    pub(super) stage: watch::Receiver<Stage>,
    /// When it last waited until a name could be looked for.
    pub(super) waited: Option<Instant>,
    /// What is to be on record before what was gathered is written.
    pub(super) intents: Vec<Event>,
    /// What was last written ended within a group: its Sync is to come.
    pub(super) amid: bool,
    /// A message goes out as it arrives, and has not all arrived.
    pub(super) streaming: bool,
}

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Runs until one side ends.
    pub(super) async fn run(&mut self) -> End {
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

    fn too_long(&self, len: usize) -> Refused {
        too_long(len, self.session.shared.authority.longest()).into()
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
                return Err(between_data());
            }
            _ => {}
        }
        match tag {
            tag::QUERY => match self.text(len).await? {
                None => self.deny(self.too_long(len), true).await,
                Some(body) => match frontend::query(&body) {
                    Ok(text) => self.query(text).await,
                    Err(malformed) => self.malformed(tag, malformed, true).await,
                },
            },
            tag::PARSE => match self.text(len).await? {
                None => self.deny_parse(self.too_long(len)).await,
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

    pub(super) fn sync(&mut self) {
        let session = self.session;
        let mut pipeline = session.pipeline();
        self.fail_first(&mut pipeline);
        pipeline.skipping = false;
        pipeline.unsynced = false;
        pipeline.push(Expect::Sync.into());
        self.session.canceller.busy.store(true, Ordering::Release);
        drop(pipeline);
        put_sync(&mut self.out);
    }

    /// CopyDone and CopyFail.
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
    /// nothing of it where upstream skips it anyway. Says whether it did.
    pub(super) fn send(&mut self, entry: Entry, message: &[u8]) -> bool {
        let session = self.session;
        let mut pipeline = session.pipeline();
        if pipeline.skipping {
            return false;
        }
        self.fail_first(&mut pipeline);
        pipeline.unsynced = !matches!(entry.expect, Expect::Query(_));
        self.intents.extend(entry.runs().filter_map(Run::intent));
        pipeline.push(entry);
        self.session.canceller.busy.store(true, Ordering::Release);
        drop(pipeline);
        self.out.extend_from_slice(message);
        true
    }

    /// Waits where what a statement executes by its name is not yet certain.
    pub(super) async fn sure_of(&mut self, effect: &Effect) -> Result<(), End> {
        match effect {
            Effect::Execute(name) => self.sure_of_statement(name).await,
            Effect::Fetch(name) => self.sure_of_portal(name).await,
            _ => Ok(()),
        }
    }

    /// Waits where an answer that is not yet in says what a name stands for.
    pub(super) async fn sure_of_statement(&mut self, name: &str) -> Result<(), End> {
        let doubts = self.session.pipeline().doubts_statement(name);
        if doubts {
            self.settle().await?;
        }
        Ok(())
    }

    /// As [`Self::sure_of_statement`].
    pub(super) async fn sure_of_portal(&mut self, name: &str) -> Result<(), End> {
        let doubts = self.session.pipeline().doubts_portal(name);
        if doubts {
            self.settle().await?;
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
