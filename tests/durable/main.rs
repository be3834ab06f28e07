//! The audit log where things go wrong: the proxy killed under load, a disk that is
//! full. Whatever upstream executed, by its own log, is on record.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod faults;

use std::collections::{BTreeSet, HashMap};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use support::client::{By, refusal};
use support::postgres::{Options, Postgres};
use support::proxy::{DATASET, PASSWORD, Proxy, Setup};

fn policy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/policy"))
}

fn upstream() -> Postgres {
    let server = Postgres::with(Options {
        settings: vec!["log_statement = all".into()],
        ..Options::default()
    });
    server.psql(
        "CREATE TABLE customers (id integer PRIMARY KEY, email text, ssn text);
         INSERT INTO customers VALUES (1, 'one@example.com', '123-45-6789');
         CREATE ROLE proxy LOGIN;
         GRANT SELECT ON customers TO proxy;",
    );
    server
}

/// What upstream executed, by the names that the proxy tagged it with: each of one
/// execution, or of a session.
fn executed(server: &Postgres, key: &str) -> BTreeSet<String> {
    let log = fs::read_to_string(server.directory.join("log")).unwrap();
    let name = format!("{key}='");
    let ids = log.match_indices(&name);
    ids.filter_map(|(at, _)| Some(log.get(at + name.len()..)?.split('\'').next()?.to_owned()))
        .collect()
}

#[test]
fn what_upstream_executed_is_on_record_however_the_proxy_ends() {
    let server = upstream();
    let setup = Setup {
        audit: "{ file: records.jsonl, segment_size: 64kB, checkpoint_every: 100ms }".into(),
        ..Setup::default()
    };
    let mut proxy = Proxy::with(&server, "proxy", policy(), &setup);
    for round in 0..6_u64 {
        let load: Vec<_> = (0..4)
            .map(|_| {
                let address = proxy.address;
                std::thread::spawn(move || {
                    // It ends when the proxy does.
                    let _ = std::panic::catch_unwind(|| {
                        let parameters = [("user", "analyst"), ("database", DATASET)];
                        let mut client =
                            support::client::Client::with(address, &parameters, PASSWORD).unwrap();
                        loop {
                            client.run("SELECT id FROM customers", By::Simple);
                            client.run("SELECT id FROM customers WHERE id = 1", By::Extended);
                        }
                    });
                })
            })
            .collect();
        // However fast this machine is.
        while written(&proxy.home()) < (round + 1) * 80_000 {
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(7 * round));
        proxy.again();
        for client in load {
            client.join().unwrap();
        }
    }
    let files = files(&proxy.home());
    assert!(files.len() > 1, "{files:?}");
    let records = recorded(&files);
    let mut ends: HashMap<&str, &str> = HashMap::new();
    let mut intents = Vec::new();
    for record in &records {
        let id = |key: &str| record[key].as_str().unwrap();
        match id("event") {
            "intent" => intents.push(id("query")),
            event @ ("statement" | "denial" | "not_run" | "outcome_unknown") => {
                let twice = ends.insert(id("id"), event);
                assert_eq!(twice, None, "{record}");
            }
            _ => {}
        }
    }
    let begun: BTreeSet<String> = intents.iter().map(|&id| id.to_owned()).collect();
    let ran = executed(&server, "pgveil_query");
    assert!(ran.len() > 60, "{}", ran.len());
    let missing: Vec<_> = ran.difference(&begun).collect();
    assert!(missing.is_empty(), "{missing:?}");
    // Of the extended protocol, whose texts are sent once for many executions, as many of each
    // session as upstream says.
    let mut announced: HashMap<&str, usize> = HashMap::new();
    for record in records.iter().filter(|it| it["event"] == "intent") {
        *announced
            .entry(record["session"].as_str().unwrap())
            .or_default() += 1;
    }
    let mut executions: HashMap<String, usize> = HashMap::new();
    let log = fs::read_to_string(server.directory.join("log")).unwrap();
    for line in log
        .lines()
        .filter(|it| it.contains("LOG:  execute ") || it.contains("LOG:  statement: SELECT id"))
    {
        if let Some((_, rest)) = line.split_once("pgveil_session='") {
            let session = rest.split('\'').next().unwrap().to_owned();
            *executions.entry(session).or_default() += 1;
        }
    }
    let extended = log.matches("LOG:  execute ").count();
    assert!(extended > 60, "{extended}");
    for (session, count) in &executions {
        let begun = announced.get(session.as_str()).copied().unwrap_or(0);
        assert!(*count <= begun, "{session}: {count} of {begun}");
    }
    // Each says how it ended, or that nobody knows.
    for intent in &intents {
        assert!(ends.contains_key(intent), "{intent}");
    }
    let opened: Vec<&Value> = records
        .iter()
        .filter(|record| record["event"] == "log_opened")
        .collect();
    assert_eq!(opened.len(), 7);
    let unknown: u64 = opened
        .iter()
        .map(|it| it["unknown"].as_u64().unwrap())
        .sum();
    let said = ends.values().filter(|&&event| event == "outcome_unknown");
    assert_eq!(said.count() as u64, unknown);
    assert!(unknown > 0, "killed under load");

    // Its readers say that it is whole, and which record is not.
    proxy.signal("TERM");
    assert!(proxy.ended().success());
    let verified = audit(&proxy.home(), &["verify"]);
    assert!(verified.status.success(), "{verified:?}");
    let said = String::from_utf8(verified.stdout).unwrap();
    // What came since: its end, and the beginning of a file where the last one was full.
    let files = self::files(&proxy.home());
    let all = recorded(&files);
    let since: Vec<_> = all
        .iter()
        .skip(records.len())
        .map(|it| it["event"].as_str())
        .collect();
    assert!(
        [
            &[Some("log_closed")][..],
            &[Some("log_rotated"), Some("log_closed")]
        ]
        .contains(&&since[..]),
        "{since:?}"
    );
    let whole = format!(": ok, {} records signed by pgveil/audit/", all.len());
    assert!(said.contains(&whole), "{said}");
    assert!(said.contains(" 0 more not yet"), "{said}");
    let found = audit(&proxy.home(), &["query", "--all", "--format", "json"]);
    let found = String::from_utf8(found.stdout).unwrap();
    let found: BTreeSet<String> = found
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .map(|record| record["id"].as_str().unwrap().to_owned())
        .collect();
    let missing: Vec<_> = begun.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let id = records[20]["id"].as_str().unwrap();
    let proof = audit(&proxy.home(), &["prove", id]);
    assert!(proof.status.success(), "{proof:?}");
    fs::write(proxy.home().join("proof"), proof.stdout).unwrap();
    let key = fs::read_to_string(proxy.home().join("records.pub")).unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let proof = proxy.home().join("proof");
    let proof = proof.to_str().unwrap();
    let proved = audit(elsewhere.path(), &["verify", "--key", key.trim(), proof]);
    assert!(proved.status.success(), "{proved:?}");
    assert!(String::from_utf8(proved.stdout).unwrap().contains(id));
    let text = fs::read_to_string(&files[0]).unwrap();
    fs::write(
        &files[0],
        text.replacen("SELECT id FROM", "SELECT no FROM", 1),
    )
    .unwrap();
    let verified = audit(&proxy.home(), &["verify"]);
    assert!(!verified.status.success());
    let said = String::from_utf8(verified.stderr).unwrap();
    let edited = text
        .lines()
        .position(|line| line.contains("SELECT id FROM"))
        .unwrap();
    assert!(
        said.contains(&format!("edited: record {edited} is not")),
        "{said}"
    );
}

/// How much has been recorded, in bytes.
fn written(home: &Path) -> u64 {
    let files = files(home).into_iter();
    // One may be closed meanwhile.
    files.flat_map(fs::metadata).map(|it| it.len()).sum()
}

/// The files of records, in order.
fn files(home: &Path) -> Vec<PathBuf> {
    let closed = fs::read_dir(home.join("records.tlog/segments"))
        .into_iter()
        .flatten();
    let mut files: Vec<_> = closed.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.push(home.join("records.jsonl"));
    files
}

fn recorded(files: &[PathBuf]) -> Vec<Value> {
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    texts
        .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}

fn audit(home: &Path, arguments: &[&str]) -> std::process::Output {
    let (command, rest) = arguments.split_first().unwrap();
    Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .current_dir(home)
        .args(["audit", command])
        .args(rest)
        .output()
        .unwrap()
}

/// A small file system of its own.
struct Small(std::path::PathBuf);

impl Small {
    /// None where this user may not make one.
    fn mount(at: &Path) -> Option<Self> {
        fs::create_dir(at).unwrap();
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=256k", "tmpfs"])
            .arg(at)
            .output();
        mount
            .is_ok_and(|output| output.status.success())
            .then(|| Self(at.to_owned()))
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn a_full_disk_refuses_statements_until_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let place = directory.path().join("audit");
    let Some(small) = Small::mount(&place) else {
        eprintln!("not tested: only root may mount a file system");
        return;
    };
    fs::write(place.join("filler"), vec![0; 100_000]).unwrap();
    let server = upstream();
    let setup = Setup {
        audit: format!("{{ file: \"{}/records.jsonl\" }}", place.display()),
        ..Setup::default()
    };
    let proxy = Proxy::with(&server, "proxy", policy(), &setup);
    let mut client = proxy.client("analyst");
    let mut refused = 0;
    for _ in 0..2_000 {
        let answer = client.run("SELECT id FROM customers", By::Simple);
        match refusal(&answer).as_deref() {
            None => assert_eq!(refused, 0, "it went on by itself"),
            Some("58030") => refused += 1,
            Some(other) => panic!("{other}"),
        }
        if answer.iter().any(|(_, body)| body.starts_with(b"SFATAL\0")) {
            // The end of one that ran could not be recorded.
            assert_eq!(proxy.login("analyst", &[]).err().as_deref(), Some("58030"));
            refused = 3;
        }
        if refused == 3 {
            break;
        }
    }
    assert_eq!(refused, 3, "the disk is full");
    let before = executed(&server, "pgveil_query");
    fs::remove_file(place.join("filler")).unwrap();
    let mut client = proxy.client("analyst");
    let answer = client.run("SELECT id FROM customers", By::Simple);
    assert_eq!(refusal(&answer), None);
    assert_eq!(executed(&server, "pgveil_query").len(), before.len() + 1);
    let records: Vec<Value> = fs::read_to_string(place.join("records.jsonl"))
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let begun: BTreeSet<String> = records
        .iter()
        .filter(|record| record["event"] == "intent")
        .map(|record| record["query"].as_str().unwrap().to_owned())
        .collect();
    let missing: Vec<_> = before.difference(&begun).collect();
    assert!(missing.is_empty(), "{missing:?}");
    let resumed = records
        .iter()
        .filter(|record| record["event"] == "log_resumed");
    assert_eq!(
        resumed.map(|it| &it["lost"]).collect::<Vec<_>>(),
        [&Value::from(0)]
    );
    drop(proxy);
    drop(small);
}
