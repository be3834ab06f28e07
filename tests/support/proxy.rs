//! `pgveil serve` as a process of its own, in front of a Postgres of the tests.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use pgveil::identity::verifier::{DEFAULT_ITERATIONS, Verifier};

use super::client::Client;
use super::postgres::Postgres;

/// Everybody's.
pub const PASSWORD: &str = "a test's password";
/// What callers name as their database.
pub const DATASET: &str = "shop";

/// How a proxy differs from what most tests need.
pub struct Setup {
    /// Where it listens
    pub host: IpAddr,
    /// Further keys of `listen`, in YAML's flow style
    pub listen: String,
    /// The upstream in its place, in YAML's flow style
    pub upstream: Option<String>,
    /// Its log
    pub log: &'static str,
    /// How long it drains
    pub shutdown_timeout: &'static str,
    /// Further lines of its dataset
    pub dataset: &'static str,
    /// Its records, in YAML's flow style
    pub audit: String,
    /// Further lines of the configuration
    pub more: String,
    /// Further files beside it
    pub files: Vec<(&'static str, String)>,
    /// Further variables of its environment
    pub environment: Vec<(&'static str, PathBuf)>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            host: Ipv4Addr::LOCALHOST.into(),
            listen: String::new(),
            upstream: None,
            log: "{ level: error }",
            shutdown_timeout: "1s",
            dataset: "",
            audit: "{ file: records.jsonl }".into(),
            more: String::new(),
            files: Vec::new(),
            environment: Vec::new(),
        }
    }
}

/// What masks of its dataset are keyed with.
pub const MASK_KEY: &str = "a test's own mask key";

/// A running proxy; killed when dropped.
pub struct Proxy {
    /// Where it listens
    pub address: SocketAddr,
    child: Child,
    directory: tempfile::TempDir,
    environment: Vec<(&'static str, PathBuf)>,
}

impl Proxy {
    /// In front of a server's database `postgres`, by that role there, under a
    /// policy whose identities all get the same password.
    pub fn start(postgres: &Postgres, role: &str, policy: &Path) -> Self {
        Self::with(postgres, role, policy, &Setup::default())
    }

    /// The same, set up otherwise.
    pub fn with(postgres: &Postgres, role: &str, policy: &Path, setup: &Setup) -> Self {
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
        fs::write(home.join("mask-key"), MASK_KEY).unwrap();
        for (name, text) in &setup.files {
            fs::write(home.join(name), text).unwrap();
        }

        // Somebody else may take the port between finding and using it.
        for _ in 0..5 {
            let address = free(setup.host);
            let config = home.join("pgveil.yaml");
            fs::write(&config, configuration(address, postgres, role, setup)).unwrap();
            let near = SocketAddr::from(([127, 0, 0, 1], address.port()));
            if let Some(child) = served(home, near, &setup.environment) {
                return Self {
                    address: near,
                    child,
                    directory,
                    environment: setup.environment.clone(),
                };
            }
        }
        let log = fs::read_to_string(home.join("log")).unwrap();
        panic!("pgveil does not serve: {log}")
    }

    /// Ends it, `kill -9`, and starts it again on what it left.
    pub fn again(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.child = served(self.directory.path(), self.address, &self.environment)
            .unwrap_or_else(|| panic!("it does not start again: {}", self.log()));
    }

    /// A session of that caller.
    pub fn client(&self, caller: &str) -> Client {
        Client::connect(self.address, caller, PASSWORD, DATASET)
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// A session of that caller with further startup parameters.
    ///
    /// # Errors
    /// The SQLSTATE with which it is refused.
    pub fn login(&self, caller: &str, more: &[(&str, &str)]) -> Result<Client, String> {
        let mut parameters = vec![("user", caller), ("database", DATASET)];
        parameters.extend_from_slice(more);
        Client::with(self.address, &parameters, PASSWORD)
    }

    /// Where its policy, configuration and records are.
    pub fn home(&self) -> PathBuf {
        self.directory.path().to_owned()
    }

    /// What it has recorded.
    pub fn records(&self) -> String {
        fs::read_to_string(self.directory.path().join("records.jsonl")).unwrap()
    }

    /// Its records of that kind of event.
    pub fn events(&self, event: &str) -> Vec<serde_json::Value> {
        self.records()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .filter(|record| record["event"] == event)
            .collect()
    }

    /// The same, once there are that many.
    pub fn events_soon(&self, event: &str, count: usize) -> Vec<serde_json::Value> {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            let found = self.events(event);
            if found.len() >= count {
                return found;
            }
            assert!(Instant::now() < end, "{count} of {event}: {found:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.directory.path().join("log")).unwrap()
    }

    /// Sends it a signal, `TERM` say.
    pub fn signal(&self, name: &str) {
        let sent = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let end = Instant::now() + Duration::from_secs(30);
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(Instant::now() < end, "it does not end: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("-- what the proxy said:\n{}", self.log());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One that serves there by the configuration in its home, if it does.
fn served(
    home: &Path,
    address: SocketAddr,
    environment: &[(&'static str, PathBuf)],
) -> Option<Child> {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(["serve", "--config"])
        .arg(home.join("pgveil.yaml"))
        .envs(environment.iter().cloned())
        .stdin(Stdio::null())
        .stdout(fs::File::create(home.join("stdout")).unwrap())
        .stderr(fs::File::create(home.join("log")).unwrap())
        .spawn()
        .expect("pgveil runs");
    let end = Instant::now() + Duration::from_secs(30);
    while Instant::now() < end && child.try_wait().unwrap().is_none() {
        if TcpStream::connect(address).is_ok() {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let _ = child.kill();
    let _ = child.wait();
    None
}

fn configuration(address: SocketAddr, postgres: &Postgres, role: &str, setup: &Setup) -> String {
    let upstream = setup.upstream.clone().unwrap_or_else(|| {
        let (host, port) = (postgres.directory.display(), postgres.port);
        format!("{{ host: \"{host}\", port: {port}, dbname: postgres, user: {role} }}")
    });
    let Setup {
        listen,
        log,
        shutdown_timeout,
        dataset,
        audit,
        more,
        ..
    } = setup;
    format!(
        "listen: {{ address: \"{address}\", {listen} }}\n\
         policies: policies\n\
         datasets:\n\
         \x20 {DATASET}:\n\
         \x20   upstream: {upstream}\n\
         \x20   mask_key: {{ file: mask-key }}\n\
         \x20   environment: test\n\
         {dataset}\
         audit: {audit}\n\
         log: {log}\n\
         shutdown_timeout: {shutdown_timeout}\n\
         {more}\n",
    )
}

fn free(host: IpAddr) -> SocketAddr {
    TcpListener::bind((host, 0))
        .and_then(|listener| listener.local_addr())
        .unwrap()
}
