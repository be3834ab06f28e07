//! What masking must not cost: statements over governed tables, answered as they
//! would be over tables that hold the masked image itself.
//!
//! `tests/image/*.test` hold them: `### title`, `caller: name`, perhaps the
//! versions of Postgres that it is of (`servers: 15-16`), a statement, `---`, and `served N rows` or `refused
//! SQLSTATE: message`. Whatever is served is run once more, directly, on a database
//! whose tables have been filled with what the caller sees of them, and every byte of
//! rows and descriptions must be equal. What is expected is rewritten in place with
//! `PGVEIL_UPDATE=1 cargo test --test image`; read the difference.

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
use std::net::{Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use support::client::{By, Client, Message, refusal, show};
use support::generate::Generator;
use support::postgres::Postgres;
use support::proxy::Proxy;
use support::servers::servers;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/image");
const REWRITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");
const SCHEMA: &str = include_str!("rewrite/schema.sql");

/// The governed tables, in the order in which they are filled.
const TABLES: &[&str] = &[
    "public.customers",
    "archive.customers",
    "public.orders",
    "public.events",
];

struct World {
    postgres: Postgres,
    proxy: Proxy,
    version: u32,
}

impl World {
    fn new() -> Self {
        let postgres = Postgres::start();
        postgres.psql(SCHEMA);
        postgres.psql(
            "CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy;
             GRANT INSERT, UPDATE, DELETE ON orders, customers TO proxy",
        );
        let proxy = Proxy::start(&postgres, "proxy", &Path::new(REWRITE).join("policy"));
        let version = postgres.psql("SHOW server_version_num").parse().unwrap();
        Self {
            postgres,
            proxy,
            version,
        }
    }

    /// A session in a database of that name.
    fn direct(&self, database: &str) -> Client {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, self.postgres.port));
        Client::connect(address, "postgres", "", database)
    }

    /// A database that holds what the caller sees: the same tables, without the
    /// columns that are hidden, and NULL where one is blocked.
    fn image(&self, caller: &str) -> Client {
        let name = format!("image_of_{caller}");
        let [mut raw, mut governed] = [self.direct("postgres"), self.proxy.client(caller)];
        served(&mut raw, &format!("CREATE DATABASE {name}"));
        let mut image = self.direct(&name);
        served(&mut image, SCHEMA);
        served(
            &mut image,
            "SET session_replication_role = replica; TRUNCATE customers, archive.customers, orders, events",
        );
        for table in TABLES {
            let listed = served(
                &mut raw,
                &format!(
                    "SELECT attname FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attnum > 0"
                ),
            );
            let mut columns = Vec::new();
            for column in cells(&listed) {
                let answer = governed.run(&format!("SELECT {column} FROM {table}"), By::Simple);
                match refusal(&answer).as_deref() {
                    None => columns.push(column),
                    Some("42501") => {}
                    Some("42703") => {
                        served(
                            &mut image,
                            &format!("ALTER TABLE {table} DROP {column} CASCADE"),
                        );
                    }
                    Some(other) => panic!("{caller}: {column} of {table}: {other}"),
                }
            }
            if columns.is_empty() {
                continue;
            }
            let columns = columns.join(", ");
            let copied = served(
                &mut governed,
                &format!("COPY (SELECT {columns} FROM {table}) TO STDOUT"),
            );
            let rows: Vec<u8> = copied
                .into_iter()
                .filter(|(tag, _)| *tag == b'd')
                .flat_map(|(_, body)| body)
                .collect();
            let file = self.postgres.directory.join("image");
            std::fs::write(&file, rows).unwrap();
            served(
                &mut image,
                &format!("COPY {table} ({columns}) FROM '{}'", file.display()),
            );
        }
        served(&mut image, "RESET session_replication_role; ANALYZE");
        image
    }
}

fn served(client: &mut Client, statement: &str) -> Vec<Message> {
    let answer = client.run(statement, By::Simple);
    assert!(refusal(&answer).is_none(), "{statement}\n{}", show(&answer));
    answer
}

/// The first column of an answer.
fn cells(answer: &[Message]) -> Vec<String> {
    let rows = answer.iter().filter(|(tag, _)| *tag == b'D');
    rows.map(|(_, body)| String::from_utf8(body[6..].to_vec()).unwrap())
        .collect()
}

/// Rows and their description, but for where in the catalog a column comes from.
fn shown(answer: &[Message]) -> Vec<Message> {
    let mut shown: Vec<Message> = answer.to_vec();
    shown.retain(|(tag, _)| matches!(tag, b'T' | b'D' | b'H' | b'd'));
    for (tag, body) in &mut shown {
        if *tag == b'T' {
            let mut at = 2;
            while at < body.len() {
                at += body[at..].iter().position(|byte| *byte == 0).unwrap() + 1;
                body[at..at + 6].fill(0);
                at += 18;
            }
        }
    }
    shown
}

/// The message of the first error in an answer.
fn said(answer: &[Message]) -> String {
    let error = answer.iter().find(|(tag, _)| *tag == b'E');
    let (_, body) = error.expect("an error");
    let fields = body.split(|byte| *byte == 0);
    let message = fields
        .map(String::from_utf8_lossy)
        .find_map(|field| field.strip_prefix('M').map(str::to_owned));
    message.unwrap_or_default()
}

struct Case {
    head: String,
    title: String,
    caller: String,
    servers: RangeInclusive<u32>,
    statement: String,
    expected: String,
}

fn cases(text: &str) -> (String, Vec<Case>) {
    let mut parts = text.split("### ");
    let comment = parts.next().unwrap_or_default().to_owned();
    let all = parts.map(|part| {
        let (head, expected) = part
            .split_once("\n---\n")
            .unwrap_or((part.trim_end().trim_end_matches("\n---"), ""));
        let (title, rest) = head.split_once('\n').unwrap();
        let (caller, rest) = rest.split_once('\n').unwrap();
        let (servers, statement) = servers(rest);
        Case {
            head: head.to_owned(),
            title: title.to_owned(),
            caller: caller
                .strip_prefix("caller: ")
                .expect("a caller")
                .to_owned(),
            servers,
            statement: statement.to_owned(),
            expected: expected.trim_end().to_owned(),
        }
    });
    (comment, all.collect())
}

#[test]
fn corpus() {
    let world = World::new();
    let update = std::env::var_os("PGVEIL_UPDATE").is_some();
    let (mut wrong, mut count) = (String::new(), 0);
    let mut sessions: BTreeMap<String, (Client, Client)> = BTreeMap::new();
    for file in files() {
        let text = std::fs::read_to_string(&file).unwrap();
        let name = file.file_name().unwrap_or_default().display().to_string();
        let (comment, all) = cases(&text);
        let mut rewritten = comment;
        for case in all {
            let (governed, image) = sessions
                .entry(case.caller.clone())
                .or_insert_with(|| (world.proxy.client(&case.caller), world.image(&case.caller)));
            let mut outcome = case.expected.clone();
            if case.servers.contains(&(world.version / 10_000)) {
                count += 1;
                for by in [By::Simple, By::Extended] {
                    let answer = governed.run(&case.statement, by);
                    outcome = match refusal(&answer) {
                        Some(state) => format!("refused {state}: {}", said(&answer)),
                        None => {
                            let rows = answer.iter().filter(|(tag, _)| matches!(tag, b'D' | b'd'));
                            format!("served {} rows", rows.count())
                        }
                    };
                    let direct = image.run(&case.statement, by);
                    if refusal(&answer).is_none() && shown(&answer) != shown(&direct) {
                        writeln!(
                            wrong,
                            "{name}: {}\n{by:?}: {}\n--- governed\n{}\n--- image\n{}\n",
                            case.title,
                            case.statement,
                            show(&answer[..answer.len().min(6)]),
                            show(&direct[..direct.len().min(6)])
                        )
                        .unwrap();
                    }
                    for client in [&mut *governed, &mut *image] {
                        client.run("ROLLBACK", By::Simple);
                    }
                }
            }
            if outcome != case.expected && !update {
                writeln!(
                    wrong,
                    "{name}: {}\n{}\n--- expected\n{}\n--- is\n{outcome}\n",
                    case.title, case.statement, case.expected
                )
                .unwrap();
            }
            write!(rewritten, "### {}\n---\n{outcome}\n\n", case.head).unwrap();
        }
        if update {
            std::fs::write(&file, format!("{}\n", rewritten.trim_end())).unwrap();
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert!(count > 50, "only {count} cases were found");
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

/// Whether a result has a column of the type `record`.
fn describes_records((tag, body): &Message) -> bool {
    if *tag != b'T' {
        return false;
    }
    let mut rest = &body[2..];
    while let Some(end) = rest.iter().position(|byte| *byte == 0) {
        // The table and the column's number, then the type; 18 bytes in all.
        let field = &rest[end + 1..];
        if field[6..10] == 2249_u32.to_be_bytes() {
            return true;
        }
        rest = &field[18..];
    }
    false
}

/// The generator of tests/noninterference asks for things that no list has. Rows are
/// compared without their order. `PGVEIL_IMAGE_COUNT` says how many statements (1,000
/// by default, for each caller), `PGVEIL_IMAGE_SEED` which ones.
#[test]
fn generated() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse().ok());
    let count: u64 = number("PGVEIL_IMAGE_COUNT").unwrap_or(1_000);
    let seed: u64 = number("PGVEIL_IMAGE_SEED").unwrap_or(1);
    let world = World::new();
    for caller in ["analyst", "trainer"] {
        let (mut governed, mut image) = (world.proxy.client(caller), world.image(caller));
        let mut generator = Generator::new(seed, caller);
        let (mut wrong, mut compared) = (String::new(), 0);
        for _ in 0..count {
            let statements = generator.next();
            let [statement] = statements.as_slice() else {
                continue;
            };
            // Which rows a LIMIT or a sample takes, in which order an aggregate sees
            // them, and what the catalog and settings say, differ; a constant that is grouped by
            // is NULL or not as Postgres plans; and a row under the names of an alias
            // has these names only where it is not of a table.
            let open = [
                "LIMIT",
                "FETCH",
                "OFFSET",
                "TABLESAMPLE",
                "_agg(",
                "pg_",
                "information_schema",
                "search_path",
                "CUBE ('",
                "(k, l",
            ];
            if open.iter().any(|word| statement.contains(word)) {
                continue;
            }
            let one = governed.run(statement, By::Simple);
            if refusal(&one).is_some() {
                continue;
            }
            // A whole row of a table with masks is no longer of the table's own type.
            if one.iter().any(describes_records) {
                continue;
            }
            let other = image.run(statement, By::Simple);
            if refusal(&other).is_some() {
                continue;
            }
            compared += 1;
            let [one, other] = [one, other].map(|answer| {
                let mut shown = shown(&answer);
                shown.sort();
                shown
            });
            if one != other {
                writeln!(
                    wrong,
                    "{statement}\n--- governed\n{}--- image\n{}",
                    show(&one[..one.len().min(4)]),
                    show(&other[..other.len().min(4)])
                )
                .unwrap();
            }
        }
        println!("{caller}: {compared} of {count} compared");
        assert!(wrong.is_empty(), "{caller}, seed {seed}:\n{wrong}");
    }
}
