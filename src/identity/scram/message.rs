//! The texts of an exchange, taken apart.
//!
//! Knows nothing about keys. Source: RFC 5802 section 7.

use super::ScramError;

/// What the client says of channel binding.
#[derive(Clone, Copy, Debug)]
pub(super) enum Flag {
    /// `n`: the client does not bind.
    None,
    /// `y`: it would, but believes that we do not.
    NotOffered,
    /// `p=tls-server-end-point`
    EndPoint,
}

/// client-first, as far as it is read.
pub(super) struct ClientFirst<'a> {
    pub(super) flag: Flag,
    /// What the proofs are over: all but the header.
    pub(super) bare: &'a str,
    pub(super) nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// `gs2-cbind-flag "," [ authzid ] "," [ "m=" … "," ] "n=" name "," "r=" nonce …`
    pub(super) fn parse(message: &'a str) -> Result<Self, ScramError> {
        let mut parts = message.splitn(3, ',');
        let (Some(flag), Some(authzid), Some(bare)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(ScramError::Malformed("no header"));
        };
        let flag = match flag {
            "n" => Flag::None,
            "y" => Flag::NotOffered,
            "p=tls-server-end-point" => Flag::EndPoint,
            _ => return Err(ScramError::Malformed("unknown channel-binding flag")),
        };
        if !authzid.is_empty() {
            return Err(ScramError::AuthorizationIdentity);
        }
        let mut attributes = bare.split(',');
        // The name in here is not read: as in Postgres, the startup packet's
        // counts. libpq leaves this one empty. `m=`, a mandatory extension, is
        // not `n=` and so refused.
        attribute(attributes.next(), "n=")?;
        let nonce = attribute(attributes.next(), "r=")?;
        if nonce.is_empty() || !nonce.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ScramError::Malformed("nonce of unprintable characters"));
        }
        Ok(Self { flag, bare, nonce })
    }
}

/// The value of the attribute that must stand here.
pub(super) fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(name))
        .ok_or(ScramError::Malformed("attribute missing or out of order"))
}

/// A message as text.
pub(super) fn text(message: &[u8]) -> Result<&str, ScramError> {
    match std::str::from_utf8(message) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(ScramError::Malformed("not text")),
    }
}
