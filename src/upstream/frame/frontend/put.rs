//! Encoders for what the proxy says upstream in a client's place.
//!
//! Knows nothing about sessions. The invariant: SQL is encoded only from a [`Plan`]
//! or from text that stands in this program, and what the proxy adds to it is a
//! [`Comment`]; nothing that is put can end its frame early.

use super::super::HEADER;
use super::{Comment, Execute, Named, tag};
use crate::sql::Plan;

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

/// CopyData and CopyDone: what the proxy's own `COPY … FROM STDIN` reads.
pub(crate) fn put_copy(out: &mut Vec<u8>, data: &[u8]) {
    // Far below what a length can hold.
    for part in data.chunks(1 << 20) {
        let Ok(len) = u32::try_from(part.len() + 4) else {
            continue;
        };
        out.push(tag::COPY_DATA);
        out.extend_from_slice(&len.to_be_bytes());
        out.extend_from_slice(part);
    }
    out.extend_from_slice(&[tag::COPY_DONE, 0, 0, 0, 4]);
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
    use super::super::super::{Scanner, Step, Tags};
    use super::super::{Parse, query};
    use super::*;

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
}
