//! Secrets: held so that they do not linger, and had from where they are.
//!
//! Knows nothing about what they are for. The invariants: neither `Debug` nor an error
//! shows one; its bytes are overwritten when the last who holds it lets go; one that
//! cannot be had anew does not take away the one that is there.

mod exec;
mod source;
#[cfg(any(feature = "vault", test))]
mod vault;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use zeroize::Zeroizing;

pub use source::Source;

/// A secret's bytes. Clones share them.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret {
    bytes: Arc<Zeroizing<Vec<u8>>>,
    /// Whose it is, where that came with it.
    user: Option<Arc<str>>,
}

impl Secret {
    /// Of these bytes.
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self::from(Zeroizing::new(bytes.into()))
    }

    /// The bytes themselves, to be used and not shown.
    pub fn expose(&self) -> &[u8] {
        &self.bytes
    }

    /// The text, where it is one.
    pub fn expose_str(&self) -> Option<&str> {
        std::str::from_utf8(&self.bytes).ok()
    }

    /// Whose it is, where that came with it.
    pub fn user(&self) -> Option<&str> {
        self.user.as_deref()
    }

    /// With whose it is.
    #[cfg(any(feature = "vault", test))]
    fn of(self, user: &str) -> Self {
        Self {
            user: Some(user.into()),
            ..self
        }
    }

    /// Of what a file or a program holds, without the line end that editors leave.
    fn trimmed(mut bytes: Zeroizing<Vec<u8>>) -> Option<Self> {
        if bytes.last() == Some(&b'\n') {
            bytes.pop();
            if bytes.last() == Some(&b'\r') {
                bytes.pop();
            }
        }
        (!bytes.is_empty()).then(|| Self::from(bytes))
    }
}

impl From<Zeroizing<Vec<u8>>> for Secret {
    fn from(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self {
            bytes: Arc::new(bytes),
            user: None,
        }
    }
}

/// A secret, and how long it is good for.
struct Given {
    secret: Secret,
    lasts: Duration,
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// Why a secret could not be had.
#[derive(Clone, Debug, thiserror::Error)]
pub enum SecretError {
    /// The variable is not set.
    #[error("the environment variable `{0}`, which should hold a secret, is not set")]
    Unset(String),
    /// The file cannot be read.
    #[error("the secret in {path} cannot be read: {why}")]
    File {
        /// Which
        path: PathBuf,
        /// Why
        why: String,
    },
    /// Who was asked did not give it.
    #[error("the secret from {from} could not be had: {why}")]
    Refused {
        /// Which
        from: String,
        /// Why
        why: String,
    },
    /// Bytes that are not text, where a password belongs.
    #[error("the secret from {0} is not UTF-8 text")]
    NotText(String),
    /// Nothing in it.
    #[error("the secret from {0} is empty")]
    Empty(String),
}

#[cfg(test)]
mod tests;
