//! `pgveil audit prove ID`.

use std::error::Error;
use std::io::Write as _;

use super::{Which, note, verifier};
use crate::audit::proof;
use crate::audit::readers::Did;

/// Export a record with the proof that it is in the log.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Prove {
    /// The record's `id`
    id: String,
    #[command(flatten)]
    which: Which,
    /// The log's public key, or the file it is in; else the one beside the log
    #[arg(long, short)]
    key: Option<String>,
}

impl Prove {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let (places, beside) = self.which.places()?;
        let verifier = verifier(self.key.as_deref(), &beside)?;
        let proof = proof::prove(&places, &verifier, &self.id)?;
        note(&places, Did::Exported, &self.id);
        Ok(write!(std::io::stdout(), "{proof}")?)
    }
}
