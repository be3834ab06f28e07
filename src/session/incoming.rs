//! The client's bytes, frame by frame.
//!
//! Knows nothing about what a message means. Invariant: no more is held than a
//! message's own bound allows, and memory grows with what has arrived, not with
//! what a header claims.

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt};

/// How much is read at a time.
const CHUNK: usize = 16 << 10;

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

    /// Takes bytes that are here.
    pub(super) fn take(&mut self, len: usize) -> BytesMut {
        self.buffer.split_to(len.min(self.buffer.len()))
    }

    /// Drops bytes that are here.
    pub(super) fn skip(&mut self, len: usize) {
        self.buffer.advance(len.min(self.buffer.len()));
    }
}
