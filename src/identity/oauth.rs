//! OAUTHBEARER (RFC 7628), the server's side: what a client's message says, and what it is
//! answered where its token is not taken.
//!
//! Knows nothing about sockets or about what makes a token good. Invariants: a message is
//! read whole or refused; a token of another form than RFC 6750 gives it is none.
//!
//! Sources: RFC 7628, section 3; RFC 6750, section 2.1;
//! <https://www.postgresql.org/docs/18/sasl-authentication.html#SASL-OAUTHBEARER>

use std::fmt;

use crate::error::{SqlState, Tell, Told};

/// The mechanism.
pub const OAUTHBEARER: &str = "OAUTHBEARER";
/// All that a client may answer, once it has heard that its token is not taken.
pub const DUMMY: &[u8] = b"\x01";

/// What a client gives.
#[derive(PartialEq, Eq)]
pub enum Given<'a> {
    /// A token, which has the form of one.
    Token(&'a str),
    /// Something in place of one.
    Malformed,
    /// Nothing: it asks where tokens are to be had.
    Nothing,
}

impl fmt::Debug for Given<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token(_) => "Token",
            Self::Malformed => "Malformed",
            Self::Nothing => "Nothing",
        })
    }
}

/// Where tokens are to be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discovery {
    /// The document that says it (OpenID Connect Discovery 1.0, section 4).
    pub document: String,
    /// What is to be asked for there.
    pub scope: String,
}

/// Why a message is none of this mechanism's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OAuthError {
    /// Its form.
    #[error("malformed OAUTHBEARER message: {0}")]
    Malformed(&'static str),
    /// There is none with this mechanism.
    #[error("malformed OAUTHBEARER message: the client wants its channel bound")]
    Binding,
    /// Acting as somebody else is a matter of policy, not of SASL.
    #[error("the client asked for an authorization identity")]
    AuthorizationIdentity,
    /// Anything else than [`DUMMY`].
    #[error("malformed OAUTHBEARER message: a refusal is answered by one byte, 0x01")]
    Dummy,
}

impl Tell for OAuthError {
    fn tell(&self) -> Told {
        let state = match self {
            Self::Malformed(_) | Self::Binding | Self::Dummy => SqlState::PROTOCOL_VIOLATION,
            Self::AuthorizationIdentity => SqlState::FEATURE_NOT_SUPPORTED,
        };
        Told::fatal(state, self.to_string())
    }
}

/// Reads a client's message.
///
/// # Errors
/// As [`OAuthError`] says.
pub fn parse(message: &[u8]) -> Result<Given<'_>, OAuthError> {
    let malformed = OAuthError::Malformed;
    let text = std::str::from_utf8(message).map_err(|_| malformed("it is no text"))?;
    // The GS2 header: whether the channel is bound, and as whom to act.
    let rest = match text.split_at_checked(1) {
        Some(("n" | "y", rest)) => rest.strip_prefix(','),
        Some(("p", _)) => return Err(OAuthError::Binding),
        _ => None,
    };
    let rest = rest.ok_or(malformed("no channel-binding flag"))?;
    if rest.starts_with("a=") {
        return Err(OAuthError::AuthorizationIdentity);
    }
    let rest = rest.strip_prefix(",\u{1}");
    let rest = rest.ok_or(malformed("no end of its header"))?;

    let mut auth = None;
    let mut pairs = rest.split('\u{1}');
    loop {
        // What follows the last separator is not ended by one.
        let pair = pairs.next().ok_or(malformed("no end of its list"))?;
        if pair.is_empty() {
            break;
        }
        let (key, value) = pair.split_once('=').ok_or(malformed("a key alone"))?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(malformed("a key that is none"));
        }
        // VCHAR, SP, HTAB, CR and LF.
        let allowed = |byte: u8| matches!(byte, 0x20..=0x7e | b'\t' | b'\r' | b'\n');
        if !value.bytes().all(allowed) {
            return Err(malformed("a value that is none"));
        }
        // Others, host and port, are of no use here.
        if key == "auth" && auth.replace(value).is_some() {
            return Err(malformed("two of `auth`"));
        }
    }
    if (pairs.next(), pairs.next()) != (Some(""), None) {
        return Err(malformed("bytes after its end"));
    }
    auth.map(given).ok_or(malformed("no `auth`"))
}

fn given(auth: &str) -> Given<'_> {
    if auth.is_empty() {
        return Given::Nothing;
    }
    let token = auth.split_once(' ').and_then(|(scheme, rest)| {
        let token = rest.trim_start_matches(' ');
        scheme.eq_ignore_ascii_case("bearer").then_some(token)
    });
    let is_token = |token: &&str| {
        let body = token.trim_end_matches('=');
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/".contains(&byte);
        !body.is_empty() && body.bytes().all(allowed)
    };
    token
        .filter(is_token)
        .map_or(Given::Malformed, Given::Token)
}

/// What a client is answered whose token is not taken, as libpq reads it.
pub fn refusal(discovery: Option<&Discovery>) -> Vec<u8> {
    let mut answer = serde_json::json!({ "status": "invalid_token" });
    if let (Some(discovery), Some(fields)) = (discovery, answer.as_object_mut()) {
        let document = discovery.document.as_str();
        fields.insert("openid-configuration".into(), document.into());
        fields.insert("scope".into(), discovery.scope.as_str().into());
    }
    answer.to_string().into_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read() {
        for (message, given) in [
            (
                &b"n,,\x01auth=Bearer a.b-c_d~e+f/g==\x01\x01"[..],
                Given::Token("a.b-c_d~e+f/g=="),
            ),
            (b"y,,\x01auth=bEARER   x\x01\x01", Given::Token("x")),
            (
                b"n,,\x01host=db.example\x01port=5432\x01auth=Bearer x\x01\x01",
                Given::Token("x"),
            ),
            (b"n,,\x01auth=\x01\x01", Given::Nothing),
            (b"n,,\x01auth=Bearer\x01\x01", Given::Malformed),
            (b"n,,\x01auth=Bearer \x01\x01", Given::Malformed),
            (b"n,,\x01auth=Bearer =\x01\x01", Given::Malformed),
            (b"n,,\x01auth=Bearer a=b\x01\x01", Given::Malformed),
            (b"n,,\x01auth=Bearer a b\x01\x01", Given::Malformed),
            (b"n,,\x01auth=Bearer a \x01\x01", Given::Malformed),
            (b"n,,\x01auth=Bearer\ta\x01\x01", Given::Malformed),
            (b"n,,\x01auth= Bearer a\x01\x01", Given::Malformed),
            (b"n,,\x01auth=Basic a\x01\x01", Given::Malformed),
            (b"n,,\x01auth=a\x01\x01", Given::Malformed),
        ] {
            assert_eq!(parse(message), Ok(given), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn malformed_messages_are_refused() {
        let malformed = OAuthError::Malformed;
        for (message, why) in [
            (&b""[..], malformed("no channel-binding flag")),
            (b"\x01", malformed("no channel-binding flag")),
            (
                b"x,,\x01auth=Bearer a\x01\x01",
                malformed("no channel-binding flag"),
            ),
            (b"n", malformed("no channel-binding flag")),
            (
                b"n\x01auth=Bearer a\x01\x01",
                malformed("no channel-binding flag"),
            ),
            (
                b"p=tls-server-end-point,,\x01auth=Bearer a\x01\x01",
                OAuthError::Binding,
            ),
            (
                b"n,a=other,\x01auth=Bearer a\x01\x01",
                OAuthError::AuthorizationIdentity,
            ),
            (
                b"n,b=other,\x01auth=Bearer a\x01\x01",
                malformed("no end of its header"),
            ),
            (
                b"n,,auth=Bearer a\x01\x01",
                malformed("no end of its header"),
            ),
            (b"n,,", malformed("no end of its header")),
            (b"n,,\x01", malformed("bytes after its end")),
            (b"n,,\x01\x01", malformed("no `auth`")),
            (b"n,,\x01auth=Bearer a", malformed("no end of its list")),
            (
                b"n,,\x01auth=Bearer a\x01",
                malformed("bytes after its end"),
            ),
            (
                b"n,,\x01auth=Bearer a\x01\x01x",
                malformed("bytes after its end"),
            ),
            (
                b"n,,\x01auth=Bearer a\x01\x01\x01",
                malformed("bytes after its end"),
            ),
            (
                b"n,,\x01auth=Bearer a\x01\x01auth=Bearer b\x01\x01",
                malformed("bytes after its end"),
            ),
            (
                b"n,,\x01auth=Bearer a\x01auth=Bearer b\x01\x01",
                malformed("two of `auth`"),
            ),
            (b"n,,\x01auth\x01\x01", malformed("a key alone")),
            (b"n,,\x01=Bearer a\x01\x01", malformed("a key that is none")),
            (
                b"n,,\x01au th=Bearer a\x01\x01",
                malformed("a key that is none"),
            ),
            (b"n,,\x01host=x\x01\x01", malformed("no `auth`")),
            (b"n,,\x01AUTH=Bearer a\x01\x01", malformed("no `auth`")),
            (
                b"n,,\x01auth=Bearer a\0\x01\x01",
                malformed("a value that is none"),
            ),
            (
                b"n,,\x01auth=Bearer \xc3\xa4\x01\x01",
                malformed("a value that is none"),
            ),
            (
                b"n,,\x01auth=Bearer a\x7f\x01\x01",
                malformed("a value that is none"),
            ),
            (
                b"n,,\x01auth=Bearer \xff\x01\x01",
                malformed("it is no text"),
            ),
        ] {
            assert_eq!(parse(message), Err(why), "{}", message.escape_ascii());
        }
    }

    #[test]
    fn a_refusal_says_where_tokens_are_to_be_had() {
        let discovery = Discovery {
            document: "https://login.corp.example/.well-known/openid-configuration".into(),
            scope: "openid".into(),
        };
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        assert_eq!(
            text(refusal(Some(&discovery))),
            r#"{"openid-configuration":"https://login.corp.example/.well-known/openid-configuration","scope":"openid","status":"invalid_token"}"#
        );
        assert_eq!(text(refusal(None)), r#"{"status":"invalid_token"}"#);
    }
}
