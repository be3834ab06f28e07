//! The other side of `listener::step_up`: asks a proxy for a token by a password and a
//! one-time code.
//!
//! Knows nothing about what a token says. Invariant: the code goes only to a server that
//! has proved that it knows the password's verifier, and not where others read along.

use super::auth::{authenticate, request_code};
use super::connect::{ConnectError, Target, open, read_message, send, within};
use super::frame::backend::{self, tag};
use super::frame::frontend::{put_password, put_startup};
use super::refusal::Cause;
use crate::listener::{EXPIRES, LOGIN, TOKEN};
use crate::secret::Secret;

/// A token for a code: itself, and when it expires; on behalf of the target's user, for
/// that agent, if there is one.
///
/// # Errors
/// As [`Cause`] says.
pub(crate) async fn step_up(
    target: &Target,
    password: &Secret,
    agent: &str,
    code: &str,
) -> Result<(String, String), ConnectError> {
    within(target, exchange(target, password, agent, code)).await
}

async fn exchange(
    target: &Target,
    password: &Secret,
    agent: &str,
    code: &str,
) -> Result<(String, String), Cause> {
    let mut stream = open(target).await?;
    if !stream.is_private() {
        return Err(Cause::Cleartext);
    }
    let parameters = [
        ("user", target.user.as_str()),
        ("database", &target.dbname),
        ("application_name", "pgveil login"),
        (LOGIN, agent),
    ];
    send(&mut stream, |out| put_startup(out, parameters)).await?;
    authenticate(&mut stream, &target.user, Some(password), true).await?;
    request_code(&mut stream).await?;
    send(&mut stream, |out| put_password(out, code)).await?;
    let (mut token, mut expires) = (None, None);
    loop {
        let (tag, body) = read_message(&mut stream).await?;
        match tag {
            tag::PARAMETER_STATUS => match backend::parameter(&body)? {
                (TOKEN, value) => token = Some(value.to_owned()),
                (EXPIRES, value) => expires = Some(value.to_owned()),
                _ => return Err(other(tag)),
            },
            tag::READY_FOR_QUERY => break,
            tag => return Err(other(tag)),
        }
    }
    token
        .zip(expires)
        .ok_or_else(|| Cause::Protocol("it gives no token".into()))
}

fn other(tag: u8) -> Cause {
    let tag = tag.escape_ascii();
    Cause::Protocol(format!("a message `{tag}` in place of a token"))
}
