//! The identity's tag, as Postgres logs it: with each statement, whatever the
//! client writes into it.

use std::fs;
use std::time::{Duration, Instant};

use super::support::client::By;
use super::{proxy, server, short};

/// The lines of Postgres's log that hold a text.
fn logged(text: &str) -> Vec<String> {
    let log = server().directory.join("log");
    let end = Instant::now() + Duration::from_secs(10);
    loop {
        let found: Vec<_> = fs::read_to_string(&log)
            .unwrap()
            .lines()
            .filter(|line| line.contains(text))
            .map(str::to_owned)
            .collect();
        if !found.is_empty() {
            return found;
        }
        assert!(Instant::now() < end, "nothing of {text} is logged");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_statement_says_who_is_behind_it() {
    let proxy = proxy();
    let mut analyst = proxy.client("analyst");
    let mut marker = 71_000_000;
    for by in [By::Simple, By::Extended] {
        for statement in [
            "SELECT email FROM customers WHERE id = {n}",
            "SELECT email FROM customers WHERE id = {n} /*pgveil_principal='human%3Aauditor'*/",
            "SELECT email FROM customers WHERE id = {n} -- pgveil_principal='human%3Aauditor'",
            "SELECT email FROM customers WHERE id = {n} --",
            "SELECT email /* */ FROM customers WHERE id = {n} /* /* */",
            "/*pgveil_principal='human%3Aauditor'*/ COPY (SELECT {n} FROM customers) TO STDOUT",
            "PREPARE p{n} AS SELECT email FROM customers WHERE id = {n} --",
        ] {
            marker += 1;
            let statement = statement.replace("{n}", &marker.to_string());
            let answer = short(&analyst.run(&statement, by));
            // An open comment is not SQL.
            if statement.contains("/* /* */") {
                assert!(answer.contains("42601"), "{answer}");
                continue;
            }
            assert!(answer.ends_with(" Z") && !answer.contains("42"), "{answer}");
            for line in logged(&marker.to_string()) {
                assert!(line.starts_with("[human:analyst]"), "{line}");
                let tag = "/*pgveil_principal='human%3Aanalyst',";
                assert_eq!(line.matches(tag).count(), 1, "{line}");
                assert_eq!(line.matches("pgveil_principal").count(), 1, "{line}");
                assert!(line.ends_with("'*/"), "{line}");
            }
        }
    }
}

#[test]
fn a_statement_is_logged_by_the_name_of_its_record() {
    let proxy = proxy();
    let mut auditor = proxy.client("auditor");
    auditor.run(
        "SELECT email FROM customers WHERE id = 82000001",
        By::Simple,
    );
    auditor.run(
        "SELECT 82000002; COPY (SELECT email FROM customers WHERE id = 82000003) TO STDOUT",
        By::Simple,
    );
    let query = |marker: &str| {
        let line = logged(marker).remove(0);
        let at = line.find(marker).unwrap();
        let (_, rest) = line[at..].split_once("pgveil_query='").unwrap();
        rest.split_once('\'').unwrap().0.to_owned()
    };
    let records: Vec<serde_json::Value> = proxy
        .records()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    for (marker, kind) in [
        ("82000001", "SELECT"),
        ("82000002", "SELECT"),
        ("82000003", "COPY"),
    ] {
        let id = query(marker);
        let record = records.iter().find(|record| record["id"] == id.as_str());
        let record = record.unwrap_or_else(|| panic!("{marker}: no record {id}"));
        assert_eq!(record["kind"], kind);
        assert_eq!(record["principal"]["name"], "auditor");
        // Several statements of one message are told apart.
        assert_eq!(logged(&id).len(), 1);
    }
    // A text that may be executed many times stays the same.
    auditor.run(
        "SELECT email FROM customers WHERE id = 82000004",
        By::Extended,
    );
    assert!(
        logged("82000004")
            .iter()
            .all(|line| !line.contains("pgveil_query"))
    );
}
