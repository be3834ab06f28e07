//! The command line: a file per subcommand.
//!
//! Knows nothing about what a subcommand does. A subcommand is a struct of its
//! arguments with a `run`; its result is the process's.

mod audit;
mod demo;
mod identity;
mod login;
mod policy;
mod serve;
mod token;

use std::error::Error;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// An access proxy for Postgres datasets: masks at the scan by who is asking, and
/// records what was seen
#[derive(Debug, Parser)]
#[command(name = "pgveil", version, propagate_version = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Each in its own file.
#[derive(Debug, Subcommand)]
enum Command {
    /// See it work: a Postgres of its own, the proxy, three callers
    Demo(demo::Demo),
    /// Serve the datasets of a configuration file
    Serve(serve::Serve),
    /// Make what policies/identities.yaml holds
    #[command(subcommand)]
    Identity(identity::Identity),
    /// Get a short-lived token by a password and a one-time code
    Login(login::Login),
    /// Issue short-lived tokens in place of passwords, and take them back
    #[command(subcommand)]
    Token(token::Token),
    /// Check a directory of policy files, or print what they may hold
    #[command(subcommand)]
    Policy(policy::Policy),
    /// Search the audit log, verify it, and take proofs from it
    #[command(subcommand)]
    Audit(audit::Audit),
}

/// Runs the command line: 0 if it succeeded, 1 if it failed, 2 if it was not
/// understood.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // A closed standard error has nobody to tell.
            let _printed = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pgveil: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<(), Box<dyn Error>> {
    match command {
        Command::Demo(demo) => demo.run(),
        Command::Serve(serve) => serve.run(),
        Command::Identity(identity) => identity.run(),
        Command::Login(login) => login.run(),
        Command::Token(token) => token.run(),
        Command::Policy(policy) => policy.run(),
        Command::Audit(audit) => audit.run(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn is_consistent() {
        Cli::command().debug_assert();
    }
}
