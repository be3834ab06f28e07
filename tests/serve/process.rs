//! Signals, logs and the command line.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::support::client::{By, Client, refusal, show};
use super::support::postgres::certificates;
use super::support::proxy::{DATASET, Setup};
use super::{proxy, server};

/// How many statements with that comment run upstream.
fn running(mark: &str) -> String {
    server().psql(&format!(
        "SELECT count(*) FROM pg_stat_activity
         WHERE usename = 'proxy' AND state = 'active' AND query LIKE '%{mark}%'"
    ))
}

fn until_running(mark: &str, count: &str) {
    let end = Instant::now() + Duration::from_secs(20);
    while running(mark) != count {
        assert!(Instant::now() < end, "{mark}: {}", running(mark));
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn sigterm_lets_a_query_finish() {
    let mut proxy = proxy(&Setup {
        log: "{ format: json, level: info }",
        shutdown_timeout: "30s",
        ..Setup::default()
    });
    let mut busy = proxy.client("analyst");
    let mut idle = proxy.client("analyst");
    busy.ask("SELECT 'finished' FROM pg_sleep(2)", By::Simple);
    until_running("finished", "1");
    proxy.signal("TERM");
    assert_eq!(refusal(&idle.answer()).unwrap(), "57P01");
    // Who comes now hears why not, and what runs still runs.
    assert_eq!(proxy.login("analyst", &[]).err().unwrap(), "57P03");
    let answer = busy.answer();
    assert!(show(&answer).contains("finished"), "{}", show(&answer));
    assert_eq!(refusal(&busy.answer()).unwrap(), "57P01");
    assert!(proxy.ended().success());
    assert_eq!(proxy.events("statement")[0]["sqlstate"], "00000");
    assert_eq!(proxy.events("disconnect").len(), 2);

    let log = proxy.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}")))
        .collect();
    let says = |what: &str| {
        let of = |line: &serde_json::Value| line["fields"]["message"] == what;
        assert!(lines.iter().any(of), "{what}: {log}");
    };
    says("listening");
    says("session begins");
    says("draining");
    says("session ends");
}

#[test]
fn the_end_of_draining_tells_and_records() {
    let mut proxy = proxy(&Setup {
        log: "{ format: pretty, level: info }",
        shutdown_timeout: "1s",
        ..Setup::default()
    });
    let mut busy = proxy.client("analyst");
    busy.ask("SELECT 'too long' FROM pg_sleep(30)", By::Simple);
    until_running("too long", "1");
    let began = Instant::now();
    proxy.signal("TERM");
    assert_eq!(refusal(&busy.answer()).unwrap(), "57P01");
    assert!(proxy.ended().success());
    let took = began.elapsed();
    assert!(took > Duration::from_secs(1) && took < Duration::from_secs(5));
    assert_eq!(proxy.events("statement")[0]["sqlstate"], "57014");
    let reason = &proxy.events("disconnect")[0]["reason"];
    assert_eq!(reason, "57P01: the proxy is shutting down");
    until_running("too long", "0");

    let log = proxy.log();
    for line in log.lines() {
        // A time, a level, words: for people, and without colours in a file.
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.ends_with('Z') && !line.contains('\x1b'), "{line}");
        let level = rest.split_whitespace().next().unwrap();
        assert!(matches!(level, "INFO" | "WARN" | "ERROR"), "{line}");
    }
    assert!(log.contains("after the grace period"), "{log}");
}

#[test]
fn a_second_signal_does_not_wait() {
    let mut proxy = proxy(&Setup {
        shutdown_timeout: "60s",
        ..Setup::default()
    });
    let mut busy = proxy.client("analyst");
    busy.ask("SELECT 'hurried' FROM pg_sleep(30)", By::Simple);
    until_running("hurried", "1");
    let began = Instant::now();
    proxy.signal("INT");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(running("hurried"), "1");
    proxy.signal("TERM");
    assert_eq!(refusal(&busy.answer()).unwrap(), "57P01");
    assert!(proxy.ended().success());
    assert!(began.elapsed() < Duration::from_secs(5));
    assert_eq!(proxy.events("disconnect").len(), 1);
}

#[test]
fn sighup_takes_a_policy_that_loads_and_no_other() {
    let proxy = proxy(&Setup::default());
    let mut client = proxy.client("analyst");
    let sees = |client: &mut Client| {
        let answer = client.run("SELECT email FROM customers", By::Simple);
        show(&answer)
    };
    assert!(sees(&mut client).contains("o***@example.com"));
    let file = proxy.home().join("policies/policy.yaml");
    let good = fs::read_to_string(&file).unwrap();

    fs::write(&file, good.replace("mask: email", "mask: emial")).unwrap();
    proxy.signal("HUP");
    let loads = proxy.events_soon("policy_load", 2);
    let error = loads[1]["error"].as_str().unwrap();
    assert!(
        error.starts_with("policy.yaml:") && error.contains("emial"),
        "{error}"
    );
    assert_eq!(
        loads[1]["policy"], loads[0]["policy"],
        "the old one is in force"
    );
    assert!(sees(&mut client).contains("o***@example.com"));
    assert!(proxy.log().contains("emial"));

    fs::write(
        &file,
        good.replace("email: { mask: email }", "email: block"),
    )
    .unwrap();
    proxy.signal("HUP");
    let loads = proxy.events_soon("policy_load", 3);
    assert_eq!(loads[2]["policy"]["epoch"], 2);
    assert!(loads[2].get("error").is_none());
    let answer = sees(&mut client);
    assert!(
        answer.contains("42501") && !answer.contains("o***"),
        "{answer}"
    );
}

#[test]
fn sighup_takes_no_hash_without_a_key() {
    let way = server();
    let (host, port) = (way.directory.display(), way.port);
    // The key that follows it is another dataset's.
    let upstream = format!("{{ host: \"{host}\", port: {port}, dbname: postgres, user: proxy }}");
    let proxy = proxy(&Setup {
        upstream: Some(format!("{upstream}\n  other:\n    upstream: {upstream}")),
        ..Setup::default()
    });
    let file = proxy.home().join("policies/policy.yaml");
    let good = fs::read_to_string(&file).unwrap();
    fs::write(&file, good.replace("mask: email", "mask: hash")).unwrap();
    proxy.signal("HUP");
    let loads = proxy.events_soon("policy_load", 2);
    let error = loads[1]["error"].as_str().unwrap();
    assert!(
        error.starts_with("policy.yaml:11: ") && error.contains("`shop` no `mask_key`"),
        "{error}"
    );
    let answer = show(
        &proxy
            .client("analyst")
            .run("SELECT email FROM customers", By::Simple),
    );
    assert!(answer.contains("o***@example.com"), "{answer}");
}

fn pgveil(home: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(arguments)
        .current_dir(home)
        .env_remove("PGVEIL_NO_SUCH_SECRET")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn check_says_what_is_wrong_and_where() {
    let home = tempfile::tempdir().unwrap();
    let home = home.path();
    let write = |name: &str, text: &str| fs::write(home.join(name), text).unwrap();
    let check = || {
        let output = pgveil(home, &["serve", "--check"], "");
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let (out, error) = (text(&output.stdout), text(&output.stderr));
        (output.status.code().unwrap(), out, error)
    };
    let good = "datasets:\n  shop:\n    upstream: { host: localhost, dbname: shop, user: pgveil }\n    mask_key: { file: mask.key }\n";
    write("pgveil.yaml", good);
    write("mask.key", "0123456789abcdef0123456789abcdef");
    fs::create_dir(home.join("policies")).unwrap();
    let policy = fs::read_to_string(super::policy().join("policy.yaml")).unwrap();
    write("policies/policy.yaml", &policy);

    // The upstream need not be there.
    let (code, out, error) = check();
    assert_eq!((code, error.as_str()), (0, ""));
    assert!(
        out.starts_with("1 dataset, policy ") && out.ends_with(": ok\n"),
        "{out}"
    );

    let refused = |expected: &str| {
        let (code, out, error) = check();
        assert_eq!((code, out.as_str()), (1, ""), "{error}");
        assert!(
            error.starts_with("pgveil: ") && error.contains(expected),
            "{error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    };
    write(
        "policies/policy.yaml",
        &policy.replace("mask: email", "mask: emial"),
    );
    refused("policy.yaml:11: ");
    refused("did you mean `email`?");
    write("policies/policy.yaml", &policy);
    write("pgveil.yaml", &good.replace("dbname", "dbnam"));
    refused("pgveil.yaml:3:");
    write(
        "pgveil.yaml",
        &good.replace("{ file: mask.key }", "{ env: PGVEIL_NO_SUCH_SECRET }"),
    );
    refused("PGVEIL_NO_SUCH_SECRET");
    write("pgveil.yaml", good);
    write("mask.key", "short");
    refused("fewer than 16 bytes");
    write("mask.key", "0123456789abcdef");
    // A pseudonym without a key.
    let hashed = policy.replace("mask: email", "mask: hash");
    write("policies/policy.yaml", &hashed);
    assert_eq!(check().0, 0);
    write(
        "pgveil.yaml",
        &good.replace("    mask_key: { file: mask.key }\n", ""),
    );
    refused(
        "policy.yaml:11: mask `hash` wants a key, and the configuration gives the dataset `shop` no `mask_key`; `openssl rand",
    );
    let output = pgveil(home, &["serve"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("policy.yaml:11: "));
    write("policies/policy.yaml", &policy);
    assert_eq!(check().0, 0);
    write("pgveil.yaml", good);
    let tls = format!("listen: {{ tls: {{ certificate: server.crt, key: server.key }} }}\n{good}");
    write("pgveil.yaml", &tls);
    refused("server.crt: ");
    certificates(home);
    assert_eq!(check().0, 0);
    fs::copy(home.join("ca.pem"), home.join("server.crt")).unwrap();
    refused("server.crt: ");
}

#[test]
fn what_identity_verifier_prints_lets_its_password_in() {
    let proxy = proxy(&Setup::default());
    let home = proxy.home();
    let arguments = ["identity", "verifier", "--iterations", "10000"];
    let output = pgveil(&home, &arguments, "a new one, ünusual\n");
    assert!(output.status.success(), "{output:?}");
    let verifier = String::from_utf8(output.stdout).unwrap();
    assert!(verifier.starts_with("SCRAM-SHA-256$10000:"), "{verifier}");
    let added = format!(
        "identities:\n  newcomer: {{ kind: human, roles: [analyst], scram: \"{}\" }}\n",
        verifier.trim_end()
    );
    fs::write(home.join("policies/newcomer.yaml"), added).unwrap();
    proxy.signal("HUP");
    proxy.events_soon("policy_load", 2);
    let login = |password: &str| {
        let parameters = [("user", "newcomer"), ("database", DATASET)];
        Client::with(proxy.address, &parameters, password)
    };
    assert_eq!(login("a new one").err().unwrap(), "28P01");
    let mut client = login("a new one, ünusual").unwrap();
    let answer = client.run("SELECT id FROM customers", By::Simple);
    assert_eq!(refusal(&answer), None, "{}", show(&answer));

    for (input, why) in [("\n", "empty"), ("", "empty"), ("a\0b\n", "zero byte")] {
        let output = pgveil(&home, &["identity", "verifier"], input);
        assert_eq!(output.status.code(), Some(1));
        assert!(output.stdout.is_empty());
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(error.contains(why), "{error}");
    }
}
