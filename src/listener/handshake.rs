//! From an accepted socket to a proved principal: encryption, startup, SASL.
//!
//! Knows nothing about sessions or limits. Invariants: reads are exact, so no
//! byte crosses from before TLS into it; what is sent before authentication does
//! not depend on whether the name is known.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;

use super::startup::{Credential, Opening, Startup};
use super::throttle::Attempt;
use super::tls::{ALPN, Tls, TlsInfo};
use super::{Identities, Refused, Stream, oauth};
use crate::identity::Principal;
use crate::identity::certificate::{Certificate, CertificateError};
use crate::identity::scram::{self, Scram, ScramError};
use crate::identity::token::LONGEST;
use crate::wire::{self, Authentication};

/// A TLS record of type handshake: the first byte of direct TLS, and of no
/// startup message that is not 369 MB long.
const TLS_HANDSHAKE: u8 = 0x16;
/// As Postgres's `PG_MAX_SASL_MESSAGE_LENGTH`, header included.
const MAX_SASL_LENGTH: usize = 1024;

/// What a connection turned out to want.
#[derive(Debug)]
pub(super) enum Greeting {
    /// To cancel what another connection is doing; whoever asked takes the connection's
    /// end for the sign that it has been done.
    Cancel {
        pid: i32,
        secret: Vec<u8>,
        stream: Stream,
    },
    /// A session.
    Start(Box<Started>),
}

/// A connection that said who it claims to be.
#[derive(Debug)]
pub(super) struct Started {
    pub(super) stream: Stream,
    pub(super) tls: Option<TlsInfo>,
    pub(super) startup: Startup,
}

/// A connection that is to be closed; with its stream, where words still reach it.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) stream: Option<Stream>,
    pub(super) tls: Option<TlsInfo>,
    pub(super) why: Refused,
}

/// Negotiates encryption and reads the startup message.
pub(super) async fn greet(tcp: TcpStream, tls: Option<&Tls>) -> Result<Greeting, Ended> {
    let silent = |why| Ended {
        stream: None,
        tls: None,
        why,
    };
    // Not read: where it is TLS, the byte belongs to it.
    let mut first = [0];
    let direct = match tcp.peek(&mut first).await {
        Ok(0) => return Err(silent(Refused::Gone)),
        Ok(_) => first == [TLS_HANDSHAKE],
        Err(error) => return Err(silent(error.into())),
    };
    let (mut stream, mut info) = (Stream::Plain(tcp), None);
    if direct {
        (stream, info) = encrypt(stream, tls, true).await.map_err(silent)?;
    }

    // As in Postgres, each kind of encryption may be asked for once.
    let (mut ssl_asked, mut gss_asked) = (direct, direct);
    loop {
        let opening = Opening::read(&mut stream).await;
        let why = match opening {
            Ok(Opening::Ssl) if !ssl_asked => {
                ssl_asked = true;
                let answer = if tls.is_some() { b"S" } else { b"N" };
                if tls.is_some() && holds_bytes(&stream).await {
                    Refused::EarlyBytes
                } else if let Err(error) = stream.write_all(answer).await {
                    return Err(silent(error.into()));
                } else if tls.is_some() {
                    gss_asked = true;
                    (stream, info) = encrypt(stream, tls, false).await.map_err(silent)?;
                    continue;
                } else {
                    continue;
                }
            }
            Ok(Opening::Gss) if !gss_asked => {
                gss_asked = true;
                match stream.write_all(b"N").await {
                    Ok(()) => continue,
                    Err(error) => return Err(silent(error.into())),
                }
            }
            Ok(Opening::Ssl | Opening::Gss) => Refused::AskedTwice,
            // libpq before 17 sends these in plain text whatever the session's
            // encryption, and nothing is answered.
            Ok(Opening::Cancel { pid, secret }) => {
                return Ok(Greeting::Cancel {
                    pid,
                    secret,
                    stream,
                });
            }
            Ok(Opening::Start(startup)) => {
                return Ok(Greeting::Start(Box::new(Started {
                    stream,
                    tls: info,
                    startup,
                })));
            }
            Err(why) => why,
        };
        return Err(Ended {
            stream: Some(stream),
            tls: info,
            why,
        });
    }
}

async fn encrypt(
    stream: Stream,
    tls: Option<&Tls>,
    direct: bool,
) -> Result<(Stream, Option<TlsInfo>), Refused> {
    let (Stream::Plain(tcp), Some(tls)) = (stream, tls) else {
        return Err(Refused::NoTls);
    };
    let stream = tls.accept(tcp).await.map_err(Refused::tls)?;
    let (_, connection) = stream.get_ref();
    // Required against cross-protocol attacks (ALPACA); rustls has refused
    // whoever offers only other protocols.
    if direct && connection.alpn_protocol() != Some(ALPN) {
        return Err(Refused::NoAlpn);
    }
    let info = tls.info(connection);
    Ok((Stream::Tls(Box::new(stream)), Some(info)))
}

/// Whether bytes have already arrived that nobody has read.
async fn holds_bytes(stream: &Stream) -> bool {
    let mut byte = [0];
    poll_fn(|cx| {
        let mut buffer = ReadBuf::new(&mut byte);
        match stream.tcp().poll_peek(cx, &mut buffer) {
            Poll::Ready(Ok(count)) => Poll::Ready(count > 0),
            Poll::Ready(Err(_)) | Poll::Pending => Poll::Ready(false),
        }
    })
    .await
}

/// What a client proves who it is over.
#[derive(Clone, Copy, Debug)]
pub(super) struct Channel<'a> {
    pub(super) tls: Option<&'a TlsInfo>,
    /// Nobody else reads what the client sends.
    pub(super) private: bool,
    /// What keeps them from guessing.
    pub(super) attempt: Attempt<'a>,
}

/// Has a client prove who it is, up to and with AuthenticationOk.
pub(super) async fn authenticate<I: Identities>(
    stream: &mut Stream,
    startup: &Startup,
    identities: &I,
    channel: Channel<'_>,
) -> Result<Principal, Refused> {
    let mut out = Vec::new();
    if let Some(negotiate) = &startup.negotiate {
        negotiate.encode(&mut out);
    }
    let presented = channel.tls.and_then(|tls| tls.presented.as_ref());
    if presented.is_some() {
        channel.attempt.show()?;
    }
    // Whoever it names: one that does not hold is not gone past.
    let shown = presented.map(|presented| identities.verify(presented));
    let shown = shown.transpose().map_err(Refused::Certificate)?;
    let user = startup.user.as_str();
    if let Some(shown) = &shown
        && let Ok(principal) = identities.certified(user, shown)
    {
        wire::put(&mut out, &Authentication::Ok);
        send(stream, &out).await?;
        return Ok(principal);
    }
    // Certificates are not guessed; passwords are.
    let attempt = channel.attempt.begin().await?;
    // From here on, whoever is to connect by a certificate is somebody unknown.
    let caller = Caller {
        user,
        dataset: &startup.dataset,
        shown: shown.as_ref(),
        lacks: identities.lacks(user, shown.as_ref()),
        attempt,
    };
    // Whoever says so is asked for a token, whatever the name: nothing shows by it. That is
    // looked up for everybody, so that it costs everybody the same.
    let by_token = identities.by_token(user);
    let by_oauth = identities.by_oauth(user);
    let asked = match startup.credential {
        None if by_token && by_oauth => Some(Credential::OAuth),
        None if by_token => Some(Credential::Token),
        said => said,
    };
    let principal = match asked {
        None => {
            let endpoint = channel.tls.and_then(|tls| tls.endpoint.clone());
            scram(stream, &caller, identities, endpoint, &mut out).await?
        }
        Some(_) if !channel.private => return Err(Refused::OpenToken),
        Some(Credential::Token) => token(stream, &caller, identities, &mut out).await?,
        Some(Credential::OAuth) => oauth::bearer(stream, &caller, identities, &mut out).await?,
    };
    wire::put(&mut out, &Authentication::Ok);
    send(stream, &out).await?;
    Ok(principal)
}

/// Who is to prove who it is by something else than a certificate, or beside it.
pub(super) struct Caller<'a> {
    pub(super) user: &'a str,
    pub(super) dataset: &'a str,
    pub(super) shown: Option<&'a Certificate>,
    /// What keeps it out whatever else it proves.
    pub(super) lacks: Option<CertificateError>,
    pub(super) attempt: Attempt<'a>,
}

impl Caller<'_> {
    fn without_certificate(&self, why: CertificateError, by_token: bool) -> Refused {
        Refused::Unbound {
            user: one_line(self.user),
            why,
            by_token,
        }
    }
}

/// What remains to be said where the proof holds is left in `out`.
async fn scram<I: Identities>(
    stream: &mut Stream,
    caller: &Caller<'_>,
    identities: &I,
    endpoint: Option<Arc<[u8]>>,
    out: &mut Vec<u8>,
) -> Result<Principal, Refused> {
    let mechanisms = scram::mechanisms(endpoint.is_some());
    let offer = mechanisms.iter().map(ToString::to_string).collect();
    wire::put(out, &Authentication::SASL(offer));
    send(stream, out).await?;

    // Made for everybody, so that it costs everybody the same.
    let stand_in = identities.stand_in(caller.user);
    let verifier = identities.verifier(caller.user);
    // Nobody learns whether a password is right who lacks the certificate beside it.
    let verifier = verifier.filter(|_| caller.lacks.is_none());
    let scram = Scram::new(verifier, &stand_in, endpoint)?;
    let response = sasl_response(stream).await?;
    let (mechanism, initial) = initial_response(&response)?;
    let (challenge, server_first) = match initial {
        Some(initial) => scram.first(mechanism, initial)?,
        None => {
            out.clear();
            wire::put(out, &Authentication::SASLContinue(Bytes::new()));
            send(stream, out).await?;
            scram.first(mechanism, &sasl_response(stream).await?)?
        }
    };
    out.clear();
    wire::put(out, &Authentication::SASLContinue(server_first.into()));
    send(stream, out).await?;

    let unproved = || match caller.lacks.clone() {
        Some(why) => caller.without_certificate(why, false),
        None => Refused::Password(one_line(caller.user)),
    };
    let response = sasl_response(stream).await?;
    caller.attempt.go_on()?;
    let proof = challenge.finish(&response).map_err(|error| match error {
        ScramError::Proof => unproved(),
        other => other.into(),
    })?;
    let principal = identities
        .principal(caller.user, proof.method)
        .ok_or_else(unproved)?;
    let principal = identities
        .bound(principal, caller.shown)
        .map_err(|why| caller.without_certificate(why, false))?;
    out.clear();
    wire::put(out, &Authentication::SASLFinal(proof.server_final.into()));
    Ok(principal)
}

/// Asks for a token as a password in clear text. What is done with it does not depend on
/// whether the name is known. Nothing remains to be said in `out`.
async fn token<I: Identities>(
    stream: &mut Stream,
    caller: &Caller<'_>,
    identities: &I,
    out: &mut Vec<u8>,
) -> Result<Principal, Refused> {
    wire::put(out, &Authentication::CleartextPassword);
    send(stream, out).await?;
    let body = response(stream, LONGEST + 1).await?;
    let token = match body.split_last() {
        Some((0, text)) if !text.contains(&0) => std::str::from_utf8(text).ok(),
        _ => None,
    };
    let token = token.ok_or(Refused::PasswordMessage)?;
    caller.attempt.go_on()?;
    let principal = identities
        .bearer(caller.user, caller.dataset, token)
        .map_err(|why| match caller.lacks.clone() {
            Some(why) => caller.without_certificate(why, true),
            None => Refused::Token {
                user: one_line(caller.user),
                why,
            },
        })?;
    out.clear();
    identities
        .bound(principal, caller.shown)
        .map_err(|why| caller.without_certificate(why, true))
}

/// Without what could forge a line of a log.
pub(super) fn one_line(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

pub(super) async fn send(stream: &mut Stream, bytes: &[u8]) -> Result<(), Refused> {
    stream.write_all(bytes).await?;
    stream.flush().await?;
    Ok(())
}

async fn sasl_response(stream: &mut (impl AsyncRead + Unpin)) -> Result<Vec<u8>, Refused> {
    response(stream, MAX_SASL_LENGTH).await
}

/// Reads the body of one message of type `p`, and nothing after it.
pub(super) async fn response(
    stream: &mut (impl AsyncRead + Unpin),
    longest: usize,
) -> Result<Vec<u8>, Refused> {
    let mut kind = [0];
    if stream.read(&mut kind).await? == 0 {
        return Err(Refused::Gone);
    }
    if kind != *b"p" {
        let [kind] = kind;
        return Err(Refused::MessageType(kind));
    }
    let length = stream.read_u32().await?;
    let body = usize::try_from(length)
        .ok()
        .and_then(|length| length.checked_sub(4))
        .filter(|&body| body <= longest)
        .ok_or(Refused::MessageLength(length))?;
    let mut bytes = vec![0; body];
    stream.read_exact(&mut bytes).await?;
    Ok(bytes)
}

/// SASLInitialResponse: the mechanism's name, and the data if there is any.
pub(super) fn initial_response(body: &[u8]) -> Result<(&str, Option<&[u8]>), Refused> {
    let end = body.iter().position(|&byte| byte == 0);
    let (name, rest) = end
        .and_then(|end| body.split_at_checked(end))
        .ok_or(Refused::Sasl)?;
    let name = std::str::from_utf8(name).map_err(|_| Refused::Sasl)?;
    let (&length, data) = rest
        .get(1..)
        .and_then(|rest| rest.split_first_chunk())
        .ok_or(Refused::Sasl)?;
    match i32::from_be_bytes(length) {
        -1 if data.is_empty() => Ok((name, None)),
        length if usize::try_from(length) == Ok(data.len()) => Ok((name, Some(data))),
        _ => Err(Refused::Sasl),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_initial_responses() {
        let good = |body: &[u8]| initial_response(body).unwrap().1.map(<[u8]>::to_vec);
        assert_eq!(good(b"X\0\0\0\0\x02ab"), Some(b"ab".to_vec()));
        assert_eq!(good(b"X\0\0\0\0\0"), Some(Vec::new()));
        assert_eq!(good(b"X\0\xff\xff\xff\xff"), None);
        for bad in [
            &b""[..],
            b"X",
            b"X\0",
            b"X\0\0\0\0",
            b"X\0\0\0\0\x03ab",
            b"X\0\0\0\0\x01ab",
            b"X\0\xff\xff\xff\xffa",
            b"X\0\xff\xff\xff\xfe",
            b"X\0\x7f\xff\xff\xff",
            b"\xff\0\0\0\0\0",
        ] {
            assert!(
                matches!(initial_response(bad), Err(Refused::Sasl)),
                "{bad:?}"
            );
        }
    }

    #[tokio::test]
    async fn reads_no_response_too_far() {
        let mut stream = &b"p\0\0\0\x06abQ"[..];
        assert_eq!(sasl_response(&mut stream).await.unwrap(), b"ab");
        assert_eq!(stream, b"Q");
        let refused = async |bytes: &[u8]| sasl_response(&mut &*bytes).await.unwrap_err();
        assert!(matches!(refused(b"").await, Refused::Gone));
        assert!(matches!(
            refused(b"Q\0\0\0\x04").await,
            Refused::MessageType(b'Q')
        ));
        assert!(matches!(
            refused(b"p\0\0\0\x03").await,
            Refused::MessageLength(3)
        ));
        assert!(matches!(
            refused(b"p\xff\xff\xff\xff").await,
            Refused::MessageLength(_)
        ));
        assert!(matches!(
            refused(b"p\0\0\x10\0").await,
            Refused::MessageLength(_)
        ));
        assert!(matches!(refused(b"p\0\0\0\x08a").await, Refused::Io(_)));
        assert!(matches!(refused(b"p\0").await, Refused::Io(_)));
    }
}
