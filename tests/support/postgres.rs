//! A Postgres of one's own: in a temporary directory, on a Unix socket and a free
//! loopback port, gone when it is dropped or when the test process ends, however it
//! ends.
//!
//! Which Postgres: `PGVEIL_TEST_PGBIN` (a directory), else PATH, else the newest in
//! `/usr/lib/postgresql/*/bin`.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgveil::secret::Source;
use pgveil::upstream::connect::{Target, TlsMode};

/// How the server is to be.
#[derive(Default)]
pub struct Options {
    /// Lines of pg_hba.conf. After them, everybody is trusted on every socket.
    pub hba: Vec<String>,
    /// Whether it speaks TLS, by a certificate for `localhost` of a CA of its own.
    pub tls: bool,
    /// Lines of postgresql.conf.
    pub settings: Vec<String>,
}

/// A running server, with a superuser `postgres`.
pub struct Postgres {
    /// Where the socket is, and everything else
    pub directory: PathBuf,
    /// Its port, on 127.0.0.1 and in the socket's name
    pub port: u16,
    keeper: Child,
}

/// Keeps the server for as long as its own standard input is open, which is as long
/// as the test process holds the other end: a static that is never dropped, a panic
/// or a SIGKILL leave no server behind. Interrupts from the terminal are left to the
/// test process.
const KEEPER: &str = r#"
    trap '' INT TERM HUP
    "$1" -D "$2/data" -k "$2" -p "$3" >"$2/log" 2>&1 </dev/null &
    server=$!
    read -r _
    kill -INT "$server" 2>/dev/null
    wait "$server"
    rm -rf "$2"
"#;

impl Postgres {
    /// A server that trusts everybody.
    pub fn start() -> Self {
        Self::with(Options::default())
    }

    /// A server as described.
    pub fn with(options: Options) -> Self {
        let bin = binaries();
        let directory = directory();
        let mut initdb = as_owner(&bin.join("initdb"), &directory);
        initdb
            .args(["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8"])
            .args(["--locale", "C", "-D"])
            .arg(directory.join("data"));
        let output = initdb.output().expect("initdb runs");
        assert!(output.status.success(), "{output:?}");
        configure(&directory, &options);

        // Somebody else may take the port between finding and using it.
        for _ in 0..5 {
            let port = free_port();
            let mut keeper = as_owner(Path::new("/bin/sh"), &directory);
            let keeper = keeper
                .args(["-c", KEEPER, "keeper"])
                .arg(bin.join("postgres"))
                .arg(&directory)
                .arg(port.to_string())
                .stdin(Stdio::piped())
                .spawn()
                .expect("sh runs");
            let server = Self {
                directory: directory.clone(),
                port,
                keeper,
            };
            if server.is_ready() {
                return server;
            }
            let log = fs::read_to_string(directory.join("log")).unwrap_or_default();
            assert!(log.contains("Address already in use"), "{log}");
            server.abandon();
        }
        panic!("no free port")
    }

    /// Runs SQL as `postgres` in the database `postgres`; gives unaligned rows.
    pub fn psql(&self, sql: &str) -> String {
        let output = Command::new(psql())
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args(["-U", "postgres", "-d", "postgres", "-c", sql, "-h"])
            .arg(&self.directory)
            .args(["-p", &self.port.to_string()])
            .output()
            .expect("psql runs");
        assert!(output.status.success(), "{sql}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// The way in over the socket, as that role and without a password.
    pub fn target(&self, user: &str) -> Target {
        Target {
            dataset: "shop".into(),
            host: self.directory.display().to_string(),
            port: self.port,
            dbname: "postgres".into(),
            user: user.into(),
            password: None,
            tls: TlsMode::Disable,
            ca: None,
            allow_superuser: false,
            timeout: Duration::from_secs(20),
        }
    }

    /// The way in over TCP with a password.
    pub fn tcp(&self, user: &str, password: &str) -> Target {
        Target {
            host: "127.0.0.1".into(),
            password: Some(Arc::new(Source::fixed(password))),
            ..self.target(user)
        }
    }

    /// The PEM file of the CA that signed the server's certificate.
    pub fn ca(&self) -> PathBuf {
        self.directory.join("ca.pem")
    }

    /// Waits for the line that the postmaster writes once it takes connections.
    fn is_ready(&self) -> bool {
        let pid = self.directory.join("data/postmaster.pid");
        let log = self.directory.join("log");
        let end = Instant::now() + Duration::from_secs(60);
        while Instant::now() < end {
            let status = fs::read_to_string(&pid).unwrap_or_default();
            if status
                .lines()
                .nth(7)
                .is_some_and(|line| line.trim() == "ready")
            {
                return true;
            }
            if fs::read_to_string(&log).is_ok_and(|log| log.contains("FATAL:")) {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    /// Gives up a server that did not start, but not its directory.
    fn abandon(mut self) {
        let kept = self.directory.with_extension("kept");
        fs::rename(&self.directory, &kept).unwrap();
        self.stop();
        fs::rename(&kept, &self.directory).unwrap();
    }

    fn stop(&mut self) {
        drop(self.keeper.stdin.take());
        let _ = self.keeper.wait();
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A directory that belongs to whom the server runs as.
fn directory() -> PathBuf {
    // Short, for a socket's path has 107 bytes at most, and open to other users.
    let directory = tempfile::Builder::new()
        .prefix("pgveil-")
        .permissions(fs::Permissions::from_mode(0o700))
        .tempdir_in("/tmp")
        .unwrap()
        .keep();
    if let Some((uid, gid)) = owner() {
        chown(&directory, Some(uid), Some(gid)).unwrap();
    }
    directory
}

fn configure(directory: &Path, options: &Options) {
    let data = directory.join("data");
    let mut settings = vec![
        "listen_addresses = '127.0.0.1'".to_owned(),
        "fsync = off".to_owned(),
        "synchronous_commit = off".to_owned(),
        "full_page_writes = off".to_owned(),
        "max_connections = 100".to_owned(),
    ];
    if options.tls {
        certificates(directory);
        settings.extend(
            [
                "ssl = on",
                "ssl_cert_file = '../server.crt'",
                "ssl_key_file = '../server.key'",
            ]
            .map(str::to_owned),
        );
    }
    settings.extend(options.settings.iter().cloned());
    let file = data.join("postgresql.conf");
    let given = fs::read_to_string(&file).unwrap();
    fs::write(&file, format!("{given}\n{}\n", settings.join("\n"))).unwrap();

    let mut hba = options.hba.clone();
    hba.push("local all all trust".into());
    hba.push("host all all 127.0.0.1/32 trust".into());
    fs::write(data.join("pg_hba.conf"), hba.join("\n") + "\n").unwrap();
}

/// Writes `ca.pem`, and beside it `server.crt` and `server.key` for `localhost`.
pub fn certificates(directory: &Path) {
    use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
    let mut ca = CertificateParams::new(Vec::new()).unwrap();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.distinguished_name
        .push(rcgen::DnType::CommonName, "a test's CA");
    let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let server = CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .signed_by(&key, &ca)
        .unwrap();
    for (name, pem) in [
        ("ca.pem", ca.pem()),
        ("server.crt", server.pem()),
        ("server.key", key.serialize_pem()),
    ] {
        let path = directory.join(name);
        fs::write(&path, pem).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        if let Some((uid, gid)) = owner() {
            chown(&path, Some(uid), Some(gid)).unwrap();
        }
    }
}

/// Whom the server runs as, if that is somebody else: it refuses to run as root.
fn owner() -> Option<(u32, u32)> {
    if fs::metadata("/proc/self").unwrap().uid() != 0 {
        return None;
    }
    let users = fs::read_to_string("/etc/passwd").unwrap();
    let ids = |name| {
        let line = users
            .lines()
            .find(|line| line.split(':').next() == Some(name))?;
        let mut fields = line.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    Some(ids("postgres").or_else(|| ids("nobody")).expect("a user"))
}

fn as_owner(program: &Path, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env("LC_ALL", "C");
    if let Some((uid, gid)) = owner() {
        command.uid(uid).gid(gid);
    }
    command
}

fn binaries() -> PathBuf {
    if let Some(given) = std::env::var_os("PGVEIL_TEST_PGBIN") {
        let given = PathBuf::from(given);
        assert!(given.join("initdb").exists(), "{given:?} has no initdb");
        return given;
    }
    places()
        .into_iter()
        .find(|place| place.join("initdb").exists() && place.join("postgres").exists())
        .expect("a Postgres server (apt-get install postgresql)")
}

/// The client, wherever it is.
pub fn psql() -> PathBuf {
    places()
        .into_iter()
        .map(|place| place.join("psql"))
        .find(|psql| psql.exists())
        .expect("psql (apt-get install postgresql-client)")
}

/// PATH, then Debian's directories, newest first.
fn places() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut debian: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let version = entry.file_name().to_str()?.parse().ok()?;
            Some((version, entry.path().join("bin")))
        })
        .collect();
    debian.sort();
    std::env::split_paths(&path)
        .chain(debian.into_iter().rev().map(|(_, place)| place))
        .collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .unwrap()
        .port()
}
