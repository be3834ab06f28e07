//! The proxy, as the demo sets it up: the files an operator would write, in the
//! demo's directory, and `pgveil serve` on them within this process.
//!
//! Invariant: every secret is made up anew on each run and readable to its owner
//! alone.

use std::fs::DirBuilder;
use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ring::rand::{SecureRandom, SystemRandom};

use super::PERSONAS;
use super::postgres::{ADMIN, DATABASE, ROLE, Server};
use crate::audit::LogError;
use crate::cli::serve::{self, Running};
use crate::config::Config;
use crate::identity::Kind;
use crate::identity::token::{Claims, Key};

/// The agent that acts on behalf of others.
pub(super) const ASSISTANT: &str = "assistant";
/// For how long its tokens are good.
const HOUR: Duration = Duration::from_secs(60 * 60);
/// The file of the key that signs them.
const KEY: &str = "token.key";

const CLASSIFICATION: &str = include_str!("../../../policies/demo/classification.yaml");
const ROLES: &str = include_str!("../../../policies/demo/roles.yaml");
const IDENTITIES: &str = include_str!("../../../policies/demo/identities.yaml");

/// Why the proxy is not there.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProxyError {
    /// No randomness.
    #[error("no randomness for passwords")]
    Random,
    /// A file cannot be written.
    #[error("{0}: {1}")]
    Io(PathBuf, #[source] std::io::Error),
    /// The demo's policy has other identities than the demo.
    #[error("policies/demo/identities.yaml has no line for `{0}`")]
    Identity(&'static str),
    /// As `pgveil serve` would fail.
    #[error("{0}")]
    Serve(Box<dyn std::error::Error + Send + Sync>),
}

/// The running proxy and who may come in.
pub(super) struct Proxy {
    running: Running,
    address: SocketAddr,
    records: PathBuf,
    /// In the order of [`PERSONAS`]
    passwords: Vec<String>,
    key: Key,
}

impl Proxy {
    /// Starts it in front of a server.
    pub(super) async fn start(
        server: &Server,
        upstream_password: &str,
        port: u16,
    ) -> Result<Self, ProxyError> {
        let home = server.directory.join("proxy");
        let policies = home.join("policies");
        for directory in [&home, &policies] {
            DirBuilder::new()
                .mode(0o700)
                .create(directory)
                .map_err(|error| ProxyError::Io(directory.clone(), error))?;
        }
        let passwords = PERSONAS
            .iter()
            .map(|_| password())
            .collect::<Result<Vec<_>, _>>()?;
        write(&policies.join("classification.yaml"), CLASSIFICATION)?;
        write(&policies.join("roles.yaml"), ROLES)?;
        let identities = PERSONAS.iter().zip(&passwords).try_fold(
            IDENTITIES.to_owned(),
            |text, (persona, password)| {
                let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
                with_verifier(&text, persona.name, &verifier)
                    .ok_or(ProxyError::Identity(persona.name))
            },
        )?;
        write(&policies.join("identities.yaml"), &identities)?;
        write(&home.join("upstream-password"), upstream_password)?;
        write(&home.join("mask-key"), &password()?)?;
        let random = |_| ProxyError::Random;
        write(&home.join(KEY), &Key::generate().map_err(random)?)?;
        let file = home.join("pgveil.yaml");
        write(&file, &configuration(server.port, port))?;

        let serve = |error: Box<dyn std::error::Error + Send + Sync>| ProxyError::Serve(error);
        let config = Config::load(&file).map_err(|error| serve(error.into()))?;
        serve::log(&config.log);
        let records = config.audit.file.clone();
        let key = Key::read(&home.join(KEY)).map_err(|error| serve(error.into()))?;
        let running = serve::start(config)
            .await
            .map_err(|error| serve(error.into()))?;
        let address = running
            .addresses()
            .first()
            .copied()
            .ok_or_else(|| serve("it listens nowhere".into()))?;
        Ok(Self {
            running,
            address,
            records,
            passwords,
            key,
        })
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The file of records.
    pub(super) fn records(&self) -> &Path {
        &self.records
    }

    /// Has a checkpoint made of all records so far.
    pub(super) async fn seal(&self) -> Result<(), LogError> {
        self.running.seal().await
    }

    /// A persona's password.
    pub(super) fn password(&self, name: &str) -> &str {
        PERSONAS
            .iter()
            .zip(&self.passwords)
            .find(|(persona, _)| persona.name == name)
            .map_or("", |(_, password)| password)
    }

    /// A token of the assistant's, as `pgveil token mint` would print it.
    pub(super) fn token(&self, on_behalf_of: Option<&str>) -> String {
        let claims = Claims::new("pgveil", (ASSISTANT, Kind::Agent), HOUR);
        self.key.mint(&match on_behalf_of {
            Some(human) => claims.on_behalf_of(human),
            None => claims,
        })
    }

    /// A connection string for each persona, in their order.
    pub(super) fn dsns(&self) -> impl Iterator<Item = String> {
        PERSONAS
            .iter()
            .zip(&self.passwords)
            .map(|(persona, password)| dsn(persona.name, password, self.address))
    }

    /// What programs need to know, as one JSON object.
    pub(super) fn describe(&self, server: &Server, upstream_password: &str) -> serde_json::Value {
        let names = PERSONAS.iter().map(|persona| persona.name.to_owned());
        let assistant = dsn(ASSISTANT, &self.token(Some("analyst")), self.address);
        let dsns: serde_json::Map<_, _> = names
            .chain([ASSISTANT.to_owned()])
            .zip(
                self.dsns()
                    .chain([assistant])
                    .map(serde_json::Value::String),
            )
            .collect();
        let upstream = SocketAddr::from(([127, 0, 0, 1], server.port));
        serde_json::json!({
            "dsns": dsns,
            "upstream": dsn(ROLE, upstream_password, upstream),
            // By a socket that only the server's own user and root can reach.
            "admin": format!(
                "postgresql:///{DATABASE}?host={}&port={}&user={ADMIN}",
                server.directory.display(),
                server.port,
            ),
            "records": self.records,
        })
    }

    /// Lets sessions finish, for a moment.
    pub(super) async fn stop(self) {
        self.running.shutdown(std::future::pending()).await;
    }
}

fn dsn(user: &str, password: &str, address: SocketAddr) -> String {
    format!("postgresql://{user}:{password}@{address}/{DATABASE}")
}

/// 144 bits, in letters that need no escaping in a connection string.
pub(super) fn password() -> Result<String, ProxyError> {
    use base64::Engine as _;
    let mut bytes = [0; 18];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ProxyError::Random)?;
    Ok(base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes))
}

/// What an operator would write.
fn configuration(upstream: u16, port: u16) -> String {
    format!(
        "listen: {{ address: \"127.0.0.1:{port}\" }}\n\
         policies: policies\n\
         datasets:\n\
         \x20 {DATABASE}:\n\
         \x20   upstream:\n\
         \x20     host: 127.0.0.1\n\
         \x20     port: {upstream}\n\
         \x20     dbname: {DATABASE}\n\
         \x20     user: {ROLE}\n\
         \x20     password: {{ file: upstream-password }}\n\
         \x20   mask_key: {{ file: mask-key }}\n\
         \x20   environment: demo\n\
         tokens: {{ keys: [{KEY}] }}\n\
         audit: {{ file: records.jsonl }}\n\
         log: {{ level: warn }}\n\
         shutdown_timeout: 2s\n"
    )
}

/// Adds `scram:` to an identity's line: `name: { kind: … }`.
fn with_verifier(identities: &str, name: &str, verifier: &str) -> Option<String> {
    let mut found = false;
    let lines: Vec<String> = identities
        .lines()
        .map(|line| {
            let own = line
                .trim_start()
                .strip_prefix(name)
                .is_some_and(|rest| rest.starts_with(':'));
            match line.trim_end().strip_suffix('}') {
                Some(open) if own => {
                    found = true;
                    format!("{}, scram: \"{verifier}\" }}", open.trim_end())
                }
                _ => line.to_owned(),
            }
        })
        .collect();
    found.then(|| lines.join("\n") + "\n")
}

fn write(path: &Path, text: &str) -> Result<(), ProxyError> {
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .map_err(|error| ProxyError::Io(path.to_owned(), error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_demo_s_own_files_load() {
        let directory = tempfile::tempdir().unwrap();
        let identities = PERSONAS
            .iter()
            .fold(IDENTITIES.to_owned(), |text, persona| {
                let verifier = postgres_protocol::password::scram_sha_256(b"pw");
                with_verifier(&text, persona.name, &verifier).unwrap()
            });
        for (name, text) in [
            ("classification.yaml", CLASSIFICATION),
            ("roles.yaml", ROLES),
            ("identities.yaml", &identities),
        ] {
            write(&directory.path().join(name), text).unwrap();
        }
        let policy = crate::policy::Policy::load(directory.path(), 1).unwrap();
        for persona in PERSONAS {
            assert!(policy.verifier(persona.name).is_some());
        }
        assert!(policy.by_token(ASSISTANT));
        let config = Config::parse(&configuration(5432, 6432), directory.path()).unwrap();
        assert_eq!(config.datasets.len(), 1);
    }

    #[test]
    fn a_port_may_be_any_free_one() {
        assert!(Config::parse(&configuration(5432, 0), Path::new("/")).is_ok());
    }
}
