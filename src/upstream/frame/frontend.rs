//! What a client says: decoders for what is looked into here, and encoders for what
//! the proxy says upstream in a client's place in [`put`].
//!
//! Knows nothing about sessions. The invariant: a message is read within its own
//! bounds and to its end.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

mod comment;
mod put;

pub use comment::Comment;
pub use put::{
    TERMINATE, Unencodable, put_close, put_copy_fail, put_describe, put_execute, put_flush,
    put_parse, put_query, put_sync, put_terminate,
};
pub(crate) use put::{
    put_cancel, put_copy, put_own_query, put_password, put_sasl, put_sasl_initial, put_ssl_request,
    put_startup,
};

use super::body::{Body, Malformed};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::noise::Noise;

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
