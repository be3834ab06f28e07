//! Checkpoints: signed notes that say how large a tree is and what its root is.
//!
//! Knows nothing about where they are kept. Invariant: a [`Checkpoint`] that was read
//! has been verified.
//!
//! Sources: <https://c2sp.org/signed-note>, <https://c2sp.org/tlog-checkpoint>; keys
//! are written as Go's `golang.org/x/mod/sumdb/note` writes them.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom, SystemRandom};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use zeroize::Zeroizing;

use super::Hash;

/// The type of an Ed25519 key.
const TYPE: u8 = 1;
/// What a private key begins with.
const PRIVATE: &str = "PRIVATE+KEY+";

/// Why a key or a note is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoteError {
    /// A key that cannot be read.
    #[error("{0} is not an Ed25519 key as `pgveil audit keygen` writes it")]
    Key(&'static str),
    /// A name that a key cannot have.
    #[error("a key's name is not empty and has neither spaces nor `+`")]
    Name,
    /// No randomness.
    #[error("the system gives no random numbers")]
    Random,
    /// Not a note.
    #[error("it is not a signed checkpoint")]
    Form,
    /// No signature by that key.
    #[error("it is not signed by {0}")]
    Unsigned(String),
    /// A signature that is wrong.
    #[error("its signature by {0} is wrong")]
    Forged(String),
}

/// What verifies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verifier {
    name: String,
    id: [u8; 4],
    key: Vec<u8>,
}

/// What signs.
pub struct Signer {
    verifier: Verifier,
    pair: Ed25519KeyPair,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "Signer({})", self.verifier.name)
    }
}

impl Verifier {
    fn new(name: &str, key: &[u8]) -> Result<Self, NoteError> {
        if name.is_empty() || name.contains(|c: char| c == '+' || c.is_whitespace()) {
            return Err(NoteError::Name);
        }
        let named = [name.as_bytes(), b"\n", &[TYPE], key].concat();
        let id = digest(&SHA256, &named);
        Ok(Self {
            name: name.to_owned(),
            id: id.as_ref().first_chunk().copied().unwrap_or_default(),
            key: key.to_owned(),
        })
    }

    /// Reads one.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read(text: &str) -> Result<Self, NoteError> {
        let wrong = NoteError::Key("the public key");
        let (name, id, key) = parts(text.trim()).ok_or(wrong.clone())?;
        let verifier = Self::new(name, &key)?;
        match verifier.id() == id && key.len() == 32 {
            true => Ok(verifier),
            false => Err(wrong),
        }
    }

    /// As it is written.
    pub fn text(&self) -> String {
        written(&self.name, &self.id(), &self.key)
    }

    /// Whose it is.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn id(&self) -> String {
        format!("{:08x}", u32::from_be_bytes(self.id))
    }

    /// What a note says, once its signature has been verified.
    ///
    /// # Errors
    /// Where it is no checkpoint, of another log, or not signed by this key.
    pub fn open(&self, note: &str) -> Result<Checkpoint, NoteError> {
        Checkpoint::read(self.text_of(note)?, &self.name)
    }

    /// The same of one that allows a removal.
    ///
    /// # Errors
    /// Where it is none, of another log, or not signed by this key.
    pub fn open_removal(&self, note: &str) -> Result<Removal, NoteError> {
        Removal::read(self.text_of(note)?, &self.name)
    }

    /// A note's text, which this key has signed.
    fn text_of<'a>(&self, note: &'a str) -> Result<&'a str, NoteError> {
        let at = note.find("\n\n").ok_or(NoteError::Form)?;
        let (text, signatures) = note.split_at(at + 1);
        let own = format!("— {} ", self.name);
        for line in signatures.lines() {
            let Some(signature) = line.strip_prefix(&own) else {
                continue;
            };
            let signature = STANDARD.decode(signature).map_err(|_| NoteError::Form)?;
            let Some((id, signature)) = signature.split_first_chunk::<4>() else {
                return Err(NoteError::Form);
            };
            if *id == self.id {
                return UnparsedPublicKey::new(&ED25519, &self.key)
                    .verify(text.as_bytes(), signature)
                    .map(|()| text)
                    .map_err(|_| NoteError::Forged(self.name.clone()));
            }
        }
        Err(NoteError::Unsigned(self.name.clone()))
    }
}

impl Signer {
    /// A new one; without a name, it gets one of its own.
    ///
    /// # Errors
    /// Where the name cannot be one, or there is no randomness.
    pub fn generate(name: Option<&str>) -> Result<(Self, String), NoteError> {
        let mut seed = Zeroizing::new([0; 32]);
        let random = SystemRandom::new();
        random.fill(&mut *seed).map_err(|_| NoteError::Random)?;
        let public = Ed25519KeyPair::from_seed_unchecked(&*seed).map_err(|_| NoteError::Random)?;
        let own = digest(&SHA256, public.public_key().as_ref());
        let own = own.as_ref().first_chunk().copied().unwrap_or_default();
        let own = format!("pgveil/audit/{:08x}", u32::from_be_bytes(own));
        let signer = Self::new(name.unwrap_or(&own), &*seed)?;
        let text = written(signer.verifier.name(), &signer.verifier.id(), &*seed);
        Ok((signer, format!("{PRIVATE}{text}")))
    }

    fn new(name: &str, seed: &[u8]) -> Result<Self, NoteError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed)
            .map_err(|_| NoteError::Key("the private key"))?;
        let verifier = Verifier::new(name, pair.public_key().as_ref())?;
        Ok(Self { verifier, pair })
    }

    /// Reads one.
    ///
    /// # Errors
    /// Where it is none.
    pub fn read(text: &str) -> Result<Self, NoteError> {
        let wrong = || NoteError::Key("the private key");
        let text = text.trim().strip_prefix(PRIVATE).ok_or_else(wrong)?;
        let (name, id, seed) = parts(text).ok_or_else(wrong)?;
        let seed = Zeroizing::new(seed);
        let signer = Self::new(name, &seed)?;
        match signer.verifier.id() == id {
            true => Ok(signer),
            false => Err(wrong()),
        }
    }

    /// What verifies what it signs.
    pub fn verifier(&self) -> &Verifier {
        &self.verifier
    }

    /// Says how large the tree is, and what its root is.
    pub fn sign(&self, size: u64, root: &Hash) -> String {
        let name = &self.verifier.name;
        self.note(format!("{name}\n{size}\n{}\n", STANDARD.encode(root)))
    }

    /// Allows that the records before one are removed, of the log that had that root when
    /// it was that large.
    pub fn sign_removal(&self, removal: &Removal) -> String {
        let Removal { first, head } = removal;
        let origin = removal_of(&self.verifier.name);
        let root = STANDARD.encode(head.root);
        self.note(format!("{origin}\n{first}\n{}\n{root}\n", head.size))
    }

    fn note(&self, text: String) -> String {
        let name = &self.verifier.name;
        let signature = self.pair.sign(text.as_bytes());
        let signature = [&self.verifier.id[..], signature.as_ref()].concat();
        format!("{text}\n— {name} {}\n", STANDARD.encode(signature))
    }
}

/// A tree's head, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoint {
    /// How many entries the tree has
    pub size: u64,
    /// Its root
    pub root: Hash,
}

impl Checkpoint {
    fn read(text: &str, origin: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        match lines.next() == Some(origin) {
            true => Self::lines(lines).ok_or(NoteError::Form),
            false => Err(NoteError::Form),
        }
    }

    fn lines<'a>(mut lines: impl Iterator<Item = &'a str>) -> Option<Self> {
        let size = number(lines.next()?)?;
        let root = STANDARD.decode(lines.next()?).ok()?;
        let root = root.try_into().ok()?;
        Some(Self { size, root })
    }
}

/// What allows a removal, verified.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The number of the first record that stays
    pub first: u64,
    /// The tree when that was signed: it is of no other history
    pub head: Checkpoint,
}

impl Removal {
    fn read(text: &str, name: &str) -> Result<Self, NoteError> {
        let mut lines = text.lines();
        let origin = lines.next();
        let first = lines.next().and_then(number);
        match (origin, first, Checkpoint::lines(lines)) {
            (Some(origin), Some(first), Some(head)) if origin == removal_of(name) => {
                Ok(Self { first, head })
            }
            _ => Err(NoteError::Form),
        }
    }
}

/// What such a note begins with. No key's name has a space, so it is never a checkpoint.
fn removal_of(name: &str) -> String {
    format!("retention of {name}")
}

fn number(text: &str) -> Option<u64> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

fn written(name: &str, id: &str, key: &[u8]) -> String {
    let key = [&[TYPE], key].concat();
    format!("{name}+{id}+{}", STANDARD.encode(key))
}

fn parts(text: &str) -> Option<(&str, &str, Vec<u8>)> {
    let mut parts = text.splitn(3, '+');
    let (name, id, key) = (parts.next()?, parts.next()?, parts.next()?);
    let key = STANDARD.decode(key).ok()?;
    let (&kind, key) = key.split_first()?;
    (kind == TYPE).then(|| (name, id, key.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_go_s_note_package_verifies() {
        // Key, text and signature of golang.org/x/mod/sumdb/note's documentation.
        let key = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW";
        let verifier = Verifier::read(key).unwrap();
        assert_eq!(verifier.text(), key);
        let text = "If you think cryptography is the answer to your problem,\n\
                    then you don't know what your problem is.\n";
        let note = |text: &str| {
            format!(
                "{text}\n— PeterNeumann x08go/ZJkuBS9UG/SffcvIAQxVBtiFupLLr8pAcElZInNIuGUgYN1FFYC2pZSNXgKvqfqdngotpRZb6KE6RyyBwJnAM=\n"
            )
        };
        // The signature is right; that it is no checkpoint is all there is to say.
        assert_eq!(verifier.open(&note(text)), Err(NoteError::Form));
        let forged = verifier.open(&note(&text.replace("your", "my")));
        assert_eq!(forged, Err(NoteError::Forged("PeterNeumann".into())));
    }

    #[test]
    fn a_checkpoint_is_what_was_signed() {
        let (signer, text) = Signer::generate(None).unwrap();
        let signer = Signer::read(&text).unwrap_or(signer);
        let verifier = Verifier::read(&signer.verifier().text()).unwrap();
        assert!(verifier.name().starts_with("pgveil/audit/"));
        let note = signer.sign(7, &[9; 32]);
        let checkpoint = Checkpoint {
            size: 7,
            root: [9; 32],
        };
        assert_eq!(verifier.open(&note), Ok(checkpoint));
        let other = Signer::generate(None).unwrap().0;
        let unsigned = other.verifier().open(&note).unwrap_err();
        assert!(matches!(unsigned, NoteError::Unsigned(_)));
        let name = verifier.name().to_owned();
        let changed = note.replacen("\n7\n", "\n8\n", 1);
        assert_eq!(verifier.open(&changed), Err(NoteError::Forged(name)));
        let removal = Removal {
            first: 5,
            head: Checkpoint {
                size: 7,
                root: [9; 32],
            },
        };
        let allowed = signer.sign_removal(&removal);
        assert_eq!(verifier.open_removal(&allowed), Ok(removal));
        // Neither is ever taken for the other.
        assert_eq!(verifier.open(&allowed), Err(NoteError::Form));
        assert_eq!(verifier.open_removal(&note), Err(NoteError::Form));
        let changed = allowed.replacen("\n5\n", "\n6\n", 1);
        let name = verifier.name().to_owned();
        assert_eq!(
            verifier.open_removal(&changed),
            Err(NoteError::Forged(name))
        );
        let unsigned = other.verifier().open_removal(&allowed).unwrap_err();
        assert!(matches!(unsigned, NoteError::Unsigned(_)));
        assert!(Signer::generate(Some("a b")).is_err());
        let named = Signer::generate(Some("db.example/audit")).unwrap();
        assert!(
            named
                .0
                .sign(1, &[0; 32])
                .starts_with("db.example/audit\n1\n")
        );
    }
}
