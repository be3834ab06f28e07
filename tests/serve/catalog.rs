//! What others change in a database while it is served.

use std::fs;
use std::time::{Duration, Instant};

use super::policy;
use super::support::client::{By, refusal, show};
use super::support::postgres::Postgres;
use super::support::proxy::{Proxy, Setup};

/// All tables, their e-mail addresses masked.
const POLICY: &str = "\
datasets:
  shop:
    unclassified: clear
    tables: { public.customers: { email: email } }
roles:
  analyst:
    grants:
      - { dataset: shop, tables: [public.*], tags: { email: { mask: email } } }
";

fn start(setup: &Setup) -> (Postgres, Proxy) {
    let postgres = Postgres::start();
    postgres.psql(
        "CREATE TABLE customers (id integer PRIMARY KEY, email text);
         INSERT INTO customers VALUES (1, 'one@example.com');
         CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy",
    );
    let files = tempfile::tempdir().unwrap();
    fs::write(files.path().join("policy.yaml"), POLICY).unwrap();
    let identities = "identities.yaml";
    fs::copy(policy().join(identities), files.path().join(identities)).unwrap();
    let proxy = Proxy::with(&postgres, "proxy", files.path(), setup);
    (postgres, proxy)
}

#[test]
fn the_catalog_is_read_again_as_often_as_configured() {
    let (postgres, proxy) = start(&Setup {
        dataset: "    catalog_refresh: 1s\n",
        ..Setup::default()
    });
    let mut client = proxy.client("analyst");
    let mut all = || show(&client.run("SELECT * FROM customers", By::Simple));
    assert!(!all().contains("made later"));
    // No name that is asked for is missing: only the timer can tell.
    postgres.psql("ALTER TABLE customers ADD later text DEFAULT 'made later'");
    let began = Instant::now();
    while !all().contains("made later") {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", all());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(all().contains("o***@example.com"));
    let epochs: Vec<_> = proxy
        .events("catalog_refresh")
        .iter()
        .map(|it| it["epoch"].as_u64().unwrap())
        .collect();
    assert!(epochs.is_sorted() && epochs[0] == 2, "{epochs:?}");
}

#[test]
fn sighup_has_the_catalog_read_again() {
    let (postgres, proxy) = start(&Setup::default());
    let mut client = proxy.client("analyst");
    let mut all = || show(&client.run("SELECT * FROM customers", By::Simple));
    assert!(!all().contains("made later"));
    postgres.psql("ALTER TABLE customers ADD later text DEFAULT 'made later'");
    proxy.signal("HUP");
    let began = Instant::now();
    while proxy.events("policy_load").len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(20));
    }
    // By then no statement is decided by what was there before.
    let began = Instant::now();
    while !all().contains("made later") {
        assert!(began.elapsed() < Duration::from_secs(20), "{}", all());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_name_is_looked_for_before_it_is_refused() {
    let (postgres, proxy) = start(&Setup::default());
    for by in [By::Simple, By::Extended] {
        let name = format!("made_{}", if by == By::Simple { "a" } else { "b" });
        let select = format!("SELECT made FROM {name}");
        let mut client = proxy.client("analyst");
        let absent = client.run(&select, by);
        assert_eq!(refusal(&absent).as_deref(), Some("42P01"));
        // Within a second of the reading that did not find it.
        postgres.psql(&format!("CREATE TABLE {name} AS SELECT 'here' AS made"));
        let found = proxy.client("analyst").run(&select, by);
        assert!(show(&found).contains("here"), "{}", show(&found));
    }
}

#[test]
fn who_asks_for_what_is_not_there_again_and_again_neither_waits_nor_costs_much() {
    let (_postgres, proxy) = start(&Setup::default());
    let mut client = proxy.client("analyst");
    let began = Instant::now();
    for number in 0..30 {
        let answer = client.run(&format!("SELECT a FROM absent_{number}"), By::Simple);
        assert_eq!(refusal(&answer).as_deref(), Some("42P01"));
    }
    let took = began.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
    let read = proxy.events("catalog_refresh").len() as u64;
    assert!(read <= 2 + took.as_secs(), "{read} in {took:?}");
}
