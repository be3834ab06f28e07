//! The rewriter's corpus: policy + catalog + SQL → SQL or denial.
//!
//! `tests/rewrite/*.test` hold the cases, `tests/rewrite/schema.sql` the database
//! and `tests/rewrite/policy` the policy. What is expected is rewritten in place
//! with `PGVEIL_UPDATE=1 cargo test --test rewrite`; read the difference.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test may fail by panicking"
)]

mod support;

use std::fmt::Write as _;

use pgveil::error::Tell;
use support::corpus::{cases, files};
use support::planner::Planner;
use support::postgres::Postgres;

fn answer(planner: &Planner, caller: &str, statement: &str) -> String {
    match planner.plan(caller, statement, &[]) {
        Ok(plans) => plans
            .iter()
            .map(|plan| plan.text().to_owned())
            .collect::<Vec<_>>()
            .join(";\n"),
        Err(denial) => {
            let told = denial.tell();
            let mut text = format!("ERROR {}: {}", told.state.0, told.message);
            if let Some(hint) = told.hint {
                write!(text, "\nHINT: {hint}").unwrap();
            }
            text
        }
    }
}

#[test]
fn corpus() {
    let postgres = Postgres::start();
    let planner = Planner::new(&postgres);
    let update = std::env::var_os("PGVEIL_UPDATE").is_some();
    let (mut wrong, mut count) = (String::new(), 0);
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let (comment, all) = cases(&text);
        let mut rewritten = comment;
        for case in all {
            count += 1;
            if !case.servers.contains(&(planner.catalog.version / 10_000)) {
                write!(rewritten, "### {}\n---\n{}\n\n", case.head, case.expected).unwrap();
                continue;
            }
            let answer = answer(&planner, &case.caller, &case.statement);
            if answer != case.expected && !update {
                let name = file.file_name().unwrap_or_default().display().to_string();
                writeln!(
                    wrong,
                    "{name}: {}\n{}\n--- expected\n{}\n--- is\n{answer}\n",
                    case.title, case.statement, case.expected
                )
                .unwrap();
            }
            write!(rewritten, "### {}\n---\n{answer}\n\n", case.head).unwrap();
        }
        if update {
            std::fs::write(&file, format!("{}\n", rewritten.trim_end())).unwrap();
        }
    }
    assert!(count > 100, "only {count} cases were found");
    assert!(wrong.is_empty(), "{wrong}");
}
