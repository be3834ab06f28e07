//! A second generator of statements, which nobody here has written: sqlsmith.
//!
//!     apt-get install sqlsmith
//!     cargo test --test sqlsmith -- --ignored --nocapture
//!
//! It reads the catalog of a database that holds what a caller may see, and no function
//! or operator that the proxy refuses; what it makes of that is run on two databases
//! with the same image for the caller, and every byte must be equal.
//! `PGVEIL_SMITH_COUNT` says how many statements (2,000 by default, for each caller),
//! `PGVEIL_SMITH_SEED` which ones.
//!
//! Source: <https://github.com/anse1/sqlsmith>

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::process::Command;

use support::client::{By, Message, refusal};
use support::differing::{difference, minimize, reset, versus};
use support::planner::Planner;
use support::postgres::Postgres;
use support::world::Worlds;

const SCHEMA: &str = include_str!("rewrite/schema.sql");

/// Callers, and what they see: relations, without which columns.
const CALLERS: [(&str, &[(&str, &str)]); 4] = [
    (
        "analyst",
        &[
            ("customers", "ssn"),
            ("vips", "ssn"),
            ("orders", ""),
            ("events", ""),
            ("customer_contacts", ""),
            ("contacts_of_buyers", ""),
        ],
    ),
    (
        "trainer",
        &[
            ("customers", "full_name ssn birth_date salary"),
            ("vips", "full_name ssn birth_date salary"),
            ("orders", ""),
            ("events", "ip"),
            ("accounts", ""),
        ],
    ),
    ("surveyor", &[("people", "pin secret"), ("orders", "")]),
    ("steward", &[("people", ""), ("orders", "")]),
];

/// Functions whose answer is another from one moment to the next, or from one database
/// to the other.
const FLEETING: &str = "now|age|timeofday|pg_.*|current_.*|inet_.*|txid_.*|\
    localtime.*|to_reg.*|has_.*|row_security_active|.*_timestamp|timestamp|timestamptz|date|time|timetz";

#[test]
#[ignore = "takes minutes, and sqlsmith"]
fn what_sqlsmith_asks_tells_nothing() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count: u64 = number("PGVEIL_SMITH_COUNT").unwrap_or(2_000);
    let seed: u64 = number("PGVEIL_SMITH_SEED").unwrap_or(1);
    let worlds = Worlds::start();
    let postgres = Postgres::start();
    let planner = Planner::new(&postgres);
    let mut found = String::new();
    for (caller, relations) in CALLERS {
        let statements = statements(&planner, caller, relations, seed, count);
        // A row filter refuses samples.
        let sampled = !matches!(caller, "trainer" | "steward");
        let statements: Vec<String> = statements
            .iter()
            .map(|statement| repeatable(statement, sampled))
            .collect();
        let (mut rows, mut empty) = (0, 0);
        let mut refusals: BTreeMap<String, usize> = BTreeMap::new();
        let mut pair = worlds.pair(caller);
        for (at, statement) in statements.iter().enumerate() {
            let by = [By::Simple, By::Extended, By::Binary][at % 3];
            let (one, other) = pair.run(statement, by);
            match refusal(&one) {
                Some(state) => *refusals.entry(state).or_default() += 1,
                None if holds_rows(&one) => rows += 1,
                None => empty += 1,
            }
            let all = std::slice::from_ref(statement);
            if one == other {
                continue;
            }
            println!("{caller}, {by:?}: {statement}\n{}", versus(&one, &other));
            if difference(&mut pair, all, by).is_some() {
                let case = minimize(&mut pair, all, by);
                writeln!(
                    found,
                    "### found by sqlsmith, {by:?}\ncaller: {caller}\n{case}"
                )
                .unwrap();
                reset(&mut pair);
            }
        }
        println!(
            "{caller}: {} statements, {rows} returned rows, {empty} none; refusals: {refusals:?}",
            statements.len()
        );
        assert!(
            (rows + empty) * 2 > statements.len(),
            "{caller}: most are refused"
        );
    }
    assert!(found.is_empty(), "seed {seed}:\n{found}");
}

fn holds_rows(answer: &[Message]) -> bool {
    answer.iter().any(|(tag, _)| *tag == b'D')
}

/// What sqlsmith makes of what a caller sees.
fn statements(
    planner: &Planner,
    caller: &str,
    relations: &[(&str, &str)],
    seed: u64,
    count: u64,
) -> Vec<String> {
    let postgres = Postgres::start();
    postgres.psql(SCHEMA);
    leave(&postgres, relations);
    forget_refused(&postgres, planner, caller);
    let output = Command::new("sqlsmith")
        .arg(format!(
            "--target=host={} port={} user=postgres dbname=postgres",
            postgres.directory.display(),
            postgres.port
        ))
        .args(["--exclude-catalog", "--dry-run"])
        .arg(format!("--seed={seed}"))
        .arg(format!("--max-queries={count}"))
        .output()
        .expect("sqlsmith is installed");
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    // A statement ends a line; no string that sqlsmith writes does.
    text.split(";\n")
        .map(|statement| statement.trim().to_owned())
        .filter(|statement| !statement.is_empty())
        .collect()
}

/// Samples of a table are other rows every time, unless they are told not to be.
fn repeatable(statement: &str, sampled: bool) -> String {
    let mut parts = statement.split(" tablesample ");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (method, rest) = part.split_once(')').unwrap();
        if sampled {
            write!(text, " tablesample {method}) repeatable (7)").unwrap();
        }
        text.push_str(rest);
    }
    text
}

/// Drops what the caller does not see.
fn leave(postgres: &Postgres, relations: &[(&str, &str)]) {
    let kept: Vec<String> = relations
        .iter()
        .map(|(name, _)| format!("'{name}'"))
        .collect();
    let kept = kept.join(", ");
    let mut sql = format!(
        "SET allow_system_table_mods = on;
         -- It passes over what is the catalog's. Views still have what they are made of.
         DROP SCHEMA archive CASCADE;
         DROP VIEW public.customer_ids;
         DROP MATERIALIZED VIEW public.region_totals;
         UPDATE pg_class SET relnamespace = 'pg_catalog'::regnamespace
         WHERE relnamespace = 'public'::regnamespace
             AND relkind IN ('r', 'p', 'v', 'm') AND relname NOT IN ({kept});
         DELETE FROM pg_proc WHERE pronamespace = 'public'::regnamespace;"
    );
    for (name, columns) in relations {
        for column in columns.split_whitespace() {
            write!(
                sql,
                "UPDATE pg_attribute SET attisdropped = true
                 WHERE attrelid = 'public.{name}'::regclass AND attname = '{column}';"
            )
            .unwrap();
        }
    }
    postgres.psql(&sql);
}

/// Has sqlsmith pass over the functions and operators that the caller may not use, and
/// those of types that it knows nothing of: it does so where they return `internal`, or
/// nothing. They cannot be deleted, for it uses some of them itself.
fn forget_refused(postgres: &Postgres, planner: &Planner, caller: &str) {
    let refused = |calls: &str| -> String {
        let calls = postgres.psql(calls);
        let all = calls.lines().filter_map(|line| line.split_once('|'));
        let all = all.filter(|(_, call)| planner.plan(caller, call, &[]).is_err());
        all.fold("0".into(), |all, (oid, _)| all + ", " + oid)
    };
    let functions = refused(
        "SELECT p.oid, format('SELECT %I.%I(%s)', n.nspname, p.proname,
             (SELECT string_agg(format('NULL::%s', format_type(t, NULL)), ', ' ORDER BY o)
              FROM unnest(p.proargtypes) WITH ORDINALITY a(t, o)))
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE prokind IN ('f', 'a')",
    );
    let operators = refused(
        "SELECT o.oid, format('SELECT NULL::%s OPERATOR(%I.%s) NULL::%s',
             format_type(oprleft, NULL), n.nspname, oprname, format_type(oprright, NULL))
         FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
         WHERE 0 NOT IN (oprleft, oprright, oprresult)",
    );
    postgres.psql(&format!(
        "SET allow_system_table_mods = on;
         CREATE TEMP TABLE vague AS SELECT oid FROM pg_type WHERE typtype = 'p';
         UPDATE pg_proc SET prorettype = 'internal'::regtype
         WHERE proname NOT IN ('quote_ident', 'format', 'unnest', 'version') AND (
             oid IN ({functions}) OR provolatile = 'v' OR proname ~ '^({FLEETING})$'
             OR proargtypes::oid[] && ARRAY(SELECT oid FROM vague)
             OR pronargs > 0 AND prorettype IN (TABLE vague));
         UPDATE pg_operator SET oprresult = 0
         WHERE oid IN ({operators}) OR oprleft IN (TABLE vague) OR oprright IN (TABLE vague)"
    ));
}
