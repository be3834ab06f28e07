//! What `pgveil login` says to the proxy, once it has proved a password: a one-time code,
//! for which it gets a token.
//!
//! Knows nothing about codes. A client asks for it by a protocol option that no other
//! server knows, so what follows AuthenticationOk is ours: AuthenticationCleartextPassword
//! asks for the code, a password message gives it, and two ParameterStatus tell the token
//! and when it expires. Invariant: neither goes where others read along, or is shown by `Debug`.

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;

use super::handshake::{one_line, response, send};
use super::{Accept, Refused, Stream};
use crate::identity::login::LoginError;
use crate::identity::{Method, Principal};
use crate::wire::{self, Authentication};

/// The parameter that is the token.
pub(crate) const TOKEN: &str = "pgveil_token";
/// The parameter that is when it expires.
pub(crate) const EXPIRES: &str = "pgveil_token_expires";
/// Longer than any code.
const CODE: usize = 64;

/// What is asked for.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    /// Who has proved a password.
    pub principal: &'a Principal,
    /// The agent that is to act on their behalf, if it is not for themselves.
    pub agent: Option<&'a str>,
    /// Where they are.
    pub client: SocketAddr,
    /// What they named as database.
    pub dataset: &'a str,
    /// The code that they gave.
    pub code: &'a str,
}

/// A token that is given.
#[derive(Clone)]
pub struct Issued {
    /// The token itself.
    pub token: String,
    /// When it expires.
    pub expires: Timestamp,
}

impl fmt::Debug for Asked<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Asked")
            .field("principal", &self.principal.name)
            .field("agent", &self.agent)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

impl<'a> Asked<'a> {
    pub(super) fn new(
        principal: &'a Principal,
        agent: &'a str,
        client: SocketAddr,
        dataset: &'a str,
    ) -> Self {
        Self {
            principal,
            agent: (!agent.is_empty()).then_some(agent),
            client,
            dataset,
            code: "",
        }
    }
}

/// Asks for a code, and makes the last words by which a token is given.
pub(super) async fn step_up<A: Accept>(
    stream: &mut Stream,
    asked: Asked<'_>,
    private: bool,
    accept: &A,
) -> Result<Vec<u8>, Refused> {
    let refused = |why| Refused::Login {
        user: one_line(&asked.principal.name),
        why,
    };
    if !private {
        return Err(refused(LoginError::Open));
    }
    // Whoever has a token does not get a longer one for it.
    if !matches!(asked.principal.method, Method::Scram | Method::ScramPlus) {
        return Err(refused(LoginError::Method));
    }
    let mut out = Vec::new();
    wire::put(&mut out, &Authentication::CleartextPassword);
    send(stream, &out).await?;
    let body = response(stream, CODE).await?;
    let code = match body.split_last() {
        Some((0, text)) if !text.contains(&0) => std::str::from_utf8(text).ok(),
        _ => None,
    };
    let code = code.ok_or_else(|| refused(LoginError::Malformed))?;
    let issued = accept
        .step_up(Asked { code, ..asked })
        .await
        .map_err(refused)?;
    out.clear();
    for (name, value) in [(TOKEN, issued.token), (EXPIRES, issued.expires.to_string())] {
        let status = wire::ParameterStatus::new(name.into(), value);
        wire::put(&mut out, &status);
    }
    let ready = wire::ReadyForQuery::new(wire::TransactionStatus::Idle);
    wire::put(&mut out, &ready);
    Ok(out)
}
