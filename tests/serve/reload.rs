//! What changes in policy reaches sessions that are open, without a signal.

use std::fs;
use std::time::{Duration, Instant};

use super::proxy;
use super::support::client::{By, Client, refusal, show};
use super::support::proxy::{Proxy, Setup};

/// A file of the proxy's policy.
fn file(proxy: &Proxy, name: &str) -> (std::path::PathBuf, String) {
    let path = proxy.home().join("policies").join(name);
    let text = fs::read_to_string(&path).unwrap();
    (path, text)
}

/// What comes by itself, some seconds at most from now.
fn told(client: &mut Client) -> String {
    client.patience(Duration::from_secs(8));
    show(&client.answer())
}

fn email(client: &mut Client) -> String {
    show(&client.run("SELECT email FROM customers", By::Simple))
}

#[test]
fn who_is_removed_is_gone_within_seconds() {
    let proxy = proxy(&Setup::default());
    let (mut idle, mut within, mut busy) = (
        proxy.client("analyst"),
        proxy.client("analyst"),
        proxy.client("analyst"),
    );
    assert!(email(&mut idle).contains("o***@example.com"));
    within.run("BEGIN", By::Simple);
    busy.ask("SELECT 'cut off' FROM pg_sleep(60)", By::Simple);
    // Who has said that it leaves is not gone while upstream answers.
    let mut leaving = proxy.client("analyst");
    leaving.ask("SELECT 'cut off too' FROM pg_sleep(60)", By::Simple);
    leaving.send(b"X\0\0\0\x04");
    let service = "a-service-whose-name-is-as-long-as-a-name-of-postgres-may-be-03";
    let mut other = proxy.client(service);

    let (path, text) = file(&proxy, "identities.yaml");
    fs::write(&path, text.replace("  analyst:", "  somebody:")).unwrap();
    let began = Instant::now();
    for client in [&mut idle, &mut within, &mut busy] {
        let told = told(client);
        assert!(told.contains("FATAL") && told.contains("C28000"), "{told}");
        assert!(
            told.contains("policy no longer names the identity `analyst`"),
            "{told}"
        );
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    let ends = proxy.events_soon("disconnect", 4);
    assert!(began.elapsed() < Duration::from_secs(12));
    for end in &ends {
        assert_eq!(end["principal"]["name"], "analyst");
        let reason = end["reason"].as_str().unwrap();
        assert!(reason.starts_with("28000: policy no longer"), "{reason}");
    }
    let cut = proxy.events("statement");
    assert!(cut.iter().any(|one| one["sqlstate"] == "57014"), "{cut:?}");
    assert_eq!(proxy.events("policy_load").len(), 2);
    assert!(email(&mut other).contains("o***@example.com"));
    assert_eq!(proxy.login("analyst", &[]).err().unwrap(), "28P01");
}

#[test]
fn roles_that_change_hold_for_the_next_statement() {
    let proxy = proxy(&Setup::default());
    let mut client = proxy.client("analyst");
    assert!(email(&mut client).contains("o***@example.com"));
    // Two files that fit only together.
    let (policy, text) = file(&proxy, "policy.yaml");
    let role = "  blind:\n    grants:\n      - dataset: shop\n        tables: [public.customers]\n        tags: { \"*\": block }\n";
    fs::write(&policy, text.clone() + role).unwrap();
    let (identities, before) = file(&proxy, "identities.yaml");
    let after = before.replace(
        "kind: human, roles: [analyst]",
        "kind: human, roles: [blind]",
    );
    assert_ne!(before, after);
    fs::write(&identities, after).unwrap();
    let loads = proxy.events_soon("policy_load", 2);
    assert!(loads[1].get("error").is_none(), "{loads:?}");
    let refused = email(&mut client);
    assert!(
        refused.contains("42501") && refused.contains("role blind"),
        "{refused}"
    );
    // The session goes on.
    assert_eq!(refusal(&client.run("SELECT 1", By::Simple)), None);

    // A kind is what each statement says of its session.
    fs::write(&identities, before.replace("kind: human", "kind: agent")).unwrap();
    let told = told(&mut client);
    assert!(told.contains("C28000"), "{told}");
}

#[test]
fn a_set_that_does_not_load_is_said_once_and_changes_nothing() {
    let proxy = proxy(&Setup::default());
    let mut client = proxy.client("analyst");
    let (path, text) = file(&proxy, "policy.yaml");
    fs::write(&path, text.replace("mask: email", "mask: emial")).unwrap();
    let loads = proxy.events_soon("policy_load", 2);
    assert!(loads[1]["error"].as_str().unwrap().contains("emial"));
    assert_eq!(loads[1]["policy"], loads[0]["policy"]);
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(proxy.events("policy_load").len(), 2);
    assert!(proxy.log().contains("the old one stays in force"));
    assert!(email(&mut client).contains("o***@example.com"));
    // What is right again is on record too, and files that say the same are not.
    fs::write(&path, &text).unwrap();
    let loads = proxy.events_soon("policy_load", 3);
    assert!(loads[2].get("error").is_none());
    assert_eq!(loads[2]["policy"]["digest"], loads[0]["policy"]["digest"]);
    fs::write(&path, &text).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert_eq!(proxy.events("policy_load").len(), 3);
    // A directory that is gone is no policy.
    fs::remove_dir_all(proxy.home().join("policies")).unwrap();
    let loads = proxy.events_soon("policy_load", 4);
    assert!(
        loads[3]["error"]
            .as_str()
            .unwrap()
            .contains("cannot be read")
    );
    assert!(email(&mut client).contains("o***@example.com"));
}

#[test]
fn a_grant_that_ends_ends_within_a_session() {
    let proxy = proxy(&Setup::default());
    let (path, text) = file(&proxy, "policy.yaml");
    let until = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(10);
    let timed = text.replace(
        "        limits:",
        &format!("        environments: [test]\n        until: {until}\n        limits:"),
    );
    assert_ne!(text, timed);
    fs::write(&path, &timed).unwrap();
    proxy.events_soon("policy_load", 2);
    let mut client = proxy.client("analyst");
    client.run("PREPARE p AS SELECT email FROM customers", By::Simple);
    let mut one = || show(&client.run("EXECUTE p", By::Simple));
    assert!(one().contains("o***@example.com"));
    while jiff::Timestamp::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    let refused = one();
    assert!(
        refused.contains("42501") && !refused.contains("o***"),
        "{refused}"
    );
    // What the dataset is, the configuration says.
    fs::write(
        &path,
        text.replace(
            "        limits:",
            "        environments: [other]\n        limits:",
        ),
    )
    .unwrap();
    proxy.events_soon("policy_load", 3);
    let refused = one();
    assert!(refused.contains("42501"), "{refused}");
    fs::write(&path, &text).unwrap();
    proxy.events_soon("policy_load", 4);
    assert!(one().contains("o***@example.com"));
}
