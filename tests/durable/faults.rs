//! A disk that is slow, broken or read-only, and a clock that jumps: what upstream executed,
//! by its own log, is on record, and was before it was executed.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Instant;

use super::*;

/// What the process under test does wrong, while it is there.
struct Faults(PathBuf);

impl Faults {
    fn during<T>(&self, name: &str, what: impl FnOnce() -> T) -> T {
        let file = self.0.join(name);
        fs::write(&file, "").unwrap();
        let done = what();
        fs::remove_file(file).unwrap();
        done
    }
}

/// Compiled by what links Rust's programs, too.
fn library(directory: &Path) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/durable/faults.c");
    let library = directory.join("faults.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .output()
        .unwrap();
    assert!(built.status.success(), "{built:?}");
    library
}

/// How often a session's statements were executed, by upstream's own log.
fn executions(server: &Postgres, statement: &str) -> usize {
    let log = fs::read_to_string(server.directory.join("log")).unwrap();
    let executed = |line: &&str| {
        (line.contains("LOG:  execute ") || line.contains("LOG:  statement: "))
            && line.contains(statement)
    };
    log.lines().filter(executed).count()
}

#[test]
fn a_disk_or_a_clock_that_fails_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let faults = Faults(directory.path().to_owned());
    let server = upstream();
    let setup = Setup {
        audit: "{ file: records.jsonl, checkpoint_every: 100ms }".into(),
        environment: vec![
            ("LD_PRELOAD", library(directory.path())),
            ("PGVEIL_FAULTS", directory.path().to_owned()),
        ],
        ..Setup::default()
    };
    let mut proxy = Proxy::with(&server, "proxy", policy(), &setup);
    let mut client = proxy.client("analyst");
    let mut expected = 0;
    for (by, mark) in [(By::Simple, "simple"), (By::Extended, "extended")] {
        let statement = format!("SELECT id AS {mark} FROM customers");
        let ran = || executions(&server, &format!("AS {mark}"));
        let run = |client: &mut support::client::Client| refusal(&client.run(&statement, by));
        assert_eq!(run(&mut client), None);
        assert_eq!(ran(), 1);

        // It is not executed before its intent is on disk, however long that takes.
        faults.during("slow", || {
            let began = Instant::now();
            client.ask(&statement, by);
            std::thread::sleep(Duration::from_millis(150));
            assert_eq!(ran(), 1, "{mark}");
            assert_eq!(refusal(&client.answer()), None);
            assert!(began.elapsed() >= Duration::from_millis(300));
        });
        assert_eq!(ran(), 2);

        // Nor where it cannot get there; and by itself it can again.
        for fault in ["readonly", "broken"] {
            let before = ran();
            faults.during(fault, || {
                for _ in 0..2 {
                    let refused = run(&mut client);
                    assert_eq!(refused.as_deref(), Some("58030"), "{fault} {mark}");
                }
            });
            assert_eq!(ran(), before, "{fault} {mark}");
            assert_eq!(run(&mut client), None, "{fault} {mark}");
            assert_eq!(ran(), before + 1, "{fault} {mark}");
        }

        // A clock says when; nothing hangs on it.
        for fault in ["ahead", "behind"] {
            faults.during(fault, || assert_eq!(run(&mut client), None));
        }
        assert_eq!(run(&mut client), None);
        expected += ran();
        assert_eq!(ran(), 7, "{mark}");
    }
    drop(client);
    proxy.signal("TERM");
    assert!(proxy.ended().success());
    let records = recorded(&files(&proxy.home()));
    let of = |event: &'static str| records.iter().filter(move |it| it["event"] == event);
    let completed = of("statement").filter(|it| it["sqlstate"] == "00000");
    assert_eq!(completed.count(), expected);
    let begun: BTreeSet<&str> = of("intent").filter_map(|it| it["query"].as_str()).collect();
    for end in of("statement") {
        assert!(begun.contains(end["id"].as_str().unwrap()), "{end}");
    }
    // In the order in which they were made, whatever the clock said.
    let ids: Vec<&str> = of("intent").filter_map(|it| it["id"].as_str()).collect();
    assert!(ids.is_sorted(), "{ids:?}");
    let years: BTreeSet<&str> = of("intent")
        .filter_map(|it| it["time"].as_str()?.get(..4))
        .collect();
    assert_eq!(years.len(), 3, "the clock has jumped: {years:?}");
    let verified = audit(&proxy.home(), &["verify"]);
    assert!(verified.status.success(), "{verified:?}");
}
