//! Secrets stay where they are used.

use std::process::Command;

use super::support::client::{By, refusal, show};
use super::support::proxy::{MASK_KEY, PASSWORD, Setup};
use super::{policy, proxy, server};

/// As a configuration has it, of an upstream that asks for it or not.
fn upstream(user: &str, password: &str) -> String {
    format!(
        "{{ host: \"{}\", port: {}, dbname: postgres, user: {user}, password: {password} }}",
        server().directory.display(),
        server().port
    )
}

#[test]
fn a_secret_is_in_no_log_and_in_no_record() {
    let script = "echo no hunter2-upstream here >&2; echo hunter2-upstream";
    let exec = format!(
        "{{ exec: {{ command: [/bin/sh, -c, '{script}', hunter2-argument], lifetime: 1m }} }}"
    );
    let proxy = proxy(&Setup {
        upstream: Some(upstream("proxy", &exec)),
        log: "{ level: trace }",
        ..Setup::default()
    });
    let answer = proxy
        .client("analyst")
        .run("SELECT email FROM customers", By::Simple);
    assert_eq!(refusal(&answer), None, "{}", show(&answer));
    proxy.events_soon("statement", 1);
    let log = proxy.log();
    assert!(log.contains("secret renewed"), "{log}");
    assert!(log.contains("no … here"), "{log}");
    // The key's two halves, as Postgres is given them.
    let [(_, inner), (_, outer)] = pgveil::policy::mask::key_settings(MASK_KEY.as_bytes());
    for secret in ["hunter2", MASK_KEY, PASSWORD, &inner, &outer] {
        assert!(!log.contains(secret), "{secret}: {log}");
        assert!(!proxy.records().contains(secret), "{secret}");
    }
}

/// What a program says may be of secrets that it does not print.
#[test]
fn what_a_program_says_is_not_in_the_usual_log() {
    let script = "echo Authorization: hunter2-bootstrap >&2; echo some-secret";
    let exec = format!("{{ exec: {{ command: [/bin/sh, -c, '{script}'], lifetime: 1m }} }}");
    let proxy = proxy(&Setup {
        upstream: Some(upstream("proxy", &exec)),
        log: "{ level: info }",
        ..Setup::default()
    });
    let log = proxy.log();
    assert!(log.contains("says something"), "{log}");
    assert!(!log.contains("hunter2"), "{log}");
}

/// What `pgveil serve --check` says of an upstream whose password is there.
fn checked(password: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let text = format!(
        "policies: {}\ndatasets: {{ shop: {{ upstream: {} }} }}\n",
        policy().display(),
        upstream("proxy", password)
    );
    let config = home.path().join("pgveil.yaml");
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(["serve", "--check", "--config"])
        .arg(config)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let faults: Vec<&str> = said
        .lines()
        .filter(|line| !line.contains("warning"))
        .collect();
    assert_eq!(output.status.success(), faults.is_empty(), "{said}");
    faults.concat()
}

#[test]
fn a_check_has_each_secret_and_says_which_cannot_be_had() {
    let exec = |script: &str| {
        format!("{{ exec: {{ command: [/bin/sh, -c, '{script}'], lifetime: 1m }} }}")
    };
    assert_eq!(checked(&exec("echo hunter2")), "");
    let said = checked(&exec("echo hunter2; exit 7"));
    assert!(said.contains("from the program `/bin/sh`"), "{said}");
    assert!(
        said.contains("exit status: 7") && !said.contains("hunter2"),
        "{said}"
    );
    let said = checked("{ file: nowhere }");
    assert!(said.contains("nowhere cannot be read"), "{said}");
    // Of what it has not been built with, too.
    if cfg!(not(feature = "vault")) {
        let vault = "{ vault: { address: 'https://vault.example', kv: { path: a } } }";
        let said = checked(vault);
        assert!(said.contains("cargo build --features vault"), "{said}");
    }
}
