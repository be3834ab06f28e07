//! The command line: a file per subcommand.

pub mod policy;

/// Runs the command line.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
