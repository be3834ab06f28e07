//! `pgveil audit keygen FILE`.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use crate::audit::key;

/// Make the key that signs a log's checkpoints.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Keygen {
    /// The file that is to hold it; what verifies is put beside it, as *.pub
    file: PathBuf,
    /// Its name, such as `db.example/audit`; without one, it gets one of its own
    #[arg(long)]
    name: Option<String>,
}

impl Keygen {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let signer = key::make(&self.file, self.name.as_deref())?;
        Ok(writeln!(std::io::stdout(), "{}", signer.verifier().text())?)
    }
}
