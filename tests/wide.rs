//! Wide statements are served, deep ones are refused, and the proxy outlives both.
//!
//! Programs write what no person would: sums of ten thousand terms, lists of as many
//! values, a thousand arms of UNION ALL. What Postgres serves of it, the proxy does.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::path::Path;

use support::client::{By, Message, refusal, show};
use support::postgres::{Options, Postgres};
use support::proxy::Proxy;

const REWRITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");

#[test]
fn wide_is_served_and_deep_is_refused() {
    let postgres = Postgres::with(Options {
        // Its own default of 2 MB is too little for a sum of ten thousand terms.
        settings: vec!["max_stack_depth = 7MB".into()],
        ..Options::default()
    });
    postgres.psql(include_str!("rewrite/schema.sql"));
    postgres.psql(
        "CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy;
         GRANT INSERT, UPDATE, DELETE ON public.orders TO proxy",
    );
    let proxy = Proxy::start(&postgres, "proxy", &Path::new(REWRITE).join("policy"));
    std::thread::scope(|threads| {
        threads.spawn(|| sums_of_ten_thousand_terms(&proxy));
        threads.spawn(|| conditions_and_lists_of_ten_thousand(&proxy));
        threads.spawn(|| a_thousand_arms_and_as_many_columns(&proxy));
        threads.spawn(|| deep_statements(&proxy));
    });
    assert_eq!(
        rows(&proxy.client("analyst").run("select 1", By::Simple)),
        1
    );
}

/// Every one of these as often as told, with something in between.
fn many(count: usize, between: &str, one: impl Fn(usize) -> String) -> String {
    (0..count).map(one).collect::<Vec<_>>().join(between)
}

fn rows(answer: &[Message]) -> usize {
    answer.iter().filter(|(tag, _)| *tag == b'D').count()
}

fn served(proxy: &Proxy, caller: &str, expected: usize, statement: &str) {
    let answer = proxy.client(caller).run(statement, By::Simple);
    let short: String = statement.chars().take(60).collect();
    let shown = show(&answer[..answer.len().min(2)]);
    assert_eq!(refusal(&answer), None, "{caller}: {short}…\n{shown}");
    assert_eq!(rows(&answer), expected, "{caller}: {short}…");
}

fn sums_of_ten_thousand_terms(proxy: &Proxy) {
    let sum = |between: &str, term: &str| many(10_000, between, |_| term.to_owned());
    served(proxy, "analyst", 1, &format!("select {}", sum("+", "1")));
    let ids = sum(" + ", "id");
    served(
        proxy,
        "analyst",
        20,
        &format!("select {ids} from customers"),
    );
    let mixed = many(5_000, " - ", |n| format!("id * {n} / 7 + id"));
    served(
        proxy,
        "analyst",
        20,
        &format!("select {mixed} from customers"),
    );
    let emails = sum("||", "email");
    served(
        proxy,
        "trainer",
        1,
        &format!("select {emails} from customers where id = 2"),
    );
    let ssns = sum("||", "ssn");
    served(
        proxy,
        "auditor",
        20,
        &format!("select {ssns} from customers"),
    );
    let calls = many(2_000, "||", |n| format!("left(email, {n})"));
    served(
        proxy,
        "analyst",
        20,
        &format!("select {calls} from customers"),
    );
}

fn conditions_and_lists_of_ten_thousand(proxy: &Proxy) {
    let ids = many(10_000, ", ", |n| n.to_string());
    let emails = many(10_000, ", ", |n| format!("'a{n}@example.com'"));
    for caller in ["analyst", "trainer"] {
        for condition in [
            format!("id in ({ids})"),
            format!("id = any (array[{ids}])"),
            format!("email in ({emails})"),
            many(10_000, " or ", |n| format!("id = {n}")),
        ] {
            let statement = format!("select count(*) from customers where {condition}");
            served(proxy, caller, 1, &statement);
        }
    }
    // Of a table without children: over one with them, Postgres itself takes minutes.
    let none = many(10_000, " and ", |n| format!("id <> {n}"));
    served(
        proxy,
        "analyst",
        1,
        &format!("select count(*) from orders where {none}"),
    );
    let cases = many(5_000, " ", |n| format!("when id = {n} then {n}"));
    served(
        proxy,
        "analyst",
        20,
        &format!("select case {cases} end from customers"),
    );
}

fn a_thousand_arms_and_as_many_columns(proxy: &Proxy) {
    for (caller, expected) in [("analyst", 20_000), ("trainer", 10_000)] {
        let arms = many(1_000, " union all ", |_| {
            "select email from customers".into()
        });
        served(proxy, caller, expected, &arms);
    }
    let columns = many(1_600, ", ", |n| format!("email as c{n}"));
    served(
        proxy,
        "analyst",
        20,
        &format!("select {columns} from customers"),
    );
    let values = many(10_000, ", ", |n| format!("({n}, 'v')"));
    served(proxy, "analyst", 10_000, &format!("values {values}"));
    served(
        proxy,
        "analyst",
        1,
        &format!("select count(*) from customers c join (values {values}) v (id, v) using (id)"),
    );
    let orders = many(10_000, ", ", |n| format!("({}, 1)", n + 1_000));
    let mut clerk = proxy.client("clerk");
    let insert = format!("insert into orders (id, amount) values {orders}");
    let answer = clerk.run(&insert, By::Simple);
    assert_eq!(refusal(&answer), None, "{}", show(&answer));
}

/// As deep as one message can be.
fn deep_statements(proxy: &Proxy) {
    let mut client = proxy.client("analyst");
    let mut wrong = String::new();
    let mut deep = vec![
        format!("select {}1", "- ".repeat(500_000)),
        format!("select {}true", "not ".repeat(250_000)),
        format!("select 1{}", " is null".repeat(120_000)),
        format!("select id{} from customers", "+id".repeat(300_000)),
    ];
    for (open, inside, close) in [
        ("(select ", "email from customers", ")"),
        ("array[", "id", "]"),
        ("coalesce(", "email", ")"),
        ("case when true then ", "1", " end"),
        ("(1, ", "2", ")"),
    ] {
        let count = 1_000_000 / (open.len() + close.len());
        deep.push(format!(
            "select {}{inside}{} from customers",
            open.repeat(count),
            close.repeat(count)
        ));
    }
    for statement in deep {
        let short: String = statement.chars().take(60).collect();
        let answer = client.run(&statement, By::Simple);
        if refusal(&answer).as_deref() != Some("54001") {
            wrong += &format!("{short}…\n{}", show(&answer[..1]));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(rows(&client.run("select 1", By::Simple)), 1);
}
