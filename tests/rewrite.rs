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
use std::path::PathBuf;

use pgveil::error::Tell;
use support::planner::Planner;
use support::postgres::Postgres;
use support::servers::servers;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");

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

struct Case {
    /// Everything up to the `---`, as it stands in the file.
    head: String,
    title: String,
    caller: String,
    servers: std::ops::RangeInclusive<u32>,
    statement: String,
    expected: String,
}

/// A file is a comment, then cases: `### title`, `caller: name`, where it is of some
/// versions of Postgres only `servers: 15-17`, a statement, `---`, what is expected, an
/// empty line.
fn cases(text: &str) -> (String, Vec<Case>) {
    let mut parts = text.split("### ");
    let comment = parts.next().unwrap_or_default().to_owned();
    let all = parts
        .map(|part| {
            let (head, expected) = part
                .split_once("\n---\n")
                .unwrap_or((part.trim_end_matches("\n---"), ""));
            let mut lines = head.splitn(3, '\n');
            let title = lines.next().unwrap_or_default().to_owned();
            let caller = lines
                .next()
                .unwrap_or_default()
                .strip_prefix("caller: ")
                .expect("a caller")
                .to_owned();
            let (servers, statement) = servers(lines.next().unwrap_or_default());
            Case {
                head: head.to_owned(),
                title,
                caller,
                servers,
                statement: statement.to_owned(),
                expected: expected.trim_end().to_owned(),
            }
        })
        .collect();
    (comment, all)
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(HERE)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "test")
        })
        .collect();
    files.sort();
    files
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
