//! Tokens that are taken back before they expire: a file of JSON lines.
//!
//! Knows nothing about keys. It is appended to and never rewritten, so that what was
//! revoked stays revoked, and so that a line in it is a record of who did it when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;

use super::{Token, TokensError};

/// What is revoked.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields, rename_all = "lowercase")]
pub enum Revocation {
    /// One token, by its id.
    Token {
        /// Which
        id: Arc<str>,
        /// Since when
        at: Timestamp,
    },
    /// All tokens of an identity, of whoever acts or is acted for, issued until then.
    Identity {
        /// Whose
        name: Arc<str>,
        /// Until when, to the second that tokens are issued in
        at: Timestamp,
    },
}

/// All that is revoked.
#[derive(Clone, Debug, Default)]
pub(super) struct Revoked {
    tokens: BTreeSet<Arc<str>>,
    identities: BTreeMap<Arc<str>, Timestamp>,
}

impl Revoked {
    /// Reads the file; one that is not there yet revokes nothing.
    pub(super) fn read(path: &Path) -> Result<Self, TokensError> {
        let fault = |why: String| TokensError::Revoked {
            path: path.to_owned(),
            why,
        };
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(fault(error.to_string())),
        };
        let mut revoked = Self::default();
        for (at, line) in (1..).zip(text.lines()) {
            match serde_json::from_str(line) {
                Ok(Revocation::Token { id, .. }) => {
                    revoked.tokens.insert(id);
                }
                Ok(Revocation::Identity { name, at }) => {
                    let before = revoked.identities.entry(name).or_insert(at);
                    *before = at.max(*before);
                }
                Err(_) => return Err(fault(format!("line {at} is no revocation"))),
            }
        }
        Ok(revoked)
    }

    pub(super) fn len(&self) -> usize {
        self.tokens.len() + self.identities.len()
    }

    /// Whether all of another's are among these.
    pub(super) fn holds(&self, other: &Self) -> bool {
        let later = |name: &Arc<str>, at: &Timestamp| {
            self.identities.get(name).is_some_and(|own| own >= at)
        };
        self.tokens.is_superset(&other.tokens)
            && other.identities.iter().all(|(name, at)| later(name, at))
    }

    /// Whether it is revoked, by itself or with all of one of these names.
    pub(super) fn has<'a>(&self, token: &Token, names: impl IntoIterator<Item = &'a str>) -> bool {
        let of = |name: &str| {
            let until = self.identities.get(name);
            until.is_some_and(|until| token.issued <= *until)
        };
        self.tokens.contains(&token.id) || names.into_iter().any(of)
    }
}

impl Revocation {
    /// Adds it to the file, where the proxy finds it.
    ///
    /// # Errors
    /// Where that cannot be written.
    pub fn append(&self, path: &Path) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)?;
        file.write_all(&line)?;
        file.sync_all()
    }
}
