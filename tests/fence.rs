//! What a row filter's fence costs: neither the index nor a row.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::fmt::Write as _;

use support::planner::Planner;
use support::postgres::Postgres;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

const ROWS: &str = "
    INSERT INTO public.accounts
    SELECT i, 'holder ' || i, 'c' || i, chr(65 + i % 26) || chr(65 + i / 26 % 26), 'kind ' || i, i * 0.5, i * 0.25,
           i % 2 = 0, CASE WHEN i % 1000 > 0 THEN DATE '2000-01-01' + i % 20000 END,
           TIMESTAMP '2000-01-01' + i * INTERVAL '1 hour', md5(i::text)::uuid, CASE i % 2 WHEN 0 THEN 'EU' ELSE 'US' END, 'm'
    FROM generate_series(1, 120000) i;
    CREATE INDEX holder ON public.accounts (holder);
    CREATE INDEX code ON public.accounts (code);
    CREATE INDEX country ON public.accounts (country);
    CREATE INDEX kind ON public.accounts (kind);
    CREATE INDEX balance ON public.accounts (balance);
    CREATE INDEX rate ON public.accounts (rate);
    CREATE INDEX opened ON public.accounts (opened);
    CREATE INDEX seen_at ON public.accounts (seen_at);
    CREATE INDEX token ON public.accounts (token);
    ANALYZE public.accounts";

/// A condition on accounts, and the index that serves it.
const CONSTANTS: &[(&str, &str)] = &[
    ("id = 4000", "accounts_pkey"),
    ("4000 = id", "accounts_pkey"),
    ("id >= 4000 AND id < 4010", "accounts_pkey"),
    ("4010 > id AND 4000 <= id", "accounts_pkey"),
    ("id BETWEEN 4000 AND 4010", "accounts_pkey"),
    ("id IN (4000, 4002, 99999999999)", "accounts_pkey"),
    ("id IN ('4000', '4002')", "accounts_pkey"),
    ("id = ANY ('{4000,4002}')", "accounts_pkey"),
    ("id = ANY (ARRAY[4000, 4002])", "accounts_pkey"),
    ("id = ANY ('{4000}'::smallint[])", "accounts_pkey"),
    ("holder = 'holder 4000'", "holder"),
    ("holder IN ('holder 4000', 'x')", "holder"),
    (
        "holder > 'holder 99998' AND holder < 'holder 99999'",
        "holder",
    ),
    ("code = 'c4000'::varchar", "code"),
    ("code IN ('c4000', 'c4002')", "code"),
    ("country = 'AB' AND country >= 'AA'", "country"),
    ("kind = 'kind 4000'", "kind"),
    ("balance = 2000", "balance"),
    ("balance IN (2000, 2001.5)", "balance"),
    ("rate = 1000", "rate"),
    ("opened = '2001-01-01'", "opened"),
    ("opened = DATE '2001-01-01'", "opened"),
    ("opened IN ('2001-01-01', '2001-01-02')", "opened"),
    ("opened IS NULL", "opened"),
    (
        "opened BETWEEN '2001-01-01'::timestamp AND '2001-01-02'",
        "opened",
    ),
    ("seen_at BETWEEN '2001-01-01' AND '2001-01-02'", "seen_at"),
    ("token = 'c4ca4238a0b923820dcc509a6f75849b'", "token"),
];

/// The same with parameters: their types, as PREPARE has them, and values.
const PARAMETERS: &[(&str, &str, &str, &str)] = &[
    ("id = $1", "", "4000", "accounts_pkey"),
    ("id = $1", "(int)", "4000", "accounts_pkey"),
    ("id = $1::int", "", "4000", "accounts_pkey"),
    ("id >= $1 AND id < $2", "", "4000, 4010", "accounts_pkey"),
    (
        "$1 <= id AND $2 > id",
        "(int2, int8)",
        "4000, 4010",
        "accounts_pkey",
    ),
    ("id BETWEEN $1 AND $2", "", "4000, 4010", "accounts_pkey"),
    ("id IN ($1, $2)", "", "4000, 4002", "accounts_pkey"),
    ("id = ANY ($1)", "", "'{4000,4002}'", "accounts_pkey"),
    (
        "id = ANY ($1::int[])",
        "(int[])",
        "'{4000,4002}'",
        "accounts_pkey",
    ),
    ("holder = $1", "", "'holder 4000'", "holder"),
    ("holder = $1::varchar", "(text)", "'holder 4000'", "holder"),
    ("code = $1", "(varchar)", "'c4000'", "code"),
    ("balance = $1", "(numeric)", "2000", "balance"),
    ("rate = $1", "(float8)", "1000", "rate"),
    ("opened = $1", "", "'2001-01-01'", "opened"),
    (
        "opened BETWEEN $1 AND $2",
        "(timestamp, date)",
        "'2001-01-01', '2001-01-02'",
        "opened",
    ),
    (
        "token = $1",
        "(uuid)",
        "'c4ca4238a0b923820dcc509a6f75849b'",
        "token",
    ),
];

/// Where else a condition can stand.
const PLACES: &[(&str, &str)] = &[
    (
        "SELECT count(*) FROM orders o JOIN accounts a ON a.id = 4000 AND o.id = a.id",
        "accounts_pkey",
    ),
    (
        "SELECT count(*) FROM orders o LEFT JOIN accounts a ON a.id = 4000 AND o.id = 5",
        "accounts_pkey",
    ),
    (
        "SELECT count(*) FROM orders o LEFT JOIN accounts a ON a.id = o.id WHERE a.id = 4000",
        "accounts_pkey",
    ),
    // What is said of a column is said of one that is equal to it.
    (
        "SELECT count(*) FROM accounts a JOIN accounts b ON b.id = a.id WHERE a.id = 4000",
        "accounts_pkey",
    ),
    (
        "SELECT count(*) FROM accounts a LEFT JOIN accounts b USING (id) WHERE id BETWEEN 4000 AND 4010",
        "accounts_pkey",
    ),
    (
        "SELECT count(*) FROM accounts a, accounts b WHERE a.code = b.code AND b.code IN ('c4000', 'c4002')",
        "code",
    ),
    (
        "WITH t AS (SELECT * FROM accounts WHERE id = 4000) SELECT * FROM t",
        "accounts_pkey",
    ),
    (
        "SELECT * FROM orders o WHERE EXISTS (SELECT 1 FROM accounts WHERE id = 4000)",
        "accounts_pkey",
    ),
    (
        "SELECT id FROM accounts WHERE id = 4000 UNION ALL SELECT id FROM orders",
        "accounts_pkey",
    ),
];

/// Postgres's own plan of what is sent for a caller who sees some of the rows.
#[test]
fn the_index_is_used() {
    let postgres = Postgres::start();
    let planner = Planner::new(&postgres);
    postgres.psql(ROWS);
    let mut wrong = String::new();
    let mut expect = |what: &str, plan: &str, index: &str| {
        let used = plan.contains(&format!("Index Scan using {index} on accounts"))
            || plan.contains(&format!("Bitmap Index Scan on {index}"));
        if !used || plan.contains("Seq Scan on accounts") {
            writeln!(wrong, "{what}\n{plan}\n").unwrap();
        }
    };
    let constants = CONSTANTS.iter().map(|(condition, index)| {
        let statement = format!("SELECT * FROM accounts WHERE {condition}");
        (statement, *index)
    });
    let places = PLACES
        .iter()
        .map(|(text, index)| ((*text).to_owned(), *index));
    for (statement, index) in constants.chain(places) {
        let text = planner.text("trainer", &statement, &[]);
        let plan = postgres.psql(&format!("EXPLAIN (COSTS OFF) {text}"));
        expect(&statement, &plan, index);
    }
    for (condition, types, values, index) in PARAMETERS {
        let statement = format!("PREPARE p{types} AS SELECT * FROM accounts WHERE {condition}");
        let text = planner.text("trainer", &statement, &[]);
        for mode in ["force_custom_plan", "force_generic_plan"] {
            let plan = postgres.psql(&format!(
                "SET plan_cache_mode TO {mode}; {text}; EXPLAIN (COSTS OFF) EXECUTE p({values})"
            ));
            expect(&format!("{statement} ({mode})"), &plan, index);
        }
    }
    // By Parse, the client's types come beside the text.
    for (types, index) in [(&[20][..], true), (&[0], true), (&[26], false)] {
        let text = planner.text("trainer", "SELECT * FROM accounts WHERE id = $1", types);
        assert_eq!(text.matches("$1").count() == 2, index, "{text}");
    }
    assert!(wrong.is_empty(), "{wrong}");
}

/// The rows of two tables that a filter holds for, NULLs and extremes among them,
/// and views of what the trainer sees of them.
const FEW: &str = "
    CREATE SCHEMA eu;
    CREATE VIEW eu.accounts AS SELECT * FROM public.accounts WHERE region = 'EU';
    CREATE VIEW eu.customers AS
        SELECT id, email, phone, notes, profile, region, created_at FROM public.customers WHERE region = 'EU';
    INSERT INTO public.accounts
    SELECT i, CASE WHEN i % 7 > 0 THEN 'h' || i % 5 END, CASE WHEN i % 4 > 0 THEN 'c' || i % 3 END,
           CASE i % 3 WHEN 0 THEN 'DE' WHEN 1 THEN 'F' END, 'k' || i % 3,
           CASE WHEN i % 6 > 0 THEN i % 9 END, CASE WHEN i % 5 > 0 THEN i % 4 END, CASE WHEN i % 3 > 0 THEN i % 2 = 0 END,
           CASE i % 8 WHEN 0 THEN NULL WHEN 1 THEN DATE '5874897-12-31' ELSE DATE '2020-01-01' + i % 6 END,
           CASE i % 5 WHEN 0 THEN NULL WHEN 1 THEN 'infinity' ELSE TIMESTAMP '2020-01-01' + i % 6 * INTERVAL '12 hours' END,
           CASE WHEN i % 4 > 0 THEN md5((i % 3)::text)::uuid END, CASE WHEN i % 3 > 0 THEN 'EU' ELSE 'US' END
    FROM generate_series(1, 40) i;
    INSERT INTO public.accounts (id, balance, rate, region) VALUES
    (9000000000, 'NaN', 'NaN', 'EU'), (-9000000000, 1e300, 'infinity', 'EU'), (8000000000, 1e400, 1e300, 'US')";

/// Columns of accounts, and what they are compared with: constants without and
/// with types, and types that a parameter can have.
const COLUMNS: &[(&str, &[&str], &[&str])] = &[
    (
        "id",
        &[
            "3",
            "'7'",
            "12::int2",
            "99999999999",
            "5.5",
            "30::numeric",
            "8000000000",
        ],
        &["int", "int8", "int2", "numeric"],
    ),
    (
        "holder",
        &["'h1'", "'h3'::text", "'h2'::varchar", "'h'"],
        &["text", "varchar", "bpchar"],
    ),
    (
        "code",
        &["'c1'", "'c2'::varchar", "'c0'::text"],
        &["varchar", "text"],
    ),
    (
        "country",
        &["'DE'", "'F '", "'F'::text"],
        &["bpchar", "text"],
    ),
    ("kind", &["'k1'", "'k2'::name"], &["name", "text"]),
    (
        "balance",
        &["4", "2.5", "'3'", "'NaN'::numeric", "3::float8"],
        &["numeric", "int"],
    ),
    (
        "rate",
        &["1", "2.0", "'3'", "'NaN'::float8"],
        &["float8", "float4", "int"],
    ),
    ("active", &["true", "'f'", "false::bool"], &["bool"]),
    (
        "opened",
        &[
            "'2020-01-03'",
            "DATE '2020-01-04'",
            "TIMESTAMP '2020-01-02 12:00'",
            "TIMESTAMPTZ '2020-01-05 00:00+03'",
        ],
        &["date", "timestamp", "timestamptz"],
    ),
    (
        "seen_at",
        &["'2020-01-03'", "DATE '2020-01-02'", "'infinity'"],
        &["timestamp", "date"],
    ),
    (
        "token",
        &[
            "'cfcd2084-95d5-65ef-66e7-dff9f98764da'",
            "'c4ca4238a0b923820dcc509a6f75849b'::uuid",
        ],
        &["uuid"],
    ),
];

/// `xorshift64*`
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33) as usize % bound
    }

    fn of<'t, T>(&mut self, all: &'t [T]) -> &'t T {
        &all[self.below(all.len())]
    }
}

/// A statement with parameters: their types, if they are declared, and values.
struct Statement<'c> {
    chance: &'c mut Chance,
    types: Vec<String>,
    values: Vec<String>,
}

impl Statement<'_> {
    /// A value that a column may be compared with.
    fn value(&mut self, at: usize) -> String {
        let (_, constants, types) = COLUMNS[at];
        let constant = *self.chance.of(constants);
        if self.chance.below(3) > 0 {
            return constant.to_owned();
        }
        let of = *self.chance.of(types);
        let bare = constant.split("::").next().unwrap_or_default();
        let bare =
            bare.split_once(' ').map_or(
                bare,
                |(first, rest)| {
                    if first.starts_with('\'') { bare } else { rest }
                },
            );
        self.values.push(bare.to_owned());
        let number = self.values.len();
        match self.chance.below(4) {
            0 => {
                self.types.push("unknown".to_owned());
                format!("${number}::{of}")
            }
            1 => {
                self.types.push("unknown".to_owned());
                format!("${number}")
            }
            _ => {
                self.types.push(of.to_owned());
                format!("${number}")
            }
        }
    }

    fn condition(&mut self, alias: &str) -> String {
        // Without an alias, what USING merges.
        let at = match alias {
            "" => 2 * self.chance.below(2),
            _ => self.chance.below(COLUMNS.len()),
        };
        let column = match alias {
            "" => COLUMNS[at].0.to_owned(),
            alias => format!("{alias}.{}", COLUMNS[at].0),
        };
        let operator = *self.chance.of(&["=", "=", "<", ">", "<=", ">=", "<>"]);
        match self.chance.below(9) {
            0 => format!("{column} IS NULL"),
            1 => format!("{column} IS NOT NULL"),
            2 => format!("{column} BETWEEN {} AND {}", self.value(at), self.value(at)),
            3 | 4 => format!(
                "{column} IN ({}, {}, {})",
                self.value(at),
                self.value(at),
                self.value(at)
            ),
            5 => format!("{} {operator} {column}", self.value(at)),
            6 => {
                let array = format!("ARRAY[{}, {}]", self.value(at), self.value(at));
                format!("{column} = ANY ({array})")
            }
            _ => format!("{column} {operator} {}", self.value(at)),
        }
    }

    fn conditions(&mut self, aliases: &[&str]) -> String {
        let count = 1 + self.chance.below(3);
        let all: Vec<String> = (0..count)
            .map(|_| {
                let alias = *self.chance.of(aliases);
                let other = *self.chance.of(aliases);
                match self.chance.below(8) {
                    1 if !alias.is_empty() && !other.is_empty() && alias != other => {
                        let column = self.chance.of(COLUMNS).0;
                        format!("{alias}.{column} = {other}.{column}")
                    }
                    0 => format!(
                        "(NOT {} OR {})",
                        self.condition(alias),
                        self.condition(alias)
                    ),
                    _ => self.condition(alias),
                }
            })
            .collect();
        all.join(" AND ")
    }

    fn text(&mut self) -> String {
        let join = *self
            .chance
            .of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN"]);
        let other = *self.chance.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN"]);
        let (from, aliases): (String, &[&str]) = match self.chance.below(10) {
            0 => ("accounts a".into(), &["a"]),
            1 => ("accounts a, accounts b".into(), &["a", "b"]),
            2 => {
                let on = self.conditions(&["a"]);
                (
                    format!("orders o {other} accounts a ON o.id = a.id AND {on}"),
                    &["a"],
                )
            }
            3 => (
                format!("accounts a {join} accounts b ON a.id = b.id"),
                &["a", "b"],
            ),
            4 => {
                let on = self.conditions(&["a", "b"]);
                (
                    format!("accounts a {join} accounts b ON a.id = b.id AND {on}"),
                    &["a", "b"],
                )
            }
            5 => {
                let (on, outer) = (self.conditions(&["a", "b"]), self.conditions(&["a", "b"]));
                (
                    format!(
                        "orders o {join} (accounts a {other} accounts b ON a.id = b.id + 1 AND {on}) ON o.id = a.id AND {outer}"
                    ),
                    &["a", "b"],
                )
            }
            6 => (
                format!(
                    "accounts a {join} accounts b USING (id) {other} accounts c USING (id, code)"
                ),
                &["a", "b", "c"],
            ),
            7 | 8 => (
                format!("accounts a {join} accounts b USING (id, code)"),
                &["a", "b", ""],
            ),
            _ => {
                let inner = self.conditions(&["b"]);
                let join = *self.chance.of(&["JOIN", "LEFT JOIN"]);
                (
                    format!(
                        "accounts a {join} LATERAL (SELECT b.id AS x FROM accounts b WHERE {inner} AND b.id < a.id) l ON true"
                    ),
                    &["a"],
                )
            }
        };
        let where_ = match self.chance.below(4) {
            0 => String::new(),
            _ => format!(" WHERE {}", self.conditions(aliases)),
        };
        format!(
            "SELECT {}.id, count(*) FROM {from}{where_} GROUP BY 1",
            aliases
                .join(".id, ")
                .split(',')
                .next()
                .unwrap_or_default()
                .trim_end_matches(".id")
        )
    }
}

/// Statements by chance, on what a caller sees of the tables and on views of the
/// same: the same rows and types of parameters. `PGVEIL_FENCE_COUNT` says how many.
#[tokio::test]
async fn the_same_rows_come_out() {
    let postgres = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    let (postgres, planner) = tokio::task::spawn_blocking(|| {
        let planner = Planner::new(&postgres);
        postgres.psql(FEW);
        (postgres, planner)
    })
    .await
    .unwrap();
    let ours = session(&postgres).await;
    let direct = session(&postgres).await;
    direct
        .batch_execute("SET search_path TO eu, public")
        .await
        .unwrap();

    let mut chance = Chance(0x5eed);
    let (mut rows, mut failed, mut copied) = (0, 0, 0);
    let count = std::env::var("PGVEIL_FENCE_COUNT")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(1500);
    for _ in 0..count {
        let mut statement = Statement {
            chance: &mut chance,
            types: Vec::new(),
            values: Vec::new(),
        };
        let query = statement.text();
        let types = match statement.types.is_empty() {
            true => String::new(),
            false => format!("({})", statement.types.join(", ")),
        };
        let values = match statement.values.is_empty() {
            true => String::new(),
            false => format!("({})", statement.values.join(", ")),
        };
        let text = format!("PREPARE p{types} AS {query}");
        let sent = planner.text("trainer", &text, &[]);
        let (one, other) = (
            run(&direct, &text, &values).await,
            run(&ours, &sent, &values).await,
        );
        // Whether what raises meets a row that does is a matter of order.
        if one.is_ok() {
            assert_eq!(one, other, "{text}; {values}\n{sent}");
        }
        copied += usize::from(
            sent.matches("OPERATOR(pg_catalog.").count() > sent.matches("region OPERATOR").count(),
        );
        match one {
            Ok(found) => rows += usize::from(found.len() > 1),
            Err(_) => failed += 1,
        }
    }
    assert!(
        3 * rows > count && 5 * failed < count && 3 * copied > count,
        "of {count}: {rows} with rows, {failed} failed, {copied} copied"
    );
}

async fn session(postgres: &Postgres) -> Client {
    let config = format!(
        "host={} port={} user=postgres dbname=postgres",
        postgres.directory.display(),
        postgres.port
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// The rows of a prepared statement, in an order, after the types of its
/// parameters.
async fn run(client: &Client, prepare: &str, values: &str) -> Result<Vec<String>, SqlState> {
    const TYPES: &str =
        "SELECT parameter_types::text FROM pg_catalog.pg_prepared_statements WHERE name = 'p'";
    let text = |messages: Vec<SimpleQueryMessage>| {
        let mut rows: Vec<String> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => {
                    let cells: Vec<_> = (0..row.len())
                        .map(|at| row.get(at).unwrap_or("NULL"))
                        .collect();
                    Some(cells.join(" "))
                }
                _ => None,
            })
            .collect();
        rows.sort_unstable();
        rows
    };
    let work = async {
        client.batch_execute(prepare).await?;
        let mut all = text(client.simple_query(TYPES).await?);
        all.extend(text(
            client.simple_query(&format!("EXECUTE p{values}")).await?,
        ));
        Ok::<_, tokio_postgres::Error>(all)
    };
    let all = work.await;
    client.batch_execute("DEALLOCATE ALL").await.unwrap();
    all.map_err(|error| error.code().cloned().unwrap_or_else(|| panic!("{error}")))
}
