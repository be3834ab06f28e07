//! A private Postgres in a temporary directory, from the machine's own binaries.
//!
//! Knows nothing about the proxy. Invariant: however this process ends (dropped,
//! interrupted, killed), the server stops and the directory goes. A shell
//! beside it holds the other end of a pipe and cleans up when the pipe closes.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::process::{Child, Command};

use super::client::{Client, ClientError, Login};

/// The superuser: sets up, and reads what the upstream saw.
pub(super) const ADMIN: &str = "postgres";
/// The proxy's own role.
pub(super) const ROLE: &str = "pgveil";
/// The database, and the dataset's name.
pub(super) const DATABASE: &str = "shop";

const DATASET: &str = include_str!("dataset.sql");

/// Waits for the pipe to close, stops the server by the process id that it
/// wrote down itself (initdb's own, which runs by itself, with a sign), and removes
/// the directory.
const CLEANER: &str = r#"
trap '' HUP INT TERM
read -r _ || :
cd /
pid=$(sed -n 1p "$1/data/postmaster.pid" 2>/dev/null) || pid=
case $pid in -*) kill -TERM "${pid#-}" 2>/dev/null || :; pid= ;; esac
if [ -n "$pid" ]; then
    kill -INT "$pid" 2>/dev/null || :
    tries=0
    while [ -e "$1/data/postmaster.pid" ] && [ "$tries" -lt 100 ]; do
        sleep 0.05
        tries=$((tries + 1))
    done
    if [ -e "$1/data/postmaster.pid" ]; then kill -QUIT "$pid" 2>/dev/null || :; sleep 0.5; fi
fi
tries=0
while [ -e "$1" ] && [ "$tries" -lt 40 ]; do
    rm -rf "$1" 2>/dev/null || sleep 0.05
    tries=$((tries + 1))
done
"#;

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub(super) enum PostgresError {
    /// No binaries.
    #[error(
        "no Postgres server was found on PATH or in the usual places\n\
         hint: install one, on Debian and Ubuntu by `apt-get install postgresql`"
    )]
    Missing,
    /// No binaries where they were said to be.
    #[error(
        "no Postgres server was found in {}\n\
         hint: --postgres takes the directory that holds `initdb` and `postgres`, \
         or none, for the newest on this machine",
        .0.display()
    )]
    MissingIn(PathBuf),
    /// Root cannot run it, and there is nobody to run it as.
    #[error(
        "Postgres does not run as root, and there is no user `postgres` or `nobody` to run it as"
    )]
    NoUser,
    /// A step failed.
    #[error("{step} failed: {why}")]
    Step {
        /// `initdb`, `postgres`
        step: &'static str,
        /// What it said
        why: String,
    },
    /// The dataset could not be loaded.
    #[error("the dataset could not be loaded: {0}")]
    Load(#[from] ClientError),
    /// The file system refuses.
    #[error("{0}: {1}")]
    Io(&'static str, #[source] std::io::Error),
}

/// A directory of server binaries.
#[derive(Clone, Debug)]
pub(super) struct Installation {
    bin: PathBuf,
    /// As in `15.14`
    pub(super) version: String,
}

/// Finds the newest server on PATH or in the usual places, or takes the one in
/// `only`.
pub(super) fn find(only: Option<&Path>) -> Result<Installation, PostgresError> {
    let places = match only {
        Some(bin) => vec![bin.to_owned()],
        None => places(),
    };
    places
        .into_iter()
        .filter(|bin| bin.join("initdb").is_file())
        .filter_map(|bin| {
            let version = version(&bin)?;
            Some(Installation { bin, version })
        })
        .max_by_key(|found| order(&found.version))
        .ok_or_else(|| match only {
            Some(bin) => PostgresError::MissingIn(bin.to_owned()),
            None => PostgresError::Missing,
        })
}

/// PATH, then where Debian, Red Hat, Alpine, a source build, Homebrew and
/// Postgres.app put them.
fn places() -> Vec<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    for (parent, prefix, bin) in [
        ("/usr/lib/postgresql", "", "bin"),
        ("/usr", "pgsql-", "bin"),
        ("/usr/libexec", "postgresql", ""),
        ("/usr/local", "pgsql", "bin"),
        ("/usr/local", "postgresql", "bin"),
        ("/opt", "postgresql", "bin"),
        ("/usr/local/opt", "postgresql", "bin"),
        ("/opt/homebrew/opt", "postgresql", "bin"),
        ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
    ] {
        let entries = std::fs::read_dir(parent).into_iter().flatten().flatten();
        places.extend(
            entries
                .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
                .map(|entry| entry.path().join(bin)),
        );
    }
    places
}

/// `postgres (PostgreSQL) 15.14 (Debian …)` → `15.14`.
fn version(bin: &Path) -> Option<String> {
    let output = std::process::Command::new(bin.join("postgres"))
        .arg("--version")
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split_whitespace().nth(2).map(str::to_owned)
}

/// `15.14` before `18beta1` before `18.1`.
fn order(version: &str) -> (u32, u32) {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit());
    let mut next = || numbers.next().and_then(|n| n.parse().ok());
    let major = next().unwrap_or(0);
    let minor = if version.contains('.') { next() } else { None };
    (major, minor.unwrap_or(0))
}

/// Whom to run the server as.
#[derive(Clone, Copy, Debug)]
struct Account {
    uid: u32,
    gid: u32,
}

/// An ordinary user runs it directly; root hands it to `postgres` or `nobody`.
fn account() -> Result<Option<Account>, PostgresError> {
    if id(&["-u"]) != Some(0) {
        return Ok(None);
    }
    ["postgres", "nobody"]
        .into_iter()
        .find_map(|name| {
            Some(Account {
                uid: id(&["-u", name])?,
                gid: id(&["-g", name])?,
            })
        })
        .map(Some)
        .ok_or(PostgresError::NoUser)
}

fn id(arguments: &[&str]) -> Option<u32> {
    let output = std::process::Command::new("id")
        .args(arguments)
        .stderr(Stdio::null())
        .output()
        .ok()?;
    String::from_utf8(output.stdout).ok()?.trim().parse().ok()
}

/// A running server; dropping it stops it and removes its directory.
pub(super) struct Server {
    /// Its directory: data, socket, log, and room for the proxy's files
    pub(super) directory: PathBuf,
    /// Its port, on 127.0.0.1 and in the socket's name
    pub(super) port: u16,
    postgres: Option<Child>,
    cleaner: std::process::Child,
}

impl Server {
    /// Makes and starts a server, with an empty [`DATABASE`] and the [`ROLE`].
    pub(super) async fn start(
        installation: &Installation,
        password: &str,
    ) -> Result<Self, PostgresError> {
        let account = account()?;
        let directory = tempfile::Builder::new()
            .prefix("pgveil-demo-")
            .tempdir()
            .map_err(|error| PostgresError::Io("a temporary directory", error))?
            .keep();
        let cleaner = clean_up_after(&directory)?;
        let mut server = Self {
            directory,
            port: free_port()?,
            postgres: None,
            cleaner,
        };
        if let Some(account) = account {
            std::os::unix::fs::chown(&server.directory, Some(account.uid), Some(account.gid))
                .map_err(|error| PostgresError::Io("the temporary directory", error))?;
        }
        server.initdb(installation, account).await?;
        server.launch(installation, account)?;
        let mut admin = server.ready().await?;
        // The verifier is what Postgres would make of the password itself; so
        // the password is in none of its logs.
        let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
        admin
            .query(&format!(
                "CREATE ROLE {ROLE} LOGIN NOINHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE PASSWORD '{verifier}'"
            ))
            .await?;
        admin.query(&format!("CREATE DATABASE {DATABASE}")).await?;
        admin
            .query(&format!(
                "REVOKE ALL ON DATABASE {DATABASE} FROM PUBLIC; \
                 GRANT CONNECT, TEMPORARY ON DATABASE {DATABASE} TO {ROLE}"
            ))
            .await?;
        Ok(server)
    }

    /// Loads the dataset.
    pub(super) async fn load(&self) -> Result<(), PostgresError> {
        self.admin(DATABASE).await?.query(DATASET).await?;
        Ok(())
    }

    /// The superuser's session, over the socket that only the server's own user
    /// and root can reach.
    pub(super) async fn admin(&self, database: &str) -> Result<Client, ClientError> {
        let socket = self.directory.join(format!(".s.PGSQL.{}", self.port));
        let login = Login {
            user: ADMIN,
            password: "",
            database,
            application: "pgveil demo",
        };
        Client::start(UnixStream::connect(socket).await?, &login).await
    }

    fn command(
        &self,
        installation: &Installation,
        program: &str,
        account: Option<Account>,
    ) -> Command {
        let mut command = Command::new(installation.bin.join(program));
        command
            .current_dir(&self.directory)
            .env("LC_ALL", "C")
            .env_remove("PGDATA")
            .stdin(Stdio::null())
            // Ctrl-C goes to the whole group of the foreground: the server is
            // to end after the proxy, not with it.
            .process_group(0)
            .kill_on_drop(true);
        if let Some(Account { uid, gid }) = account {
            command.uid(uid).gid(gid);
        }
        command
    }

    async fn initdb(
        &self,
        installation: &Installation,
        account: Option<Account>,
    ) -> Result<(), PostgresError> {
        let output = self
            .command(installation, "initdb", account)
            .args(["--pgdata=data", "--encoding=UTF8", "--locale=C"])
            .args(["--auth=trust", "--no-sync"])
            .arg(format!("--username={ADMIN}"))
            .output()
            .await
            .map_err(|error| PostgresError::Io("initdb", error))?;
        if !output.status.success() {
            return Err(PostgresError::Step {
                step: "initdb",
                why: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            });
        }
        // The socket is trusted because the directory is closed to everyone
        // else; whoever comes by TCP proves the password.
        let rules =
            format!("local all {ADMIN} trust\nhost {DATABASE} {ROLE} 127.0.0.1/32 scram-sha-256\n");
        std::fs::write(self.directory.join("data/pg_hba.conf"), rules)
            .map_err(|error| PostgresError::Io("pg_hba.conf", error))
    }

    fn launch(
        &mut self,
        installation: &Installation,
        account: Option<Account>,
    ) -> Result<(), PostgresError> {
        let log = std::fs::File::create(self.directory.join("postgres.log"))
            .map_err(|error| PostgresError::Io("the server's log", error))?;
        let mut command = self.command(installation, "postgres", account);
        // Its data is thrown away at the end: nothing of it needs to be durable.
        let settings = [
            "listen_addresses=127.0.0.1".to_owned(),
            format!("port={}", self.port),
            format!("unix_socket_directories={}", self.directory.display()),
            "fsync=off".to_owned(),
            "synchronous_commit=off".to_owned(),
            "full_page_writes=off".to_owned(),
            "wal_level=minimal".to_owned(),
            "max_wal_senders=0".to_owned(),
            "max_wal_size=2GB".to_owned(),
            "shared_buffers=256MB".to_owned(),
            "max_connections=200".to_owned(),
            // The tag stands at a statement's end; the tour shows it.
            "track_activity_query_size=64kB".to_owned(),
        ];
        command.args(["-D", "data"]);
        for setting in settings {
            command.arg("-c").arg(setting);
        }
        let child = command
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .map_err(|error| PostgresError::Io("postgres", error))?;
        self.postgres = Some(child);
        Ok(())
    }

    /// Waits until it answers, for 30 seconds.
    async fn ready(&mut self) -> Result<Client, PostgresError> {
        for _ in 0..600 {
            if let Ok(client) = self.admin("postgres").await {
                return Ok(client);
            }
            let ended = match &mut self.postgres {
                Some(child) => !matches!(child.try_wait(), Ok(None)),
                None => true,
            };
            if ended {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let log = std::fs::read_to_string(self.directory.join("postgres.log"));
        Err(PostgresError::Step {
            step: "postgres",
            why: log.unwrap_or_default().trim().to_owned(),
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        drop(self.cleaner.stdin.take());
        // Reaped here, so that the cleaner and whoever looks next finds no zombie.
        let _ = self.cleaner.wait();
        if let Some(child) = &mut self.postgres {
            let _ = child.try_wait();
        }
    }
}

fn clean_up_after(directory: &Path) -> Result<std::process::Child, PostgresError> {
    use std::os::unix::process::CommandExt;
    std::fs::set_permissions(directory, Permissions::from_mode(0o700))
        .map_err(|error| PostgresError::Io("the temporary directory", error))?;
    std::process::Command::new("/bin/sh")
        .args(["-c", CLEANER, "pgveil-demo"])
        .arg(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .current_dir("/")
        .process_group(0)
        .spawn()
        .map_err(|error| PostgresError::Io("/bin/sh", error))
}

/// One that was free a moment ago.
fn free_port() -> Result<u16, PostgresError> {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .and_then(|listener| listener.local_addr())
        .map(|address| address.port())
        .map_err(|error| PostgresError::Io("a port on 127.0.0.1", error))
}

#[cfg(test)]
mod tests;
