//! Asks for a token the way of RFC 7628, as libpq 18 and later give one.
//!
//! Invariants: whatever is wrong with a token, its bearer hears the same, and as an unknown
//! name does; nothing is asked for where others read along.
//!
//! Source: <https://www.postgresql.org/docs/18/sasl-authentication.html#SASL-OAUTHBEARER>

use std::time::Duration;

use bytes::Bytes;
use tokio::time::timeout;

use super::handshake::{Caller, initial_response, one_line, response, send};
use super::{Identities, Refused, Stream};
use crate::identity::Principal;
use crate::identity::oauth::{DUMMY, Given, OAUTHBEARER, OAuthError, parse, refusal};
use crate::identity::scram::ScramError;
use crate::identity::token::{LONGEST, TokenError};
use crate::wire::{self, Authentication};

/// What stands around a token.
const AROUND: usize = 1024;
/// How long a client that was refused may take to hear it.
const PATIENCE: Duration = Duration::from_secs(3);

/// Has a client prove who it is by OAUTHBEARER. What remains to be said where it does is left
/// in `out`.
pub(super) async fn bearer<I: Identities>(
    stream: &mut Stream,
    caller: &Caller<'_>,
    identities: &I,
    out: &mut Vec<u8>,
) -> Result<Principal, Refused> {
    wire::put(out, &Authentication::SASL(vec![OAUTHBEARER.into()]));
    send(stream, out).await?;
    out.clear();
    let first = response(stream, LONGEST + AROUND).await?;
    let (mechanism, initial) = initial_response(&first)?;
    if mechanism != OAUTHBEARER {
        return Err(ScramError::Mechanism.into());
    }
    let message = match initial {
        Some(message) => message.to_vec(),
        None => {
            ask(stream, &[]).await?;
            response(stream, LONGEST + AROUND).await?
        }
    };
    let user = || one_line(caller.user);
    let refused = |why: String| Refused::Bearer { user: user(), why };
    let taken = match parse(&message)? {
        Given::Token(token) => {
            caller.attempt.go_on()?;
            taken(token, caller, identities).map_err(refused)
        }
        Given::Malformed => {
            let why = TokenError::Malformed("it has not the form of one");
            Err(refused(why.to_string()))
        }
        Given::Nothing => Err(Refused::Discovery(user())),
    };
    let discovery = taken.is_err().then(|| identities.discovery(caller.user));
    if let Some(discovery) = discovery {
        let saying = async {
            ask(stream, &refusal(discovery.as_ref())).await?;
            response(stream, AROUND).await
        };
        let heard = timeout(PATIENCE, saying).await;
        // Whatever the client does when it has heard it, a verdict stands.
        if let Err(Refused::Discovery(_)) = taken
            && heard.map_err(|_| Refused::SlowAuthentication)?? != DUMMY
        {
            return Err(OAuthError::Dummy.into());
        }
    }
    taken
}

/// Who has a token, beside whatever certificate they need.
fn taken<I: Identities>(
    token: &str,
    caller: &Caller<'_>,
    identities: &I,
) -> Result<Principal, String> {
    let principal = identities.bearer(caller.user, caller.dataset, token);
    let principal = principal.map_err(|why| match &caller.lacks {
        Some(lacks) => lacks.to_string(),
        None => why.to_string(),
    })?;
    let bound = identities.bound(principal, caller.shown);
    bound.map_err(|why| why.to_string())
}

async fn ask(stream: &mut Stream, data: &[u8]) -> Result<(), Refused> {
    let mut out = Vec::new();
    let data = Bytes::copy_from_slice(data);
    wire::put(&mut out, &Authentication::SASLContinue(data));
    send(stream, &out).await
}
