//! Proves the proxy to Postgres, and with SCRAM Postgres to the proxy.
//!
//! Knows nothing about callers: the credentials are the proxy's own. The invariant:
//! an exchange once begun is finished; a server cannot skip its own proof by saying
//! AuthenticationOk early.
//!
//! <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-START-UP>

use postgres_protocol::authentication::{md5_hash, sasl};

use super::connect::{read_message, send};
use super::frame::backend::tag;
use super::frame::body::{Body, Malformed};
use super::frame::frontend::{put_password, put_sasl, put_sasl_initial};
use super::refusal::Cause;
use super::stream::Stream;
use super::tls;
use crate::secret::Secret;

/// Answers what the server asks until it says AuthenticationOk. `mutual`: only one that
/// proves itself too.
pub(super) async fn authenticate(
    stream: &mut Stream,
    user: &str,
    password: Option<&Secret>,
    mutual: bool,
) -> Result<(), Cause> {
    let text = || text(password);
    match request(stream).await? {
        Request::Ok | Request::Cleartext | Request::Md5(_) if mutual => {
            return Err(Cause::Method("other than SCRAM".into()));
        }
        Request::Ok => return Ok(()),
        Request::Cleartext if !stream.is_private() => return Err(Cause::Cleartext),
        Request::Cleartext => {
            let password = text()?;
            send(stream, |out| put_password(out, password)).await?;
        }
        Request::Md5(salt) => {
            let image = md5_hash(user.as_bytes(), text()?.as_bytes(), salt);
            send(stream, |out| put_password(out, &image)).await?;
        }
        Request::Sasl(mechanisms) => scram(stream, text()?, &mechanisms).await?,
        unexpected @ (Request::SaslContinue(_) | Request::SaslFinal(_)) => {
            return Err(out_of_order(&unexpected));
        }
    }
    match request(stream).await? {
        Request::Ok => Ok(()),
        unexpected => Err(out_of_order(&unexpected)),
    }
}

/// Waits until a proxy asks for a one-time code, as one that knows of them does.
pub(super) async fn request_code(stream: &mut Stream) -> Result<(), Cause> {
    match read_message(stream).await? {
        (tag::AUTHENTICATION, body) if Request::of(&body)? == Request::Cleartext => Ok(()),
        _ => Err(Cause::Protocol(
            "it does not ask for a one-time code".into(),
        )),
    }
}

async fn scram(stream: &mut Stream, password: &str, mechanisms: &[String]) -> Result<(), Cause> {
    let offers = |name| mechanisms.iter().any(|offered| offered == name);
    let end_point = match stream {
        Stream::Tls(tls) => tls::end_point(tls),
        Stream::Tcp(_) | Stream::Unix(_) => None,
    };
    // `unrequested` tells the server that we could have bound the channel: if it did
    // offer that and somebody took the offer away, it notices (RFC 5802 §6).
    let (mechanism, binding) = match end_point {
        Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => (
            sasl::SCRAM_SHA_256_PLUS,
            sasl::ChannelBinding::tls_server_end_point(hash),
        ),
        Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
        None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
    };
    if !offers(mechanism) {
        return Err(Cause::Method(mechanisms.join(", ")));
    }

    let mut scram = sasl::ScramSha256::new(password.as_bytes(), binding);
    send(stream, |out| {
        put_sasl_initial(out, mechanism, scram.message())
    })
    .await?;
    let challenge = match request(stream).await? {
        Request::SaslContinue(challenge) => challenge,
        unexpected => return Err(out_of_order(&unexpected)),
    };
    // Thousands of hashes: not on a thread that other sessions share.
    let mut scram = tokio::task::spawn_blocking(move || scram.update(&challenge).map(|()| scram))
        .await
        .map_err(std::io::Error::other)?
        .map_err(Cause::Scram)?;
    send(stream, |out| put_sasl(out, scram.message())).await?;
    match request(stream).await? {
        Request::SaslFinal(proof) => scram.finish(&proof).map_err(Cause::Scram),
        unexpected => Err(out_of_order(&unexpected)),
    }
}

fn text(password: Option<&Secret>) -> Result<&str, Cause> {
    let password = password.ok_or(Cause::NoPassword)?;
    password.expose_str().ok_or(Cause::NotText)
}

/// An Authentication message.
#[derive(Debug, PartialEq, Eq)]
enum Request {
    Ok,
    Cleartext,
    Md5([u8; 4]),
    Sasl(Vec<String>),
    SaslContinue(Vec<u8>),
    SaslFinal(Vec<u8>),
}

fn out_of_order(request: &Request) -> Cause {
    let name = match request {
        Request::Ok => "AuthenticationOk",
        Request::Cleartext => "AuthenticationCleartextPassword",
        Request::Md5(_) => "AuthenticationMD5Password",
        Request::Sasl(_) => "AuthenticationSASL",
        Request::SaslContinue(_) => "AuthenticationSASLContinue",
        Request::SaslFinal(_) => "AuthenticationSASLFinal",
    };
    Cause::Protocol(format!("{name} out of order"))
}

async fn request(stream: &mut Stream) -> Result<Request, Cause> {
    match read_message(stream).await? {
        (tag::AUTHENTICATION, body) => Request::of(&body),
        (tag, _) => Err(Cause::Protocol(format!(
            "a message `{}` before authentication is done",
            tag.escape_ascii()
        ))),
    }
}

impl Request {
    fn of(body: &[u8]) -> Result<Self, Cause> {
        let mut body = Body::new(body);
        Ok(match body.int32()? {
            0 => Self::Ok,
            3 => Self::Cleartext,
            5 => Self::Md5(body.rest().try_into().map_err(|_| Malformed::Short)?),
            10 => Self::Sasl(mechanisms(body)?),
            11 => Self::SaslContinue(body.rest().to_vec()),
            12 => Self::SaslFinal(body.rest().to_vec()),
            2 => return Err(Cause::Method("Kerberos V5".into())),
            7 | 8 => return Err(Cause::Method("GSSAPI".into())),
            9 => return Err(Cause::Method("SSPI".into())),
            other => return Err(Cause::Method(format!("number {other}"))),
        })
    }
}

/// A list of strings, ended by an empty one.
fn mechanisms(mut body: Body<'_>) -> Result<Vec<String>, Malformed> {
    let mut list = Vec::new();
    loop {
        match body.text()? {
            "" => return Ok(list),
            name => list.push(name.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::noise::Noise;

    #[test]
    fn requests() {
        assert_eq!(Request::of(&[0, 0, 0, 0]).unwrap(), Request::Ok);
        assert_eq!(
            Request::of(&[0, 0, 0, 5, 1, 2, 3, 4]).unwrap(),
            Request::Md5([1, 2, 3, 4])
        );
        assert_eq!(
            Request::of(b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0").unwrap(),
            Request::Sasl(vec!["SCRAM-SHA-256-PLUS".into(), "SCRAM-SHA-256".into()])
        );
        assert!(matches!(Request::of(&[0, 0, 0, 7]), Err(Cause::Method(_))));
        assert!(matches!(
            Request::of(b"\0\0\0\x0aSCRAM"),
            Err(Cause::Protocol(_))
        ));
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise::new(9);
        for kind in 0..14 {
            for _ in 0..2_000 {
                let _ = Request::of(&[&[0, 0, 0, kind], &noise.bytes(40)[..]].concat());
            }
        }
    }
}
