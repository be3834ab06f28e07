//! Where records go. The seam for a tamper-evident log: whoever appends waits
//! for the answer, and without it nothing runs.

use super::Event;

/// An open log; clones share it.
#[derive(Clone, Debug)]
pub struct Log;

/// The log cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("the audit log cannot be written: {0}")]
pub struct LogError(pub String);

impl Log {
    /// Opens (creates, appends to) a file of one JSON record a line.
    ///
    /// # Errors
    /// Where the file cannot be created or written.
    pub fn open(_path: &std::path::Path) -> Result<Self, LogError> {
        todo!()
    }

    /// Appends one record.
    ///
    /// # Errors
    /// Where it could not be written: the caller must refuse what it was for.
    pub fn append(&self, _event: &Event) -> Result<(), LogError> {
        todo!()
    }

    /// Whether statements may run: the last write succeeded, or a probe now does.
    ///
    /// # Errors
    /// Why they may not.
    pub fn ready(&self) -> Result<(), LogError> {
        todo!()
    }
}
