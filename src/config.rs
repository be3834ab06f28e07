//! `pgveil.yaml` → [`Config`]: what an operator writes.
//!
//! Knows nothing about policy or what the values are used for. Invariants: a
//! [`Config`] is complete and consistent, its paths do not depend on the working
//! directory, and it holds no secret: those are named by environment variable or
//! file ([`SecretRef`]) and read when they are needed.

mod audit;
mod dataset;
mod duration;
mod fault;
mod listen;
mod login;
mod secret;
mod sink;
mod size;
mod tokens;
#[cfg(any(feature = "vault", test))]
mod vault;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::sql::Bounds;
pub use crate::upstream::connect::TlsMode;
pub use audit::{Audit, Durability};
pub use dataset::{Dataset, Upstream, UpstreamTls, UpstreamUser};
pub use duration::parse as duration_of;
pub use fault::{ConfigError, nearest};
pub use listen::{Failures, Listen, Plaintext, ServerTls};
pub use login::Login;
pub use secret::{Exec, Json, SecretRef};
pub use sink::{Format, Retention, Sends, Sink, Sinks, Syslog, Webhook};
pub use tokens::{Algorithm, Issuer, Jwks, Tokens};
#[cfg(any(feature = "vault", test))]
pub use vault::{AppRole, Kubernetes, Vault, VaultAuth, VaultDatabase, VaultKv};

/// The configuration of `pgveil serve`.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Where clients connect.
    #[serde(default)]
    pub listen: Listen,
    /// The folder of policy files, relative to this file's.
    #[serde(default = "default_policies")]
    pub policies: PathBuf,
    /// What callers name as database, and where it lives.
    pub datasets: BTreeMap<String, Dataset>,
    /// How identities that connect by tokens prove themselves.
    #[serde(default)]
    pub tokens: Tokens,
    /// How humans get a token by a password and a one-time code.
    pub login: Option<Login>,
    /// Whose tokens are taken beside this proxy's own.
    #[serde(default)]
    pub issuers: BTreeMap<String, Issuer>,
    /// Where records go.
    #[serde(default)]
    pub audit: Audit,
    /// How large and how deep statements may be.
    #[serde(default)]
    pub limits: Limits,
    /// How the proxy speaks of itself.
    #[serde(default)]
    pub log: Log,
    /// How long sessions may go on after the signal to end, such as `30s`.
    #[serde(
        default = "default_shutdown_timeout",
        deserialize_with = "duration::deserialize"
    )]
    #[schemars(with = "String")]
    pub shutdown_timeout: Duration,
}

/// How large and how deep statements may be. What is beyond is refused before it is
/// planned: planning takes time and memory of the proxy's own.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// The text of one message, such as `1MB`; at most `16MB`. Beyond: 54000.
    #[serde(deserialize_with = "size::deserialize")]
    #[schemars(with = "String")]
    pub statement_size: usize,
    /// How many levels a statement's syntax tree may have, at most 12,000: a term of
    /// a sum is one, a call or a subquery is a few. Beyond: 54001.
    pub statement_depth: usize,
}

impl Limits {
    /// As planning takes them.
    pub fn bounds(self) -> Bounds {
        Bounds {
            size: self.statement_size,
            depth: self.statement_depth,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        let Bounds { size, depth } = Bounds::default();
        Self {
            statement_size: size,
            statement_depth: depth,
        }
    }
}

/// How the proxy speaks of itself, on standard error.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Log {
    /// For people or for programs.
    pub format: LogFormat,
    /// How much.
    pub level: LogLevel,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// Lines to read.
    #[default]
    Pretty,
    /// One JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum LogLevel {
    /// What failed.
    Error,
    /// And what looks wrong.
    Warn,
    /// And what happens.
    #[default]
    Info,
    /// And why.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The level's name, as filters take it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// With file, line and a suggestion, for the first fault found.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text =
            std::fs::read_to_string(path).map_err(|source| ConfigError::read(path, &source))?;
        let folder = match path.parent() {
            Some(folder) if folder != Path::new("") => folder,
            _ => Path::new("."),
        };
        let folder =
            std::path::absolute(folder).map_err(|source| ConfigError::read(path, &source))?;
        Self::parse(&text, &folder).map_err(|error| error.in_file(path))
    }

    /// Reads a text; relative paths in it start from `base`.
    ///
    /// # Errors
    /// As [`Config::load`], without the file.
    pub fn parse(text: &str, base: &Path) -> Result<Self, ConfigError> {
        let mut config: Self =
            serde_saphyr::from_str(text).map_err(|error| ConfigError::yaml(&error))?;
        config.check()?;
        for path in config.paths() {
            *path = base.join(&*path);
        }
        Ok(config)
    }

    /// What the file may hold, as a JSON schema.
    pub fn schema() -> schemars::Schema {
        schemars::schema_for!(Self)
    }

    fn check(&self) -> Result<(), ConfigError> {
        let wrong = |what: String| Err(ConfigError::value(what));
        if self.datasets.is_empty() {
            return wrong("`datasets` is empty: name at least one".into());
        }
        self.listen.check().map_err(ConfigError::value)?;
        let Bounds { size, depth } = Bounds::MOST;
        let limits = &self.limits;
        if !(1 << 10..=size).contains(&limits.statement_size) {
            return wrong("`limits.statement_size` must be from 1kB to 16MB".into());
        }
        if !(10..=depth).contains(&limits.statement_depth) {
            return wrong(format!(
                "`limits.statement_depth` must be from 10 to {depth}"
            ));
        }
        self.audit.check().map_err(ConfigError::value)?;
        tokens::check(&self.tokens, &self.issuers).map_err(ConfigError::value)?;
        let mut login = self.login.iter();
        login
            .try_for_each(|login| login.check(&self.tokens))
            .map_err(ConfigError::value)?;
        self.datasets.iter().try_for_each(|(name, dataset)| {
            dataset
                .check()
                .map_err(|what| ConfigError::value(format!("`datasets.{name}` {what}")))
        })
    }

    fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let tls = self.listen.tls.iter_mut();
        let tokens = self
            .tokens
            .keys
            .iter_mut()
            .chain([&mut self.tokens.revoked]);
        let login = self.login.iter_mut().flat_map(|login| {
            let key = login.key.paths_mut();
            key.into_iter().chain([&mut login.used])
        });
        let issuers = self.issuers.values_mut().flat_map(Issuer::paths);
        let datasets = self.datasets.values_mut().flat_map(|dataset| {
            let key = dataset.mask_key.iter_mut().flat_map(SecretRef::paths_mut);
            key.chain(dataset.upstream.paths())
        });
        let audit = &mut self.audit;
        let sinks = audit.sinks.values_mut().flat_map(Sink::paths);
        [&mut self.policies, &mut audit.file]
            .into_iter()
            .chain(&mut audit.key)
            .chain(&mut audit.checkpoints)
            .chain(tls.flat_map(ServerTls::paths_mut))
            .chain(tokens)
            .chain(issuers)
            .chain(login)
            .chain(datasets)
            .chain(sinks)
    }
}

fn default_policies() -> PathBuf {
    "policies".into()
}

fn default_shutdown_timeout() -> Duration {
    Duration::from_secs(30)
}

#[cfg(test)]
mod tests;
