//! `pgveil policy check DIR` and `pgveil policy schema`.
//!
//! Knows nothing about the proxy: what it accepts is what the proxy loads.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use crate::policy;

/// What to do with policy files.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Policy {
    /// Load a directory as the proxy would, and say what is wrong with it
    Check(Check),
    /// Print the JSON schema of a policy file, for editors
    Schema,
}

/// Load a directory as the proxy would, and say what is wrong with it.
#[derive(Debug, clap::Args)]
pub(super) struct Check {
    /// The directory with the *.yaml files
    directory: PathBuf,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
}

impl Policy {
    pub(super) fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Check(check) => check.run(),
            Self::Schema => Ok(writeln!(std::io::stdout(), "{:#}", policy::schema())?),
        }
    }
}

impl Check {
    fn run(&self) -> Result<(), Box<dyn Error>> {
        let policy = policy::Policy::load(&self.directory, 1)?;
        for warning in &policy.warnings {
            eprintln!("pgveil: warning: {warning}");
        }
        writeln!(
            std::io::stdout(),
            "{}: {}, {}, {}; digest {}",
            self.directory.display(),
            counted(policy.datasets().count(), "dataset", "datasets"),
            counted(policy.roles().count(), "role", "roles"),
            counted(policy.identities().count(), "identity", "identities"),
            policy.digest
        )?;
        if self.strict && !policy.warnings.is_empty() {
            return Err("there are warnings, and --strict was asked for".into());
        }
        Ok(())
    }
}

fn counted(count: usize, one: &str, several: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { several })
}
