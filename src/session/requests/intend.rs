//! Has what is about to be sent put on record before it is.
//!
//! Knows nothing about where records go. Invariant: no statement is written to
//! upstream before the record that it is about to be has become as durable as is
//! configured. What is gathered is recorded together, just before it is written, so
//! that a pipeline waits for its records once.

use tokio::io::{AsyncRead, AsyncWrite};

use super::Requests;
use super::deny::Refused;
use crate::error::{Severity, Tell, Told};
use crate::session::End;
use crate::session::pipeline::{Entry, Expect, Run};

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Records what was gathered, or refuses it.
    pub(super) async fn promise(&mut self) -> Result<(), End> {
        if self.intents.is_empty() {
            return Ok(());
        }
        let intents = std::mem::take(&mut self.intents);
        match self.session.shared.log.intend(&intents).await {
            Ok(()) => Ok(()),
            Err(error) => Box::pin(self.take_back(error.tell())).await,
        }
    }

    /// Nothing of what was gathered is sent. Where it is one message, or messages up
    /// to one Sync, and nothing else is under way, they are refused as such; who has
    /// sent more ahead could not tell which of it was. And where what was gathered ends
    /// within a message, the rest of that must not follow.
    async fn take_back(&mut self, told: Told) -> Result<(), End> {
        self.out.clear();
        let (unsent, quiet) = {
            let mut pipeline = self.session.pipeline();
            let unsent = pipeline.retract();
            pipeline.unsynced = self.amid;
            (
                unsent,
                !self.amid && !self.streaming && !pipeline.skipping && !pipeline.copying_in,
            )
        };
        let shape = Shape::of(&unsent);
        let runs: Vec<Run> = unsent.into_iter().flat_map(Entry::into_runs).collect();
        let refused = Refused::unrecorded(told, &runs);
        match shape {
            Shape::Query if quiet => self.deny(refused, true).await,
            Shape::Group if quiet => {
                self.deny(refused, false).await?;
                self.sync();
                Ok(())
            }
            Shape::Begun if quiet => self.deny(refused, false).await,
            _ => {
                let mut refused = refused;
                refused.told.severity = Severity::Fatal;
                // It is the session's end, whatever upstream skips.
                self.session.pipeline().skipping = false;
                self.deny(refused, true).await
            }
        }
    }
}

/// What messages are, together.
#[derive(Debug, PartialEq, Eq)]
enum Shape {
    /// One Query.
    Query,
    /// Messages of the extended protocol, then Sync.
    Group,
    /// The same without Sync.
    Begun,
    /// Anything else.
    Several,
}

impl Shape {
    fn of(entries: &[Entry]) -> Self {
        let plain = |entry: &Entry| {
            matches!(
                entry.expect,
                Expect::Parse(_)
                    | Expect::Bind(_)
                    | Expect::Describe(_)
                    | Expect::Execute(_)
                    | Expect::Close
            )
        };
        match entries.split_last() {
            Some((last, [])) if matches!(last.expect, Expect::Query(_)) => Self::Query,
            Some((last, before)) if before.iter().all(plain) => match last.expect {
                Expect::Sync => Self::Group,
                _ if plain(last) => Self::Begun,
                _ => Self::Several,
            },
            _ => Self::Several,
        }
    }
}
