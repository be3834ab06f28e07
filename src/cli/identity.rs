//! `pgveil identity`: makes what `policies/identities.yaml` holds.
//!
//! Invariant: a password comes from a prompt or from standard input, never from
//! the command line, which other users of the machine can read.

use std::error::Error;
use std::io::{BufRead, IsTerminal as _, Write as _};
use std::path::PathBuf;

use clap::{Args, Subcommand};

use crate::config::Config;
use crate::identity::totp::Totp;
use crate::identity::verifier::{DEFAULT_ITERATIONS, MAX_ITERATIONS, Verifier};

/// Far above any password, far below what would hurt.
const MAX_PASSWORD: u64 = 4096;

/// What to make.
#[derive(Debug, Subcommand)]
pub(super) enum Identity {
    /// Print the verifier of a password, to be stored in place of it
    ///
    /// Asks for the password twice on a terminal, and otherwise reads one line of
    /// standard input. The output goes into policies/identities.yaml as the
    /// identity's `scram`, and is what Postgres stores in pg_authid: one can be
    /// used in place of the other. It cannot be turned back into the password, but
    /// whoever has it can guess passwords against it: keep it from the public.
    #[command(after_help = "Examples:
  pgveil identity verifier
  pwgen -s 24 1 | tee password | pgveil identity verifier --iterations 10000")]
    Verifier(VerifierArgs),
    /// Make a second factor: print what an authenticator app takes, and what policy does
    ///
    /// On standard error, the otpauth:// URI that the human's app is given once, as text or
    /// as a QR code of it: it is the secret itself. On standard output, the same secret,
    /// sealed by the configuration's `login.key` for this identity alone: it goes into
    /// policies/identities.yaml as the identity's `totp`, beside its `scram`. Another run
    /// makes another secret.
    #[command(after_help = "Example:
  pgveil identity enroll-totp analyst")]
    EnrollTotp(Enroll),
}

/// Whose second factor.
#[derive(Debug, Args)]
pub(super) struct Enroll {
    /// The configuration file
    #[arg(long, short, default_value = "pgveil.yaml")]
    config: PathBuf,
    /// The identity's name, as policy has it or will have it
    identity: String,
}

/// How to make a verifier.
#[derive(Debug, Args)]
pub(super) struct VerifierArgs {
    /// How many times the password is hashed: more makes guessing dearer, and each
    /// login of the client too
    #[arg(long, value_name = "COUNT", default_value_t = DEFAULT_ITERATIONS,
          value_parser = clap::value_parser!(u32)
              .range(i64::from(DEFAULT_ITERATIONS)..=i64::from(MAX_ITERATIONS)))]
    iterations: u32,
}

impl Identity {
    pub(super) fn run(self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Verifier(args) => {
                let password = password()?;
                let verifier = Verifier::derive(&password, args.iterations)?;
                writeln!(std::io::stdout(), "{}", verifier.encode())?;
                Ok(())
            }
            Self::EnrollTotp(args) => args.run(),
        }
    }
}

impl Enroll {
    fn run(self) -> Result<(), Box<dyn Error>> {
        let config = Config::load(&self.config)?;
        let login = config.login.as_ref();
        let login = login.ok_or(
            "the configuration has no `login` (hint: login: { key: { file: login.key } }, and \
             `openssl rand -hex 32` makes one)",
        )?;
        let sealer = super::serve::runtime()?.block_on(super::serve::sealer(login))?;
        let totp = Totp::generate()?;
        let sealed = sealer.seal(&self.identity, &totp)?;
        eprintln!("{}", totp.uri("pgveil", &self.identity));
        Ok(writeln!(
            std::io::stdout(),
            "totp: \"{}\"",
            sealed.encode()
        )?)
    }
}

fn password() -> Result<String, Box<dyn Error>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return first_line(stdin.lock());
    }
    let password = rpassword::prompt_password("Password: ")?;
    if rpassword::prompt_password("Again: ")? != password {
        return Err("the two differ".into());
    }
    Ok(password)
}

/// The first line, without its end; white space in it counts.
pub(super) fn first_line(input: impl BufRead) -> Result<String, Box<dyn Error>> {
    let mut line = Vec::new();
    input.take(MAX_PASSWORD + 2).read_until(b'\n', &mut line)?;
    if line.last() == Some(&b'\n') {
        line.pop();
        if line.last() == Some(&b'\r') {
            line.pop();
        }
    }
    if line.len() as u64 > MAX_PASSWORD {
        return Err(format!("the password is longer than {MAX_PASSWORD} bytes").into());
    }
    if line.contains(&0) {
        return Err("the password holds a zero byte".into());
    }
    Ok(String::from_utf8(line).map_err(|_| "the password is not UTF-8")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_one_line() {
        let read = |bytes: &[u8]| first_line(bytes).unwrap();
        assert_eq!(read(b"pencil\nmore\n"), "pencil");
        assert_eq!(read(b"pencil\r\n"), "pencil");
        assert_eq!(read(b" two words "), " two words ");
        assert_eq!(read(b""), "");
        assert_eq!(read(&[b'x'; 4096]).len(), 4096);
        for bad in [&b"\xff\n"[..], b"a\0b\n", &[b'x'; 4097]] {
            assert!(first_line(bad).is_err());
        }
    }
}
