//! What a client says: decoders for what is looked into, encoders for what the
//! proxy says upstream in a client's place.
//!
//! Knows nothing about sessions. The invariant: SQL is encoded only from a
//! [`Plan`] or from text that stands in this program, and what the proxy adds to
//! it is a [`Comment`], which cannot end early.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::HEADER;
use super::body::{Body, Malformed};
use crate::sql::Plan;

/// Tags of the messages a client sends.
pub mod tag {
    #![expect(missing_docs, reason = "the names are the protocol's own")]
    pub const BIND: u8 = b'B';
    pub const CLOSE: u8 = b'C';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_FAIL: u8 = b'f';
    pub const DESCRIBE: u8 = b'D';
    pub const EXECUTE: u8 = b'E';
    pub const FLUSH: u8 = b'H';
    pub const FUNCTION_CALL: u8 = b'F';
    pub const PARSE: u8 = b'P';
    /// PasswordMessage, SASLInitialResponse, SASLResponse, GSSResponse.
    pub const PASSWORD: u8 = b'p';
    pub const QUERY: u8 = b'Q';
    pub const SYNC: u8 = b'S';
    pub const TERMINATE: u8 = b'X';
}

/// A prepared statement or a portal, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named<'a> {
    /// `S`
    Statement(&'a str),
    /// `P`
    Portal(&'a str),
}

/// Parse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parse<'a> {
    /// The statement's name; empty for the unnamed one
    pub name: &'a str,
    /// Its SQL
    pub query: &'a str,
    /// Parameter types given by the client; 0 where left open
    pub types: Vec<u32>,
}

/// Bind, as far as it names things.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bind<'a> {
    /// The portal to make
    pub portal: &'a str,
    /// The statement it is made of
    pub statement: &'a str,
    /// Formats and parameter values, unread
    pub rest: &'a [u8],
}

/// Execute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Execute<'a> {
    /// The portal to run
    pub portal: &'a str,
    /// At most so many rows; 0 (or less) for all
    pub max_rows: i32,
}

/// Query: its SQL.
///
/// # Errors
/// Where it is malformed.
pub fn query(body: &[u8]) -> Result<&str, Malformed> {
    let mut body = Body::new(body);
    let query = body.text()?;
    body.end()?;
    Ok(query)
}

impl<'a> Parse<'a> {
    /// Of a body.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn of(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let (name, query) = (body.text()?, body.text()?);
        let types = (0..body.count()?)
            .map(|_| body.oid())
            .collect::<Result<_, _>>()?;
        body.end()?;
        Ok(Self { name, query, types })
    }
}

impl<'a> Bind<'a> {
    /// Of a body.
    ///
    /// # Errors
    /// Where its names are malformed; the rest is Postgres's to check.
    pub fn of(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        Ok(Self {
            portal: body.text()?,
            statement: body.text()?,
            rest: body.rest(),
        })
    }
}

impl<'a> Named<'a> {
    /// Of the body of a Describe or Close.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn of(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let kind = body.byte()?;
        let name = body.text()?;
        body.end()?;
        match kind {
            b'S' => Ok(Self::Statement(name)),
            b'P' => Ok(Self::Portal(name)),
            _ => Err(Malformed::Value("the kind of what is named")),
        }
    }
}

impl<'a> Execute<'a> {
    /// Of a body.
    ///
    /// # Errors
    /// Where it is malformed.
    pub fn of(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let execute = Self {
            portal: body.text()?,
            max_rows: body.int32()?,
        };
        body.end()?;
        Ok(execute)
    }
}

/// Characters that stay as they are in a comment: RFC 3986's unreserved ones.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A sqlcommenter comment: ` /*key='value',key='value'*/`.
///
/// Keys and values are percent-encoded, so that no `*/`, quote or NUL in them can
/// end it: <https://google.github.io/sqlcommenter/spec/>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comment(String);

impl Comment {
    /// Of these pairs, which come out sorted by key.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let mut pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| {
                (
                    utf8_percent_encode(key, ENCODED).to_string(),
                    utf8_percent_encode(value, ENCODED).to_string(),
                )
            })
            .collect();
        pairs.sort();
        let mut text = String::new();
        for (key, value) in pairs {
            let opening = if text.is_empty() { " /*" } else { "," };
            // Writing to a String does not fail.
            let _ = write!(text, "{opening}{key}='{value}'");
        }
        if !text.is_empty() {
            text.push_str("*/");
        }
        Self(text)
    }

    /// As it is appended to a statement; empty without pairs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A message that cannot be put into a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unencodable {
    /// A NUL would end a string early and misframe what follows.
    #[error("a string to be sent holds a NUL")]
    Nul,
    /// No length field can hold it.
    #[error("a message to be sent is too long")]
    TooLong,
}

/// Query, of statements that run one after another in one message, each with a
/// comment of its own.
///
/// # Errors
/// Where they cannot be framed; `out` is as it was.
pub fn put_query<'p>(
    out: &mut Vec<u8>,
    plans: impl IntoIterator<Item = (&'p Plan, &'p Comment)>,
) -> Result<(), Unencodable> {
    let mut text = String::new();
    for (plan, comment) in plans {
        if !text.is_empty() {
            text.push_str("; ");
        }
        text.push_str(plan.text());
        text.push_str(comment.as_str());
    }
    put(out, tag::QUERY, |body| string(body, &text))
}

/// Query, of a statement of the proxy's own.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub(crate) fn put_own_query(out: &mut Vec<u8>, sql: &'static str) -> Result<(), Unencodable> {
    put(out, tag::QUERY, |body| string(body, sql))
}

/// Parse.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub fn put_parse(
    out: &mut Vec<u8>,
    name: &str,
    plan: &Plan,
    comment: &Comment,
    types: &[u32],
) -> Result<(), Unencodable> {
    let text = format!("{}{}", plan.text(), comment.as_str());
    parse(out, name, &text, types)
}

fn parse(out: &mut Vec<u8>, name: &str, text: &str, types: &[u32]) -> Result<(), Unencodable> {
    let count = u16::try_from(types.len()).map_err(|_| Unencodable::TooLong)?;
    put(out, tag::PARSE, |body| {
        string(body, name)?;
        string(body, text)?;
        body.extend_from_slice(&count.to_be_bytes());
        body.extend(types.iter().flat_map(|oid| oid.to_be_bytes()));
        Ok(())
    })
}

/// Describe.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub fn put_describe(out: &mut Vec<u8>, what: Named<'_>) -> Result<(), Unencodable> {
    put(out, tag::DESCRIBE, |body| named(body, what))
}

/// Close.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub fn put_close(out: &mut Vec<u8>, what: Named<'_>) -> Result<(), Unencodable> {
    put(out, tag::CLOSE, |body| named(body, what))
}

/// Execute.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub fn put_execute(out: &mut Vec<u8>, execute: Execute<'_>) -> Result<(), Unencodable> {
    put(out, tag::EXECUTE, |body| {
        string(body, execute.portal)?;
        body.extend_from_slice(&execute.max_rows.to_be_bytes());
        Ok(())
    })
}

/// CopyFail, with the reason that Postgres reports.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub fn put_copy_fail(out: &mut Vec<u8>, reason: &str) -> Result<(), Unencodable> {
    put(out, tag::COPY_FAIL, |body| string(body, reason))
}

/// PasswordMessage: a password, or its md5 image.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub(crate) fn put_password(out: &mut Vec<u8>, password: &str) -> Result<(), Unencodable> {
    put(out, tag::PASSWORD, |body| string(body, password))
}

/// SASLInitialResponse.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub(crate) fn put_sasl_initial(
    out: &mut Vec<u8>,
    mechanism: &str,
    data: &[u8],
) -> Result<(), Unencodable> {
    let len = i32::try_from(data.len()).map_err(|_| Unencodable::TooLong)?;
    put(out, tag::PASSWORD, |body| {
        string(body, mechanism)?;
        body.extend_from_slice(&len.to_be_bytes());
        body.extend_from_slice(data);
        Ok(())
    })
}

/// SASLResponse.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub(crate) fn put_sasl(out: &mut Vec<u8>, data: &[u8]) -> Result<(), Unencodable> {
    put(out, tag::PASSWORD, |body| {
        body.extend_from_slice(data);
        Ok(())
    })
}

/// Sync.
pub fn put_sync(out: &mut Vec<u8>) {
    out.extend_from_slice(&[tag::SYNC, 0, 0, 0, 4]);
}

/// Flush.
pub fn put_flush(out: &mut Vec<u8>) {
    out.extend_from_slice(&[tag::FLUSH, 0, 0, 0, 4]);
}

/// Terminate, whole.
pub const TERMINATE: [u8; HEADER] = [tag::TERMINATE, 0, 0, 0, 4];

/// Terminate.
pub fn put_terminate(out: &mut Vec<u8>) {
    out.extend_from_slice(&TERMINATE);
}

/// Protocol 3.0.
const VERSION: u32 = 3 << 16;
/// The request code of SSLRequest.
const SSL: u32 = 1234 << 16 | 5679;
/// The request code of CancelRequest.
const CANCEL: u32 = 1234 << 16 | 5678;

/// SSLRequest.
pub(crate) fn put_ssl_request(out: &mut Vec<u8>) {
    out.extend_from_slice(&8u32.to_be_bytes());
    out.extend_from_slice(&SSL.to_be_bytes());
}

/// StartupMessage of protocol 3.0.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub(crate) fn put_startup<'a>(
    out: &mut Vec<u8>,
    parameters: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> Result<(), Unencodable> {
    untagged(out, |body| {
        body.extend_from_slice(&VERSION.to_be_bytes());
        for (name, value) in parameters {
            // An empty name would end the list.
            if name.is_empty() {
                return Err(Unencodable::Nul);
            }
            string(body, name)?;
            string(body, value)?;
        }
        body.push(0);
        Ok(())
    })
}

/// CancelRequest, on a connection of its own.
///
/// # Errors
/// Where it cannot be framed; `out` is as it was.
pub(crate) fn put_cancel(out: &mut Vec<u8>, pid: i32, secret: &[u8]) -> Result<(), Unencodable> {
    untagged(out, |body| {
        body.extend_from_slice(&CANCEL.to_be_bytes());
        body.extend_from_slice(&pid.to_be_bytes());
        body.extend_from_slice(secret);
        Ok(())
    })
}

type Written = Result<(), Unencodable>;

fn put(out: &mut Vec<u8>, tag: u8, write: impl FnOnce(&mut Vec<u8>) -> Written) -> Written {
    let start = out.len();
    out.push(tag);
    let written = untagged(out, write);
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn untagged(out: &mut Vec<u8>, write: impl FnOnce(&mut Vec<u8>) -> Written) -> Written {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    let written = write(out).and_then(|()| {
        let len = i32::try_from(out.len() - start).map_err(|_| Unencodable::TooLong)?;
        if let Some(field) = out.get_mut(start..start + 4) {
            field.copy_from_slice(&len.to_be_bytes());
        }
        Ok(())
    });
    if written.is_err() {
        out.truncate(start);
    }
    written
}

fn string(body: &mut Vec<u8>, text: &str) -> Written {
    if text.bytes().any(|byte| byte == 0) {
        return Err(Unencodable::Nul);
    }
    body.extend_from_slice(text.as_bytes());
    body.push(0);
    Ok(())
}

fn named(body: &mut Vec<u8>, what: Named<'_>) -> Written {
    let (kind, name) = match what {
        Named::Statement(name) => (b'S', name),
        Named::Portal(name) => (b'P', name),
    };
    body.push(kind);
    string(body, name)
}

#[cfg(test)]
mod tests {
    use super::super::{Scanner, Step, Tags};
    use super::*;
    use crate::upstream::noise::Noise;

    /// What was put is one whole frame; its tag and body.
    fn body(out: &[u8]) -> (u8, &[u8]) {
        let step = Scanner::new(Tags::ALL, 1 << 20).next(out).unwrap();
        let Step::Interesting { tag, len } = step else {
            panic!("{step:?}")
        };
        assert_eq!(len, out.len());
        (tag, &out[HEADER..])
    }

    fn encoded(write: impl FnOnce(&mut Vec<u8>) -> Written) -> Vec<u8> {
        let mut out = Vec::new();
        write(&mut out).unwrap();
        out
    }

    #[test]
    fn what_is_put_reads_back() {
        let out = encoded(|out| parse(out, "s1", "SELECT $1", &[23, 0]));
        let (tag, bytes) = body(&out);
        assert_eq!(tag, tag::PARSE);
        assert_eq!(
            Parse::of(bytes).unwrap(),
            Parse {
                name: "s1",
                query: "SELECT $1",
                types: vec![23, 0]
            }
        );

        for what in [Named::Statement("s1"), Named::Portal("")] {
            let out = encoded(|out| put_describe(out, what));
            assert_eq!(Named::of(body(&out).1), Ok(what));
            let out = encoded(|out| put_close(out, what));
            assert_eq!(Named::of(body(&out).1), Ok(what));
        }

        let execute = Execute {
            portal: "p",
            max_rows: 50,
        };
        let out = encoded(|out| put_execute(out, execute));
        assert_eq!(Execute::of(body(&out).1), Ok(execute));

        let out = encoded(|out| put_own_query(out, "SELECT 1"));
        assert_eq!(query(body(&out).1), Ok("SELECT 1"));
    }

    #[test]
    fn bind_gives_its_names_and_leaves_the_rest() {
        let bind = Bind::of(b"p\0s\0\0\0\0\0\0\0").unwrap();
        assert_eq!((bind.portal, bind.statement), ("p", "s"));
        assert_eq!(bind.rest, [0; 6]);
        assert_eq!(Bind::of(b"p\0s"), Err(Malformed::Unterminated));
    }

    #[test]
    fn text_is_strict() {
        assert_eq!(query(b"SELECT '\xff'\0"), Err(Malformed::Encoding));
        assert_eq!(query(b"SELECT 1\0; SELECT 2\0"), Err(Malformed::Long));
        assert_eq!(query(b"SELECT 1"), Err(Malformed::Unterminated));
    }

    #[test]
    fn a_nul_leaves_nothing_behind() {
        let mut out = b"before".to_vec();
        assert_eq!(put_copy_fail(&mut out, "a\0b"), Err(Unencodable::Nul));
        assert_eq!(
            put_startup(&mut out, [("user", "a\0database\0b")]),
            Err(Unencodable::Nul)
        );
        assert_eq!(put_startup(&mut out, [("", "a")]), Err(Unencodable::Nul));
        assert_eq!(out, b"before");
    }

    #[test]
    fn startup_and_cancel_have_no_tag() {
        let out = encoded(|out| put_startup(out, [("user", "pgveil")]));
        assert_eq!(out, b"\0\0\0\x15\0\x03\0\0user\0pgveil\0\0");
        let out = encoded(|out| put_cancel(out, 7, &[1, 2, 3, 4]));
        assert_eq!(out, [0, 0, 0, 16, 4, 210, 22, 46, 0, 0, 0, 7, 1, 2, 3, 4]);
    }

    #[test]
    fn a_comment_cannot_be_left() {
        let comment = Comment::of(&[
            ("pgveil_session", "*/; DROP TABLE t --"),
            ("pgveil_principal", "agent:o'brien\0\n"),
        ]);
        assert_eq!(
            comment.as_str(),
            " /*pgveil_principal='agent%3Ao%27brien%00%0A',\
             pgveil_session='%2A%2F%3B%20DROP%20TABLE%20t%20--'*/"
        );
        assert_eq!(Comment::of(&[]).as_str(), "");
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise::new(3);
        for _ in 0..50_000 {
            let bytes = noise.bytes(64);
            let _ = query(&bytes);
            let _ = Parse::of(&bytes);
            let _ = Bind::of(&bytes);
            let _ = Named::of(&bytes);
            let _ = Execute::of(&bytes);
        }
    }
}
