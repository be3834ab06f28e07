//! The client's bytes, frame by frame.
//!
//! Knows nothing about what a message means. Invariant: no more is held than a
//! message's own bound allows, and memory grows with what has arrived, not with
//! what a header claims.

use std::convert::Infallible;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

use super::End;
use crate::upstream::frame::frontend::TERMINATE;

/// How much is read at a time.
const CHUNK: usize = 16 << 10;
/// How far ahead is read while something else is waited for.
const AHEAD: usize = 64 << 10;

/// What the client has sent and is not yet dealt with.
pub(super) struct Incoming<R> {
    from: R,
    buffer: BytesMut,
}

impl<R: AsyncRead + Unpin> Incoming<R> {
    pub(super) fn new(from: R) -> Self {
        Self {
            from,
            buffer: BytesMut::new(),
        }
    }

    /// What is here already.
    pub(super) fn here(&self) -> &[u8] {
        &self.buffer
    }

    /// Reads once; `false` at the end of the stream. Safe to cancel.
    pub(super) async fn read(&mut self) -> std::io::Result<bool> {
        self.buffer.reserve(CHUNK);
        Ok(self.from.read_buf(&mut self.buffer).await? > 0)
    }

    /// Reads ahead, so that a client that goes is noticed while something else is
    /// waited for; ends only then. Safe to cancel.
    ///
    /// A client that has said Terminate has not gone: what it sent is finished.
    /// (Bytes of something else that look the same are noticed later.)
    pub(super) async fn watch(&mut self) -> Result<Infallible, End> {
        loop {
            if self.buffer.len() >= AHEAD {
                return std::future::pending().await;
            }
            let gone = match self.read().await {
                Ok(true) => continue,
                Ok(false) => End::Client(None),
                Err(error) => End::client(error),
            };
            if !self.buffer.ends_with(&TERMINATE) {
                return Err(gone);
            }
            return std::future::pending().await;
        }
    }

    /// What else is sent is read and dropped, up to a bound: until the client
    /// closes as well.
    pub(super) async fn drain(&mut self, mut bound: usize) -> std::io::Result<()> {
        self.buffer.clear();
        while bound > 0 && self.read().await? {
            bound = bound.saturating_sub(self.buffer.len());
            self.buffer.clear();
        }
        Ok(())
    }

    /// Takes bytes that are here.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        self.buffer.split_to(len.min(self.buffer.len()))
    }

    /// Drops bytes that are here.
    pub(super) fn skip(&mut self, len: usize) {
        self.buffer.advance(len.min(self.buffer.len()));
    }
}
