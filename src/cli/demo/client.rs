//! A client of the simple query protocol, as small as the demo needs: it speaks
//! to Postgres to load the dataset and to the proxy to show what a caller sees.
//!
//! Knows nothing about the proxy: what it reads is what came over the wire.
//!
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html>

use std::collections::BTreeMap;

use postgres_protocol::authentication::sasl::{ChannelBinding, SCRAM_SHA_256, ScramSha256};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Version 3.0 in a startup packet.
const PROTOCOL: i32 = 196_608;

/// A stream to a server.
pub(super) trait Socket: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Socket for T {}

/// A session.
pub(super) struct Client {
    stream: Box<dyn Socket>,
}

/// Who connects, and to what.
pub(super) struct Login<'a> {
    /// The user's name
    pub(super) user: &'a str,
    /// Empty where the server trusts the socket
    pub(super) password: &'a str,
    /// The database or dataset
    pub(super) database: &'a str,
    /// What the client calls itself
    pub(super) application: &'a str,
}

/// What a statement returned.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// The names of the columns
    pub(super) columns: Vec<String>,
    /// The rows as text
    pub(super) rows: Vec<Vec<Option<String>>>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum ClientError {
    /// The server refused.
    #[error("{message} ({state})")]
    Refused {
        /// SQLSTATE
        state: String,
        /// The message
        message: String,
        /// The way out
        hint: Option<String>,
    },
    /// The stream broke.
    #[error(transparent)]
    Io(#[from] std::io::Error),
    /// The server's bytes make no sense.
    #[error("unexpected answer: {0}")]
    Protocol(&'static str),
}

impl Client {
    /// Logs in over a connected stream.
    pub(super) async fn start(
        stream: impl Socket + 'static,
        login: &Login<'_>,
    ) -> Result<Self, ClientError> {
        let mut client = Self {
            stream: Box::new(stream),
        };
        let mut body = PROTOCOL.to_be_bytes().to_vec();
        for (name, value) in [
            ("user", login.user),
            ("database", login.database),
            ("application_name", login.application),
        ] {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(value.as_bytes());
            body.push(0);
        }
        body.push(0);
        client.send(None, &body).await?;
        client.authenticate(login.password).await?;
        client.collect().await?;
        Ok(client)
    }

    /// Runs statements; the last one's rows are the answer.
    pub(super) async fn query(&mut self, sql: &str) -> Result<Answer, ClientError> {
        let mut body = sql.as_bytes().to_vec();
        body.push(0);
        self.send(Some(b'Q'), &body).await?;
        self.collect().await
    }

    /// Authentication codes: 0 done, 3 cleartext, 10 to 12 SASL.
    async fn authenticate(&mut self, password: &str) -> Result<(), ClientError> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (kind, body) = self.receive().await?;
            let mut body = Fields(&body);
            match kind {
                b'R' => match body.i32()? {
                    0 => return Ok(()),
                    3 => {
                        let mut reply = password.as_bytes().to_vec();
                        reply.push(0);
                        self.send(Some(b'p'), &reply).await?;
                    }
                    10 => {
                        let first = scram.message();
                        let length = i32::try_from(first.len())
                            .map_err(|_| ClientError::Protocol("a SCRAM message too long"))?;
                        let mut reply = SCRAM_SHA_256.as_bytes().to_vec();
                        reply.push(0);
                        reply.extend_from_slice(&length.to_be_bytes());
                        reply.extend_from_slice(first);
                        self.send(Some(b'p'), &reply).await?;
                    }
                    11 => {
                        scram.update(body.0)?;
                        let reply = scram.message().to_vec();
                        self.send(Some(b'p'), &reply).await?;
                    }
                    12 => scram.finish(body.0)?,
                    _ => return Err(ClientError::Protocol("an unknown authentication method")),
                },
                b'E' => return Err(body.refusal()?),
                _ => {}
            }
        }
    }

    /// Reads up to ReadyForQuery.
    async fn collect(&mut self) -> Result<Answer, ClientError> {
        let mut answer = Answer::default();
        let mut refusal = None;
        loop {
            let (kind, body) = self.receive().await?;
            let mut body = Fields(&body);
            match kind {
                b'T' => {
                    answer = Answer::default();
                    for _ in 0..body.i16()? {
                        answer.columns.push(body.text()?);
                        body.take(18)?;
                    }
                }
                b'D' => {
                    let mut row = Vec::new();
                    for _ in 0..body.i16()? {
                        row.push(match usize::try_from(body.i32()?) {
                            Ok(length) => {
                                Some(String::from_utf8_lossy(body.take(length)?).into_owned())
                            }
                            Err(_) => None,
                        });
                    }
                    answer.rows.push(row);
                }
                // A row of COPY TO STDOUT.
                b'd' => answer
                    .rows
                    .push(vec![Some(String::from_utf8_lossy(body.0).into_owned())]),
                b'E' => refusal = Some(body.refusal()?),
                b'Z' => return refusal.map_or(Ok(answer), Err),
                _ => {}
            }
        }
    }

    async fn send(&mut self, kind: Option<u8>, body: &[u8]) -> Result<(), ClientError> {
        let length = i32::try_from(body.len() + 4)
            .map_err(|_| ClientError::Protocol("a statement too long"))?;
        let mut frame: Vec<u8> = kind.into_iter().collect();
        frame.extend_from_slice(&length.to_be_bytes());
        frame.extend_from_slice(body);
        self.stream.write_all(&frame).await?;
        self.stream.flush().await?;
        Ok(())
    }

    async fn receive(&mut self) -> Result<(u8, Vec<u8>), ClientError> {
        let kind = self.stream.read_u8().await?;
        let length = usize::try_from(self.stream.read_i32().await?)
            .ok()
            .and_then(|length| length.checked_sub(4))
            .ok_or(ClientError::Protocol("a negative length"))?;
        let mut body = vec![0; length];
        self.stream.read_exact(&mut body).await?;
        Ok((kind, body))
    }
}

/// The rest of a message's body.
struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], ClientError> {
        let (taken, rest) = self
            .0
            .split_at_checked(length)
            .ok_or(ClientError::Protocol("a short message"))?;
        self.0 = rest;
        Ok(taken)
    }

    fn i16(&mut self) -> Result<i16, ClientError> {
        let bytes = self.take(2)?.try_into().unwrap_or_default();
        Ok(i16::from_be_bytes(bytes))
    }

    fn i32(&mut self) -> Result<i32, ClientError> {
        let bytes = self.take(4)?.try_into().unwrap_or_default();
        Ok(i32::from_be_bytes(bytes))
    }

    fn text(&mut self) -> Result<String, ClientError> {
        let end = self
            .0
            .iter()
            .position(|byte| *byte == 0)
            .ok_or(ClientError::Protocol("a string without an end"))?;
        let text = String::from_utf8_lossy(self.take(end)?).into_owned();
        self.take(1)?;
        Ok(text)
    }

    /// The fields of an ErrorResponse.
    fn refusal(&mut self) -> Result<ClientError, ClientError> {
        let mut fields = BTreeMap::new();
        while let Some(code) = self.0.first().copied().filter(|code| *code != 0) {
            self.take(1)?;
            fields.insert(code, self.text()?);
        }
        Ok(ClientError::Refused {
            state: fields.remove(&b'C').unwrap_or_default(),
            message: fields.remove(&b'M').unwrap_or_default(),
            hint: fields.remove(&b'H'),
        })
    }
}
