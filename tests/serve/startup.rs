//! What a client may ask for in its startup packet, and how it may come in.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Output};

use super::proxy;
use super::support::client::{By, refusal, show};
use super::support::postgres::{certificates, psql};
use super::support::proxy::{PASSWORD, Proxy, Setup};

#[test]
fn settings_are_governed() {
    let proxy = proxy(&Setup::default());
    for (name, value, state) in [
        ("role", "postgres", "42501"),
        ("session_authorization", "postgres", "42501"),
        ("session_replication_role", "replica", "42501"),
        ("pgveil.key_inner", "00", "42501"),
        ("PGVEIL.Key_Inner", "00", "42501"),
        ("standard_conforming_strings", "off", "22023"),
        ("default_transaction_read_only", "off", "42501"),
        ("transaction_read_only", "off", "42501"),
        ("statement_timeout", "31s", "42501"),
        ("statement_timeout", "0", "42501"),
        ("client_encoding", "LATIN1", "22023"),
        ("client_min_messages", "debug5", "22023"),
        ("backslash_quote", "on", "42501"),
        ("debug_print_plan", "on", "42501"),
        ("local_preload_libraries", "x", "42501"),
        ("search_path", "a,,b", "22023"),
        ("no_such_setting", "1", "42501"),
    ] {
        let option = format!("-c {name}={value}");
        let long = format!("--{}={value}", name.replace('_', "-"));
        for parameter in [(name, value), ("options", &option), ("options", &long)] {
            let refused = proxy.login("analyst", &[parameter]).err();
            assert_eq!(refused.as_deref(), Some(state), "{parameter:?}");
        }
    }
    let denials = proxy.events("denial");
    assert!(denials.len() >= 51);
    // Values are the client's own text, which records do not hold.
    assert!(!proxy.records().contains("31s"));
    assert!(!proxy.records().contains("LATIN1"));

    let options = "-c search_path=public -c statement_timeout=20s -c TimeZone=Asia/Tokyo \
                   -c standard_conforming_strings=on --default-transaction-read-only=on";
    let mut client = proxy.login("analyst", &[("options", options)]).unwrap();
    for (setting, value) in [
        ("search_path", "public"),
        ("statement_timeout", "20s"),
        ("TimeZone", "Asia/Tokyo"),
        ("standard_conforming_strings", "on"),
        ("default_transaction_read_only", "on"),
    ] {
        let answer = show(&client.run(&format!("SHOW {setting}"), By::Simple));
        assert!(answer.contains(value), "{setting}: {answer}");
    }
    // Without asking, the limit of policy holds.
    let answer = show(
        &proxy
            .client("analyst")
            .run("SHOW statement_timeout", By::Simple),
    );
    assert!(answer.contains("30s"), "{answer}");
}

/// A search_path decides what names mean, and never what may be seen.
#[test]
fn a_search_path_shows_nothing_more() {
    let proxy = proxy(&Setup::default());
    for path in [
        "pg_catalog",
        "pg_temp, public",
        "\"$user\", public",
        "nowhere",
    ] {
        let mut client = proxy.login("analyst", &[("search_path", path)]).unwrap();
        let answer = client.run("SELECT ssn FROM public.customers", By::Simple);
        assert_eq!(refusal(&answer).unwrap(), "42501", "{path}");
    }
}

#[test]
fn who_asks_for_what_is_not_there_hears_it() {
    let proxy = proxy(&Setup::default());
    let refused = |more: &[(&str, &str)]| proxy.login("analyst", more).err();
    assert_eq!(refused(&[("database", "nowhere")]).unwrap(), "3D000");
    let long = "n".repeat(9_000);
    assert_eq!(refused(&[("database", &long)]).unwrap(), "3D000");
    // What a client says of itself fills no disk.
    let mut client = proxy
        .login("analyst", &[("application_name", &long)])
        .unwrap();
    client.run(
        &format!("SET application_name TO '{long}{long}'"),
        By::Simple,
    );
    client.run("SELECT 1", By::Simple);
    drop(client);
    proxy.events_soon("disconnect", 1);
    for line in proxy.records().lines() {
        assert!(line.len() < 2_000, "{line}");
    }
    assert!(proxy.login("analyst", &[("application_name", "x")]).is_ok());
}

/// The longest name that policy takes is told apart upstream too.
#[test]
fn the_longest_name_is_served() {
    let proxy = proxy(&Setup::default());
    let name = "a-service-whose-name-is-as-long-as-a-name-of-postgres-may-be-03";
    assert_eq!(name.len(), 63);
    let answer = proxy
        .client(name)
        .run("SELECT id FROM customers", By::Simple);
    assert_eq!(refusal(&answer), None, "{}", show(&answer));
}

fn connect(proxy: &Proxy, connection: &str) -> Output {
    let port = proxy.address.port();
    Command::new(psql())
        .args(["-X", "-w", "-A", "-t", "-c", "SELECT email FROM customers"])
        .args(["-c", r"\conninfo", "-d"])
        .arg(format!("port={port} user=analyst dbname=shop {connection}"))
        .env("PGPASSWORD", PASSWORD)
        .env("HOME", proxy.home())
        .output()
        .unwrap()
}

/// README's step for other machines: `listen.tls` and `sslmode=verify-full`.
#[test]
fn psql_verifies_the_certificate_and_binds_the_channel() {
    let files = tempfile::tempdir().unwrap();
    certificates(files.path());
    let file = |name: &str| files.path().join(name).display().to_string();
    let proxy = proxy(&Setup {
        host: Ipv4Addr::UNSPECIFIED.into(),
        listen: format!(
            "tls: {{ certificate: {}, key: {} }}",
            file("server.crt"),
            file("server.key")
        ),
        ..Setup::default()
    });
    let verified = |host: &str, ca: &Path, more: &str| {
        let ca = ca.display();
        connect(
            &proxy,
            &format!("{host} sslmode=verify-full sslrootcert={ca} {more}"),
        )
    };
    let ca = files.path().join("ca.pem");
    let output = verified("host=localhost", &ca, "channel_binding=require");
    let out = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(out.starts_with("o***@example.com\n"), "{out}");
    assert!(out.contains("TLSv1.3"), "{out}");
    assert_eq!(proxy.events("connect")[0]["tls"], "TLSv1.3");

    let fails = |output: Output, why: &str| {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && error.contains(why), "{error}");
    };
    // Another name than the certificate's, and a certificate of somebody else's.
    fails(
        verified("host=127.0.0.1", &ca, ""),
        "does not match host name",
    );
    let others = tempfile::tempdir().unwrap();
    certificates(others.path());
    let stranger = others.path().join("ca.pem");
    fails(verified("host=localhost", &stranger, ""), "SSL error"); // What is known of one who is not let in is on record as well.
    let wrong = connect(&proxy, "host=localhost sslmode=require password=wrong");
    fails(wrong, "password authentication failed");
    let failures = proxy.events_soon("authentication_failure", 1);
    assert_eq!(failures[0]["user"], "analyst");
    assert_eq!(failures[0]["tls"], "TLSv1.3");
}
