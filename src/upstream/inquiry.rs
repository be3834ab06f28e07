//! The proxy's own questions to Postgres: its catalog reads.
//!
//! Knows nothing about clients. The invariant: what is asked is `&'static str`, text
//! that stands in this program; nothing a client sent can reach this way.

use std::io;

use bytes::BytesMut;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::connect::Upstream;
use super::frame::backend::{self, tag};
use super::frame::body::Malformed;
use super::frame::frontend::{Unencodable, put_copy, put_own_query, put_terminate};
use super::frame::{FrameError, HEADER, Scanner, Step, Tags};
use super::refusal::report;
use super::stream::Stream;

/// A row in text format.
pub(crate) type Row = Vec<Option<String>>;

/// The longest message: a view's definition, say.
const MAX_MESSAGE: usize = 64 << 20;
/// The longest answer, in bytes.
const MAX_ANSWER: usize = 1 << 30;

/// Why a question has no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum InquiryError {
    #[error("the connection broke: {0}")]
    Io(#[from] io::Error),
    #[error(transparent)]
    Frame(#[from] FrameError),
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Unencodable(#[from] Unencodable),
    #[error("postgres refuses with {state}: {message}")]
    Refused { state: String, message: String },
    #[error("an answer of more than {MAX_ANSWER} bytes")]
    TooLong,
    #[error("a message `{}` in an answer", .0.escape_ascii())]
    Unexpected(u8),
}

/// A session that the proxy asks on its own behalf.
pub(crate) struct Inquiry {
    stream: Stream,
    unread: BytesMut,
    scanner: Scanner,
}

impl Inquiry {
    /// Over a session that no client will have.
    pub(crate) fn over(upstream: Upstream) -> Self {
        Self {
            stream: upstream.stream,
            unread: BytesMut::with_capacity(64 << 10),
            scanner: Scanner::new(Tags::ALL, MAX_MESSAGE),
        }
    }

    /// Asks, and gives all rows of the answer.
    ///
    /// # Errors
    /// As [`InquiryError`] says; after `Refused` the session can be asked again.
    pub(crate) async fn fetch(&mut self, sql: &'static str) -> Result<Vec<Row>, InquiryError> {
        let mut out = Vec::new();
        put_own_query(&mut out, sql)?;
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;

        let (mut rows, mut refused, mut read) = (Vec::new(), None, 0);
        loop {
            let (tag, message) = self.message().await?;
            let body = message.get(HEADER..).unwrap_or_default();
            read += message.len();
            if read > MAX_ANSWER {
                return Err(InquiryError::TooLong);
            }
            match tag {
                tag::DATA_ROW => rows.push(backend::row(body)?),
                tag::ERROR_RESPONSE => {
                    let (state, message) = report(body);
                    refused = Some(InquiryError::Refused { state, message });
                }
                tag::READY_FOR_QUERY => return refused.map_or(Ok(rows), Err),
                tag::ROW_DESCRIPTION
                | tag::COMMAND_COMPLETE
                | tag::EMPTY_QUERY_RESPONSE
                | tag::NOTICE_RESPONSE
                | tag::PARAMETER_STATUS => {}
                other => return Err(InquiryError::Unexpected(other)),
            }
        }
    }

    /// Has a `COPY … FROM STDIN` read these bytes: what they say is data, and no SQL.
    ///
    /// # Errors
    /// As [`Inquiry::fetch`].
    pub(crate) async fn load(
        &mut self,
        copy: &'static str,
        data: &[u8],
    ) -> Result<(), InquiryError> {
        let mut out = Vec::with_capacity(data.len() + 1024);
        put_own_query(&mut out, copy)?;
        put_copy(&mut out, data);
        self.stream.write_all(&out).await?;
        self.stream.flush().await?;
        let mut refused = None;
        loop {
            let (tag, message) = self.message().await?;
            match tag {
                tag::ERROR_RESPONSE => {
                    let (state, message) = report(message.get(HEADER..).unwrap_or_default());
                    refused = Some(InquiryError::Refused { state, message });
                }
                tag::READY_FOR_QUERY => return refused.map_or(Ok(()), Err),
                tag::COPY_IN_RESPONSE
                | tag::COMMAND_COMPLETE
                | tag::NOTICE_RESPONSE
                | tag::PARAMETER_STATUS => {}
                other => return Err(InquiryError::Unexpected(other)),
            }
        }
    }

    /// Takes leave, so that Postgres need not log a lost connection.
    pub(crate) async fn close(mut self) {
        let mut out = Vec::new();
        put_terminate(&mut out);
        // Whether it hears that does not matter: the session ends either way.
        let _ = self.stream.write_all(&out).await;
        let _ = self.stream.shutdown().await;
    }

    async fn message(&mut self) -> Result<(u8, BytesMut), InquiryError> {
        loop {
            match self.scanner.next(&self.unread)? {
                Step::Interesting { tag, len } => return Ok((tag, self.unread.split_to(len))),
                // No tag passes unseen here.
                Step::Run { len } => drop(self.unread.split_to(len)),
                Step::Need { more } => {
                    self.unread.reserve(more);
                    if self.stream.read_buf(&mut self.unread).await? == 0 {
                        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                    }
                }
            }
        }
    }
}
