//! What Postgres says: decoders for the few messages that are looked into.
//!
//! Knows nothing about sessions. Rows are decoded for the proxy's own catalog
//! reads only; a client's pass unseen.
//!
//! <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use super::body::{Body, Malformed};

/// Tags of the messages Postgres sends.
pub mod tag {
    #![expect(missing_docs, reason = "the names are the protocol's own")]
    pub const AUTHENTICATION: u8 = b'R';
    pub const BACKEND_KEY_DATA: u8 = b'K';
    pub const BIND_COMPLETE: u8 = b'2';
    pub const CLOSE_COMPLETE: u8 = b'3';
    pub const COMMAND_COMPLETE: u8 = b'C';
    pub const COPY_BOTH_RESPONSE: u8 = b'W';
    pub const COPY_DATA: u8 = b'd';
    pub const COPY_DONE: u8 = b'c';
    pub const COPY_IN_RESPONSE: u8 = b'G';
    pub const COPY_OUT_RESPONSE: u8 = b'H';
    pub const DATA_ROW: u8 = b'D';
    pub const EMPTY_QUERY_RESPONSE: u8 = b'I';
    pub const ERROR_RESPONSE: u8 = b'E';
    pub const NEGOTIATE_PROTOCOL_VERSION: u8 = b'v';
    pub const NO_DATA: u8 = b'n';
    pub const NOTICE_RESPONSE: u8 = b'N';
    pub const NOTIFICATION_RESPONSE: u8 = b'A';
    pub const PARAMETER_DESCRIPTION: u8 = b't';
    pub const PARAMETER_STATUS: u8 = b'S';
    pub const PARSE_COMPLETE: u8 = b'1';
    pub const PORTAL_SUSPENDED: u8 = b's';
    pub const READY_FOR_QUERY: u8 = b'Z';
    pub const ROW_DESCRIPTION: u8 = b'T';
}

/// The fields of an ErrorResponse or NoticeResponse: code and text, in order.
///
/// <https://www.postgresql.org/docs/current/protocol-error-fields.html>
#[derive(Clone, Debug)]
pub struct Fields<'a>(Option<Body<'a>>);

impl<'a> Fields<'a> {
    /// Of a body.
    pub fn of(body: &'a [u8]) -> Self {
        Self(Some(Body::new(body)))
    }

    /// The first field of that code, as text.
    ///
    /// # Errors
    /// Where the body is malformed up to that field, or its text is not UTF-8.
    pub fn find(self, code: u8) -> Result<Option<&'a str>, Malformed> {
        for field in self {
            let (found, text) = field?;
            if found == code {
                let text = std::str::from_utf8(text).map_err(|_| Malformed::Encoding)?;
                return Ok(Some(text));
            }
        }
        Ok(None)
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u8, &'a [u8]), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut body = self.0.take()?;
        match body.byte() {
            Ok(0) => body.end().err().map(Err),
            Ok(code) => Some(body.raw().map(|text| {
                self.0 = Some(body);
                (code, text)
            })),
            Err(malformed) => Some(Err(malformed)),
        }
    }
}

/// Where a session stands between statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transaction {
    /// `I`: none is open.
    Idle,
    /// `T`: one is open.
    Open,
    /// `E`: one is open and has failed.
    Failed,
}

/// ReadyForQuery.
///
/// # Errors
/// Where it is malformed.
pub fn ready(body: &[u8]) -> Result<Transaction, Malformed> {
    match body {
        b"I" => Ok(Transaction::Idle),
        b"T" => Ok(Transaction::Open),
        b"E" => Ok(Transaction::Failed),
        _ => Err(Malformed::Value("the transaction status")),
    }
}

/// CommandComplete: `SELECT 5`.
///
/// # Errors
/// Where it is malformed.
pub fn command(body: &[u8]) -> Result<&str, Malformed> {
    let mut body = Body::new(body);
    let tag = body.text()?;
    body.end()?;
    Ok(tag)
}

/// How many rows a command tag speaks of: 5 for `SELECT 5` and `INSERT 0 5`.
pub fn affected(command: &str) -> Option<u64> {
    command.rsplit_once(' ')?.1.parse().ok()
}

/// ParameterStatus: name and value.
///
/// # Errors
/// Where it is malformed.
pub fn parameter(body: &[u8]) -> Result<(&str, &str), Malformed> {
    let mut body = Body::new(body);
    let pair = (body.text()?, body.text()?);
    body.end()?;
    Ok(pair)
}

/// BackendKeyData: process id and secret, 4 bytes in protocol 3.0, up to 256 in 3.2.
///
/// # Errors
/// Where it is malformed.
pub fn key(body: &[u8]) -> Result<(i32, &[u8]), Malformed> {
    let mut body = Body::new(body);
    let pid = body.int32()?;
    match body.rest() {
        secret if (4..=256).contains(&secret.len()) => Ok((pid, secret)),
        _ => Err(Malformed::Value("the cancel key")),
    }
}

/// A column of a RowDescription.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name in the result: bytes, for Postgres does not check them here.
    pub name: &'a [u8],
    /// The relation it comes from unchanged; 0 if it is computed.
    pub relation: u32,
    /// Its attribute number there; 0 if it is computed.
    pub attnum: i16,
    /// Its type
    pub type_oid: u32,
    /// `pg_type.typlen`
    pub type_len: i16,
    /// Its type's modifier
    pub typmod: i32,
    /// 0 text, 1 binary; 0 in the answer to Describe of a statement
    pub format: i16,
}

/// The columns of a RowDescription.
#[derive(Clone, Debug)]
pub struct Shape<'a> {
    body: Body<'a>,
    left: u16,
    ended: bool,
}

impl<'a> Shape<'a> {
    /// Of a body.
    ///
    /// # Errors
    /// Where it is too short to say how many there are.
    pub fn of(body: &'a [u8]) -> Result<Self, Malformed> {
        let mut body = Body::new(body);
        let left = body.count()?;
        Ok(Self {
            body,
            left,
            ended: false,
        })
    }

    fn field(&mut self) -> Result<Field<'a>, Malformed> {
        let body = &mut self.body;
        Ok(Field {
            name: body.raw()?,
            relation: body.oid()?,
            attnum: body.int16()?,
            type_oid: body.oid()?,
            type_len: body.int16()?,
            typmod: body.int32()?,
            format: body.int16()?,
        })
    }
}

impl<'a> Iterator for Shape<'a> {
    type Item = Result<Field<'a>, Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let Some(left) = self.left.checked_sub(1) else {
            self.ended = true;
            return self.body.end().err().map(Err);
        };
        self.left = left;
        let field = self.field();
        self.ended = field.is_err();
        Some(field)
    }
}

/// DataRow in text format, for the proxy's own reads.
///
/// # Errors
/// Where it is malformed, or a value is not UTF-8.
pub(crate) fn row(body: &[u8]) -> Result<Vec<Option<String>>, Malformed> {
    let mut body = Body::new(body);
    let values = (0..body.count()?)
        .map(|_| {
            let Ok(len) = usize::try_from(body.int32()?) else {
                return Ok(None);
            };
            let text = std::str::from_utf8(body.bytes(len)?).map_err(|_| Malformed::Encoding)?;
            Ok(Some(text.to_owned()))
        })
        .collect::<Result<_, _>>()?;
    body.end()?;
    Ok(values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::noise::Noise;

    #[test]
    fn error_fields_in_order() {
        let body = b"SERROR\0C53300\0Mtoo many\0\0";
        let fields: Vec<_> = Fields::of(body).map(Result::unwrap).collect();
        assert_eq!(
            fields,
            [(b'S', &b"ERROR"[..]), (b'C', b"53300"), (b'M', b"too many")]
        );
        assert_eq!(Fields::of(body).find(b'C'), Ok(Some("53300")));
        assert_eq!(Fields::of(body).find(b'H'), Ok(None));
        assert_eq!(
            Fields::of(b"Mno end").find(b'C'),
            Err(Malformed::Unterminated)
        );
        assert_eq!(Fields::of(b"").find(b'C'), Err(Malformed::Short));
        assert_eq!(Fields::of(b"\0more").find(b'C'), Err(Malformed::Long));
    }

    #[test]
    fn small_messages() {
        assert_eq!(ready(b"T"), Ok(Transaction::Open));
        assert!(ready(b"").is_err() && ready(b"II").is_err() && ready(b"x").is_err());
        assert_eq!(command(b"INSERT 0 12\0"), Ok("INSERT 0 12"));
        assert_eq!(affected("INSERT 0 12"), Some(12));
        assert_eq!(affected("CREATE TABLE"), None);
        assert_eq!(
            parameter(b"TimeZone\0Etc/UTC\0"),
            Ok(("TimeZone", "Etc/UTC"))
        );
        assert_eq!(parameter(b"a\0b\0c"), Err(Malformed::Long));
        assert_eq!(key(&[0, 0, 0, 9, 1, 2, 3, 4]), Ok((9, &[1u8, 2, 3, 4][..])));
        assert!(key(&[0, 0, 0, 9, 1]).is_err());
    }

    #[test]
    fn a_row_description() {
        let mut body = vec![0, 2];
        for (name, relation, attnum) in [("id", 16_400u32, 1i16), ("?column?", 0, 0)] {
            body.extend_from_slice(name.as_bytes());
            body.push(0);
            body.extend_from_slice(&relation.to_be_bytes());
            body.extend_from_slice(&attnum.to_be_bytes());
            body.extend_from_slice(&[0, 0, 0, 23, 0, 4, 255, 255, 255, 255, 0, 1]);
        }
        let fields: Vec<_> = Shape::of(&body).unwrap().map(Result::unwrap).collect();
        assert_eq!(fields.len(), 2);
        assert_eq!(fields[0].name, b"id");
        assert_eq!((fields[0].relation, fields[0].attnum), (16_400, 1));
        assert_eq!((fields[1].type_oid, fields[1].typmod), (23, -1));
        assert_eq!(fields[1].format, 1);
        for len in 0..body.len() {
            let whole =
                Shape::of(&body[..len]).and_then(|shape| shape.collect::<Result<Vec<_>, _>>());
            assert!(whole.is_err(), "{len}");
        }
        body.push(0);
        assert_eq!(Shape::of(&body).unwrap().last(), Some(Err(Malformed::Long)));
    }

    #[test]
    fn rows() {
        let body = [0, 3, 0, 0, 0, 1, b'x', 255, 255, 255, 255, 0, 0, 0, 0];
        assert_eq!(
            row(&body),
            Ok(vec![Some("x".into()), None, Some(String::new())])
        );
        assert_eq!(row(&[0, 1, 0, 0, 0, 9, b'x']), Err(Malformed::Short));
        assert_eq!(row(&[0, 1, 0, 0, 0, 1, 200]), Err(Malformed::Encoding));
    }

    #[test]
    fn noise_never_panics_and_always_ends() {
        let mut noise = Noise::new(5);
        for _ in 0..50_000 {
            let bytes = noise.bytes(64);
            let _ = ready(&bytes);
            let _ = command(&bytes).map(affected);
            let _ = parameter(&bytes);
            let _ = key(&bytes);
            let _ = row(&bytes);
            assert!(Fields::of(&bytes).count() <= bytes.len() + 1);
            if let Ok(shape) = Shape::of(&bytes) {
                assert!(shape.count() <= bytes.len() + 1);
            }
        }
    }
}
