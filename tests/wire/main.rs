//! What passes on the wire, by the real proxy and under a real policy: copies and
//! writes, notifications, the identity's tag as Postgres logs it, and values as
//! large as Postgres takes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod copy;
mod huge;
mod notify;
mod tagged;

use std::path::Path;
use std::sync::OnceLock;

use support::client::{By, Message};
use support::postgres::{Options, Postgres};
use support::proxy::Proxy;

/// Each statement by each of them.
const BOTH: [By; 2] = [By::Simple, By::Extended];

/// One server for all tests, which each take rows of their own.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let postgres = Postgres::with(Options {
            settings: vec![
                "log_statement = 'all'".into(),
                "log_line_prefix = '[%a] '".into(),
            ],
            ..Options::default()
        });
        postgres.psql(
            "CREATE TABLE customers (id integer PRIMARY KEY, email text, ssn text);
             INSERT INTO customers VALUES (1, 'one@example.com', '123-45-6789');
             CREATE TABLE parcels (id integer PRIMARY KEY, label text, weight numeric);
             CREATE ROLE proxy LOGIN;
             GRANT ALL ON customers, parcels TO proxy;",
        );
        postgres
    })
}

const POLICY: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/wire/policy");

fn proxy() -> Proxy {
    Proxy::start(server(), "proxy", Path::new(POLICY))
}

/// The messages of an answer: tags, and what is said at the end of each statement.
fn short(answer: &[Message]) -> String {
    let one = |(tag, body): &Message| match tag {
        b'C' => String::from_utf8_lossy(body)
            .trim_end_matches('\0')
            .to_owned(),
        b'E' => support::client::refusal(&[(*tag, body.clone())]).unwrap(),
        tag => char::from(*tag).to_string(),
    };
    answer.iter().map(one).collect::<Vec<_>>().join(" ")
}
