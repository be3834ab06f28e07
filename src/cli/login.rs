//! `pgveil login`: a password and a one-time code, for a short-lived token.
//!
//! Knows nothing about keys: it asks a running proxy, by the protocol that psql speaks.
//! Invariant: neither comes from the command line, and the password leaves this machine
//! in no form that could be used again.

use std::error::Error;
use std::io::{IsTerminal as _, Write as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;

use super::identity::first_line;
use crate::secret::Secret;
use crate::upstream::connect::{Cause, Target, TlsMode};
use crate::upstream::step_up::step_up;

/// How long all of it may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Print a token that says that a second factor was proved
///
/// Asks for the password and for the code that the authenticator app shows; where standard
/// input is no terminal, they are its first two lines. The token is given to the proxy as
/// the password, by a client that says so: with `options=-c pgveil.credential=token`.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  export PGPASSWORD=$(pgveil login analyst)
  PGOPTIONS='-c pgveil.credential=token' psql 'host=127.0.0.1 port=6432 user=analyst dbname=shop'
  pgveil login analyst --host db.example --ca server.crt
  pgveil login analyst --for assistant      # a token of the agent, on behalf of the analyst")]
pub(super) struct Login {
    /// Who: a human of the policy
    identity: String,
    /// The agent that the token is for, to act on their behalf; left out, it is their own
    #[arg(long = "for", value_name = "AGENT")]
    agent: Option<String>,
    /// Where the proxy is
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Its port
    #[arg(long, default_value_t = 6432)]
    port: u16,
    /// The certificate that its own is verified by (PEM); on another machine, needed
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Login {
    pub(super) fn run(self) -> Result<(), Box<dyn Error>> {
        let near =
            self.host == "localhost" || self.host.parse().is_ok_and(|ip: IpAddr| ip.is_loopback());
        let tls = match (&self.ca, near) {
            (Some(_), _) => TlsMode::VerifyFull,
            (None, true) => TlsMode::Disable,
            (None, false) => {
                return Err("name the proxy's certificate, or its authority's, by --ca".into());
            }
        };
        let (password, code) = secrets()?;
        let password = Secret::new(password);
        let target = Target {
            dataset: "login".into(),
            host: self.host,
            port: self.port,
            dbname: "login".into(),
            user: self.identity,
            password: None,
            tls,
            ca: self.ca,
            allow_superuser: false,
            timeout: PATIENCE,
        };
        let agent = self.agent.unwrap_or_default();
        let runtime = tokio::runtime::Builder::new_current_thread();
        let runtime = { runtime }.enable_all().build()?;
        let given = runtime.block_on(step_up(&target, &password, &agent, code.trim()));
        let (token, expires) = given.map_err(|error| match error.cause {
            Cause::Refused { message, .. } => format!("the proxy gives no token: {message}"),
            cause => format!("the proxy at {}: {cause}", target.address()),
        })?;
        eprintln!("pgveil: token until {expires}");
        Ok(writeln!(std::io::stdout(), "{token}")?)
    }
}

fn secrets() -> Result<(String, String), Box<dyn Error>> {
    let stdin = std::io::stdin();
    if stdin.is_terminal() {
        let password = rpassword::prompt_password("Password: ")?;
        return Ok((password, rpassword::prompt_password("Code: ")?));
    }
    let mut lines = stdin.lock();
    let password = first_line(&mut lines)?;
    Ok((password, first_line(&mut lines)?))
}
