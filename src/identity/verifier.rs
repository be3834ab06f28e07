//! What is stored in place of a password: a SCRAM-SHA-256 verifier, in the form
//! Postgres stores in `pg_authid`:
//! `SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>`.
//!
//! Knows nothing about the exchange or where verifiers are kept. Invariant: a
//! [`Verifier`] is well formed and within bounds; `Debug` shows no key.
//!
//! Sources: RFC 5802 section 3, RFC 7677, and
//! <https://www.postgresql.org/docs/current/catalog-pg-authid.html>.

use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SecureRandom as _;
use ring::{digest, hmac, pbkdf2};

/// The iterations of a new verifier unless told otherwise: RFC 7677's minimum
/// and Postgres's default.
pub const DEFAULT_ITERATIONS: u32 = 4096;
/// Every login costs the client this many hashes: more is an attack on it.
pub const MAX_ITERATIONS: u32 = 1_000_000;

const PREFIX: &str = "SCRAM-SHA-256$";
/// As Postgres's `SCRAM_DEFAULT_SALT_LEN`.
pub(super) const SALT_LEN: usize = 16;
const MAX_SALT_LEN: usize = 128;
/// The length of a SHA-256 hash.
pub(super) const KEY_LEN: usize = 32;

/// A password's verifier: enough to check a proof, not enough to make one.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub(super) iterations: NonZeroU32,
    pub(super) salt: Vec<u8>,
    pub(super) stored_key: [u8; KEY_LEN],
    pub(super) server_key: [u8; KEY_LEN],
}

/// What tells one verifier from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint([u8; KEY_LEN]);

impl Fingerprint {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Why a text is no verifier, or why none could be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifierError {
    /// It does not begin as one.
    #[error("it does not begin with `{PREFIX}`")]
    Prefix,
    /// Parts are missing or too many.
    #[error("it is not `{PREFIX}<iterations>:<salt>$<stored key>:<server key>`")]
    Shape,
    /// Not a number, or out of bounds.
    #[error("iterations must be a number from {0} to {MAX_ITERATIONS}")]
    Iterations(u32),
    /// Not base64, empty or too long.
    #[error("the salt must be base64 of 1 to {MAX_SALT_LEN} bytes")]
    Salt,
    /// Not base64 or not of a hash's length.
    #[error("the {0} key must be base64 of {KEY_LEN} bytes")]
    Key(&'static str),
    /// Empty passwords are refused, as Postgres does.
    #[error("the password is empty")]
    EmptyPassword,
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

impl Verifier {
    /// Makes a verifier with a new random salt.
    ///
    /// # Errors
    /// For an empty password, iterations below 4,096 or above 1,000,000.
    pub fn derive(password: &str, iterations: u32) -> Result<Self, VerifierError> {
        let mut salt = [0; SALT_LEN];
        ring::rand::SystemRandom::new()
            .fill(&mut salt)
            .map_err(|_| VerifierError::Random)?;
        if iterations < DEFAULT_ITERATIONS {
            return Err(VerifierError::Iterations(DEFAULT_ITERATIONS));
        }
        Self::with_salt(password, &salt, iterations)
    }

    fn with_salt(password: &str, salt: &[u8], iterations: u32) -> Result<Self, VerifierError> {
        if password.is_empty() {
            return Err(VerifierError::EmptyPassword);
        }
        let iterations = bounded(iterations)?;
        // Like Postgres and libpq: what SASLprep refuses is used as it is.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = [0; KEY_LEN];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            salt,
            prepared.as_bytes(),
            &mut salted,
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &salted);
        Ok(Self {
            iterations,
            salt: salt.to_vec(),
            stored_key: sha256(hmac::sign(&key, b"Client Key").as_ref()),
            server_key: array(hmac::sign(&key, b"Server Key").as_ref()),
        })
    }

    /// What tells it from any other, and tells nothing of it.
    pub fn fingerprint(&self) -> Fingerprint {
        let parts = [&self.salt[..], &self.stored_key, &self.server_key];
        Fingerprint(sha256(&parts.concat()))
    }

    /// As it is stored. Whoever has it can pose as the server, so it is written
    /// where it was asked for and nowhere else: there is no `Display`.
    pub fn encode(&self) -> String {
        format!(
            "{PREFIX}{}:{}${}:{}",
            self.iterations,
            STANDARD.encode(&self.salt),
            STANDARD.encode(self.stored_key),
            STANDARD.encode(self.server_key),
        )
    }
}

impl FromStr for Verifier {
    type Err = VerifierError;

    fn from_str(text: &str) -> Result<Self, VerifierError> {
        let rest = text.strip_prefix(PREFIX).ok_or(VerifierError::Prefix)?;
        let (head, keys) = rest.split_once('$').ok_or(VerifierError::Shape)?;
        let (iterations, salt) = head.split_once(':').ok_or(VerifierError::Shape)?;
        let (stored, server) = keys.split_once(':').ok_or(VerifierError::Shape)?;
        // `parse` would take a sign.
        if !iterations.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(VerifierError::Iterations(1));
        }
        let salt = STANDARD.decode(salt).map_err(|_| VerifierError::Salt)?;
        if salt.is_empty() || salt.len() > MAX_SALT_LEN {
            return Err(VerifierError::Salt);
        }
        Ok(Self {
            iterations: bounded(
                iterations
                    .parse()
                    .map_err(|_| VerifierError::Iterations(1))?,
            )?,
            salt,
            stored_key: decode_key(stored, "stored")?,
            server_key: decode_key(server, "server")?,
        })
    }
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("iterations", &self.iterations)
            .finish_non_exhaustive()
    }
}

fn bounded(iterations: u32) -> Result<NonZeroU32, VerifierError> {
    NonZeroU32::new(iterations)
        .filter(|count| count.get() <= MAX_ITERATIONS)
        .ok_or(VerifierError::Iterations(1))
}

fn decode_key(text: &str, which: &'static str) -> Result<[u8; KEY_LEN], VerifierError> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| VerifierError::Key(which))?;
    bytes.try_into().map_err(|_| VerifierError::Key(which))
}

/// SHA-256.
pub(super) fn sha256(bytes: &[u8]) -> [u8; KEY_LEN] {
    array(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// The first 32 bytes of a hash that is 32 bytes long.
pub(super) fn array(hash: &[u8]) -> [u8; KEY_LEN] {
    let mut out = [0; KEY_LEN];
    for (to, from) in out.iter_mut().zip(hash) {
        *to = *from;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The exchange of RFC 7677 section 3: user "user", password "pencil".
    #[test]
    fn derives_the_keys_of_rfc_7677() {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        let verifier = Verifier::with_salt("pencil", &salt, 4096).unwrap();
        let nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0";
        let auth = format!(
            "n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}"
        );
        let key = hmac::Key::new(hmac::HMAC_SHA256, &verifier.server_key);
        assert_eq!(
            STANDARD.encode(hmac::sign(&key, auth.as_bytes())),
            "6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="
        );
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let verifier = Verifier::derive("correct horse", 5000).unwrap();
        let text = verifier.encode();
        assert!(text.starts_with("SCRAM-SHA-256$5000:"), "{text}");
        assert_eq!(text.parse::<Verifier>().unwrap(), verifier);
        assert_ne!(Verifier::derive("correct horse", 5000).unwrap(), verifier);
    }

    #[test]
    fn normalizes_by_saslprep_and_takes_what_it_refuses() {
        let same = |a: &str, b: &str| {
            Verifier::with_salt(a, b"salt", 1) == Verifier::with_salt(b, b"salt", 1)
        };
        assert!(same("I\u{ad}X", "IX"), "a soft hyphen maps to nothing");
        assert!(same("\u{2168}", "IX"), "NFKC");
        assert!(!same("a\u{7}", "a"), "a prohibited character stays");
    }

    #[test]
    fn debug_shows_no_key() {
        let verifier = Verifier::derive("x", 4096).unwrap();
        assert_eq!(format!("{verifier:?}"), "Verifier { iterations: 4096, .. }");
    }

    #[test]
    fn refuses_what_is_no_verifier() {
        use VerifierError::*;
        let key = STANDARD.encode([7; 32]);
        let check = |text: String, error: VerifierError| {
            assert_eq!(text.parse::<Verifier>().unwrap_err(), error, "{text}");
        };
        check("md5abc".into(), Prefix);
        check(String::new(), Prefix);
        check("SCRAM-SHA-256$".into(), Shape);
        check(format!("SCRAM-SHA-256$4096${key}:{key}"), Shape);
        check(format!("SCRAM-SHA-256$4096:c2FsdA==${key}"), Shape);
        for iterations in ["0", "-1", "+4096", "x", "", "1000001", "99999999999"] {
            check(
                format!("SCRAM-SHA-256${iterations}:c2FsdA==${key}:{key}"),
                Iterations(1),
            );
        }
        check(format!("SCRAM-SHA-256$4096:?${key}:{key}"), Salt);
        check(format!("SCRAM-SHA-256$4096:${key}:{key}"), Salt);
        check(
            format!("SCRAM-SHA-256$4096:c2FsdA==$AAAA:{key}"),
            Key("stored"),
        );
        check(
            format!("SCRAM-SHA-256$4096:c2FsdA==${key}:{key}x"),
            Key("server"),
        );
        assert_eq!(Verifier::derive("", 4096).unwrap_err(), EmptyPassword);
        assert_eq!(Verifier::derive("x", 4095).unwrap_err(), Iterations(4096));
        assert_eq!(Verifier::derive("x", u32::MAX).unwrap_err(), Iterations(1));
    }
}
