//! Where else records go.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::dataset::{Upstream, is_this_machine};
use super::duration;
use super::secret::SecretRef;
use crate::http::Url;

/// Sinks, by name: a sink is known by it, and so is how far it has come.
pub type Sinks = BTreeMap<String, Sink>;

/// A place that gets every record, in order: one of `stdout`, `webhook`, `syslog` and
/// `postgres`.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Sink {
    /// What a record looks like there; of `postgres`, its columns.
    pub format: Format,
    /// Statements are refused (58030) when a record has waited for longer than that, such
    /// as `5m`. Unless it is said, no statement waits for the sink.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub required: Option<Duration>,
    /// Standard output, one JSON object a line.
    pub stdout: Option<Stdout>,
    /// HTTP requests, each with many records.
    pub webhook: Option<Webhook>,
    /// A collector that speaks RFC 5424 over TCP or TLS.
    pub syslog: Option<Syslog>,
    /// A database that has the tables of `pgveil audit sql-schema`.
    pub postgres: Option<Upstream>,
}

/// What a record looks like.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// As it is in the log, beside the log's name and its own number there.
    #[default]
    Native,
    /// OCSF 1.8.0, Datastore Activity; what is none is left out.
    Ocsf,
}

/// Standard output.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stdout {}

/// Who is posted to.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Webhook {
    /// Where: https, or http of this machine.
    pub url: String,
    /// What requests are signed with, of 24 bytes or more, as is or behind `whsec_` in
    /// base64.
    pub secret: SecretRef,
    /// The file of certificates to trust, in PEM; those of this machine unless it is said.
    pub ca: Option<PathBuf>,
    /// What is sent.
    #[serde(default)]
    pub sends: Sends,
}

/// What a webhook is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Sends {
    /// Records, and the checkpoint that they are under.
    #[default]
    Records,
    /// Checkpoints alone.
    Checkpoints,
}

/// A collector.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Syslog {
    /// Its host.
    pub host: String,
    /// Its port.
    #[serde(default = "default_port")]
    pub port: u16,
    /// The file of certificates to trust, in PEM. Without it records go in clear, which
    /// they do on this machine only.
    pub ca: Option<PathBuf>,
}

/// RFC 5425's.
fn default_port() -> u16 {
    6514
}

/// How long files of records are kept.
#[derive(Clone, Copy, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retention {
    /// Files whose records are all older are removed, such as `90d`.
    #[serde(deserialize_with = "duration::optional")]
    #[schemars(with = "Option<String>")]
    pub age: Option<Duration>,
    /// The oldest files are removed while all of them together are larger, such as `10GB`.
    #[serde(deserialize_with = "super::size::optional")]
    #[schemars(with = "Option<String>")]
    pub size: Option<usize>,
}

impl Sink {
    /// Whether checkpoints go there as well.
    pub fn takes_checkpoints(&self) -> bool {
        self.webhook.is_some() || self.postgres.is_some()
    }

    pub(super) fn paths(&mut self) -> impl Iterator<Item = &mut PathBuf> {
        let webhook = self.webhook.iter_mut().flat_map(|webhook| {
            let secret = webhook.secret.paths_mut();
            secret.into_iter().chain(&mut webhook.ca)
        });
        let syslog = self.syslog.iter_mut().flat_map(|syslog| &mut syslog.ca);
        let postgres = self.postgres.iter_mut().flat_map(Upstream::paths);
        webhook.chain(syslog).chain(postgres)
    }

    pub(super) fn check(&self) -> Result<(), String> {
        let kinds = [
            self.stdout.is_some(),
            self.webhook.is_some(),
            self.syslog.is_some(),
            self.postgres.is_some(),
        ];
        if kinds.into_iter().filter(|one| *one).count() != 1 {
            return Err("must be one of `stdout`, `webhook`, `syslog` and `postgres`".into());
        }
        if self
            .required
            .is_some_and(|most| most < Duration::from_secs(5))
        {
            return Err("`required` must be at least 5s".into());
        }
        if let Some(webhook) = &self.webhook {
            Url::parse(&webhook.url).map_err(|error| format!("`webhook.url`: {error}"))?;
        }
        if let Some(syslog) = &self.syslog
            && syslog.ca.is_none()
            && !is_this_machine(&syslog.host)
        {
            return Err(format!(
                "`syslog.ca` is missing: records go to `{}` by TLS, and in clear on this machine \
                 only",
                syslog.host
            ));
        }
        match &self.postgres {
            Some(_) if self.format != Format::Native => {
                Err("`format` is not for `postgres`: its tables have columns".into())
            }
            Some(postgres) if !postgres.users.is_empty() => {
                Err("`postgres.users` is for datasets: no caller goes there".into())
            }
            Some(postgres) => postgres.check("postgres"),
            None => Ok(()),
        }
    }
}

/// A sink's name is that of a file, too.
pub(super) fn is_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_');
    (1..=63).contains(&name.len()) && name.chars().all(fits)
}
