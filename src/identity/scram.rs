//! SCRAM-SHA-256 and SCRAM-SHA-256-PLUS, the server's side (RFC 5802, 7677).
//!
//! Knows nothing about sockets or policy: it is handed a verifier and messages.
//! Invariants: a [`Proof`] exists only where the client knew the password (and,
//! for `-PLUS`, saw the very certificate we presented); an unknown name takes
//! the same steps and messages as a known one up to the same refusal.
//!
//! Written here and not taken from pgwire 0.42.1, whose exchange (a) does not tie
//! the mechanism to the channel-binding flag, so a client that chose `-PLUS` may
//! send `n` and would be recorded as bound; (b) hashes only certificates signed
//! with RSA PKCS#1 or ECDSA up to SHA-384, and indexes an empty chain; (c)
//! compares keys by `==`; (d) puts the client's message into its errors.

mod message;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::Method;
use super::verifier::{KEY_LEN, Verifier, array, sha256};
use crate::error::{SqlState, Tell, Told};
use message::{ClientFirst, Flag, attribute, text};

/// The mechanism without channel binding.
pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
/// The mechanism bound to the TLS channel.
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";

/// As Postgres's `SCRAM_RAW_NONCE_LEN`.
const NONCE_LEN: usize = 18;
const BOUND_HEADER: &str = "p=tls-server-end-point,,";

/// Why an exchange failed. None of it depends on whether the name is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ScramError {
    /// Not offered, or unknown.
    #[error("the client selected a SASL mechanism that was not offered")]
    Mechanism,
    /// Not a SCRAM message.
    #[error("malformed SCRAM message: {0}")]
    Malformed(&'static str),
    /// Acting as somebody else is a matter of policy, not of SASL.
    #[error("the client asked for an authorization identity")]
    AuthorizationIdentity,
    /// The flag says otherwise than the mechanism.
    #[error("the client's channel-binding flag does not fit its mechanism")]
    Flag,
    /// The client believes that binding is not offered, but it was: somebody in
    /// between took it off the list.
    #[error("channel binding was negotiated away: the offer was tampered with on its way")]
    Downgrade,
    /// The client saw another certificate than ours.
    #[error("channel binding does not match: another certificate was presented on the way")]
    Binding,
    /// Wrong password or unknown name: one answer.
    #[error("the proof does not match")]
    Proof,
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

impl Tell for ScramError {
    fn tell(&self) -> Told {
        match self {
            Self::Mechanism | Self::Malformed(_) | Self::Flag => {
                Told::fatal(SqlState::PROTOCOL_VIOLATION, self.to_string())
            }
            Self::AuthorizationIdentity => {
                Told::fatal(SqlState::FEATURE_NOT_SUPPORTED, self.to_string())
            }
            Self::Downgrade | Self::Binding => {
                Told::fatal(SqlState::INVALID_AUTHORIZATION, self.to_string())
            }
            Self::Proof => {
                Told::fatal(SqlState::INVALID_PASSWORD, "password authentication failed")
            }
            Self::Random => Told::fatal(SqlState::INTERNAL_ERROR, self.to_string()),
        }
    }
}

/// The mechanisms to offer: `-PLUS` where the channel can be bound.
pub fn mechanisms(bound: bool) -> &'static [&'static str] {
    if bound {
        &[SCRAM_SHA_256_PLUS, SCRAM_SHA_256]
    } else {
        &[SCRAM_SHA_256]
    }
}

/// Waits for the client's first message.
#[derive(Debug)]
pub struct Scram {
    verifier: Verifier,
    doomed: bool,
    endpoint: Option<Arc<[u8]>>,
    nonce: String,
}

impl Scram {
    /// For a name with this verifier (`None`: an unknown one, which gets the
    /// stand-in and fails at the proof), on a channel whose `tls-server-end-point`
    /// is `endpoint`.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new(
        verifier: Option<&Verifier>,
        stand_in: &Verifier,
        endpoint: Option<Arc<[u8]>>,
    ) -> Result<Self, ScramError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| ScramError::Random)?;
        Ok(Self {
            doomed: verifier.is_none(),
            verifier: verifier.unwrap_or(stand_in).clone(),
            endpoint,
            nonce: STANDARD.encode(nonce),
        })
    }

    /// Reads client-first and answers server-first.
    ///
    /// # Errors
    /// As [`ScramError`] says.
    pub fn first(self, mechanism: &str, message: &[u8]) -> Result<(Challenge, String), ScramError> {
        let method = match (mechanism, &self.endpoint) {
            (SCRAM_SHA_256, _) => Method::Scram,
            (SCRAM_SHA_256_PLUS, Some(_)) => Method::ScramPlus,
            _ => return Err(ScramError::Mechanism),
        };
        let first = ClientFirst::parse(text(message)?)?;
        let header_and_endpoint = match (method, first.flag) {
            (Method::Scram, Flag::None) => b"n,,".to_vec(),
            // RFC 5802 section 6.
            (Method::Scram, Flag::NotOffered) if self.endpoint.is_some() => {
                return Err(ScramError::Downgrade);
            }
            (Method::Scram, Flag::NotOffered) => b"y,,".to_vec(),
            (Method::ScramPlus, Flag::EndPoint) => {
                let mut bound = BOUND_HEADER.as_bytes().to_vec();
                bound.extend_from_slice(self.endpoint.as_deref().unwrap_or_default());
                bound
            }
            (Method::Scram, Flag::EndPoint)
            | (Method::ScramPlus, Flag::None | Flag::NotOffered) => return Err(ScramError::Flag),
            (Method::Token | Method::Certificate, _) => return Err(ScramError::Mechanism),
        };
        let nonce = format!("{}{}", first.nonce, self.nonce);
        let answer = format!(
            "r={nonce},s={},i={}",
            STANDARD.encode(&self.verifier.salt),
            self.verifier.iterations
        );
        let challenge = Challenge {
            method,
            binding: STANDARD.encode(header_and_endpoint),
            transcript: format!("{},{answer}", first.bare),
            nonce,
            verifier: self.verifier,
            doomed: self.doomed,
        };
        Ok((challenge, answer))
    }
}

/// Waits for the client's proof.
#[derive(Debug)]
pub struct Challenge {
    method: Method,
    binding: String,
    nonce: String,
    transcript: String,
    verifier: Verifier,
    doomed: bool,
}

/// The client knew the password.
#[derive(Debug)]
pub struct Proof {
    /// Bound to the channel or not.
    pub method: Method,
    /// The server's own proof, to be sent.
    pub server_final: String,
}

impl Challenge {
    /// Reads client-final, and answers with our own proof where it holds.
    ///
    /// # Errors
    /// As [`ScramError`] says.
    pub fn finish(self, message: &[u8]) -> Result<Proof, ScramError> {
        let message = text(message)?;
        let (without_proof, proof) = message
            .rsplit_once(",p=")
            .ok_or(ScramError::Malformed("no proof"))?;
        let mut attributes = without_proof.split(',');
        if attribute(attributes.next(), "c=")? != self.binding {
            return Err(ScramError::Binding);
        }
        if attribute(attributes.next(), "r=")? != self.nonce {
            return Err(ScramError::Malformed("another nonce"));
        }
        let proof: [u8; KEY_LEN] = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or(ScramError::Malformed("proof of a wrong length"))?;

        let transcript = format!("{},{without_proof}", self.transcript);
        let sign = |key: &[u8]| {
            let key = hmac::Key::new(hmac::HMAC_SHA256, key);
            array(hmac::sign(&key, transcript.as_bytes()).as_ref())
        };
        // ClientKey := ClientProof XOR ClientSignature
        let mut client_key = sign(&self.verifier.stored_key);
        for (key, proof) in client_key.iter_mut().zip(proof) {
            *key ^= proof;
        }
        let proved = equal(&sha256(&client_key), &self.verifier.stored_key);
        if !proved || self.doomed {
            return Err(ScramError::Proof);
        }
        Ok(Proof {
            method: self.method,
            server_final: format!("v={}", STANDARD.encode(sign(&self.verifier.server_key))),
        })
    }
}

/// Equality that takes the same time wherever the first difference is: ring
/// compares tags so, and has no public comparison of its own any more.
fn equal(left: &[u8], right: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[]);
    hmac::verify(&key, left, hmac::sign(&key, right).as_ref()).is_ok()
}
