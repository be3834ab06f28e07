//! `pgveil audit`: what a log's readers do with it, from its files alone.
//!
//! Knows nothing about the proxy: it need not run, or be on this machine.

mod keygen;
mod prove;
mod query;
mod report;
mod show;
mod sinks;
mod verify;

use std::error::Error;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::audit::segments::Places;
use crate::audit::tree::note::Verifier;
use crate::audit::{readers, record};
use crate::config::Config;

/// What to do with an audit log.
#[derive(Debug, clap::Subcommand)]
pub(super) enum Audit {
    /// Search the log
    Query(Box<query::Query>),
    /// Say who saw what, summed up, or put it together as evidence
    Report(Box<report::Report>),
    /// Say whether a log, or a proof of one of its records, is what was signed
    Verify(verify::Verify),
    /// Export a record with the proof that it is in the log
    Prove(prove::Prove),
    /// Print the JSON schema of a record
    Schema,
    /// Say how far each sink has come
    Sinks(sinks::Sinks),
    /// Print the tables that the sink `postgres` writes to, and reviewers read
    SqlSchema,
    /// Make the key that signs a log's checkpoints
    Keygen(keygen::Keygen),
}

impl Audit {
    pub(super) fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Query(query) => query.run(),
            Self::Report(report) => report.run(),
            Self::Verify(verify) => verify.run(),
            Self::Prove(prove) => prove.run(),
            Self::Schema => Ok(writeln!(
                std::io::stdout(),
                "{:#}",
                record::schema().to_value()
            )?),
            Self::Sinks(sinks) => sinks.run(),
            Self::SqlSchema => Ok(write!(std::io::stdout(), "{}", crate::sinks::SCHEMA)?),
            Self::Keygen(keygen) => keygen.run(),
        }
    }
}

/// Which log.
#[derive(Debug, clap::Args)]
struct Which {
    /// The configuration that names the log
    #[arg(long, short, default_value = "pgveil.yaml")]
    config: PathBuf,
    /// The log's own file, in place of a configuration
    #[arg(long, short)]
    log: Option<PathBuf>,
}

impl Which {
    /// Where the log is, and the public key that was put beside its private one.
    fn places(&self) -> Result<(Places, PathBuf), Box<dyn Error>> {
        Ok(match &self.log {
            Some(file) => (Places::of(file), file.with_extension("pub")),
            None => {
                let audit = Config::load(&self.config)?.audit;
                (Places::of(&audit.file), audit.key().with_extension("pub"))
            }
        })
    }
}

/// Has it on record that the log was read, where a proxy takes that in.
fn note(places: &Places, did: readers::Did, what: &str) {
    if let Err(error) = readers::tell(places, did, what) {
        let place = places.directory.display();
        eprintln!("{place}: {error}: that the log was read is not on record");
    }
}

/// The key that verifies: as it is written, in a file, or the one that was put beside.
fn verifier(given: Option<&str>, beside: &Path) -> Result<Verifier, Box<dyn Error>> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).map_err(|error| {
            format!(
                "the public key {}: {error} (hint: --key takes the key, or the file it is in)",
                path.display()
            )
        })
    };
    let text = match given {
        Some(key) if Verifier::read(key).is_ok() => key.to_owned(),
        Some(file) => read(Path::new(file))?,
        None => {
            let text = read(beside)?;
            eprintln!(
                "{}: the key was taken from beside the log; who changed the log may have \
                 changed it (hint: --key takes one that was kept elsewhere)",
                beside.display()
            );
            text
        }
    };
    Ok(Verifier::read(&text)?)
}
