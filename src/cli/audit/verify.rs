//! `pgveil audit verify [PROOF…]`.

use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{Which, note, verifier};
use crate::audit::proof;
use crate::audit::readers::Did;
use crate::audit::tree::store::kept;
use crate::audit::verify::verify;

/// Say whether a log, or a proof of one of its records, is what was signed.
#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Verify {
    /// Proofs, in place of the log
    proofs: Vec<PathBuf>,
    #[command(flatten)]
    which: Which,
    /// The log's public key, or the file it is in; else the one beside the log, which
    /// whoever changed the log may have changed as well
    #[arg(long, short)]
    key: Option<String>,
    /// Checkpoints that were kept elsewhere: a file of one, or of what
    /// `audit.checkpoints` gathers
    #[arg(long = "checkpoint", value_name = "FILE")]
    checkpoints: Vec<PathBuf>,
}

impl Verify {
    pub(super) fn run(&self) -> Result<(), Box<dyn Error>> {
        match self.proofs.as_slice() {
            [] => self.log(),
            proofs => proofs.iter().try_for_each(|file| self.proof(file)),
        }
    }

    fn log(&self) -> Result<(), Box<dyn Error>> {
        let (places, beside) = self.which.places()?;
        let verifier = verifier(self.key.as_deref(), &beside)?;
        let mut known = Vec::new();
        for file in &self.checkpoints {
            let kept = kept(&read(file)?);
            known.extend(kept.map_err(|error| format!("{}: {error}", file.display()))?);
        }
        let verified = verify(&places, &verifier, &known);
        let came = match &verified {
            Ok(whole) => format!("ok, {} records", whole.size),
            Err(error) => error.to_string(),
        };
        note(&places, Did::Verified, &came);
        let whole = verified?;
        writeln!(
            std::io::stdout(),
            "{}: ok, {} records signed by {} in {} file{}{}, {} more not yet; {} checkpoints; \
             root {}",
            places.live.display(),
            whole.size,
            verifier.name(),
            whole.files,
            if whole.files == 1 { "" } else { "s" },
            match &whole.said {
                Some(said) if whole.pruned > 0 => format!(
                    " (the first {} removed by retention: {} of {}; the oldest left is of {})",
                    whole.pruned,
                    said.id,
                    said.time,
                    whole.since.as_deref().unwrap_or("no known time"),
                ),
                _ => String::new(),
            },
            whole.unsigned,
            whole.checkpoints,
            STANDARD.encode(whole.root),
        )?;
        Ok(())
    }

    fn proof(&self, file: &Path) -> Result<(), Box<dyn Error>> {
        // A proof is verified where there may be no log.
        let key = self.key.as_deref();
        let beside = match (&key, self.which.places()) {
            (None, Ok((_, beside))) => beside,
            (None, Err(_)) => {
                return Err("which key? (hint: --key takes the log's public key)".into());
            }
            _ => PathBuf::new(),
        };
        let verifier = verifier(key, &beside)?;
        let text = read(file)?;
        let proved = proof::check(&text, &verifier)
            .map_err(|error| format!("{}: {error}", file.display()))?;
        let mut out = std::io::stdout();
        writeln!(out, "{}", proved.record)?;
        eprintln!(
            "{}: ok, record {} of the {} that {} signed",
            file.display(),
            proved.index,
            proved.size,
            verifier.name(),
        );
        Ok(())
    }
}

fn read(file: &Path) -> Result<String, String> {
    fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))
}
