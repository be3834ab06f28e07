//! The first message of a connection: what it asks for.
//!
//! Knows nothing about sockets but how to read exactly, nor about TLS or policy.
//! Invariants: never a byte is read beyond the message's own length; a
//! [`Startup`] is well formed, in UTF-8 and of a protocol that is served.
//!
//! Sources: <https://www.postgresql.org/docs/current/protocol-message-formats.html>
//! and `ProcessStartupPacket` in Postgres's `backend_startup.c`.

use std::collections::BTreeMap;

use tokio::io::{AsyncRead, AsyncReadExt as _};

use super::Refused;
use super::options::parse_options;
use crate::wire;

/// As Postgres's `MAX_STARTUP_PACKET_LENGTH`.
const MAX_LENGTH: usize = 10_000;
const SSL_REQUEST: u32 = 80_877_103;
const GSSENC_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// Bounds of a cancel key under protocol 3.2.
const CANCEL_KEY: std::ops::RangeInclusive<usize> = 4..=256;
const MAJOR: u16 = 3;
/// The protocol option of `pgveil login`: what is said after AuthenticationOk is ours
/// (`listener::step_up`). Its value is the agent that the token is for, or empty.
pub(crate) const LOGIN: &str = "_pq_.pgveil_login";
/// The startup parameter by which a client says how it would prove itself: `token` or
/// `oauth`. All drivers can send it, as `options=-c pgveil.credential=token` at least.
const CREDENTIAL: &str = "pgveil.credential";

/// A version of the protocol that is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// Since Postgres 7.4: cancel keys of four bytes.
    V3_0,
    /// Since Postgres 18: cancel keys of up to 256 bytes.
    V3_2,
}

impl Protocol {
    /// The newest.
    pub const LATEST: Self = Self::V3_2;

    /// As it stands in messages: major in the upper half, minor in the lower.
    pub fn code(self) -> u32 {
        let minor = match self {
            Self::V3_0 => 0,
            Self::V3_2 => 2,
        };
        (u32::from(MAJOR) << 16) | minor
    }
}

/// What a connection opens with.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Opening {
    /// SSLRequest
    Ssl,
    /// GSSENCRequest
    Gss,
    /// CancelRequest
    Cancel { pid: i32, secret: Vec<u8> },
    /// StartupMessage
    Start(Startup),
}

/// A startup message, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Startup {
    /// What is spoken from here on.
    pub(super) protocol: Protocol,
    /// What must be negotiated down, if anything.
    pub(super) negotiate: Option<Negotiate>,
    pub(super) user: String,
    pub(super) dataset: String,
    /// Its client is `pgveil login`: for a token of its own, or of that agent.
    pub(super) login: Option<String>,
    /// How it would prove itself, where there is more than one way.
    pub(super) credential: Option<Credential>,
    /// Settings, `options` included; lower-case names.
    pub(super) parameters: BTreeMap<String, String>,
}

/// How a client would prove itself, by the startup parameter [`CREDENTIAL`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credential {
    /// By a token in place of the password.
    Token,
    /// By a token, the way of RFC 7628.
    OAuth,
}

impl Credential {
    fn named(word: &str) -> Result<Self, Refused> {
        match word {
            "token" => Ok(Self::Token),
            "oauth" => Ok(Self::OAuth),
            _ => Err(Refused::Credential),
        }
    }
}

/// NegotiateProtocolVersion, to be sent before authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Negotiate {
    pub(super) protocol: Protocol,
    /// `_pq_.` options of the client that are not known here.
    pub(super) unknown: Vec<String>,
}

impl Negotiate {
    /// The bytes of the message. The version is sent whole, as Postgres does and
    /// libpq expects, though the documentation says "minor version".
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        // A protocol's code is 32 bits, the highest of them clear.
        let code = i32::try_from(self.protocol.code()).unwrap_or_default();
        let negotiate = wire::NegotiateProtocolVersion::new(code, self.unknown.clone());
        wire::put(out, &negotiate);
    }
}

impl Opening {
    /// Reads one message, and nothing after it.
    pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Result<Self, Refused> {
        let mut first = [0; 1];
        if stream.read(&mut first).await? == 0 {
            return Err(Refused::Gone);
        }
        let mut rest = [0; 3];
        stream.read_exact(&mut rest).await?;
        let length = u32::from_be_bytes([first[0], rest[0], rest[1], rest[2]]);
        let body = usize::try_from(length)
            .ok()
            .filter(|length| (8..=MAX_LENGTH).contains(length))
            .and_then(|length| length.checked_sub(4))
            .ok_or(Refused::Length(length))?;
        let mut bytes = vec![0; body];
        stream.read_exact(&mut bytes).await?;
        Self::parse(&bytes)
    }

    /// Understands a message, its length left out.
    fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let malformed = Refused::Malformed;
        let (&code, body) = bytes.split_first_chunk().ok_or(malformed("too short"))?;
        match u32::from_be_bytes(code) {
            SSL_REQUEST if body.is_empty() => Ok(Self::Ssl),
            GSSENC_REQUEST if body.is_empty() => Ok(Self::Gss),
            SSL_REQUEST | GSSENC_REQUEST => Err(malformed("encryption request of a wrong length")),
            CANCEL_REQUEST => {
                let (&pid, secret) = body
                    .split_first_chunk()
                    .ok_or(malformed("cancel request of a wrong length"))?;
                if !CANCEL_KEY.contains(&secret.len()) {
                    return Err(malformed("cancel key of a wrong length"));
                }
                Ok(Self::Cancel {
                    pid: i32::from_be_bytes(pid),
                    secret: secret.to_vec(),
                })
            }
            version => Startup::parse(version, body).map(Self::Start),
        }
    }
}

impl Startup {
    fn parse(version: u32, body: &[u8]) -> Result<Self, Refused> {
        let [a, b, c, d] = version.to_be_bytes();
        let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
        if major != MAJOR {
            return Err(Refused::Version(major, minor));
        }
        let protocol = if minor >= 2 {
            Protocol::V3_2
        } else {
            Protocol::V3_0
        };

        let mut user = None;
        let mut database = None;
        let mut options = String::new();
        let mut explicit = Vec::new();
        let mut unknown = Vec::new();
        let mut login = None;
        for (name, value) in pairs(body)? {
            match name {
                "user" => user = Some(value),
                "database" => database = Some(value),
                "options" => value.clone_into(&mut options),
                "replication" => refuse_replication(value)?,
                LOGIN => login = Some(value.to_owned()),
                _ if name.starts_with("_pq_.") => unknown.push(name.to_owned()),
                _ => explicit.push((name.to_ascii_lowercase(), value.to_owned())),
            }
        }
        let user = user
            .filter(|user| !user.is_empty())
            .ok_or(Refused::NoUser)?;
        // As in Postgres, what stands by itself counts more than `options`.
        let mut parameters: BTreeMap<_, _> = parse_options(&options)?.into_iter().collect();
        parameters.extend(explicit);
        let credential = parameters.remove(CREDENTIAL);
        let credential = credential
            .map(|word| Credential::named(&word))
            .transpose()?;

        let served = protocol.code() == version;
        Ok(Self {
            protocol,
            negotiate: (!served || !unknown.is_empty()).then_some(Negotiate { protocol, unknown }),
            dataset: database
                .filter(|database| !database.is_empty())
                .unwrap_or(user)
                .to_owned(),
            user: user.to_owned(),
            login,
            credential,
            parameters,
        })
    }
}

/// Names and values, each ended by a zero byte; one more zero byte ends the list,
/// and the message.
fn pairs(body: &[u8]) -> Result<Vec<(&str, &str)>, Refused> {
    let malformed = Refused::Malformed;
    let list = match body.split_last() {
        Some((0, list)) => list,
        _ => return Err(malformed("no terminator at its end")),
    };
    let mut pairs = Vec::new();
    let mut strings = list.split_inclusive(|&byte| byte == 0);
    while let Some(name) = strings.next() {
        let name = string(name)?;
        if name.is_empty() {
            return Err(malformed("bytes after the terminator"));
        }
        let value = strings.next().ok_or(malformed("a name without a value"))?;
        pairs.push((name, string(value)?));
    }
    Ok(pairs)
}

fn string(bytes: &[u8]) -> Result<&str, Refused> {
    let text = bytes
        .strip_suffix(&[0])
        .ok_or(Refused::Malformed("no terminator at its end"))?;
    std::str::from_utf8(text).map_err(|_| Refused::NotUtf8)
}

/// A replication connection streams whole tables past every lock there is.
/// What Postgres takes for false, by its `parse_bool`, asks for none.
fn refuse_replication(value: &str) -> Result<(), Refused> {
    let value = value.to_ascii_lowercase();
    let is_prefix = |word: &str| !value.is_empty() && word.starts_with(&value);
    let off = value == "0"
        || is_prefix("false")
        || is_prefix("no")
        || (value.len() > 1 && is_prefix("off"));
    if off {
        Ok(())
    } else {
        Err(Refused::Replication)
    }
}

impl std::fmt::Debug for Opening {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Ssl => f.write_str("Ssl"),
            Self::Gss => f.write_str("Gss"),
            Self::Cancel { pid, .. } => write!(f, "Cancel({pid})"),
            Self::Start(startup) => startup.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut out = version.to_be_bytes().to_vec();
        for (name, value) in pairs {
            out.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
        }
        out.push(0);
        out
    }

    fn start(version: u32, pairs: &[(&str, &str)]) -> Result<Startup, Refused> {
        match Opening::parse(&packet(version, pairs))? {
            Opening::Start(startup) => Ok(startup),
            other => panic!("{other:?}"),
        }
    }

    const V3_0: u32 = 0x3_0000;

    #[test]
    fn understands_a_startup() {
        let startup = start(
            V3_0,
            &[
                ("user", "analyst"),
                ("database", "shop"),
                ("Application_Name", "psql"),
                ("options", "-c TimeZone=UTC -c application_name=other"),
                ("replication", "false"),
            ],
        )
        .unwrap();
        assert_eq!((&*startup.user, &*startup.dataset), ("analyst", "shop"));
        assert_eq!(startup.protocol, Protocol::V3_0);
        assert_eq!(startup.negotiate, None);
        let parameters: Vec<_> = startup.parameters.into_iter().collect();
        let own = |n: &str, v: &str| (n.to_owned(), v.to_owned());
        assert_eq!(
            parameters,
            [own("application_name", "psql"), own("timezone", "UTC")]
        );
        let alone = start(V3_0, &[("user", "analyst"), ("database", "")]).unwrap();
        assert_eq!(alone.dataset, "analyst");
    }

    #[test]
    fn negotiates_down() {
        let negotiated = |version, pairs: &[(&str, &str)]| {
            let mut all = vec![("user", "a")];
            all.extend_from_slice(pairs);
            start(version, &all).unwrap().negotiate
        };
        let down = |protocol, unknown: &[&str]| {
            let unknown = unknown.iter().map(|&name| name.to_owned()).collect();
            Some(Negotiate { protocol, unknown })
        };
        assert_eq!(negotiated(V3_0, &[]), None);
        assert_eq!(negotiated(V3_0 + 2, &[]), None);
        assert_eq!(negotiated(V3_0 + 1, &[]), down(Protocol::V3_0, &[]));
        assert_eq!(negotiated(V3_0 + 3, &[]), down(Protocol::V3_2, &[]));
        // libpq 18's grease
        assert_eq!(
            negotiated(V3_0 + 9999, &[("_pq_.test_protocol_negotiation", "")]),
            down(Protocol::V3_2, &["_pq_.test_protocol_negotiation"])
        );
        assert_eq!(
            negotiated(V3_0, &[("_pq_.x", "1"), ("_pq_.y", "2")]),
            down(Protocol::V3_0, &["_pq_.x", "_pq_.y"])
        );
        let mut bytes = Vec::new();
        down(Protocol::V3_2, &["_pq_.x"])
            .unwrap()
            .encode(&mut bytes);
        assert_eq!(bytes, b"v\0\0\0\x13\0\x03\0\x02\0\0\0\x01_pq_.x\0");
    }

    #[test]
    fn understands_requests() {
        let parse = |code: u32, body: &[u8]| Opening::parse(&[&code.to_be_bytes(), body].concat());
        assert_eq!(parse(SSL_REQUEST, b"").unwrap(), Opening::Ssl);
        assert_eq!(parse(GSSENC_REQUEST, b"").unwrap(), Opening::Gss);
        for length in [4, 5, 32, 256] {
            let secret = vec![7; length];
            let body = [&[0xff, 0xff, 0xff, 0xfe], &*secret].concat();
            let cancel = Opening::Cancel { pid: -2, secret };
            assert_eq!(parse(CANCEL_REQUEST, &body).unwrap(), cancel);
        }
        for length in [0, 3, 4, 7, 261] {
            assert!(parse(CANCEL_REQUEST, &vec![7; length]).is_err(), "{length}");
        }
        assert!(parse(SSL_REQUEST, b"x").is_err());
        assert!(parse(GSSENC_REQUEST, b"x").is_err());
    }

    #[test]
    fn refuses_bad_startups() {
        let check = |bytes: &[u8], expected: &str| {
            let error = Opening::parse(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{bytes:?}: {error}");
        };
        let raw = |body: &[u8]| [&V3_0.to_be_bytes(), body].concat();
        check(b"\0\x03\0", "too short");
        check(&raw(b""), "no terminator");
        check(&raw(b"user\0a\0"), "no terminator");
        check(&raw(b"user\0a"), "no terminator");
        check(&raw(b"user\0a\0\0\0"), "bytes after the terminator");
        check(&raw(b"user\0a\0\0x\0b\0\0"), "bytes after the terminator");
        check(&raw(b"user\0\0"), "a name without a value");
        check(&raw(b"user\0\xff\0\0"), "UTF-8");
        check(&raw(b"\xc3\0a\0\0"), "UTF-8");
        check(&packet(V3_0, &[]), "no user");
        check(&packet(V3_0, &[("user", "")]), "no user");
        check(&packet(V3_0, &[("database", "shop")]), "no user");
        check(&packet(0x2_0000, &[("user", "a")]), "2.0");
        check(&packet(0x4_0000, &[("user", "a")]), "4.0");
        check(&packet(0, &[]), "0.0");
        for replication in ["true", "on", "1", "database", "yes", "t", "", "o", "x"] {
            let bytes = packet(V3_0, &[("user", "a"), ("replication", replication)]);
            check(&bytes, "replication");
        }
        for replication in ["false", "off", "of", "0", "no", "N", "F"] {
            assert!(start(V3_0, &[("user", "a"), ("replication", replication)]).is_ok());
        }
        check(&packet(V3_0, &[("user", "a"), ("options", "-d 5")]), "`-d`");
    }

    #[tokio::test]
    async fn reads_no_byte_too_many() {
        let mut bytes = packet(V3_0, &[("user", "a")]);
        let length = u32::try_from(bytes.len() + 4).unwrap();
        bytes.splice(0..0, length.to_be_bytes());
        bytes.extend(b"more");
        let mut stream = &*bytes;
        Opening::read(&mut stream).await.unwrap();
        assert_eq!(stream, b"more");
    }

    #[tokio::test]
    async fn refuses_lengths_and_truncations() {
        let read = async |bytes: &[u8]| Opening::read(&mut &*bytes).await.unwrap_err();
        assert!(matches!(read(b"").await, Refused::Gone));
        for length in [0u32, 4, 7, 10_001, 0x7fff_ffff, 0x8000_0000, u32::MAX] {
            let refused = read(&[&length.to_be_bytes()[..], &[0; 16]].concat()).await;
            assert!(matches!(refused, Refused::Length(_)), "{length}");
        }
        assert!(matches!(
            read(b"GET / HTTP/1.1\r\n").await,
            Refused::Length(_)
        ));
        assert!(matches!(read(b"\0\0\0").await, Refused::Io(_)));
        assert!(matches!(
            read(b"\0\0\0\x10\0\x03\0\0user").await,
            Refused::Io(_)
        ));
    }
}
