//! `pgveil policy check DIR` and `pgveil policy schema`.
//!
//! Knows nothing about the proxy: what it accepts is what the proxy loads.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::policy::{self, Policy};

/// Work with policy files.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

/// What to do.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Load a directory as the proxy would, and say what is wrong with it
    Check(Check),
    /// Print the JSON schema of a policy file, for editors
    Schema,
}

/// Load a directory as the proxy would, and say what is wrong with it.
#[derive(Debug, clap::Args)]
pub struct Check {
    /// The directory with the *.yaml files
    directory: PathBuf,
    /// Fail on warnings too
    #[arg(long)]
    strict: bool,
}

/// Runs `pgveil policy …`.
pub fn run(args: &Args) -> ExitCode {
    match &args.command {
        Command::Check(args) => check(args),
        Command::Schema => schema(),
    }
}

/// Runs `pgveil policy check`: 0 if the directory loads.
pub fn check(args: &Check) -> ExitCode {
    let (mut out, mut err) = (std::io::stdout(), std::io::stderr());
    let policy = match Policy::load(&args.directory, 1) {
        Ok(policy) => policy,
        Err(error) => {
            // A closed pipe changes nothing about the verdict.
            let _ = writeln!(err, "error: {error}");
            return ExitCode::FAILURE;
        }
    };
    for warning in &policy.warnings {
        let _ = writeln!(err, "warning: {warning}");
    }
    let _ = writeln!(
        out,
        "{}: {} datasets, {} roles, {} identities; digest {}",
        args.directory.display(),
        policy.datasets().count(),
        policy.roles().count(),
        policy.identities().count(),
        policy.digest
    );
    if args.strict && !policy.warnings.is_empty() {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Runs `pgveil policy schema`.
pub fn schema() -> ExitCode {
    match writeln!(std::io::stdout(), "{:#}", policy::schema()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use clap::Args as _;

    #[test]
    fn arguments_are_sound() {
        super::Args::augment_args(clap::Command::new("policy")).debug_assert();
    }
}
