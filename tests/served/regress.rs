//! Postgres's own regression suite, as psql runs it, through the proxy.
//!
//! The caller is an analyst from whom something is masked, but nothing that the suite
//! uses: what is measured is what a restricted caller gets who keeps to what he may
//! see. State is the same as without a proxy: what the caller may not do (change the
//! schema, say) is done for him past the proxy, in his own session.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::backdoor::Backdoor;
use crate::support::postgres::{Options, Postgres};
use crate::support::proxy::{Proxy, Setup};
use crate::tee::{Entry, Outcome, Tee};

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/served/policy");
const GOVERNED: &str = "CREATE SCHEMA governed;
    CREATE TABLE governed.people (id int, name text);
    INSERT INTO governed.people VALUES (1, 'somebody')";

/// Where the suite is, fetched if need be.
fn suite() -> PathBuf {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/served/suite.sh");
    let output = Command::new("sh").arg(script).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// The scripts in the order of the schedule.
fn scripts(suite: &Path) -> Vec<String> {
    let schedule = fs::read_to_string(suite.join("parallel_schedule")).unwrap();
    schedule
        .lines()
        .filter_map(|line| line.strip_prefix("test: "))
        .flat_map(|line| line.split_whitespace().map(str::to_owned))
        .collect()
}

fn server() -> Postgres {
    let settings = [
        "max_prepared_transactions = 2",
        "autovacuum = off",
        "log_min_messages = panic",
        "max_wal_size = 1GB",
        "jit = off",
    ];
    let postgres = Postgres::with(Options {
        settings: settings.map(str::to_owned).to_vec(),
        ..Options::default()
    });
    // As pg_regress makes it.
    postgres.psql("CREATE DATABASE regression TEMPLATE template0");
    for setting in [
        "lc_messages TO 'C'",
        "lc_monetary TO 'C'",
        "lc_numeric TO 'C'",
        "lc_time TO 'C'",
        "bytea_output TO 'hex'",
        "timezone_abbreviations TO 'Default'",
    ] {
        postgres.psql(&format!("ALTER DATABASE regression SET {setting}"));
    }
    postgres
}

/// Runs the suite, and gives what became of its statements.
pub fn run() -> Vec<Entry> {
    let suite = suite();
    let servers = [server(), server(), server()];
    let address = |at: usize| SocketAddr::from(([127, 0, 0, 1], servers[at].port));
    for server in &servers {
        let psql = psql(server.port).arg("-c").arg(GOVERNED).output();
        assert!(psql.unwrap().status.success());
    }
    let backdoor = Backdoor::before(servers[2].port);
    let dataset = format!(
        "{{ host: 127.0.0.1, port: {}, dbname: regression, user: postgres, \
         tls: {{ mode: disable }} }}\n\
         \x20   allow_superuser: true\n\
         \x20   catalog_refresh: 1h",
        backdoor.address.port()
    );
    let setup = Setup {
        upstream: Some(dataset),
        ..Setup::default()
    };
    let proxy = Proxy::with(&servers[2], "postgres", Path::new(POLICY), &setup);
    let tee = Tee::new(address(0), address(1), proxy.address, backdoor);
    let home = Home::new(&suite);
    let only = std::env::var("PGVEIL_SERVED_ONLY").unwrap_or_default();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    for script in scripts(&suite) {
        if !only.is_empty() && script != "test_setup" && !only.split(',').any(|own| own == script) {
            continue;
        }
        let began = Instant::now();
        home.run(&tee, &listener, &script);
        eprintln!("{script}: {:.1?}", began.elapsed());
        write_results(&tee.entries.lock().unwrap());
    }
    std::mem::take(&mut *tee.entries.lock().unwrap())
}

fn psql(port: u16) -> Command {
    let mut psql = Command::new("psql");
    psql.args([
        "-X",
        "-a",
        "-q",
        "-v",
        "HIDE_TABLEAM=on",
        "-v",
        "HIDE_TOAST_COMPRESSION=on",
    ])
    .env("PGHOST", "127.0.0.1")
    .env("PGPORT", port.to_string())
    .env("PGUSER", "postgres")
    .env("PGDATABASE", "regression")
    .env("PGSSLMODE", "disable")
    .env("PGGSSENCMODE", "disable")
    .env("PGTZ", "PST8PDT")
    .env("PGDATESTYLE", "Postgres, MDY")
    .env("PGOPTIONS", "-c intervalstyle=postgres_verbose")
    .env("LANG", "C")
    .env("LC_MESSAGES", "C");
    psql
}

/// Where scripts find and leave files.
struct Home {
    suite: PathBuf,
    directory: tempfile::TempDir,
    results: PathBuf,
}

impl Home {
    fn new(suite: &Path) -> Self {
        let directory = tempfile::Builder::new()
            .prefix("pgveil-")
            .tempdir_in("/tmp")
            .unwrap();
        let home = directory.path();
        let open =
            |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o777)).unwrap();
        open(home);
        for name in ["results", "data", "lib"] {
            fs::create_dir(home.join(name)).unwrap();
            open(&home.join(name));
        }
        for entry in fs::read_dir(suite.join("data")).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, home.join("data").join(path.file_name().unwrap())).unwrap();
        }
        let libraries = Command::new("pg_config").arg("--pkglibdir").output();
        let places = libraries.map(|output| String::from_utf8(output.stdout).unwrap());
        for entry in places
            .iter()
            .flat_map(|place| fs::read_dir(place.trim()).into_iter().flatten())
        {
            let path = entry.unwrap().path();
            symlink(&path, home.join("lib").join(path.file_name().unwrap())).unwrap();
        }
        fs::copy(suite.join("regress.so"), home.join("lib/regress.so")).unwrap();
        let results = results();
        fs::create_dir_all(&results).unwrap();
        Self {
            suite: suite.to_owned(),
            directory,
            results,
        }
    }

    fn run(&self, tee: &Tee, listener: &TcpListener, script: &str) {
        let home = self.directory.path();
        let path = self.suite.join("sql").join(format!("{script}.sql"));
        let source = String::from_utf8_lossy(&fs::read(&path).unwrap()).into_owned();
        let out = fs::File::create(self.results.join(format!("{script}.out"))).unwrap();
        let mut psql = psql(listener.local_addr().unwrap().port())
            .env("PG_ABS_SRCDIR", home)
            .env("PG_ABS_BUILDDIR", home)
            .env("PG_LIBDIR", home.join("lib"))
            .env("PG_DLSUFFIX", ".so")
            .current_dir(home)
            .stdin(fs::File::open(&path).unwrap())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .spawn()
            .unwrap();
        listener.set_nonblocking(true).unwrap();
        std::thread::scope(|scope| {
            while psql.try_wait().unwrap().is_none() {
                match listener.accept() {
                    Ok((stream, _)) => {
                        stream.set_nonblocking(false).unwrap();
                        let source = &source;
                        scope.spawn(move || tee.serve(stream, script, source));
                    }
                    Err(_) => std::thread::sleep(Duration::from_millis(5)),
                }
            }
        });
    }
}

/// The figures, script by script and in total.
pub fn table(entries: &[Entry]) -> String {
    let mut scripts: BTreeMap<&str, Vec<&Entry>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.kind.counts()) {
        let script = entry.script.as_deref().unwrap_or("(psql's own, for \\d)");
        scripts.entry(script).or_default().push(entry);
    }
    let all: Vec<&Entry> = scripts.values().flatten().copied().collect();
    let mut out = String::from(
        "script                    counted    same varying  differ refused  served | catalog   alike  unseen\n",
    );
    for (script, entries) in scripts.iter().chain([(&"in total", &all)]) {
        let of = |governed, outcome| {
            let own = entries.iter().filter(|entry| entry.governed == governed);
            own.filter(|entry| entry.outcome == outcome).count()
        };
        let alike = |governed| of(governed, Outcome::Same) + of(governed, Outcome::Varies);
        let governed = entries.iter().filter(|entry| entry.governed).count();
        let unseen = of(false, Outcome::Unseen);
        let counted = entries.len() - governed - unseen;
        writeln!(
            out,
            "{script:<25}{counted:>8}{:>8}{:>8}{:>8}{:>8}{:>7.1}% |{governed:>8}{:>8}{unseen:>8}",
            of(false, Outcome::Same),
            of(false, Outcome::Varies),
            of(false, Outcome::Different),
            of(false, Outcome::Refused),
            100.0 * alike(false) as f64 / counted.max(1) as f64,
            alike(true),
        )
        .unwrap();
    }
    let files = counted(entries, true).count() - counted(entries, false).count();
    writeln!(
        out,
        "\nof these, COPY with files of the server, which a superuser alone may run and the \
         proxy refuses by design: {files}\nserved: {:.2} % in total, {:.2} % without them",
        served(entries, true),
        served(entries, false),
    )
    .unwrap();
    out
}

/// Those that count, with or without COPY of the server's files.
fn counted(entries: &[Entry], files: bool) -> impl Iterator<Item = &Entry> {
    entries
        .iter()
        .filter(|entry| entry.kind.counts() && !entry.governed)
        .filter(|entry| entry.outcome != Outcome::Unseen)
        .filter(move |entry| files || !entry.files)
}

/// How many of those that touch nothing governed are served alike, in percent.
/// COPY of files of the server included or not.
pub fn served(entries: &[Entry], files: bool) -> f64 {
    let alike = counted(entries, files)
        .filter(|entry| entry.outcome <= Outcome::Varies)
        .count();
    100.0 * alike as f64 / counted(entries, files).count() as f64
}

/// Every statement that was not served alike, with its reason.
pub fn rest(entries: &[Entry]) -> String {
    let mut out = String::new();
    for entry in entries {
        if entry.outcome > Outcome::Varies {
            let script = entry.script.as_deref().unwrap_or("(psql)");
            writeln!(
                out,
                "## {script} {:?} {:?}{}: {}\n{}\n",
                entry.kind,
                entry.outcome,
                if entry.governed { " (catalog)" } else { "" },
                entry.detail,
                entry.text
            )
            .unwrap();
        }
    }
    out
}

/// What was refused most, by message.
pub fn reasons(entries: &[Entry], top: usize) -> String {
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    let counted = entries
        .iter()
        .filter(|entry| entry.kind.counts() && !entry.governed);
    for entry in counted.filter(|entry| entry.outcome == Outcome::Refused) {
        *reasons
            .entry(entry.detail.lines().next().unwrap_or_default())
            .or_default() += 1;
    }
    let mut reasons: Vec<(usize, &str)> = reasons
        .into_iter()
        .map(|(reason, count)| (count, reason))
        .collect();
    reasons.sort_by(|a, b| b.cmp(a));
    reasons
        .iter()
        .take(top)
        .map(|(count, reason)| format!("{count:>6}  {reason}\n"))
        .collect()
}

/// Writes down what there is so far.
pub fn write_results(entries: &[Entry]) {
    let home = results();
    fs::write(home.join("rest.txt"), rest(entries)).unwrap();
    let (table, reasons) = (table(entries), reasons(entries, 100));
    fs::write(
        home.join("table.txt"),
        format!("{table}\nrefused most:\n{reasons}"),
    )
    .unwrap();
}

/// Where files for people go.
pub fn results() -> PathBuf {
    PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("served")
}
