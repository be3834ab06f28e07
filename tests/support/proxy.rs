//! `pgveil serve` as a process of its own, in front of a Postgres of the tests.

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use pgveil::identity::verifier::{DEFAULT_ITERATIONS, Verifier};

use super::client::Client;
use super::postgres::Postgres;

/// Everybody's.
const PASSWORD: &str = "a test's password";
/// What callers name as their database.
pub const DATASET: &str = "shop";

/// A running proxy; stopped when dropped.
pub struct Proxy {
    /// Where it listens
    pub address: SocketAddr,
    child: Child,
    directory: tempfile::TempDir,
}

impl Proxy {
    /// In front of a server's database `postgres`, by that role there, under a
    /// policy whose identities all get the same password.
    pub fn start(postgres: &Postgres, role: &str, policy: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let home = directory.path();
        fs::create_dir(home.join("policies")).unwrap();
        for entry in fs::read_dir(policy).unwrap() {
            let path = entry.unwrap().path();
            let mut text = fs::read_to_string(&path).unwrap();
            if path.ends_with("identities.yaml") {
                let verifier = Verifier::derive(PASSWORD, DEFAULT_ITERATIONS).unwrap();
                text = text.replace(" }", &format!(", scram: \"{}\" }}", verifier.encode()));
            }
            let name = path.file_name().unwrap();
            fs::write(home.join("policies").join(name), text).unwrap();
        }
        fs::write(home.join("mask-key"), "a test's own mask key").unwrap();

        // Somebody else may take the port between finding and using it.
        for _ in 0..5 {
            let address = free();
            let config = home.join("pgveil.yaml");
            fs::write(&config, configuration(address, postgres, role)).unwrap();
            let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
                .args(["serve", "--config"])
                .arg(&config)
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("pgveil runs");
            let end = Instant::now() + Duration::from_secs(30);
            while Instant::now() < end && child.try_wait().unwrap().is_none() {
                if TcpStream::connect(address).is_ok() {
                    return Self {
                        address,
                        child,
                        directory,
                    };
                }
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("pgveil does not serve")
    }

    /// A session of that caller.
    pub fn client(&self, caller: &str) -> Client {
        Client::connect(self.address, caller, PASSWORD, DATASET)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has recorded.
    pub fn records(&self) -> String {
        fs::read_to_string(self.directory.path().join("records.jsonl")).unwrap()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn configuration(address: SocketAddr, postgres: &Postgres, role: &str) -> String {
    format!(
        "listen: {{ address: \"{address}\" }}\n\
         policies: policies\n\
         datasets:\n\
         \x20 {DATASET}:\n\
         \x20   upstream: {{ host: \"{}\", port: {}, dbname: postgres, user: {role} }}\n\
         \x20   mask_key: {{ file: mask-key }}\n\
         audit: {{ file: records.jsonl }}\n\
         log: {{ level: error }}\n\
         shutdown_timeout: 1s\n",
        postgres.directory.display(),
        postgres.port,
    )
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
}
