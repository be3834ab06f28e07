//! `pgveil serve` as a process, from its configuration to its end, in front of a
//! real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod catalog;
mod certificates;
mod input;
mod issuer;
mod login;
mod outage;
mod process;
mod reload;
mod secrets;
mod startup;
mod tokens;
mod users;

use std::path::Path;
use std::sync::OnceLock;

use support::postgres::Postgres;
use support::proxy::{Proxy, Setup};

/// One for all.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::start();
        server.psql(
            "CREATE TABLE customers (id integer PRIMARY KEY, email text, ssn text);
             INSERT INTO customers VALUES (1, 'one@example.com', '123-45-6789');
             CREATE ROLE proxy LOGIN;
             GRANT SELECT ON customers TO proxy;",
        );
        server
    })
}

/// Tests/serve/policy.
fn policy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/policy"))
}

fn proxy(setup: &Setup) -> Proxy {
    Proxy::with(server(), "proxy", policy(), setup)
}
