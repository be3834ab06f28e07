//! A second factor: codes of six digits by time (RFC 6238, RFC 4226), and the secret they
//! come from, sealed so that a policy file may hold it.
//!
//! Knows nothing about who asks. Invariants: a secret is in clear only while a code is
//! checked, and when it is made; one that was sealed for a name opens for no other;
//! `Debug` shows none.
//!
//! SHA-1 is what authenticator apps compute: most ignore the parameter that names another.
//! HMAC does not rest on what is broken of it (RFC 6151, section 2, of MD5 even).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hmac;
use ring::rand::{SecureRandom as _, SystemRandom};

use super::verifier::{Verifier, sha256};

/// How long a code is valid, in seconds (RFC 6238, section 5.2).
const STEP: i64 = 30;
/// Codes of the step before and after this one are taken too: clocks differ, people type.
const AROUND: i64 = 1;
/// As RFC 4226, section 4, recommends.
const SECRET: usize = 20;
const DIGITS: usize = 6;
const PREFIX: &str = "TOTP-A256GCM$";

/// The secret that somebody's codes come from.
#[derive(Clone, PartialEq, Eq)]
pub struct Totp([u8; SECRET]);

/// One that has been sealed: `TOTP-A256GCM$…`, as policy holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed(Vec<u8>);

/// What seals and opens them.
pub struct Sealer(LessSafeKey);

/// Why there is no secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TotpError {
    /// Not what `enroll-totp` prints.
    #[error("it is not `{PREFIX}` and what `pgveil identity enroll-totp` prints after it")]
    Shape,
    /// Sealed by another key, or for another name.
    #[error("it was sealed by another key, or for another identity")]
    Key,
    /// The system gives no random bytes.
    #[error("no random bytes from the system")]
    Random,
}

impl Totp {
    /// A new one.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn generate() -> Result<Self, TotpError> {
        let mut secret = [0; SECRET];
        let filled = SystemRandom::new().fill(&mut secret);
        filled.map_err(|_| TotpError::Random)?;
        Ok(Self(secret))
    }

    /// What an authenticator app scans or is given:
    /// <https://github.com/google/google-authenticator/wiki/Key-Uri-Format>.
    pub fn uri(&self, issuer: &str, name: &str) -> String {
        let encoded = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
        let (issuer, name) = (encoded(issuer), encoded(name));
        format!(
            "otpauth://totp/{issuer}:{name}?secret={}&issuer={issuer}",
            base32(&self.0)
        )
    }

    /// The step whose code that is, of those around a moment, if it is one.
    pub fn step(&self, code: &str, now: Timestamp) -> Option<i64> {
        let now = now.as_second().div_euclid(STEP);
        // All are computed, whichever fits, and compared in constant time.
        let mut found = None;
        for step in now - AROUND..=now + AROUND {
            if equal(self.code(step).as_bytes(), code.as_bytes()) {
                found = Some(step);
            }
        }
        found
    }

    /// The code of a step (RFC 4226, section 5.3).
    fn code(&self, step: i64) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &self.0);
        let tag = hmac::sign(&key, &step.to_be_bytes());
        let tag = tag.as_ref();
        let offset = usize::from(tag.last().copied().unwrap_or_default() & 0xf);
        let four = tag.get(offset..).and_then(|rest| rest.first_chunk());
        let number = u32::from_be_bytes(four.copied().unwrap_or_default()) & 0x7fff_ffff;
        format!("{:0DIGITS$}", number % 10_u32.pow(6))
    }

    /// The code of that moment, as an app shows it.
    #[cfg(test)]
    pub(crate) fn at(&self, now: Timestamp) -> String {
        self.code(now.as_second().div_euclid(STEP))
    }
}

impl fmt::Debug for Totp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Totp(…)")
    }
}

impl Sealer {
    /// By a secret of the configuration's.
    pub fn new(secret: &[u8]) -> Option<Self> {
        // The key is of its length, and is used for nothing else.
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let key = hmac::sign(&key, b"pgveil totp");
        let key = UnboundKey::new(&AES_256_GCM, key.as_ref()).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }

    /// Seals a secret for a name.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn seal(&self, name: &str, totp: &Totp) -> Result<Sealed, TotpError> {
        let mut nonce = [0; NONCE_LEN];
        let filled = SystemRandom::new().fill(&mut nonce);
        filled.map_err(|_| TotpError::Random)?;
        let mut bytes = totp.0.to_vec();
        let aad = Aad::from(name.as_bytes());
        // 96 random bits for the few that one key ever seals.
        let sealed =
            self.0
                .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut bytes);
        sealed.map_err(|_| TotpError::Key)?;
        Ok(Sealed([&nonce[..], &bytes].concat()))
    }

    /// Opens what was sealed for a name.
    ///
    /// # Errors
    /// Where it was sealed by another key or for another name.
    pub fn open(&self, name: &str, sealed: &Sealed) -> Result<Totp, TotpError> {
        let (nonce, bytes) = sealed.0.split_first_chunk().ok_or(TotpError::Shape)?;
        let mut bytes = bytes.to_vec();
        let aad = Aad::from(name.as_bytes());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, aad, &mut bytes);
        let opened = opened.map_err(|_| TotpError::Key)?;
        <[u8; SECRET]>::try_from(&*opened)
            .map(Totp)
            .map_err(|_| TotpError::Shape)
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer(…)")
    }
}

impl Sealed {
    /// As policy holds it.
    pub fn encode(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// What tells it and a password's verifier from any others, and tells nothing of either:
    /// what is sealed is as good as random.
    pub fn beside(&self, verifier: &Verifier) -> Arc<str> {
        let digest = sha256(&[verifier.fingerprint().bytes(), &self.0].concat());
        URL_SAFE_NO_PAD.encode(digest).into()
    }
}

impl FromStr for Sealed {
    type Err = TotpError;

    fn from_str(text: &str) -> Result<Self, TotpError> {
        let rest = text.strip_prefix(PREFIX).ok_or(TotpError::Shape)?;
        let bytes = STANDARD.decode(rest).map_err(|_| TotpError::Shape)?;
        match bytes.len() == NONCE_LEN + SECRET + AES_256_GCM.tag_len() {
            true => Ok(Self(bytes)),
            false => Err(TotpError::Shape),
        }
    }
}

/// Equality that takes the same time wherever the first difference is.
fn equal(left: &[u8], right: &[u8]) -> bool {
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[]);
    hmac::verify(&key, left, hmac::sign(&key, right).as_ref()).is_ok()
}

/// RFC 4648, section 6, without padding.
fn base32(bytes: &[u8]) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| byte >> (7 - at % 8) & 1);
    let groups = (bytes.len() * 8).div_ceil(5);
    let group = |at: usize| (0..5).fold(0, |sum, n| sum << 1 | bit(at * 5 + n));
    (0..groups)
        .filter_map(|at| letters.get(usize::from(group(at))))
        .map(|letter| char::from(*letter))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// RFC 6238, appendix B (SHA-1), of which ours are the last six digits.
    #[test]
    fn codes_are_those_of_the_rfc() {
        let totp = Totp(*b"12345678901234567890");
        for (second, code) in [
            (59, "287082"),
            (1_111_111_109, "081804"),
            (1_111_111_111, "050471"),
            (1_234_567_890, "005924"),
            (2_000_000_000, "279037"),
            (20_000_000_000, "353130"),
        ] {
            assert_eq!(totp.at(at(second)), code);
            let step = second / 30;
            for now in [second - 30, second, second + 30] {
                assert_eq!(totp.step(code, at(now)), Some(step), "{now}");
            }
            for now in [second - 60, second + 60] {
                assert_eq!(totp.step(code, at(now)), None, "{now}");
            }
        }
        for wrong in ["", "28708", "0287082", "２８７０８２", "287083", "94287082"] {
            assert_eq!(totp.step(wrong, at(59)), None, "{wrong}");
        }
    }

    /// RFC 4648, section 10.
    #[test]
    fn base32_is_that_of_the_rfc() {
        for (bytes, text) in [
            ("", ""),
            ("f", "MY"),
            ("fo", "MZXQ"),
            ("foo", "MZXW6"),
            ("foob", "MZXW6YQ"),
            ("fooba", "MZXW6YTB"),
            ("foobar", "MZXW6YTBOI"),
        ] {
            assert_eq!(base32(bytes.as_bytes()), text);
        }
        let uri = Totp(*b"12345678901234567890").uri("pgveil", "jo@corp");
        assert_eq!(
            uri,
            "otpauth://totp/pgveil:jo%40corp?secret=GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ&issuer=pgveil"
        );
    }

    #[test]
    fn what_is_sealed_opens_by_its_key_for_its_name() {
        let sealer = |secret: &str| Sealer::new(secret.as_bytes()).unwrap();
        let (totp, own) = (Totp::generate().unwrap(), sealer("one"));
        let sealed = own.seal("analyst", &totp).unwrap();
        let again: Sealed = sealed.encode().parse().unwrap();
        assert_eq!(sealed, again);
        assert_eq!(own.open("analyst", &again), Ok(totp.clone()));
        assert_ne!(own.seal("analyst", &totp).unwrap(), sealed);
        assert_eq!(own.open("auditor", &again), Err(TotpError::Key));
        assert_eq!(sealer("two").open("analyst", &again), Err(TotpError::Key));
        let mut changed = again.clone();
        changed.0[20] ^= 1;
        assert_eq!(own.open("analyst", &changed), Err(TotpError::Key));
        let text = sealed.encode();
        for wrong in ["", "x", PREFIX, &text[1..], &text[..text.len() - 4]] {
            assert_eq!(wrong.parse::<Sealed>(), Err(TotpError::Shape), "{wrong}");
        }
        assert_eq!(format!("{totp:?} {own:?}"), "Totp(…) Sealer(…)");
    }
}
