//! Attacks, written down: none may show a raw value or tell two databases apart.
//!
//! `tests/leak/*.test` hold them, a class a file: `### title`, `caller: name`,
//! statements with `;` alone on a line between them, `---`, and for each statement
//! `served` or `refused SQLSTATE`, by the simple and, where that differs, by the
//! extended protocol (Postgres's own errors are refusals too). `servers: 15-16`
//! under the caller: such versions only. A statement after `admin:` is the
//! administrator's, run past the proxy. What is expected is rewritten in place with
//! `PGVEIL_UPDATE=1 cargo test --test leak`; read the difference.
//! `PGVEIL_LEAK_ONLY=part` runs the files whose name has that part. Whatever is
//! expected, a raw value in any byte of an answer is a leak, and so is a byte that
//! differs between two databases with the same image.

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
use std::path::PathBuf;

use pgveil::policy::mask::key_settings;
use support::client::{By, Message, refusal, show};
use support::proxy::MASK_KEY;
use support::servers::servers;
use support::world::{Pair, World, Worlds};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/leak");

struct Case {
    head: String,
    title: String,
    caller: String,
    servers: std::ops::RangeInclusive<u32>,
    statements: Vec<String>,
    expected: String,
}

fn cases(text: &str) -> (String, Vec<Case>) {
    let mut parts = text.split("### ");
    let comment = parts.next().unwrap_or_default().to_owned();
    let all = parts
        .map(|part| {
            let (head, expected) = part
                .split_once("\n---\n")
                .unwrap_or((part.trim_end().trim_end_matches("\n---"), ""));
            let mut lines = head.splitn(3, '\n');
            let title = lines.next().unwrap_or_default().to_owned();
            let caller = lines.next().unwrap_or_default();
            let caller = caller.strip_prefix("caller: ").expect("a caller");
            let (servers, statements) = servers(lines.next().unwrap_or_default());
            Case {
                head: head.to_owned(),
                title,
                caller: caller.to_owned(),
                servers,
                statements: statements.split("\n;\n").map(str::to_owned).collect(),
                expected: expected.trim_end().to_owned(),
            }
        })
        .collect();
    (comment, all)
}

const CALLERS: &[&str] = &[
    "analyst", "trainer", "clerk", "modeller", "visitor", "speller", "seller", "keeper", "shelver",
    "builder",
];

/// What is nowhere in an answer to that caller: text, and the same in hexadecimal
/// and backwards.
fn secrets(world: &World, caller: &str) -> Vec<String> {
    let own = match caller {
        "trainer" => {
            "UNION ALL SELECT to_char(birth_date, 'YYYY-MM-DD') FROM customers WHERE id <= 20
             UNION ALL SELECT host(ip) FROM events
             UNION ALL SELECT note FROM vips WHERE region <> 'EU'"
        }
        "analyst" => {
            "UNION ALL SELECT to_char(birth_date, 'YYYY-MM-DD') FROM customers WHERE id <= 20
             UNION ALL SELECT host(ip) FROM events"
        }
        _ => "",
    };
    let listed = world.postgres.psql(&format!(
        "SELECT DISTINCT x FROM (
             SELECT unnest(ARRAY[ssn, email, phone, full_name, notes, salary::text, profile ->> 'mail']) FROM customers
             UNION ALL SELECT unnest(ARRAY[ssn, email]) FROM archive.customers
             UNION ALL SELECT split_part(notes, ' or ', 2) FROM customers
             UNION ALL SELECT word FROM secrets {own}
         ) s(x) WHERE length(x) >= 7 AND x <> 'no address'"
    ));
    let mut plain: Vec<String> = listed.lines().map(str::to_owned).collect();
    assert!(plain.len() > 100, "{plain:?}");
    plain.extend(key_settings(MASK_KEY.as_bytes()).map(|(_, half)| half));
    let hex = |text: &String| text.bytes().map(|byte| format!("{byte:02x}")).collect();
    let backwards = |text: &String| text.chars().rev().collect();
    let others: Vec<String> = plain.iter().map(hex).collect();
    let reversed: Vec<String> = plain.iter().map(backwards).collect();
    [plain, others, reversed].concat()
}

fn find<'s>(answer: &[Message], secrets: &'s [String]) -> Option<&'s String> {
    let all: Vec<u8> = answer.iter().flat_map(|(_, body)| body.clone()).collect();
    let all = String::from_utf8_lossy(&all);
    secrets.iter().find(|secret| all.contains(secret.as_str()))
}

#[test]
fn corpus() {
    let worlds = Worlds::start();
    let update = std::env::var_os("PGVEIL_UPDATE").is_some();
    let (mut wrong, mut leaks) = (String::new(), String::new());
    let (mut count, mut served) = (0, 0);
    let secrets: Vec<(&str, Vec<String>)> = CALLERS
        .iter()
        .map(|caller| (*caller, secrets(&worlds.a, caller)))
        .collect();
    let only = std::env::var("PGVEIL_LEAK_ONLY").ok();
    let version: u32 = worlds
        .a
        .postgres
        .psql("SHOW server_version_num")
        .trim()
        .parse()
        .unwrap();
    let mut pairs: BTreeMap<(String, usize), Pair> = BTreeMap::new();
    for file in files() {
        let name = file.file_name().unwrap_or_default().display().to_string();
        if only.as_ref().is_some_and(|only| !name.contains(only)) {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        let (comment, all) = cases(&text);
        let mut rewritten = comment;
        for case in all {
            count += 1;
            if !case.servers.contains(&(version / 10_000)) {
                write!(rewritten, "### {}\n---\n{}\n\n", case.head, case.expected).unwrap();
                continue;
            }
            let (_, raw) = secrets
                .iter()
                .find(|(caller, _)| *caller == case.caller)
                .expect("a known caller");
            let outcomes = [By::Simple, By::Extended, By::Binary].map(|by| {
                let pair = pairs
                    .entry((case.caller.clone(), by as usize))
                    .or_insert_with(|| worlds.pair(&case.caller));
                let mut outcomes = Vec::new();
                for statement in &case.statements {
                    if let Some(statement) = statement.strip_prefix("admin: ") {
                        worlds.administer(statement);
                        outcomes.push("done".to_owned());
                        continue;
                    }
                    let (one, other) = pair.run(statement, by);
                    let found = find(&one, raw);
                    if found.is_some() || one != other {
                        writeln!(
                            leaks,
                            "{name}: {}\n{by:?}, {}: {statement}\nfound {found:?}\n{}or\n{}",
                            case.title,
                            case.caller,
                            show(&one[..one.len().min(5)]),
                            show(&other[..other.len().min(5)])
                        )
                        .unwrap();
                    }
                    served += usize::from(one.iter().any(|(tag, _)| matches!(tag, b'D' | b'd')));
                    outcomes.push(
                        refusal(&one).map_or_else(
                            || "served".to_owned(),
                            |state| format!("refused {state}"),
                        ),
                    );
                }
                pair.run("ROLLBACK", By::Simple);
                pair.run("DISCARD ALL", By::Simple);
                outcomes.join("\n")
            });
            let [simple, extended, _] = outcomes;
            let mut outcome = simple.clone();
            if simple != extended {
                write!(outcome, "\nextended:\n{extended}").unwrap();
            }
            if outcome != case.expected && !update {
                writeln!(
                    wrong,
                    "{name}: {}\n{}\n--- expected\n{}\n--- is\n{outcome}\n",
                    case.title, case.head, case.expected
                )
                .unwrap();
            }
            write!(rewritten, "### {}\n---\n{outcome}\n\n", case.head).unwrap();
        }
        if update {
            std::fs::write(&file, format!("{}\n", rewritten.trim_end())).unwrap();
        }
    }
    assert!(leaks.is_empty(), "{leaks}");
    assert!(wrong.is_empty(), "{wrong}");
    if only.is_none() {
        assert!(count > 100, "only {count} cases were found");
        assert!(served > 100, "only {served} statements returned rows");
    }
}

fn files() -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(HERE)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|own| own == "test"))
        .collect();
    files.sort();
    files
}
