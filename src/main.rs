//! The `pgveil` command: dispatches to a subcommand.

fn main() -> std::process::ExitCode {
    pgveil::cli::main()
}
