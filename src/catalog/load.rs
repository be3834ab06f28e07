//! Reads a [`Catalog`] from the upstream.

use super::Catalog;
use crate::upstream::connect::{ConnectError, Target};

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The upstream could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered otherwise than expected.
    #[error("the catalog of {dataset} could not be read: {what}")]
    Answer {
        /// Which dataset
        dataset: String,
        /// What was wrong
        what: String,
    },
}

/// Reads the catalog over a connection of its own.
///
/// # Errors
/// As [`LoadError`] says; the caller keeps the catalog it has.
pub async fn load(_target: &Target, _epoch: u64) -> Result<Catalog, LoadError> {
    todo!()
}
