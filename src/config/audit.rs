//! Where records go, and how durable they are.

use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Deserialize;

use super::sink::{self, Retention, Sinks};
use super::{duration, size};

/// Where records go.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Audit {
    /// The file they are appended to, one JSON object a line.
    pub file: PathBuf,
    /// What must have happened to the record of a statement before that is sent.
    pub durability: Durability,
    /// The file of the key that signs checkpoints; made at the first start. Unless it
    /// is said, it is beside the records.
    pub key: Option<PathBuf>,
    /// How often a checkpoint is made while there are records, such as `10s`; at most
    /// `1m`.
    #[serde(deserialize_with = "duration::deserialize")]
    #[schemars(with = "String")]
    pub checkpoint_every: Duration,
    /// A file elsewhere that checkpoints are added to as well.
    pub checkpoints: Option<PathBuf>,
    /// How long the file becomes before another begins, such as `64MB`.
    #[serde(deserialize_with = "size::deserialize")]
    #[schemars(with = "String")]
    pub segment_size: usize,
    /// Where else records go.
    pub sinks: Sinks,
    /// How long files of records are kept; for ever, unless it is said.
    pub retention: Option<Retention>,
}

impl Audit {
    /// The file of the key.
    pub fn key(&self) -> PathBuf {
        match &self.key {
            Some(key) => key.clone(),
            None => self.file.with_extension("key"),
        }
    }

    pub(super) fn check(&self) -> Result<(), String> {
        if self.checkpoint_every.is_zero() || self.checkpoint_every > Duration::from_secs(60) {
            return Err("`audit.checkpoint_every` must be more than 0s and at most 1m".into());
        }
        if self.segment_size < 64 << 10 {
            return Err("`audit.segment_size` must be at least 64kB".into());
        }
        for (name, one) in &self.sinks {
            if !sink::is_name(name) {
                return Err(format!(
                    "`audit.sinks` has `{name}`: a name has letters, digits, `-` and `_` alone"
                ));
            }
            one.check()
                .map_err(|what| format!("`audit.sinks.{name}` {what}"))?;
        }
        if let Some(Retention { age, size }) = self.retention {
            if age.is_none() && size.is_none() {
                return Err("`audit.retention` says neither `age` nor `size`".into());
            }
            let elsewhere = self.sinks.values().any(|sink| sink.takes_checkpoints());
            if self.checkpoints.is_none() && !elsewhere {
                return Err(
                    "`audit.retention` needs a place elsewhere for checkpoints: \
                     `audit.checkpoints`, or a sink that is a webhook or postgres"
                        .into(),
                );
            }
        }
        Ok(())
    }
}

/// What a record must survive before what it tells of is done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Durability {
    /// A machine that fails: it is on disk. Those who wait at once share one sync.
    #[default]
    Fsync,
    /// A proxy that is killed: the system has it.
    Flush,
    /// Nothing: it is handed over to be written.
    Async,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            file: "audit/records.jsonl".into(),
            durability: Durability::default(),
            key: None,
            checkpoint_every: Duration::from_secs(10),
            checkpoints: None,
            segment_size: 64 << 20,
            sinks: Sinks::new(),
            retention: None,
        }
    }
}
