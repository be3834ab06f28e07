//! Databases that a caller must not be able to tell apart, each behind a proxy.
//!
//! All hold the schema of tests/rewrite and objects to attack with, and the rows
//! of tests/leak/rows.sql and people.sql in a variant: `b` has other raw values than
//! `a` with the same image for the analyst, the clerk, the modeller and the surveyor,
//! `c` other hidden rows for the trainer and the steward.

use std::path::Path;

use super::client::{By, Client, Message};
use super::postgres::{Options, Postgres};
use super::proxy::{Proxy, Setup};

const REWRITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");
const SCHEMA: &str = include_str!("../rewrite/schema.sql");
const OBJECTS: &str = include_str!("../leak/objects.sql");
const NAMED: &str = include_str!("../leak/named.sql");
const ROWS: &str = include_str!("../leak/rows.sql");
const PEOPLE: &str = include_str!("../leak/people.sql");

/// What would have one database answer otherwise from one moment to the next.
const SETTINGS: [&str; 3] = [
    "timezone = 'UTC'",
    // Statistics choose plans, and so the order of rows.
    "autovacuum = off",
    // Workers race: whichever is first to raise an error has it told.
    "max_parallel_workers_per_gather = 0",
];

/// What decides on plans, and so on the order of rows that nobody asked an order of.
const SIZES: &str = "
    SELECT oid::regclass, pg_relation_size(oid) FROM pg_class
    WHERE relkind IN ('r', 'i', 'm') AND relnamespace IN ('public'::regnamespace, 'archive'::regnamespace)
    ORDER BY oid::regclass::text;
    SELECT attname, avg_width, null_frac, n_distinct FROM pg_stats
    WHERE schemaname = 'public' ORDER BY tablename, attname";

/// A database and its proxy.
pub struct World {
    /// The way in past the proxy
    pub postgres: Postgres,
    proxy: Proxy,
}

impl World {
    fn new(variant: &str) -> Self {
        let postgres = Postgres::with(Options {
            settings: SETTINGS.map(str::to_owned).into(),
            ..Options::default()
        });
        postgres.psql(SCHEMA);
        postgres.psql(OBJECTS);
        postgres.psql(NAMED);
        postgres.psql(&ROWS.replace("VARIANT", variant));
        postgres.psql(&PEOPLE.replace("VARIANT", variant));
        // What is newer than the catalog is looked for by every statement that names it.
        let setup = Setup {
            dataset: "    catalog_pause: 100ms\n",
            ..Setup::default()
        };
        let proxy = Proxy::with(
            &postgres,
            "proxy",
            &Path::new(REWRITE).join("policy"),
            &setup,
        );
        Self { postgres, proxy }
    }
}

/// The three databases.
pub struct Worlds {
    /// As it is
    pub a: World,
    b: World,
    c: World,
}

impl Worlds {
    /// Starts them all.
    pub fn start() -> Self {
        let all = std::thread::scope(|scope| {
            let b = scope.spawn(|| World::new("b"));
            let c = scope.spawn(|| World::new("c"));
            Self {
                a: World::new("a"),
                b: b.join().unwrap(),
                c: c.join().unwrap(),
            }
        });
        let [a, b, c] = [&all.a, &all.b, &all.c].map(|world| world.postgres.psql(SIZES));
        assert!(a == b && a == c, "of unequal size:\n{a}\n{b}\n{c}");
        all
    }

    /// Has the administrators run a statement on each, past the proxy.
    pub fn administer(&self, statement: &str) {
        for world in [&self.a, &self.b, &self.c] {
            world.postgres.psql(statement);
        }
    }

    /// Two sessions that the caller must not be able to tell apart.
    pub fn pair(&self, caller: &str) -> Pair {
        let other = match caller {
            "trainer" | "visitor" | "speller" | "seller" | "keeper" | "shelver" | "steward" => {
                &self.c
            }
            _ => &self.b,
        };
        let pair = Pair {
            one: self.a.proxy.client(caller),
            other: other.proxy.client(caller),
        };
        assert_eq!(pair.one.greeting, pair.other.greeting);
        pair
    }
}

/// The same session, twice. Both run a statement at the same time.
pub struct Pair {
    one: Client,
    other: Client,
}

impl Pair {
    /// Both answers to a statement.
    pub fn run(&mut self, statement: &str, by: By) -> (Vec<Message>, Vec<Message>) {
        self.one.ask(statement, by);
        self.other.ask(statement, by);
        (self.one.answer(), self.other.answer())
    }
}
