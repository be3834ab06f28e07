//! Every mask over every type it serves, on a real Postgres, with the values
//! that break things: nothing raises, the type stays, NULL stays NULL, the
//! answer does not depend on the session's settings.

// A test's helpers are not within a test function, which is all clippy looks at.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing)]

mod support;

use std::collections::BTreeMap;
use std::sync::Arc;

use pgveil::catalog::{Column, TypeClass};
use pgveil::policy::expression::Expression;
use pgveil::policy::mask::{DatePart, Mask, key_settings};
use serde_json::{Value, json};
use support::planner::Planner;
use support::postgres::Postgres;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

async fn connect(server: &Postgres, database: &str, settings: &[(String, String)]) -> Client {
    let options: String = settings
        .iter()
        .map(|(name, value)| format!("-c {name}={} ", value.replace(' ', "\\ ")))
        .collect();
    let (client, connection) = tokio_postgres::Config::new()
        .host_path(&server.directory)
        .port(server.port)
        .user("postgres")
        .dbname(database)
        .options(&options)
        .connect(NoTls)
        .await
        .unwrap();
    tokio::spawn(connection);
    client
}

const KEY: &[u8] = b"a masking key of the test, longer than nothing";

fn settings(others: &[(&str, &str)]) -> Vec<(String, String)> {
    let own = key_settings(KEY).map(|(name, value)| (name.to_owned(), value));
    let others = others
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_string()));
    own.into_iter().chain(others).collect()
}

/// A column type and raw values, as SQL.
struct Case {
    type_sql: &'static str,
    class: TypeClass,
    collation: Option<&'static str>,
    values: Vec<String>,
}

fn case(type_sql: &'static str, class: TypeClass, values: &[&str]) -> Case {
    Case {
        type_sql,
        class,
        collation: None,
        values: values.iter().map(|value| value.to_string()).collect(),
    }
}

const TEXTS: &[&str] = &[
    "''",
    "' '",
    "'a'",
    "'ab'",
    "'abc'",
    "'@'",
    "'a@b'",
    "'@b'",
    "'a@'",
    "'a@@b'",
    "'bob@example.com'",
    "'x@example.com'",
    "E'\\\\'",
    "E'\\n\\t\\r'",
    "E'\\x01'",
    "'ü@ex.de'",
    "'日本語テキスト'",
    "'👩‍👩‍👧 bob@x.io 12-34-5678'",
    "'call +49 (0)30 1234567 or 123-45-6789, bob.o''brien@mail.example.com!'",
    "'4111 1111 1111 1111'",
    "repeat('a', 300)",
    "repeat('é', 100)",
    "'1.2.3.4'",
    "'255.255.255.255'",
    "'256.1.1.1'",
    "'01.2.3.4'",
    "'::1'",
    "'%_\\'",
    "'null'",
    "'NaN'",
    "'''; drop table x; --'",
    "'{column}'",
];

fn cases() -> Vec<Case> {
    use TypeClass as C;
    let ints = |min: &'static str, max: &'static str| {
        [
            "0", "1", "-1", "7", "999", "-999", "1000", "-1000", min, max,
        ]
    };
    let floats = [
        "'NaN'",
        "'Infinity'",
        "'-Infinity'",
        "0",
        "'-0'",
        "1.5",
        "-1.5",
        "999.99",
        "1e-30",
        "-1e-37",
        "1e30",
        "3e38",
    ];
    let mut all = vec![
        case("text", C::Text, TEXTS),
        case(
            "text",
            C::Text,
            &[
                "repeat('x', 3000000)",
                "repeat('bob@x.io 1234567 ', 20000)",
                "repeat('1', 1000000)",
                "repeat('a@', 200000)",
            ],
        ),
        case(
            "character varying(3)",
            C::Text,
            &["''", "'a'", "'abc'", "'é日本'", "'1@b'"],
        ),
        case(
            "character varying(20)",
            C::Text,
            &[
                "''",
                "'+49 30 1234567'",
                "'555-0100'",
                "repeat('日', 20)",
                "'a@bcdefgh.example.co'",
            ],
        ),
        case(
            "character(5)",
            C::Char,
            &["''", "'a'", "'abcde'", "'é'", "'a@b.c'"],
        ),
        case("character(1)", C::Char, &["''", "'a'", "'日'"]),
        case(
            "name",
            C::Text,
            &["''", "'abc'", "repeat('é', 31)::name", "'bob@example.com'"],
        ),
        case("smallint", C::Int2, &ints("-32768", "32767")),
        case("integer", C::Int4, &ints("-2147483648", "2147483647")),
        case(
            "bigint",
            C::Int8,
            &ints("-9223372036854775808", "9223372036854775807"),
        ),
        case(
            "numeric",
            C::Numeric,
            &[
                "'NaN'",
                "'Infinity'",
                "'-Infinity'",
                "0",
                "1.0",
                "1.00",
                "-1.5",
                "0.000000000000000001",
                "1e1000",
                "-1e131000",
                "1e-16000",
                "99999999999999999999.5",
            ],
        ),
        case(
            "numeric(5,2)",
            C::Numeric,
            &["'NaN'", "0", "999.99", "-999.99", "0.01", "1.5"],
        ),
        case(
            "numeric(10,2)",
            C::Numeric,
            &["'NaN'", "99999999.99", "-99999999.99", "52000"],
        ),
        case("numeric(2,2)", C::Numeric, &["0.99", "-0.99", "0"]),
        case("numeric(2,4)", C::Numeric, &["0.0099", "-0.0099", "0"]),
        case(
            "numeric(3,-2)",
            C::Numeric,
            &["99900", "-99900", "100", "0"],
        ),
        case("numeric(1,0)", C::Numeric, &["9", "-9", "0"]),
        case("numeric(1000,500)", C::Numeric, &["1", "1e499", "-1e-500"]),
        case("real", C::Float4, &floats),
        case(
            "real",
            C::Float4,
            &["3.4028235e38", "-3.4028235e38", "1.17549435e-38", "1.4e-45"],
        ),
        case("double precision", C::Float8, &floats),
        case(
            "double precision",
            C::Float8,
            &[
                "1.7976931348623157e308",
                "-1.7976931348623157e308",
                "2.2250738585072014e-308",
                "4.9e-324",
                "1e15",
                "1e18",
            ],
        ),
        case("boolean", C::Bool, &["true", "false"]),
        case(
            "date",
            C::Date,
            &[
                "'infinity'",
                "'-infinity'",
                "'4714-11-24 BC'",
                "'5874897-12-31'",
                "'0001-01-01'",
                "'0001-12-31 BC'",
                "'9999-12-31'",
                "'10000-01-01'",
                "'2024-02-29'",
                "'1970-01-01'",
            ],
        ),
        case(
            "uuid",
            C::Uuid,
            &[
                "'00000000-0000-0000-0000-000000000000'",
                "'ffffffff-ffff-ffff-ffff-ffffffffffff'",
            ],
        ),
        case(
            "bytea",
            C::Bytea,
            &[
                "''",
                "'\\x00'",
                "'\\xff5c27'",
                "decode(repeat('00', 100000), 'hex')",
            ],
        ),
        case(
            "inet",
            C::Inet,
            &[
                "'0.0.0.0'",
                "'255.255.255.255'",
                "'10.1.2.3/8'",
                "'1.2.3.4/0'",
                "'::'",
                "'ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff'",
                "'fe80::1/64'",
                "'::ffff:1.2.3.4'",
            ],
        ),
        case(
            "cidr",
            C::Cidr,
            &[
                "'0.0.0.0/0'",
                "'10.0.0.0/8'",
                "'255.255.255.255/32'",
                "'::/0'",
                "'ffff::/16'",
                "'::1/128'",
            ],
        ),
        case(
            "json",
            C::Json,
            &[
                "'null'",
                "' { \"a\" : 1234567e+1234567, \"a\" : \"bob@x.io\\n\" } '",
                "'\"\\u0062ob@x.io\"'",
                "'\"caf\\u00e9 1234567\"'",
                "'\"\\u0000\"'",
                "'[1.5E+1234567, -12345678, 1E-12345678,12e1234567890]'",
                "'\"\\/12345678\\\\\"'",
                "'{}'",
                "'\"\\uD83D\\uDE00 b@c\"'",
            ],
        ),
        case(
            "jsonb",
            C::Jsonb,
            &[
                "'null'",
                "'{}'",
                "'[]'",
                "'1e400'",
                "'-12345678.90'",
                "'{\"a\\n1234567\": \"\\\\\\\\bob@x.io\\\\\\\\\"}'",
                "'\"\\nbob@x.com\"'",
                "'\"\\u0001bob@x.com 123-45-6789\"'",
                "'{\"bob@x.io\": 1, \"tom@x.io\": 2}'",
                "'\"\\\"bob@x.io\\\"\"'",
                "'[5551234567, -0.00000001, 1.2345678e-3]'",
                "'\"\\u007f1234567\"'",
                "'\"((1234567\"'",
            ],
        ),
        case("public.nonempty", C::Domain, &["'a'", "'b'"]),
        case("public.mood", C::Other, &["'sad'", "'ok'"]),
        case("integer[]", C::Other, &["'{1,2}'", "'{}'"]),
        case("int4range", C::Other, &["'[1,5)'", "'empty'"]),
        case("interval", C::Other, &["'1 day'"]),
        case("public.pair", C::Other, &["'(1,x)'", "'(,)'"]),
    ];
    let times = [
        "'infinity'",
        "'-infinity'",
        "'4714-11-24 00:00:00 BC'",
        "'294276-12-31 23:59:59.999999'",
        "'0001-01-01'",
        "'9999-12-31 23:59:59.999999'",
        "'2024-02-29 12:34:56.789'",
        "'1999-12-31 23:59:59.999999'",
    ];
    let zoned = [
        "'infinity'",
        "'-infinity'",
        "'4714-11-24 00:00:00+00 BC'",
        "'294276-12-31 23:59:59.999999+00'",
        "'0001-01-01 00:00:00+00'",
        "'9999-12-31 23:59:59.999999+00'",
        "'2024-02-29 12:34:56.789+00'",
        "'1999-12-31 23:59:59.999999+00'",
    ];
    all.push(case("timestamp without time zone", C::Timestamp, &times));
    all.push(case(
        "timestamp(0) without time zone",
        C::Timestamp,
        &times[4..5],
    ));
    all.push(case("timestamp with time zone", C::Timestamptz, &zoned));
    all.push(case(
        "timestamp(3) with time zone",
        C::Timestamptz,
        &zoned[4..],
    ));
    for collation in [
        "\"public\".\"loose\"",
        "\"pg_catalog\".\"C\"",
        "\"pg_catalog\".\"und-x-icu\"",
    ] {
        for (type_sql, class) in [
            ("text", C::Text),
            ("character varying(12)", C::Text),
            ("character(12)", C::Char),
        ] {
            all.push(Case {
                collation: Some(collation),
                ..case(
                    type_sql,
                    class,
                    &["''", "'Bob'", "'a@bc.de'", "'+49 1234567'"],
                )
            });
        }
    }
    all
}

/// Masks of the policy's own.
const CUSTOM: &[(&str, &str)] = &[
    ("sql left", "left({column}, 2) || '…'"),
    (
        "sql case",
        "CASE WHEN {column} > 100 THEN 100 WHEN {column} < 0 THEN NULL ELSE {column} END",
    ),
    (
        "sql regexp",
        r"regexp_replace({column}, '([a-z])+', 'x\1', 'g') || upper(reverse({column}))",
    ),
    (
        "sql text",
        "CASE WHEN {column} LIKE '%@%' AND {column} ~* '^[a-z]+' THEN 'address' WHEN {column} IS DISTINCT FROM 'a' THEN lower({column}) ELSE coalesce(nullif(substr({column}, 2, 3), ''), '-') END",
    ),
    (
        "sql pieces",
        "split_part(translate(replace(lpad({column}, 20, 'é'), 'ab', 'c'), 'xyz', 'é'), '@', 2) || md5({column}) || initcap(btrim({column}, ' .'))",
    ),
    (
        "sql in",
        "CASE WHEN {column} IN ('a', 'b') OR {column} BETWEEN 'c' AND 'd' OR strpos({column}, '@') > 0 THEN 'x' END",
    ),
    ("sql constant", "'x'"),
    ("sql null", "NULL"),
];

fn masks() -> Vec<(&'static str, Mask)> {
    let constant = |value: &str| Mask::Constant {
        value: value.into(),
    };
    let partial = |first, last, with: &str| Mask::Partial {
        keep_first: first,
        keep_last: last,
        with: with.into(),
    };
    let step = |text: &str| Mask::Number {
        step: text.parse().unwrap(),
        nearest: false,
    };
    let nearest = |text: &str| Mask::Number {
        step: text.parse().unwrap(),
        nearest: true,
    };
    let ip = |prefix, prefix6| Mask::Ip { prefix, prefix6 };
    let mut all = vec![
        ("null", Mask::Null),
        ("constant empty", constant("")),
        ("constant 0", constant("0")),
        ("constant 12.5", constant("12.5")),
        ("constant text", constant("it's \\ hidden")),
        ("constant true", constant("true")),
        ("constant date", constant("1970-01-01")),
        ("constant time", constant("1970-01-01T00:00:00Z")),
        (
            "constant uuid",
            constant("00000000-0000-0000-0000-000000000000"),
        ),
        ("constant inet", constant("10.0.0.0/8")),
        ("constant bytea", constant("\\x00ff")),
        ("constant json", constant(r#"{"a": "x"}"#)),
        ("partial", partial(0, 4, "***")),
        ("partial both", partial(2, 2, "")),
        ("partial huge", partial(1000, 1000, "\\'…")),
        ("email", Mask::Email),
        ("hash", Mask::Hash),
        ("year", Mask::Date { to: DatePart::Year }),
        (
            "month",
            Mask::Date {
                to: DatePart::Month,
            },
        ),
        ("day", Mask::Date { to: DatePart::Day }),
        ("step 1000", step("1000")),
        ("step 1", step("1")),
        ("step 100000", step("100000")),
        ("step 0.3", step("0.3")),
        ("step tiny", step("0.000000001")),
        ("step huge", step("999999999999999")),
        ("nearest 1000", nearest("1000")),
        ("nearest 1", nearest("1")),
        ("nearest 7", nearest("7")),
        ("nearest 0.3", nearest("0.3")),
        ("nearest tiny", nearest("0.000000001")),
        ("nearest huge", nearest("999999999999999")),
        ("ip", ip(24, 48)),
        ("ip none", ip(0, 0)),
        ("ip all", ip(32, 128)),
        ("redact", Mask::Redact),
    ];
    all.extend(CUSTOM.iter().map(|(label, text)| {
        let expression = Arc::new(Expression::mask(text).unwrap());
        (*label, Mask::Sql { expression })
    }));
    all
}

/// A mask as policy writes it.
fn rule(label: &str, mask: &Mask) -> Value {
    let name = mask.name();
    match mask {
        Mask::Null | Mask::Email | Mask::Hash | Mask::Redact => json!({ "mask": name }),
        Mask::Constant { value } => json!({ "mask": name, "value": value }),
        Mask::Partial {
            keep_first,
            keep_last,
            with,
        } => {
            json!({ "mask": name, "keep_first": keep_first, "keep_last": keep_last, "with": with })
        }
        Mask::Date { to } => json!({ "mask": name, "to": format!("{to:?}").to_lowercase() }),
        Mask::Number { step, nearest } => {
            json!({ "mask": name, "step": step.to_string(), "nearest": nearest })
        }
        Mask::Ip { prefix, prefix6 } => {
            json!({ "mask": name, "prefix": prefix, "prefix6": prefix6 })
        }
        Mask::Sql { .. } => {
            let text = CUSTOM.iter().find(|(custom, _)| *custom == label);
            json!({ "mask": name, "expression": text.unwrap().1 })
        }
    }
}

/// A policy by which caller `m3` sees the third mask's image of every column `v`.
fn policy(tables: usize) -> Value {
    let tables = (0..tables).map(|number| (format!("public.t{number}"), json!({ "v": "raw" })));
    let tables: BTreeMap<String, Value> = tables.collect();
    let mut roles = BTreeMap::new();
    let mut identities = BTreeMap::new();
    for (number, (label, mask)) in masks().iter().enumerate() {
        let name = format!("m{number}");
        let grant = json!({ "dataset": "shop", "tables": ["public.*"], "tags": { "raw": rule(label, mask) } });
        roles.insert(name.clone(), json!({ "grants": [grant] }));
        identities.insert(
            name.clone(),
            json!({ "kind": "service", "roles": [name.clone()] }),
        );
    }
    json!({
        "datasets": { "shop": { "unclassified": "clear", "tables": tables } },
        "roles": roles,
        "identities": identities,
    })
}

fn column(case: &Case, typmod: i32) -> Column {
    Column {
        name: "v".into(),
        attnum: 2,
        type_oid: 0,
        typmod,
        type_sql: case.type_sql.into(),
        class: case.class,
        base: case.class,
        collation: case.collation.map(Into::into),
        generated: false,
        made_of: Vec::new(),
        computed: false,
    }
}

/// What the scan writes around a mask's expression.
fn scanned(expression: &str, column: &Column) -> String {
    let cast = format!("CAST({expression} AS {})", column.type_sql);
    match &column.collation {
        Some(collation) => format!("({cast} COLLATE {collation})"),
        None => cast,
    }
}

async fn rows(client: &Client, sql: &str) -> Vec<Vec<Option<String>>> {
    let messages = client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{error:?}\n{sql:.3000}"));
    messages
        .iter()
        .filter_map(|message| match message {
            SimpleQueryMessage::Row(row) => Some(
                (0..row.len())
                    .map(|at| row.get(at).map(str::to_owned))
                    .collect(),
            ),
            _ => None,
        })
        .collect()
}

async fn value(client: &Client, sql: &str) -> String {
    rows(client, sql).await[0][0]
        .clone()
        .unwrap_or_else(|| "NULL".into())
}

const SETUP: &str = "
    CREATE DOMAIN public.nonempty AS text NOT NULL CHECK (VALUE IN ('a', 'b'));
    CREATE TYPE public.mood AS ENUM ('sad', 'ok');
    CREATE TYPE public.pair AS (a int, b text);
    CREATE COLLATION public.loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false);";

/// A table of a case's values, each of them twice: equal raw values must give equal
/// masks.
async fn fill(client: &Client, table: &str, case: &Case) {
    let type_sql = case.type_sql;
    let collate = case.collation.map(|name| format!("COLLATE {name}"));
    let collate = collate.unwrap_or_default();
    let created = format!("CREATE TABLE {table} (id serial, v {type_sql} {collate})");
    client.batch_execute(&created).await.unwrap();
    for value in case.values.iter().chain(&case.values) {
        let insert = format!("INSERT INTO {table} (v) SELECT ({value})::{type_sql}");
        let inserted = client.batch_execute(&insert).await;
        inserted.unwrap_or_else(|error| panic!("{error:?}: {type_sql} {value}"));
    }
    if case.class != TypeClass::Domain {
        let insert = format!("INSERT INTO {table} (v) VALUES (NULL)");
        client.batch_execute(&insert).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_mask_over_every_type() {
    let server = Postgres::start();
    let client = connect(&server, "postgres", &settings(&[])).await;
    // As different as settings can be that a caller may change.
    let strange = settings(&[
        ("datestyle", "SQL, DMY"),
        ("timezone", "Pacific/Kiritimati"),
        ("extra_float_digits", "-15"),
        ("bytea_output", "escape"),
        ("intervalstyle", "sql_standard"),
        ("standard_conforming_strings", "off"),
        ("escape_string_warning", "off"),
        ("xmloption", "document"),
    ]);
    client.batch_execute(SETUP).await.unwrap();
    let strange = connect(&server, "postgres", &strange).await;
    for (number, case) in cases().iter().enumerate() {
        fill(&client, &format!("public.t{number}"), case).await;
    }
    let directory = tempfile::tempdir().unwrap();
    let written = policy(cases().len()).to_string();
    std::fs::write(directory.path().join("policy.yaml"), written).unwrap();
    client
        .batch_execute("CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy")
        .await
        .unwrap();
    let planner = Planner::over(&server, "proxy", directory.path()).await;

    let mut served = BTreeMap::<&str, usize>::new();
    for (number, case) in cases().iter().enumerate() {
        let table = format!("public.t{number}");
        let collate = case.collation.unwrap_or_default();
        let shape = |relation: &str| {
            format!(
                "SELECT format_type(atttypid, atttypmod) || ' ' || attcollation FROM pg_attribute \
                 WHERE attrelid = '{relation}'::regclass AND attname = 'v'"
            )
        };
        let typmod = value(&client, &format!("SELECT atttypmod FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = 'v'")).await;
        let column = column(case, typmod.parse().unwrap());
        for (at, (label, mask)) in masks().into_iter().enumerate() {
            let what = format!("{label} over {} {collate}", case.type_sql);
            // What is sent to Postgres for that caller, to the byte.
            let statement = format!("SELECT id, v FROM {table}");
            let scan = match planner.plan(&format!("m{at}"), &statement, &[]) {
                Ok(plans) => plans[0].text().to_owned(),
                Err(denial) => {
                    assert_eq!(mask.expression("v", &column), None, "{what}: {denial:?}");
                    assert!(denial.message.contains("is blocked"), "{what}: {denial:?}");
                    continue;
                }
            };
            assert!(mask.expression("v", &column).is_some(), "{what}: {scan}");
            *served.entry(label).or_default() += 1;
            client
                .batch_execute(&format!("CREATE TABLE public.a AS {scan}"))
                .await
                .unwrap_or_else(|error| panic!("{what}: {error:?}\n{scan}"));
            strange
                .batch_execute(&format!("CREATE TABLE public.b AS {scan}"))
                .await
                .unwrap_or_else(|error| panic!("{what}, other settings: {error:?}\n{scan}"));
            assert_eq!(
                value(&client, &shape("public.a")).await,
                value(&client, &shape(&table)).await,
                "{what}: type, typmod and collation"
            );
            let steady = value(
                &client,
                "SELECT count(*) FROM public.a JOIN public.b USING (id) \
                 WHERE a.v::text COLLATE \"C\" IS DISTINCT FROM b.v::text COLLATE \"C\"",
            )
            .await;
            assert_eq!(steady, "0", "{what}: depends on settings");
            let equal = value(&client, &format!(
                "SELECT count(*) FROM {table} x JOIN {table} y ON x.v::text COLLATE \"C\" = y.v::text COLLATE \"C\" \
                 JOIN public.a ax ON ax.id = x.id JOIN public.a ay ON ay.id = y.id \
                 WHERE ax.v::text COLLATE \"C\" IS DISTINCT FROM ay.v::text COLLATE \"C\"")).await;
            assert_eq!(equal, "0", "{what}: equal raw values, different masks");
            let nulls = match &mask {
                Mask::Null => value(&client, "SELECT count(*) FROM public.a WHERE num_nonnulls(v) > 0").await,
                Mask::Sql { .. } => value(&client, &format!("SELECT count(*) FROM public.a JOIN {table} t USING (id) WHERE num_nulls(t.v) = 1 AND num_nonnulls(a.v) = 1")).await,
                _ => value(&client, &format!("SELECT count(*) FROM public.a JOIN {table} t USING (id) WHERE num_nulls(t.v) <> num_nulls(a.v)")).await,
            };
            assert_eq!(
                nulls, "0",
                "{what}: NULL stays NULL, and nothing else becomes it"
            );
            client
                .batch_execute("DROP TABLE public.a, public.b")
                .await
                .unwrap();
        }
    }
    for (label, _) in masks() {
        assert!(served.contains_key(label), "{label} served no type at all");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_masks_show() {
    let server = Postgres::start();
    let client = connect(&server, "postgres", &settings(&[])).await;
    client.batch_execute(SETUP).await.unwrap();
    let ring_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, KEY);
    let hmac = |text: &str| -> String {
        let tag = ring::hmac::sign(&ring_key, text.as_bytes());
        tag.as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    };
    let text = case("text", TypeClass::Text, &[]);
    let show = async |case: &Case, mask: &Mask, raw: &str| {
        let column = column(case, -1);
        let scan = scanned(&mask.expression("v", &column).unwrap(), &column);
        value(
            &client,
            &format!(
                "SELECT {scan} FROM (SELECT ({raw})::{} AS v) AS t",
                case.type_sql
            ),
        )
        .await
    };
    // RFC 2104 by Postgres is RFC 2104 by ring.
    for raw in ["", "bob@example.com", "日本"] {
        assert_eq!(
            show(&text, &Mask::Hash, &format!("'{raw}'")).await,
            hmac(raw)
        );
    }
    // Values that are equal to Postgres.
    let pairs = [
        (case("numeric", TypeClass::Numeric, &[]), "1.0", "1.000"),
        (
            case("double precision", TypeClass::Float8, &[]),
            "'-0'",
            "0",
        ),
        (
            case("double precision", TypeClass::Float8, &[]),
            "'NaN'",
            "('Infinity'::float8 - 'Infinity'::float8)",
        ),
        (case("real", TypeClass::Float4, &[]), "'-0'", "0"),
        (case("character(5)", TypeClass::Char, &[]), "'a'", "'a    '"),
    ];
    for (case, one, two) in &pairs {
        assert_eq!(
            show(case, &Mask::Hash, one).await,
            show(case, &Mask::Hash, two).await
        );
    }
    let partial = Mask::Partial {
        keep_first: 0,
        keep_last: 4,
        with: "***".into(),
    };
    let jsonb = case("jsonb", TypeClass::Jsonb, &[]);
    let json = case("json", TypeClass::Json, &[]);
    let table: &[(&Case, &Mask, &str, &str)] = &[
        (
            &text,
            &Mask::Email,
            "'john.doe@example.com'",
            "j***@example.com",
        ),
        (&text, &Mask::Email, "'jo@example.com'", "***@example.com"),
        (&text, &Mask::Email, "'jo@example.com, ssn 1'", "***"),
        (&text, &partial, "'+49 30 1234567'", "***4567"),
        (&text, &partial, "'4567'", "***"),
        (
            &text,
            &Mask::Redact,
            "'Bob <bob@x.io> called +1 (555) 010-9999; ssn 123-45-6789, card 4111 1111 1111 1111, order 123456'",
            "Bob <[email]> called [number]; ssn [number], card [number], order 123456",
        ),
        (
            &text,
            &Mask::Redact,
            "E'QQ123456C, RSSMRA85T10A562S, QQ 12 34 56 C, 4111\\t1111\\n1111 1111, \u{0661}\u{0662}\u{0663}\u{0664}\u{0665}\u{0666}\u{0667}, version2 of abc12345'",
            "[number], [number], [number], [number], [number], version2 of [number]",
        ),
        (
            &jsonb,
            &Mask::Redact,
            r#"'{"id": "QQ123456C", "card": "4111 1111\n1111\t1111 x", "not": "a\n1234"}'"#,
            r#"{"id": "0", "not": "a\n1234", "card": "0 x"}"#,
        ),
        (
            &jsonb,
            &Mask::Redact,
            r#"'{"n": "\nbob@x.com", "t": -5551234567, "w": [1.5, 12345678], "s": "\u0001345-67-8901\\", "k": "a\\bob@x.io"}'"#,
            r#"{"k": "a\\[email]", "n": "\n[email]", "s": "\u00010\\", "t": 0, "w": [1.5, 0]}"#,
        ),
        (
            &json,
            &Mask::Redact,
            r#"'{"a": "\u0062ob@x.com"}'"#,
            "\"[redacted]\"",
        ),
        (
            &json,
            &Mask::Redact,
            r#"'{ "a" : "x\tbob@x.com", "b":1234567E+7 }'"#,
            r#"{ "a" : "x\t[email]", "b":0E+7 }"#,
        ),
    ];
    for (case, mask, raw, shown) in table {
        let got = show(case, mask, raw).await;
        // Postgres's -0 is 0.
        assert_eq!(got, *shown, "{raw}");
    }
    let inet = case("inet", TypeClass::Inet, &[]);
    let ip = Mask::Ip {
        prefix: 24,
        prefix6: 48,
    };
    assert_eq!(show(&inet, &ip, "'10.1.2.3'").await, "10.1.2.0/24");
    assert_eq!(show(&text, &ip, "'10.1.2.3'").await, "10.1.2.0/24");
    let date = case("date", TypeClass::Date, &[]);
    assert_eq!(
        show(&date, &Mask::Date { to: DatePart::Year }, "'1984-05-06'").await,
        "1984-01-01"
    );
    let money = case("numeric(10,2)", TypeClass::Numeric, &[]);
    assert_eq!(
        show(
            &money,
            &Mask::Number {
                step: "10000".parse().unwrap(),
                nearest: false,
            },
            "57345.67"
        )
        .await,
        "50000.00"
    );
    let nearest = |step: &str| Mask::Number {
        step: step.parse().unwrap(),
        nearest: true,
    };
    let plain = case("numeric", TypeClass::Numeric, &[]);
    for (raw, shown) in [
        ("10000", "10000"),
        ("10000.12345", "10000"),
        ("-12345.600", "-10000"),
        ("0.00", "0"),
        ("'NaN'", "NaN"),
    ] {
        let step = Mask::Number {
            step: "10000".parse().unwrap(),
            nearest: false,
        };
        assert_eq!(show(&plain, &step, raw).await, shown, "{raw}");
    }
    let small = case("int2", TypeClass::Int2, &[]);
    let real = case("float8", TypeClass::Float8, &[]);
    let single = case("float4", TypeClass::Float4, &[]);
    let rounded: &[(&Case, &str, &str, &str)] = &[
        (&money, "10000", "57345.67", "60000.00"),
        (&money, "10000", "-54999.99", "-50000.00"),
        (&money, "10000", "-55000", "-60000.00"),
        (&small, "1000", "1499", "1000"),
        (&small, "1000", "-1500", "-2000"),
        (&small, "1000", "32767", "32000"),
        (&small, "1000", "(-32768)", "-32000"),
        (&small, "7", "4", "7"),
        (&real, "0.5", "0.3", "0.5"),
        (&real, "1000", "-1501", "-2000"),
        (&real, "1000", "499", "0"),
        (&real, "1000", "(-499)", "0"),
        (&real, "1000", "(-3)", "0"),
        (&single, "0.5", "(-0.2)", "0"),
        (&plain, "10000", "10000.00000", "10000"),
        (&plain, "10000", "5000.5", "10000"),
        (&plain, "0.5", "0.300", "0.5"),
    ];
    for (case, step, raw, shown) in rounded {
        assert_eq!(
            show(case, &nearest(step), raw).await,
            *shown,
            "{raw} by {step}"
        );
    }

    // Without the key there is no pseudonym.
    let bare = connect(&server, "postgres", &[]).await;
    let column = column(&text, -1);
    let hash = Mask::Hash.expression("v", &column).unwrap();
    let sql = format!("SELECT {hash} FROM (SELECT 'a'::text AS v) AS t");
    assert!(bare.simple_query(&sql).await.is_err());
    bare.batch_execute("SET pgveil.key_inner = ''; SET pgveil.key_outer = ''")
        .await
        .unwrap();
    assert_eq!(value(&bare, &sql).await, "NULL");
}

/// Bytes that are no text in any encoding, in a database that takes them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_of_a_database_without_encoding() {
    let server = Postgres::start();
    let client = connect(&server, "postgres", &settings(&[])).await;
    for (name, encoding) in [("ascii", "SQL_ASCII"), ("latin", "LATIN1")] {
        client
            .batch_execute(&format!(
                "CREATE DATABASE {name} ENCODING {encoding} LOCALE 'C' TEMPLATE template0"
            ))
            .await
            .unwrap();
        let client = connect(&server, name, &settings(&[])).await;
        client
            .batch_execute(
                "CREATE TABLE public.t (v text);
                 INSERT INTO public.t SELECT convert_from(decode(x, 'hex'), current_setting('server_encoding')) \
                 FROM unnest(array['ff', 'e9', 'c3', '40ff40', '31ff32', 'e962406578']) AS x",
            )
            .await
            .unwrap();
        let case = case("text", TypeClass::Text, &[]);
        for (label, mask) in masks() {
            let column = column(&case, -1);
            let Some(expression) = mask.expression("v", &column) else {
                continue;
            };
            if label.contains("constant text") || label.contains("huge") || label.starts_with("sql")
            {
                // They hold characters that the database's encoding does not.
                continue;
            }
            let scan = scanned(&expression, &column);
            value(
                &client,
                &format!("SELECT count(convert_to({scan}, 'SQL_ASCII')) FROM public.t"),
            )
            .await;
        }
    }
}

/// Random JSON out of what could go wrong.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redacted_json_is_json() {
    const PIECES: &[&str] = &[
        "\\\\",
        "\\\"",
        "\\n",
        "\\t",
        "\\b",
        "\\/",
        "\\u0001",
        "\\u001f",
        "\\u0041",
        "\\u00e9",
        "\\u2028",
        "\\ud83d\\ude00",
        "bob@x.com",
        "@",
        "a",
        "n",
        "u",
        "u0012",
        "0",
        "1",
        "12",
        "1234567",
        "123-45-6789",
        "+",
        "-",
        "(",
        ")",
        ".",
        "/",
        " ",
        ",",
        ":",
        "[",
        "]",
        "{",
        "}",
        "é",
        "\u{7f}",
        "\u{a0}",
        "'",
        "e5",
        "AB123456C",
        "\\n12",
        "\\\\u0040",
    ];
    const NUMBERS: &[&str] = &[
        "0",
        "-0",
        "1",
        "1234567",
        "-1234567",
        "1234567.1234567",
        "-0.00000001",
        "1e5",
        "1E+1234567",
        "1234567e-12345678",
        "12.5e10",
        "5551234567",
        "0.1234567E7",
        "-1.5e+12",
    ];
    let server = Postgres::start();
    let client = connect(&server, "postgres", &settings(&[])).await;
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut documents = Vec::new();
    for _ in 0..20_000 {
        let string = |random: &mut dyn FnMut(usize) -> usize| {
            let inside: String = (0..random(8))
                .map(|_| PIECES[random(PIECES.len())])
                .collect();
            format!("\"{inside}\"")
        };
        let members: Vec<String> = (0..1 + random(4))
            .map(|_| {
                let value = match random(3) {
                    0 => NUMBERS[random(NUMBERS.len())].to_owned(),
                    1 => format!(
                        "[{}, {}]",
                        NUMBERS[random(NUMBERS.len())],
                        string(&mut random)
                    ),
                    _ => string(&mut random),
                };
                let gap = ["", " ", "\n", "  "][random(4)];
                format!("{}{gap}:{gap}{value}", string(&mut random))
            })
            .collect();
        documents.push(format!(
            "{{{}}}",
            members.join([",", ", ", " ,"][random(3)])
        ));
    }
    client
        .batch_execute("CREATE TABLE public.d (id serial, j json)")
        .await
        .unwrap();
    for chunk in documents.chunks(500) {
        let values: Vec<String> = chunk
            .iter()
            .map(|text| format!("('{}')", text.replace('\'', "''")))
            .collect();
        client
            .batch_execute(&format!(
                "INSERT INTO public.d (j) VALUES {}",
                values.join(",")
            ))
            .await
            .unwrap();
    }
    let column = |type_sql, class| column(&case(type_sql, class, &[]), -1);
    let json = Mask::Redact
        .expression("j", &column("json", TypeClass::Json))
        .unwrap();
    let jsonb = Mask::Redact
        .expression("j", &column("jsonb", TypeClass::Jsonb))
        .unwrap();
    // Numbers beyond Postgres's own are json, but no jsonb.
    let as_jsonb =
        "(SELECT id, j::jsonb AS j FROM public.d WHERE j::text !~* 'e[+-]?[0-9]{5}') AS d";
    for (scan, from) in [(&json, "public.d"), (&jsonb, as_jsonb)] {
        let sql = format!("SELECT id, ({scan})::text FROM {from}");
        for row in rows(&client, &sql).await {
            let (id, masked) = (row[0].as_deref().unwrap(), row[1].as_deref().unwrap());
            let raw = &documents[id.parse::<usize>().unwrap() - 1];
            assert!(!masked.contains("bob@x.com"), "{raw}\n{masked}");
            assert!(!masked.contains("1234567"), "{raw}\n{masked}");
            assert!(!masked.contains("6789"), "{raw}\n{masked}");
        }
    }
}

/// Row filters on the rows that could make one fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn row_filters_do_not_fail() {
    const CONDITIONS: &[&str] = &[
        "region = 'EU'",
        "lower(region) LIKE 'e%' OR region ILIKE '%U'",
        "region || 'x' <> 'EUx'",
        "n::text ~ '^[0-9]+$' AND amount::text !~* '[a-z]{1,3}'",
        "region IS DISTINCT FROM 'EU'",
        "region IS NOT DISTINCT FROM NULL",
        "NULLIF(region, '') = 'EU'",
        "CASE region WHEN 'EU' THEN active ELSE n > 1 END",
        "substring(region FROM 1 FOR 2) = trim(both from region)",
        "position('E' IN region) > 0 AND length(region) < 5 AND octet_length(region) > n",
        "region::varchar(2) = 'EU' AND coalesce(region, 'EU') = 'EU'",
        "n IN (1, 2) OR amount NOT IN (1.5, 99999999999999999999) OR ratio > 0.5 OR n = ratio",
        "born BETWEEN '2024-01-01' AND 'infinity' OR born < DATE '2024-01-31'",
        "at >= '2024-01-31T00:00:00Z' OR seen < '2024-01-31 00:00:00'",
        "ip = '10.0.0.1' OR ip > CIDR '10.0.0.0/8' OR ip::text LIKE '10.%'",
        "id = '00000000-0000-0000-0000-000000000000' OR id::text LIKE '0%'",
        "mood = 'ok' OR mood IS NULL OR code = 'c'",
        "split_part(replace(region, 'E', ''), 'U', 1) = rpad(lpad(region, 3), 5, '-')",
        "regexp_replace(region, '(.)', '\\1\\1', 'g') = upper(md5(region))",
        "left(region, -1) = right(region, 2) AND reverse(initcap(region)) = translate(region, 'ab', 'c')",
        "active IS NOT UNKNOWN AND NOT active",
    ];
    let server = Postgres::start();
    let client = connect(&server, "postgres", &[]).await;
    client.batch_execute(SETUP).await.unwrap();
    client
        .batch_execute(
            "CREATE DOMAIN public.code AS text CHECK (length(VALUE) < 3);
             CREATE TABLE public.t (region text COLLATE public.loose, n int, amount numeric, ratio float8, active bool,
                 born date, at timestamptz, seen timestamp, ip inet, id uuid, mood public.mood, code public.code);
             INSERT INTO public.t VALUES
                 ('EU', 1, 'NaN', 'NaN', true, 'infinity', '-infinity', 'infinity', '::1', '00000000-0000-0000-0000-000000000000', 'ok', 'c'),
                 (E'\\\\', -2147483648, '-Infinity', '-Infinity', false, '4714-11-24 BC', '4714-11-24 00:00:00+00 BC', '294276-12-31', '0.0.0.0/0', NULL, 'sad', ''),
                 (repeat('é', 2000000), 2147483647, 1e1000, 1e308, NULL, '5874897-12-31', now(), now(), '10.1.1.1', NULL, NULL, NULL),
                 ('', 0, 0, 0, true, NULL, NULL, NULL, NULL, NULL, NULL, NULL),
                 (NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)",
        )
        .await
        .unwrap();
    for condition in CONDITIONS {
        let sql = Expression::condition(condition)
            .unwrap_or_else(|error| panic!("{condition}: {error}"))
            .canonical();
        let sql = format!("SELECT count(*) FROM public.t WHERE {sql}");
        value(&client, &sql).await;
    }
}

/// Texts at which Postgres's own functions fail.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes some gigabytes of memory"]
async fn huge_texts() {
    let server = Postgres::start();
    let client = connect(&server, "postgres", &settings(&[])).await;
    client
        .batch_execute("CREATE TABLE public.t AS SELECT repeat('a@b 1234567 ', 44000000) AS v")
        .await
        .unwrap();
    let case = case("text", TypeClass::Text, &[]);
    let column = column(&case, -1);
    for (label, mask) in masks() {
        let Some(expression) = mask.expression("v", &column) else {
            continue;
        };
        let scan = scanned(&expression, &column);
        let sql = format!("SELECT octet_length({scan}) FROM public.t");
        eprintln!("{label}: {}", value(&client, &sql).await);
    }
}
