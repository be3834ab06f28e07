//! `pgveil demo` as a process: the tour that README.md shows, and that however it ends,
//! nothing is left of it.
//!
//! `PGVEIL_UPDATE=1` writes the tour into README.md.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
const BEGIN: &str = "<!-- demo transcript -->\n```text\n";
const END: &str = "```\n<!-- end of demo transcript -->";

/// A demo whose temporary files are in a directory of its own.
struct Demo {
    child: Child,
    temporary: tempfile::TempDir,
}

impl Demo {
    fn start(arguments: &[&str]) -> Self {
        let temporary = tempfile::tempdir().unwrap();
        // Where the tests run as root, the server does not.
        fs::set_permissions(temporary.path(), Permissions::from_mode(0o711)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
        command.arg("demo").args(arguments);
        if let Some(bin) = std::env::var_os("PGVEIL_TEST_PGBIN") {
            command.arg("--postgres").arg(bin);
        }
        let child = command
            .env("TMPDIR", temporary.path())
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .unwrap();
        Self { child, temporary }
    }

    fn signal(&self, name: &str) {
        let kill = Command::new("kill")
            .args(["-s", name, &self.child.id().to_string()])
            .status();
        assert!(kill.unwrap().success());
    }

    /// The first line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        let stdout = self.child.stdout.as_mut().unwrap();
        BufReader::new(stdout).read_line(&mut line).unwrap();
        line
    }

    fn directory(&self) -> Option<PathBuf> {
        entries(self.temporary.path()).pop()
    }

    fn has(&self, file: &str) -> bool {
        let directory = self.directory();
        directory.is_some_and(|directory| directory.join(file).exists())
    }

    /// Waits until its server has written down its process id, which is then alive.
    fn server(&self) -> String {
        let pid = || {
            let path = self.directory()?.join("data/postmaster.pid");
            let text = fs::read_to_string(path).ok()?;
            // initdb's own, by itself, writes its number with a sign.
            Some(text.lines().next()?.trim_start_matches('-').to_owned())
        };
        let mut found = None;
        // initdb runs several, one after the other: the file may be one's that has ended.
        eventually("a server", || {
            found = pid().filter(|pid| alive(pid));
            found.is_some()
        });
        found.unwrap()
    }

    /// Nothing of it is left, some seconds after it ended.
    fn leaves_nothing(mut self, server: &str) -> ExitStatus {
        let status = self.child.wait().unwrap();
        eventually("no server", || !alive(server));
        eventually("no file", || entries(self.temporary.path()).is_empty());
        status
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn entries(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).unwrap();
    entries.map(|entry| entry.unwrap().path()).collect()
}

fn alive(pid: &str) -> bool {
    let kill = Command::new("kill")
        .args(["-0", pid])
        .stderr(Stdio::null())
        .status();
    kill.unwrap().success()
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < end, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Without what differs from run to run: the time, the server, random keys and ids.
fn constant(tour: &str) -> String {
    let mut lines = Vec::new();
    for line in tour.lines() {
        if line.starts_with("pgveil demo: Postgres ") {
            lines.push("pgveil demo: ready".to_owned());
            continue;
        }
        let mut words = Vec::new();
        for word in line.split(' ') {
            let digits = word.chars().filter(char::is_ascii_hexdigit).count();
            words.push(match word.len() {
                8 if word.matches(':').count() == 2 => "00:00:00".to_owned(),
                16.. if digits >= 16 => word.replace(|c: char| c.is_ascii_hexdigit(), "0"),
                _ => word.to_owned(),
            });
        }
        lines.push(words.join(" "));
    }
    lines.join("\n")
}

#[test]
fn the_tour_is_what_the_readme_shows() {
    let mut demo = Demo::start(&["--once"]);
    let stdout = demo.child.stdout.take().unwrap();
    let tour = std::io::read_to_string(stdout).unwrap();
    assert!(demo.child.wait().unwrap().success(), "{tour}");
    assert!(!demo.has(""));

    let readme = fs::read_to_string(README).unwrap();
    let (before, rest) = readme.split_once(BEGIN).expect("a transcript");
    let (shown, after) = rest.split_once(END).expect("its end");
    if std::env::var_os("PGVEIL_UPDATE").is_some() {
        fs::write(README, format!("{before}{BEGIN}{tour}{END}{after}")).unwrap();
        return;
    }
    let (shown, tour) = (constant(shown), constant(&tour));
    assert_eq!(shown, tour, "PGVEIL_UPDATE=1 writes it into README.md");
}

#[test]
fn it_serves_until_it_is_interrupted() {
    let mut demo = Demo::start(&["--json"]);
    let line = demo.line();
    let server = demo.server();
    let ready: serde_json::Value = serde_json::from_str(&line).unwrap();
    for persona in ["analyst", "trainer", "auditor"] {
        let dsn = ready["dsns"][persona].as_str().unwrap();
        assert!(dsn.starts_with("postgres"), "{dsn}");
    }
    assert!(Path::new(ready["records"].as_str().unwrap()).is_file());
    demo.signal("INT");
    assert!(demo.leaves_nothing(&server).success());
}

#[test]
fn killed_while_it_starts_it_leaves_nothing() {
    // While initdb runs, and while the server loads what it is to show.
    for (signal, file) in [
        ("TERM", "data/postmaster.pid"),
        ("KILL", "data/postmaster.pid"),
        ("TERM", "postgres.log"),
        ("KILL", "postgres.log"),
    ] {
        let demo = Demo::start(&["--json"]);
        eventually(file, || demo.has(file));
        let server = demo.server();
        demo.signal(signal);
        let status = demo.leaves_nothing(&server);
        assert_eq!(status.success(), signal == "TERM");
    }
}

#[test]
fn without_a_server_it_says_where_it_looked() {
    let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(["demo", "--once", "--postgres", "/nowhere"])
        .output()
        .unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(
        text.contains("/nowhere") && text.contains("hint: "),
        "{text}"
    );

    let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(["demo", "--once", "--port", "many"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
}
