//! Records on their way elsewhere, by the real proxy: a webhook, a syslog collector,
//! standard output, and tables that reviewers ask in SQL through the proxy itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use serde_json::Value;
use support::client::{By, Client, Message, refusal};
use support::postgres::{Postgres, psql};
use support::proxy::{PASSWORD, Proxy, Setup};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const SECRET: &str = "a test's own secret of a webhook";

fn audit(home: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .current_dir(home)
        .arg("audit")
        .args(arguments)
        .output()
        .unwrap()
}

fn text(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn soon(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(30);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(30));
    }
}

/// Whatever arrives, in the order in which it does.
type Arrived = Arc<Mutex<Vec<Value>>>;

/// A webhook that fails twice, then takes what is signed.
fn hook(arrived: Arrived, checkpoints: Arc<Mutex<Vec<String>>>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        let mut failures = 2;
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            // As long as it is kept.
            while let Some((headers, body)) = request(&stream) {
                let answer = match failures {
                    0 => "HTTP/1.1 204 No Content\r\n\r\n",
                    _ => "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n",
                };
                let key = hmac::Key::new(hmac::HMAC_SHA256, SECRET.as_bytes());
                let (id, time) = (&headers["webhook-id"], &headers["webhook-timestamp"]);
                let signed = format!("{id}.{time}.{body}");
                let signature = headers["webhook-signature"].strip_prefix("v1,").unwrap();
                let signature = STANDARD.decode(signature).unwrap();
                hmac::verify(&key, signed.as_bytes(), &signature).unwrap();
                if failures == 0 {
                    let mut body: Value = serde_json::from_str(&body).unwrap();
                    let note = body["checkpoint"].as_str().unwrap().to_owned();
                    checkpoints.lock().unwrap().push(note);
                    let records = body["records"].as_array_mut().unwrap();
                    arrived.lock().unwrap().append(records);
                } else {
                    failures -= 1;
                }
                stream.write_all(answer.as_bytes()).unwrap();
            }
        }
    });
    port
}

fn request(stream: &TcpStream) -> Option<(BTreeMap<String, String>, String)> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    if reader.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        match line.trim().split_once(": ") {
            Some((name, value)) => headers.insert(name.to_lowercase(), value.to_owned()),
            None => break,
        };
    }
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    reader.read_exact(&mut body).unwrap();
    Some((headers, String::from_utf8(body).unwrap()))
}

/// A collector that breaks off the first time, having read something.
fn collector(arrived: Arrived) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for (at, stream) in listener.incoming().enumerate() {
            let mut stream = stream.unwrap();
            if at == 0 {
                // With something unread, which resets the connection.
                stream.read_exact(&mut [0; 10]).unwrap();
                continue;
            }
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            let mut rest = all.as_slice();
            while !rest.is_empty() {
                let space = rest.iter().position(|byte| *byte == b' ').unwrap();
                let length = std::str::from_utf8(&rest[..space]).unwrap();
                let end = space + 1 + length.parse::<usize>().unwrap();
                let message = std::str::from_utf8(&rest[space + 1..end]).unwrap();
                rest = &rest[end..];
                let mut fields = message.splitn(8, ' ');
                let mut field = || fields.next().unwrap();
                assert!(["<105>1", "<108>1", "<110>1"].contains(&field()));
                let time: jiff::Timestamp = field().parse().unwrap();
                assert!(time.as_second() > 0);
                let (_host, application) = (field(), field());
                assert_eq!(application, "pgveil");
                let (_process, event, data) = (field(), field().to_owned(), field());
                assert_eq!(data, "-");
                let record: Value = serde_json::from_str(field()).unwrap();
                assert_eq!(record["record"]["event"], event.as_str());
                arrived.lock().unwrap().push(record);
            }
        }
    });
    port
}

fn numbers(arrived: &[Value]) -> BTreeSet<u64> {
    let numbers = arrived.iter().map(|it| it["position"].as_u64().unwrap());
    numbers.collect()
}

/// The rows of an answer, as text.
fn rows(answer: &[Message]) -> Vec<Vec<String>> {
    assert_eq!(refusal(answer), None, "{}", support::client::show(answer));
    let rows = answer.iter().filter(|(tag, _)| *tag == b'D');
    let row = |body: &[u8]| {
        let (mut at, mut row) = (2, Vec::new());
        while at < body.len() {
            let len = i32::from_be_bytes(body[at..at + 4].try_into().unwrap());
            at += 4;
            let value = usize::try_from(len).map(|len| &body[at..at + len]);
            at += value.map_or(0, <[u8]>::len);
            row.push(String::from_utf8(value.unwrap_or(b"NULL").to_vec()).unwrap());
        }
        row
    };
    rows.map(|(_, body)| row(body)).collect()
}

fn policy() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (from, to) in [
        ("policies/audit/classification.yaml", "classification.yaml"),
        ("policies/audit/roles.yaml", "roles.yaml"),
        ("tests/serve/policy/policy.yaml", "policy.yaml"),
    ] {
        fs::copy(Path::new(ROOT).join(from), directory.path().join(to)).unwrap();
    }
    let identities = fs::read_to_string(Path::new(ROOT).join("policies/audit/identities.yaml"));
    let more = "  analyst: { kind: human, roles: [analyst] }\n";
    fs::write(
        directory.path().join("identities.yaml"),
        identities.unwrap() + more,
    )
    .unwrap();
    directory
}

fn upstream() -> Postgres {
    let server = Postgres::start();
    server.psql(
        "CREATE TABLE customers (id integer PRIMARY KEY, email text, ssn text);
         INSERT INTO customers VALUES (1, 'one@example.com', '123-45-6789');
         CREATE ROLE proxy LOGIN;
         GRANT SELECT ON customers TO proxy;",
    );
    server.psql("CREATE DATABASE audit");
    let schema = text(audit(Path::new("/"), &["sql-schema"]));
    trail(&server, &schema);
    // What it says of roles, to be run as it stands there.
    let grants: String = schema
        .lines()
        .filter_map(|line| line.strip_prefix("--   "))
        .collect();
    assert!(grants.contains("INSERT"), "{grants}");
    trail(&server, &grants);
    server
}

/// What the database `audit` says.
fn trail(server: &Postgres, sql: &str) -> String {
    let output = Command::new(psql())
        .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
        .args(["-U", "postgres", "-d", "audit", "-c", sql, "-h"])
        .arg(&server.directory)
        .args(["-p", &server.port.to_string()])
        .output()
        .unwrap();
    text(output).trim().to_owned()
}

#[test]
fn every_record_arrives_everywhere_and_reviewers_ask_in_sql() {
    let server = upstream();
    let (hooked, logged) = (Arrived::default(), Arrived::default());
    let (checkpoints, notes) = (Arc::default(), Arc::default());
    let nothing = Arrived::default();
    let (hook, other, collector) = (
        hook(hooked.clone(), Arc::clone(&checkpoints)),
        hook(nothing.clone(), Arc::clone(&notes)),
        collector(logged.clone()),
    );
    let place = format!(
        "host: \"{}\", port: {}, dbname: audit",
        server.directory.display(),
        server.port
    );
    let setup = Setup {
        audit: format!(
            "{{ file: records.jsonl, checkpoint_every: 100ms, segment_size: 64kB, sinks: {{ \
             out: {{ stdout: {{}}, format: ocsf }}, \
             hook: {{ webhook: {{ url: \"http://127.0.0.1:{hook}/\", secret: {{ file: secret }} }} }}, \
             notes: {{ webhook: {{ url: \"http://127.0.0.1:{other}/\", secret: {{ file: secret }}, sends: checkpoints }} }}, \
             siem: {{ syslog: {{ host: 127.0.0.1, port: {collector} }} }}, \
             table: {{ postgres: {{ {place}, user: pgveil_sink }}, required: 1m }} }} }}"
        ),
        dataset: format!("  audit:\n    upstream: {{ {place}, user: pgveil_reader }}\n").leak(),
        files: vec![("secret", SECRET.into())],
        ..Setup::default()
    };
    let mut proxy = Proxy::with(&server, "proxy", policy().path(), &setup);
    let mut analyst = proxy.client("analyst");
    for _ in 0..60 {
        analyst.run("SELECT email FROM customers WHERE id = 1", By::Simple);
    }
    analyst.run("SELECT ssn FROM customers", By::Simple);
    drop(analyst);
    let taken = |what: &str| trail(&server, &format!("SELECT count(*) FROM records {what}"));
    soon("the session's end", || {
        taken("WHERE event = 'disconnect'") == "1"
    });

    // Who saw what, in SQL.
    let mut reviewer = Client::connect(proxy.address, "reviewer", PASSWORD, "audit");
    let asked = |client: &mut Client, sql: &str| rows(&client.run(sql, By::Simple));
    assert_eq!(
        asked(
            &mut reviewer,
            "SELECT principal, kind, treatment, decision, sqlstate FROM access
             WHERE relation = 'public.customers' AND column_name = 'ssn'"
        ),
        [["analyst", "human", "block", "deny", "42501"]]
    );
    assert_eq!(
        asked(
            &mut reviewer,
            "SELECT column_name, treatment, count(*) FROM access
             WHERE decision = 'allow' AND dataset = 'shop' GROUP BY 1, 2 ORDER BY 1"
        ),
        [["email", "mask:email", "60"], ["id", "clear", "60"]]
    );
    assert_eq!(
        asked(
            &mut reviewer,
            "SELECT c.principal, count(DISTINCT r.statement) FROM columns_seen c
             JOIN records r USING (log, position)
             WHERE r.event = 'statement' AND c.dataset = 'shop' GROUP BY 1"
        ),
        [["analyst", "1"]]
    );
    let sessions = asked(
        &mut reviewer,
        "SELECT principal, ended > began, reason FROM sessions WHERE dataset = 'shop'",
    );
    assert_eq!(sessions[0][..2], ["analyst", "t"]);
    for write in [
        "DELETE FROM records",
        "INSERT INTO checkpoints VALUES ('a', 1, 'b')",
    ] {
        let refused = refusal(&reviewer.run(write, By::Simple));
        assert_eq!(refused.as_deref(), Some("42501"), "{write}");
    }

    // Others see less of it.
    let mut other = Client::connect(proxy.address, "statistician", PASSWORD, "audit");
    assert_eq!(
        asked(
            &mut other,
            "SELECT DISTINCT principal, statement FROM records WHERE event = 'statement'"
        ),
        [["a***", "(not shown)"]]
    );
    let refused = refusal(&other.run("SELECT line FROM records", By::Simple));
    assert_eq!(refused.as_deref(), Some("42703"));
    let refused = refusal(&other.run("SELECT * FROM sessions", By::Simple));
    assert_eq!(refused.as_deref(), Some("42501"));

    // By psql, unqualified; and reading is on record itself, which makes nothing more.
    let output = Command::new(psql())
        .args(["-X", "-A", "-t", "-c"])
        .arg("SELECT DISTINCT principal FROM access WHERE column_name = 'ssn'")
        .arg(format!(
            "host=127.0.0.1 port={} user=reviewer dbname=audit",
            proxy.address.port()
        ))
        .env("PGPASSWORD", PASSWORD)
        .output()
        .unwrap();
    assert_eq!(text(output).trim(), "analyst");
    drop((reviewer, other));
    let reads = "WHERE event = 'statement' AND dataset = 'audit' AND principal = 'reviewer'";
    soon("what reviewers read", || taken(reads) == "5");
    soon("their sessions' ends", || {
        taken("WHERE event = 'disconnect'") == "4"
    });
    let said = || taken("WHERE event NOT IN ('log_rotated', 'heartbeat')");
    let before = said();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(said(), before);

    // All of it has arrived everywhere, in what the log has it as.
    let before = taken("");
    let count: u64 = before.parse().unwrap();
    let all: BTreeSet<u64> = (0..count).collect();
    for arrived in [&hooked, &logged] {
        soon("all of them", || numbers(&arrived.lock().unwrap()) == all);
    }
    let lines: Vec<Value> = segments(&proxy.home());
    for arrived in [&hooked, &logged] {
        for it in arrived.lock().unwrap().iter() {
            let at = it["position"].as_u64().unwrap() as usize;
            assert_eq!(it["record"], lines[at]);
        }
    }
    let out = fs::read_to_string(proxy.home().join("stdout")).unwrap();
    let events: Vec<Value> = out
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert!(events.iter().all(|event| event["class_uid"] == 6005));
    assert!(events.len() > 60 && events.len() < 120);
    // Each decision once.
    let own = |event: &&Value| event["status_id"] == 0;
    assert_eq!(events.iter().filter(own).count(), 0);
    let sinks = text(audit(&proxy.home(), &["sinks"]));
    for name in ["out", "hook", "notes", "siem", "table"] {
        let line = sinks.lines().find(|line| line.starts_with(name)).unwrap();
        let fields: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(fields[1..], [before.as_str(), "0", "-"], "{sinks}");
    }

    // What others hold shows a log that was cut off.
    let note = trail(
        &server,
        "SELECT note FROM checkpoints ORDER BY size DESC LIMIT 1",
    );
    let posted = |by: &Mutex<Vec<String>>| by.lock().unwrap().last().unwrap().clone();
    assert!(nothing.lock().unwrap().is_empty());
    for note in [note + "\n", posted(&checkpoints), posted(&notes)] {
        fs::write(proxy.home().join("note"), note).unwrap();
        text(audit(&proxy.home(), &["verify", "--checkpoint", "note"]));
    }

    // Sent again, a record is there once; and none takes another's place.
    let cursor = proxy.home().join("records.tlog/sinks/table.json");
    fs::remove_file(&cursor).unwrap();
    proxy.again();
    let more = || taken("").parse::<u64>().unwrap() > count;
    soon("what came since", more);
    assert_eq!(
        trail(
            &server,
            "SELECT count(DISTINCT (log, position)) - count(*) FROM records"
        ),
        "0"
    );
    assert_eq!(
        trail(
            &server,
            "SELECT count(*) FROM (SELECT 1 FROM columns_seen
             GROUP BY log, position, relation, column_name HAVING count(*) > 1) twice"
        ),
        "0"
    );
    twice_at_once(&server);
    trail(
        &server,
        "UPDATE records SET line = 'another' WHERE position = 7",
    );
    fs::remove_file(&cursor).unwrap();
    proxy.again();
    soon("what the table has been made to say", || {
        proxy.log().contains("the table has another record 7 of")
    });
}

/// The same record by two who do not know of each other: a try that was given up, say, and
/// goes on.
fn twice_at_once(server: &Postgres) {
    let start = |sql: &str| {
        let mut child = Command::new(psql())
            .args(["-X", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d"])
            .args(["audit", "-p", &server.port.to_string(), "-h"])
            .arg(&server.directory)
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = child.stdin.take().unwrap();
        input.write_all(sql.as_bytes()).unwrap();
        (child, input)
    };
    // As CREATE INDEX does.
    let (mut holds, input) = start("BEGIN; LOCK TABLE records IN SHARE MODE;\n");
    let of = |mode: &str| {
        let sql = format!(
            "SELECT count(*) FROM pg_locks WHERE {mode} AND relation = 'records'::regclass"
        );
        trail(server, &sql)
    };
    soon("the lock", || of("mode = 'ShareLock'") == "1");
    let take = fs::read_to_string(Path::new(ROOT).join("src/sinks/table/take.sql")).unwrap();
    let both = ["1", "2"].map(|size| {
        let record = r#"{"event":"statement","id":"019ac3a1-0000-7000-8000-000000000000","time":"2026-11-25T10:00:00Z","relations":[{"relation":"public.t","columns":[{"column":"c","treatment":"clear"}]}]}"#;
        start(&format!(
            "CREATE TEMP TABLE incoming (log text, position bigint, line text, record jsonb);
             CREATE TEMP TABLE checkpoint (log text, size bigint, note text);
             BEGIN;
             INSERT INTO incoming VALUES ('twice', 0, '{record}', '{record}');
             INSERT INTO checkpoint VALUES ('twice', {size}, '');
             {take};
             COMMIT;\n"
        ))
    });
    soon("both of them", || of("NOT granted") == "2");
    drop(input);
    assert!(holds.wait().unwrap().success());
    for (mut child, input) in both {
        drop(input);
        assert!(child.wait().unwrap().success());
    }
    let seen = "SELECT count(*) FROM columns_seen WHERE log = 'twice'";
    assert_eq!(trail(server, seen), "1");
    assert_eq!(
        trail(server, "SELECT count(*) FROM access WHERE log = 'twice'"),
        "1"
    );
}

/// All records of a log, in order.
fn segments(home: &Path) -> Vec<Value> {
    let closed = fs::read_dir(home.join("records.tlog/segments")).unwrap();
    let mut files: Vec<_> = closed.map(|entry| entry.unwrap().path()).collect();
    assert!(!files.is_empty());
    files.sort();
    files.push(home.join("records.jsonl"));
    let texts = files.iter().map(|file| fs::read_to_string(file).unwrap());
    let lines = texts.flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>());
    lines
        .map(|line| serde_json::from_str(&line).unwrap())
        .collect()
}
