//! Tokens that are taken back before they expire: a file of JSON lines.
//!
//! Knows nothing about keys. It is appended to and never rewritten, so that what was
//! revoked stays revoked, and so that a line in it is a record of who did it when.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{SKEW, Token, TokensError};

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
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Revoked {
    tokens: BTreeSet<Arc<str>>,
    identities: BTreeMap<Arc<str>, Timestamp>,
}

impl Revoked {
    /// Reads the file; one that is not there yet revokes nothing.
    pub(super) fn read(path: &Path) -> Result<Self, TokensError> {
        let mut revoked = Self::default();
        revoked.add_from(path)?;
        Ok(revoked)
    }

    /// Adds what can be read of the file, also where something in it cannot.
    pub(super) fn add_from(&mut self, path: &Path) -> Result<(), TokensError> {
        let fault = |why: String| TokensError::Revoked {
            path: path.to_owned(),
            why,
        };
        let text = match std::fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(fault(error.to_string())),
        };
        let mut wrong = Ok(());
        for (at, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            if line.trim_ascii().is_empty() {
                continue;
            }
            match serde_json::from_slice(line) {
                Ok(revocation) => self.add(revocation),
                Err(_) if wrong.is_ok() => {
                    wrong = Err(fault(format!("line {at} is no revocation")));
                }
                Err(_) => {}
            }
        }
        wrong
    }

    fn add(&mut self, revocation: Revocation) {
        match revocation {
            Revocation::Token { id, .. } => {
                self.tokens.insert(id);
            }
            Revocation::Identity { name, at } => {
                let before = self.identities.entry(name).or_insert(at);
                *before = at.max(*before);
            }
        }
    }

    /// What another does not have, for the record.
    pub(super) fn since(&self, other: &Self) -> Vec<String> {
        let tokens = self.tokens.difference(&other.tokens);
        let identities = self.identities.iter();
        let identities = identities.filter(|(name, at)| other.identities.get(*name) != Some(at));
        tokens
            .map(|id| format!("token {id}"))
            .chain(identities.map(|(name, at)| format!("all of {name} until {at}")))
            .collect()
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
            // One of ours may have been issued where the clock is ahead; that of an issuer has
            // been set back by how far theirs may be.
            let ahead = match token.issuer {
                None => SKEW,
                Some(_) => SignedDuration::ZERO,
            };
            let issued = token.issued.checked_sub(ahead).unwrap_or(token.issued);
            until.is_some_and(|until| issued <= *until)
        };
        self.tokens.contains(&token.id) || names.into_iter().any(of)
    }
}

/// Makes an empty file where there is none: from then on, that it is gone is noticed. Says
/// whether there was none.
///
/// # Errors
/// Where it cannot be made.
pub fn make(path: &Path) -> std::io::Result<bool> {
    let made = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(path);
    match made {
        Ok(file) => {
            // As below.
            file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
            file.sync_all()?;
            Ok(true)
        }
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

impl Revocation {
    /// Adds it to the file, where the proxy finds it, and reads it back.
    ///
    /// # Errors
    /// Where it cannot be written, or the proxy could not read the file after it.
    pub fn append(&self, path: &Path) -> Result<(), TokensError> {
        let fault = |why: String| TokensError::Revoked {
            path: path.to_owned(),
            why,
        };
        self.write(path).map_err(|error| fault(error.to_string()))?;
        let mut own = Revoked::default();
        own.add(self.clone());
        match Revoked::read(path)?.holds(&own) {
            true => Ok(()),
            false => Err(fault("what was written is not in it".into())),
        }
    }

    fn write(&self, path: &Path) -> std::io::Result<()> {
        let made = !path.exists();
        let mut file = std::fs::OpenOptions::new()
            .read(true)
            .append(true)
            .create(true)
            .open(path)?;
        if made {
            // The proxy may be another user, and there is no secret in it.
            file.set_permissions(std::fs::Permissions::from_mode(0o644))?;
        }
        let mut line = Vec::new();
        if file.metadata()?.len() > 0 {
            // Somebody who was cut off must not take this line with them.
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                line.push(b'\n');
            }
        }
        serde_json::to_writer(&mut line, self)?;
        line.push(b'\n');
        file.write_all(&line)?;
        file.sync_all()
    }
}
