//! A signed token's outside: three parts, a header, a signature (RFC 7515, compact form).
//!
//! Knows nothing about claims. Invariant: a [`Payload`] has been signed by a key that
//! was asked for by its id, in the one algorithm that this key is for. What a token says
//! of itself chooses among keys that are trusted anyway, and nothing else: keys in the
//! header, addresses of keys and critical extensions are not followed.
//!
//! Written here, over ring, because the libraries for it bring a second
//! implementation of every algorithm or a second cryptographic library.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ED25519, UnparsedPublicKey};

use super::TokenError;

/// Far above what a token takes.
pub(crate) const LONGEST: usize = 8 << 10;

/// The algorithm's name in a header (RFC 8037).
const EDDSA: &str = "EdDSA";

/// What a token says that it is, so that no other kind of token with the same key is
/// taken for one (RFC 8725, section 3.11).
const KIND: &str = "pgveil+jwt";

/// What a header may say.
#[derive(serde::Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
struct Header {
    alg: String,
    kid: String,
    typ: String,
}

/// A key that signatures are verified by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Public {
    /// Its thumbprint (RFC 7638)
    pub(super) id: String,
    /// 32 bytes of Ed25519
    pub(super) bytes: Vec<u8>,
}

impl Public {
    pub(super) fn new(bytes: &[u8]) -> Self {
        let jwk = format!(
            r#"{{"crv":"Ed25519","kty":"OKP","x":"{}"}}"#,
            URL_SAFE_NO_PAD.encode(bytes)
        );
        let thumbprint = ring::digest::digest(&ring::digest::SHA256, jwk.as_bytes());
        Self {
            id: URL_SAFE_NO_PAD.encode(thumbprint),
            bytes: bytes.to_vec(),
        }
    }
}

/// What was signed, and by which of the keys.
#[derive(Debug)]
pub(super) struct Payload {
    pub(super) bytes: Vec<u8>,
    pub(super) key: String,
}

/// Puts a token together; `sign` is handed what is to be signed.
pub(super) fn sign(key: &str, payload: &[u8], sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    // Names and values that need no escaping.
    let header = format!(r#"{{"alg":"{EDDSA}","kid":"{key}","typ":"{KIND}"}}"#);
    let signed = format!(
        "{}.{}",
        URL_SAFE_NO_PAD.encode(header),
        URL_SAFE_NO_PAD.encode(payload)
    );
    let signature = sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

/// A token taken apart, of which nothing has been verified.
pub(super) struct Parts<'a> {
    pub(super) header: Vec<u8>,
    pub(super) payload: Vec<u8>,
    pub(super) signed: &'a [u8],
    pub(super) signature: Vec<u8>,
}

impl<'a> Parts<'a> {
    pub(super) fn of(text: &'a str) -> Result<Self, TokenError> {
        if text.len() > LONGEST {
            return Err(TokenError::Malformed("it is too long"));
        }
        let (signed, signature) = text.rsplit_once('.').ok_or(PARTS)?;
        let (header, payload) = signed.split_once('.').ok_or(PARTS)?;
        if payload.contains('.') {
            return Err(PARTS);
        }
        let decoded = |part: &str| {
            let bytes = URL_SAFE_NO_PAD.decode(part);
            bytes.map_err(|_| TokenError::Malformed("a part of it is not base64url"))
        };
        Ok(Self {
            header: decoded(header)?,
            payload: decoded(payload)?,
            signature: decoded(signature)?,
            signed: signed.as_bytes(),
        })
    }

    /// What one of our own keys has signed.
    pub(super) fn verify(self, keys: &[Public]) -> Result<Payload, TokenError> {
        let header: Header = serde_json::from_slice(&self.header)
            .map_err(|_| TokenError::Malformed("its header is not one of ours"))?;
        if header.alg != EDDSA {
            return Err(TokenError::Algorithm);
        }
        if header.typ != KIND {
            return Err(TokenError::Type);
        }
        let key = keys.iter().find(|key| key.id == header.kid);
        let key = key.ok_or(TokenError::Key)?;
        UnparsedPublicKey::new(&ED25519, &key.bytes)
            .verify(self.signed, &self.signature)
            .map_err(|_| TokenError::Signature)?;
        Ok(Payload {
            bytes: self.payload,
            key: key.id.clone(),
        })
    }
}

const PARTS: TokenError = TokenError::Malformed("it does not have three parts");
