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

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};

use super::Method;
use super::verifier::{KEY_LEN, Verifier, array, sha256};
use crate::error::{SqlState, Tell, Told};

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

/// A key of this process, from which unknown names get their lasting salts.
#[derive(Clone, Debug)]
pub struct MockKey(hmac::Key);

impl MockKey {
    /// A random one.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn random() -> Result<Self, ScramError> {
        hmac::Key::generate(hmac::HMAC_SHA256, &SystemRandom::new())
            .map(Self)
            .map_err(|_| ScramError::Random)
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
    /// For a name with this verifier (`None`: an unknown one), on a channel whose
    /// `tls-server-end-point` is `endpoint`.
    ///
    /// # Errors
    /// Where the system gives no random bytes.
    pub fn new(
        name: &str,
        verifier: Option<Verifier>,
        mock: &MockKey,
        endpoint: Option<Arc<[u8]>>,
    ) -> Result<Self, ScramError> {
        let mut nonce = [0; NONCE_LEN];
        SystemRandom::new()
            .fill(&mut nonce)
            .map_err(|_| ScramError::Random)?;
        // Computed for everybody, so that it costs everybody the same.
        let stand_in = Verifier::mock(name, &mock.0);
        Ok(Self {
            doomed: verifier.is_none(),
            verifier: verifier.unwrap_or(stand_in),
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

#[derive(Clone, Copy, Debug)]
enum Flag {
    /// `n`: the client does not bind.
    None,
    /// `y`: it would, but believes that we do not.
    NotOffered,
    /// `p=tls-server-end-point`
    EndPoint,
}

struct ClientFirst<'a> {
    flag: Flag,
    bare: &'a str,
    nonce: &'a str,
}

impl<'a> ClientFirst<'a> {
    /// `gs2-cbind-flag "," [ authzid ] "," [ "m=" … "," ] "n=" name "," "r=" nonce …`
    fn parse(message: &'a str) -> Result<Self, ScramError> {
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

fn attribute<'a>(part: Option<&'a str>, name: &str) -> Result<&'a str, ScramError> {
    part.and_then(|part| part.strip_prefix(name))
        .ok_or(ScramError::Malformed("attribute missing or out of order"))
}

fn text(message: &[u8]) -> Result<&str, ScramError> {
    match std::str::from_utf8(message) {
        Ok(text) if !text.contains('\0') => Ok(text),
        _ => Err(ScramError::Malformed("not text")),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// The client's side of one exchange, for tests: everything a liar may vary.
    pub(crate) fn client_final(
        password: &str,
        bare: &str,
        server_first: &str,
        binding: &[u8],
    ) -> String {
        let mut parts = server_first.split(',');
        let nonce = parts.next().unwrap().strip_prefix("r=").unwrap();
        let salt = parts.next().unwrap().strip_prefix("s=").unwrap();
        let iterations = parts.next().unwrap().strip_prefix("i=").unwrap();
        let mut salted = [0; 32];
        ring::pbkdf2::derive(
            ring::pbkdf2::PBKDF2_HMAC_SHA256,
            iterations.parse().unwrap(),
            &STANDARD.decode(salt).unwrap(),
            password.as_bytes(),
            &mut salted,
        );
        let sign = |key: &[u8], text: &str| {
            array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref())
        };
        let client_key = sign(&salted, "Client Key");
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(binding));
        let transcript = format!("{bare},{server_first},{without_proof}");
        let mut proof = sign(&sha256(&client_key), &transcript);
        for (proof, key) in proof.iter_mut().zip(client_key) {
            *proof ^= key;
        }
        format!("{without_proof},p={}", STANDARD.encode(proof))
    }

    const BARE: &str = "n=,r=abc";

    fn scram(known: bool, endpoint: Option<&[u8]>) -> Scram {
        let mock = MockKey::random().unwrap();
        let verifier = known.then(|| Verifier::derive("pencil", 4096).unwrap());
        Scram::new("analyst", verifier, &mock, endpoint.map(Into::into)).unwrap()
    }

    fn run(
        scram: Scram,
        mechanism: &str,
        header: &str,
        password: &str,
        endpoint: &[u8],
    ) -> Result<Proof, ScramError> {
        let (challenge, first) = scram.first(mechanism, format!("{header}{BARE}").as_bytes())?;
        let mut binding = header.as_bytes().to_vec();
        binding.extend_from_slice(endpoint);
        challenge.finish(client_final(password, BARE, &first, &binding).as_bytes())
    }

    #[test]
    fn proves_with_and_without_binding() {
        let plain = run(scram(true, None), SCRAM_SHA_256, "n,,", "pencil", b"").unwrap();
        assert_eq!(plain.method, Method::Scram);
        assert!(plain.server_final.starts_with("v="));
        let proof = run(scram(true, None), SCRAM_SHA_256, "y,,", "pencil", b"");
        assert_eq!(proof.unwrap().method, Method::Scram);
        let proof = run(
            scram(true, Some(b"cert")),
            SCRAM_SHA_256,
            "n,,",
            "pencil",
            b"",
        );
        assert_eq!(proof.unwrap().method, Method::Scram);
        let bound = scram(true, Some(b"cert"));
        let bound = run(bound, SCRAM_SHA_256_PLUS, BOUND_HEADER, "pencil", b"cert").unwrap();
        assert_eq!(bound.method, Method::ScramPlus);
    }

    #[test]
    fn refuses_liars() {
        let check =
            |known, endpoint: Option<&[u8]>, mechanism, header, password, seen: &[u8], error| {
                assert_eq!(
                    run(scram(known, endpoint), mechanism, header, password, seen).unwrap_err(),
                    error,
                    "{mechanism} {header}"
                );
            };
        let cert: Option<&[u8]> = Some(b"cert");
        check(
            true,
            None,
            SCRAM_SHA_256,
            "n,,",
            "pencils",
            b"",
            ScramError::Proof,
        );
        check(
            false,
            None,
            SCRAM_SHA_256,
            "n,,",
            "pencil",
            b"",
            ScramError::Proof,
        );
        check(
            true,
            cert,
            SCRAM_SHA_256_PLUS,
            BOUND_HEADER,
            "pencil",
            b"other",
            ScramError::Binding,
        );
        check(
            true,
            cert,
            SCRAM_SHA_256,
            "y,,",
            "pencil",
            b"",
            ScramError::Downgrade,
        );
        check(
            true,
            cert,
            SCRAM_SHA_256_PLUS,
            "n,,",
            "pencil",
            b"",
            ScramError::Flag,
        );
        check(
            true,
            cert,
            SCRAM_SHA_256_PLUS,
            "y,,",
            "pencil",
            b"",
            ScramError::Flag,
        );
        check(
            true,
            cert,
            SCRAM_SHA_256,
            BOUND_HEADER,
            "pencil",
            b"cert",
            ScramError::Flag,
        );
        check(
            true,
            None,
            SCRAM_SHA_256_PLUS,
            BOUND_HEADER,
            "pencil",
            b"",
            ScramError::Mechanism,
        );
        check(
            true,
            None,
            "PLAIN",
            "n,,",
            "pencil",
            b"",
            ScramError::Mechanism,
        );
        check(
            true,
            None,
            SCRAM_SHA_256,
            "n,a=auditor,",
            "pencil",
            b"",
            ScramError::AuthorizationIdentity,
        );
    }

    #[test]
    fn refuses_malformed_firsts() {
        for message in [
            &b""[..],
            b"n",
            b"n,",
            b"n,,",
            b"n,,n=",
            b"n,,n=,r=",
            b"n,,m=x,n=,r=abc",
            b"n,,r=abc",
            b"x,,n=,r=abc",
            b"p=tls-unique,,n=,r=abc",
            b"n,,n=,r=a\x01",
            b"n,,n=,r=\xff",
            b"n,,n=,r=abc\0",
            b"n,,n=,r=a b",
            "n,,n=,r=é".as_bytes(),
        ] {
            let error = scram(true, None).first(SCRAM_SHA_256, message).unwrap_err();
            assert!(
                matches!(error, ScramError::Malformed(_)),
                "{message:?} {error}"
            );
        }
    }

    #[test]
    fn refuses_malformed_finals() {
        let vary = |change: &dyn Fn(String) -> String| {
            let (challenge, first) = scram(true, None)
                .first(SCRAM_SHA_256, b"n,,n=,r=abc")
                .unwrap();
            let good = client_final("pencil", BARE, &first, b"n,,");
            challenge.finish(change(good).as_bytes())
        };
        assert!(vary(&|good| good).is_ok());
        let malformed = |change: &dyn Fn(String) -> String| {
            let error = vary(change).unwrap_err();
            assert!(matches!(error, ScramError::Malformed(_)), "{error}");
        };
        malformed(&|_| String::new());
        malformed(&|_| "c=biws".into());
        malformed(&|_| ",p=".into());
        malformed(&|good| good.replace(",p=", ",q="));
        malformed(&|good| good.replace("r=abc", "r=abd"));
        malformed(&|good| format!("{good}AAAA"));
        malformed(&|good| good[..good.len() - 8].to_owned());
        malformed(&|good| format!("{good}\0"));
        assert_eq!(
            vary(&|good| good.replace(",p=", ",x=1,p=")).unwrap_err(),
            ScramError::Proof,
            "an extension is part of what is signed"
        );
        assert_eq!(
            vary(&|good| good.replace("c=biws", "c=eSws")).unwrap_err(),
            ScramError::Binding
        );
    }

    #[test]
    fn unknown_names_look_like_known_ones() {
        let mock = MockKey::random().unwrap();
        let first = |name: &str, known: bool| {
            let verifier = known.then(|| Verifier::derive("pencil", 4096).unwrap());
            let scram = Scram::new(name, verifier, &mock, None).unwrap();
            let (_, first) = scram.first(SCRAM_SHA_256, b"n,,n=,r=abc").unwrap();
            let (nonce, rest) = first.split_once(",s=").unwrap();
            (nonce.len(), rest.to_owned())
        };
        let (known, unknown) = (first("analyst", true), first("nobody", false));
        assert_eq!(known.0, unknown.0);
        assert_eq!(known.1.len(), unknown.1.len());
        assert_eq!(unknown, first("nobody", false), "the salt lasts");
        assert_ne!(unknown, first("nobody2", false), "and differs by name");
    }
}
