//! The proxy's own keys: made, read, and signed with.
//!
//! Knows nothing about claims. Invariant: neither `Debug` nor an error shows a private
//! key.

use std::fmt;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use zeroize::Zeroizing;

use super::jws::{self, Public};
use super::{Claims, TokensError};

/// A key that signs tokens.
pub struct Key {
    pair: Ed25519KeyPair,
    public: Public,
}

impl Key {
    /// Reads one: Ed25519, PKCS#8 as PEM, by `pgveil token key` or
    /// `openssl genpkey -algorithm ed25519`.
    ///
    /// # Errors
    /// Where the file cannot be read or holds another kind of key.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        let fault = |why: String| TokensError::Key {
            path: path.to_owned(),
            why,
        };
        let pem = std::fs::read(path).map_err(|error| fault(error.to_string()))?;
        let der = PrivatePkcs8KeyDer::from_pem_slice(&Zeroizing::new(pem));
        let der = Zeroizing::new(der.map_err(|error| fault(error.to_string()))?);
        // OpenSSL leaves the public half out.
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der.secret_pkcs8_der());
        let pair = pair.map_err(|_| fault("it is no Ed25519 key".into()))?;
        let public = Public::new(pair.public_key().as_ref());
        Ok(Self { pair, public })
    }

    /// Makes one, as PEM.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn generate() -> Result<Zeroizing<String>, TokensError> {
        let der = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new());
        let text = Zeroizing::new(STANDARD.encode(der.map_err(|_| TokensError::Random)?));
        // With room: growing would leave copies.
        let mut pem = Zeroizing::new(String::with_capacity(512));
        pem.push_str("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = text.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at_checked(64).unwrap_or((rest, ""));
            pem.push_str(line);
            pem.push('\n');
            rest = more;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// Signs what a token is to say.
    pub fn mint(&self, claims: &Claims) -> String {
        // Nothing in it fails to be written.
        let payload = serde_json::to_vec(claims).unwrap_or_default();
        jws::sign(&self.public.id, &payload, |text| self.sign(text))
    }

    pub(super) fn sign(&self, text: &[u8]) -> Vec<u8> {
        self.pair.sign(text).as_ref().to_vec()
    }

    pub(super) fn public(&self) -> &Public {
        &self.public
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({})", self.public.id)
    }
}
