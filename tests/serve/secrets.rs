//! Secrets stay where they are used.

use super::support::client::{By, refusal, show};
use super::support::proxy::{MASK_KEY, PASSWORD, Setup};
use super::{proxy, server};

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
