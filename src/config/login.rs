//! Humans who prove a second factor: `pgveil login`.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::{SecretRef, Tokens, duration};

/// What `pgveil login` takes: a password and a one-time code, for a token.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The secret that policy's `totp` is sealed with: 16 bytes or more.
    pub key: SecretRef,
    /// How long its tokens are in force, such as `1h`; at most, and where it is left out,
    /// `tokens.lifetime`.
    #[serde(default, deserialize_with = "lifetime")]
    #[schemars(with = "Option<String>")]
    pub lifetime: Option<Duration>,
    /// The file that remembers which codes have been used, so that none is taken twice.
    #[serde(default = "default_used")]
    pub used: PathBuf,
}

impl Login {
    pub(super) fn check(&self, tokens: &Tokens) -> Result<(), String> {
        if tokens.keys.is_empty() {
            return Err("`login` wants `tokens.keys`: what it gives is a token".into());
        }
        match self.lifetime {
            Some(own) if own.is_zero() || own > tokens.lifetime => {
                Err("`login.lifetime` must be more than 0s, and at most `tokens.lifetime`".into())
            }
            _ => Ok(()),
        }
    }
}

fn lifetime<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    duration::deserialize(from).map(Some)
}

fn default_used() -> PathBuf {
    "logins.json".into()
}
