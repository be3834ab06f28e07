//! The client's bytes: read as they are needed, passed on as they arrive.
//!
//! Knows nothing about what a message means. Invariant: what was gathered for
//! upstream is written before anybody waits for the client.

use tokio::io::{AsyncRead, AsyncWrite};

use super::{GATHER, Requests, violation};
use crate::error::{SqlState, Told};
use crate::session::End;
use crate::stage::Stage;
use crate::upstream::frame::bind::Fields;
use crate::upstream::frame::body::Malformed;
use crate::upstream::frame::frontend::tag;

/// What Parse holds beside its SQL text, at most: a name and types of parameters.
const BESIDE: usize = 512 << 10;
/// `PQ_LARGE_MESSAGE_LIMIT` (MaxAllocSize - 1): values and copied data.
const LARGE: usize = 0x3fff_fffe;
/// `PQ_SMALL_MESSAGE_LIMIT`
const SMALL: usize = 10_000;

impl<R, W> Requests<'_, R, W>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
{
    /// Waits for that many bytes of the client's. What was gathered is written
    /// before anybody waits.
    pub(in crate::session) async fn need(&mut self, len: usize) -> Result<(), End> {
        let session = self.session;
        while self.from.here().len() < len {
            self.flush().await?;
            tokio::select! {
                biased;
                read = self.read() => read?,
                () = session.failing.notified() => self.fail_first(&mut session.pipeline()),
            }
        }
        Ok(())
    }

    async fn read(&mut self) -> Result<(), End> {
        let session = self.session;
        loop {
            let drains = *self.stage.borrow_and_update() > Stage::Serving;
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
                Ok(()) = self.stage.changed() => {}
                () = session.progress.notified(), if drains => {}
            }
        }
    }

    pub(super) async fn body(&mut self, len: usize) -> Result<Vec<u8>, End> {
        self.need(len).await?;
        Ok(self.from.take(len).to_vec())
    }

    /// A body with SQL; `None`, and dropped, where it is longer than can be decided on.
    pub(super) async fn text(&mut self, len: usize) -> Result<Option<Vec<u8>>, End> {
        if len > self.session.shared.authority.longest() + BESIDE {
            self.drop_body(len).await?;
            return Ok(None);
        }
        Ok(Some(self.body(len).await?))
    }

    pub(in crate::session) async fn drop_body(&mut self, mut len: usize) -> Result<(), End> {
        while len > 0 {
            self.need(1).await?;
            let here = len.min(self.from.here().len());
            self.from.skip(here);
            len -= here;
        }
        Ok(())
    }

    /// Sends a message as its bytes arrive: `head`, then `len` of the client's.
    pub(in crate::session) async fn stream(
        &mut self,
        tag: u8,
        head: &[u8],
        len: usize,
    ) -> Result<(), End> {
        self.head(tag, head, len);
        let mut left = len;
        while left > 0 {
            left -= self.part(left, |_| Ok(())).await?;
        }
        self.streaming = false;
        Ok(())
    }

    /// The same of a Bind, whose fields are followed.
    pub(in crate::session) async fn stream_bind(
        &mut self,
        names: &[u8],
        len: usize,
    ) -> Result<(), End> {
        self.head(tag::BIND, names, len);
        let mut fields = Fields::default();
        let mut left = len;
        while left > 0 {
            left -= self.part(left, |part| fields.feed(part)).await?;
        }
        self.streaming = false;
        fields.end().map_err(malformed_bind)
    }

    fn head(&mut self, tag: u8, head: &[u8], len: usize) {
        self.streaming = true;
        let whole = u32::try_from(head.len() + len + 4).unwrap_or(u32::MAX);
        self.out.push(tag);
        self.out.extend_from_slice(&whole.to_be_bytes());
        self.out.extend_from_slice(head);
    }

    /// Sends a part of a message that stands the check, of at most that many bytes;
    /// says of how many.
    async fn part(
        &mut self,
        most: usize,
        check: impl FnOnce(&[u8]) -> Result<(), Malformed>,
    ) -> Result<usize, End> {
        if self.from.here().is_empty() {
            self.flush().await?;
            self.read().await?;
        }
        let here = self.from.here();
        let part = here.get(..most).unwrap_or(here);
        check(part).map_err(malformed_bind)?;
        self.out.extend_from_slice(part);
        let sent = part.len();
        self.from.skip(sent);
        if self.out.len() >= GATHER {
            self.flush().await?;
        }
        Ok(sent)
    }
}

pub(in crate::session) fn malformed_bind(malformed: Malformed) -> End {
    violation(format!("{malformed} (`B`)"))
}

/// Bounds of Postgres's own (`SocketBackend`).
pub(super) fn bounded(tag: u8, len: usize) -> Result<(), End> {
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

pub(in crate::session) fn shutting_down() -> Told {
    Told::fatal(SqlState::ADMIN_SHUTDOWN, "the proxy is shutting down")
        .hint("connect again in a moment")
}
