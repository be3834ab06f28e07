//! What is to be done for the log while the proxy serves: removing what is old, and taking
//! in what its readers did.
//!
//! Knows nothing about callers.

use std::time::Duration;

use crate::audit::segments::Places;
use crate::audit::{Log, readers, retention};
use crate::config;

/// How often it is looked for files of records that are not to be kept.
const PRUNE: Duration = Duration::from_secs(30);
/// How often it is looked for what readers did.
const READERS: Duration = Duration::from_secs(1);

/// Removes files of records that are not to be kept, as far as they have been taken.
pub(super) async fn prune(
    config: config::Audit,
    rule: config::Retention,
    log: Log,
    taken: Option<impl Fn() -> u64>,
) {
    let places = Places::of(&config.file);
    let Some(progress) = log.progress() else {
        return;
    };
    loop {
        let spare = retention::Spare {
            taken: taken.as_ref().map_or(u64::MAX, |taken| taken()),
            // Else a sink takes checkpoints, with the records that they tell of.
            copied: match config.checkpoints {
                Some(_) => progress.now().copied,
                None => u64::MAX,
            },
        };
        match retention::prune(&places, &log, &rule, spare).await {
            Ok(0) => {}
            Ok(files) => tracing::info!(files, "files of records removed, as retention has it"),
            Err(error) => tracing::error!(%error, "files of records cannot be removed"),
        }
        tokio::time::sleep(PRUNE).await;
    }
}

/// Takes in what readers of the log did.
pub(super) async fn take_in(config: config::Audit, log: Log) {
    let mut failing = false;
    if let Err(error) = readers::resume(&Places::of(&config.file)) {
        tracing::error!(%error, "what readers of the audit log did may not be on record");
    }
    loop {
        let taken = last(&config, &log).await;
        if let (Err(error), false) = (&taken, failing) {
            tracing::error!(%error, "what readers of the audit log did is not on record yet");
        }
        failing = taken.is_err();
        tokio::time::sleep(READERS).await;
    }
}

/// The same, once.
pub(super) async fn last(config: &config::Audit, log: &Log) -> std::io::Result<()> {
    readers::take_in(&Places::of(&config.file), log).await
}
