//! `pgveil audit sinks`: how far each has come.

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;

use crate::audit::segments::Places;
use crate::config::Config;
use crate::sinks::{self, Behind};

/// Say how far each sink has come, and how many records wait for it.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Sinks {
    /// The configuration that names log and sinks
    #[arg(long, short, default_value = "pgveil.yaml")]
    config: PathBuf,
}

impl Sinks {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        let audit = Config::load(&self.config)?.audit;
        let places = Places::of(&audit.file);
        let mut out = std::io::stdout();
        let width = audit.sinks.keys().map(String::len).max().unwrap_or(0);
        let width = width.max("sink".len());
        writeln!(
            out,
            "{:width$}  {:>12}  {:>12}  oldest waiting",
            "sink", "taken", "waiting"
        )?;
        for name in audit.sinks.keys() {
            let Behind {
                taken,
                waiting,
                oldest,
            } = sinks::behind(&places, name)?;
            let oldest = oldest.unwrap_or_else(|| "-".into());
            writeln!(out, "{name:width$}  {taken:>12}  {waiting:>12}  {oldest}")?;
        }
        Ok(())
    }
}
