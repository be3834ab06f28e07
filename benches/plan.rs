//! What planning costs: the time from a statement's text to its plan, without the
//! plan cache, on one thread.
//!
//!     cargo bench --bench plan [-- FILTER]
//!
//! The parts that any planner of this design would pay are printed beside it:
//! Postgres's grammar (parse, deparse) and sqlparser.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a benchmark may fail by panicking"
)]

use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgveil::catalog::{
    Catalog, Column, Function, Operator, Relation, RelationKind, Type, TypeClass, Volatility,
};
use pgveil::identity::Method;
use pgveil::policy::{Policy, Rights};
use pgveil::sql::{self, Context, Scope};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;

/// Pricing summary: TPC-H's first query.
const SUMMARY: &str = "select l_returnflag, l_linestatus, sum(l_quantity) as sum_qty,
    sum(l_extendedprice) as sum_base_price,
    sum(l_extendedprice * (1 - l_discount)) as sum_disc_price,
    sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) as sum_charge,
    avg(l_quantity) as avg_qty, avg(l_extendedprice) as avg_price, avg(l_discount) as avg_disc,
    count(*) as count_order
from lineitem where l_shipdate <= date '1998-12-01' - interval '90' day
group by l_returnflag, l_linestatus order by l_returnflag, l_linestatus";

const STATEMENTS: &[(&str, &str)] = &[
    (
        "point, clear",
        "select bbalance from pgbench_branches where bid = $1",
    ),
    (
        "point, masked",
        "select abalance from pgbench_accounts where aid = $1",
    ),
    (
        "point, filtered",
        "select l_tax from filtered where l_orderkey = 7",
    ),
    ("TPC-H Q1, masked", SUMMARY),
    (
        "join of two, masked",
        "select c.abalance, l.l_comment from pgbench_accounts c join lineitem l on l.l_orderkey = c.aid where c.filler like 'x%' order by 1 limit 10",
    ),
];

const POLICY: &str = r"
datasets:
  bench:
    unclassified: clear
    tables:
      public.lineitem: { l_comment: free_text, l_shipinstruct: note }
      public.filtered: { l_comment: free_text, l_shipinstruct: note }
      public.pgbench_accounts: { filler: free_text }
roles:
  analyst:
    grants:
      - dataset: bench
        tables: [public.*]
        tags: { free_text: { mask: redact }, note: { mask: partial, keep_first: 2 } }
        rows: { public.filtered: 'l_orderkey > 3' }
identities:
  analyst: { kind: human, roles: [analyst] }
";

fn relation(oid: u32, name: &str, columns: &[(&str, &str, TypeClass)]) -> Relation {
    let column = |(at, (name, type_sql, class)): (usize, &(&str, &str, TypeClass))| Column {
        name: (*name).into(),
        attnum: i16::try_from(at + 1).unwrap(),
        type_oid: 0,
        typmod: -1,
        type_sql: (*type_sql).into(),
        class: *class,
        base: *class,
        collation: None,
        generated: false,
        made_of: Vec::new(),
        computed: false,
    };
    Relation {
        oid,
        schema: "public".into(),
        name: name.into(),
        kind: RelationKind::Table,
        columns: columns.iter().enumerate().map(column).collect(),
        parents: Vec::new(),
        has_children: false,
        definition: None,
    }
}

fn catalog() -> Catalog {
    let mut catalog = Catalog {
        version: 150_000,
        schemas: ["public".into(), "pg_catalog".into()].into(),
        session_user: "proxy".into(),
        ..Catalog::default()
    };
    for (oid, name) in ["sum", "avg", "count"].into_iter().enumerate() {
        let function = Function {
            oid: u32::try_from(oid).unwrap() + 1,
            schema: "pg_catalog".into(),
            name: name.into(),
            volatility: Volatility::Immutable,
            native: true,
            over: Vec::new(),
        };
        catalog.functions.insert(name.into(), vec![function]);
    }
    for name in ["=", "<", ">", "<=", ">=", "+", "-", "*", "~~"] {
        let operator = Operator {
            schema: "pg_catalog".into(),
            runs: Vec::new(),
            over: Vec::new(),
        };
        catalog.operators.insert(name.into(), vec![operator]);
    }
    for (oid, name) in [
        (1082, "date"),
        (23, "int4"),
        (1186, "interval"),
        (25, "text"),
    ] {
        catalog.insert_type(Type {
            oid,
            schema: "pg_catalog".into(),
            name: name.into(),
        });
    }
    let int = ("integer", TypeClass::Int4);
    let number = ("numeric(15,2)", TypeClass::Numeric);
    let text = ("text", TypeClass::Text);
    let date = ("date", TypeClass::Date);
    let lineitem: Vec<(&str, &str, TypeClass)> = [
        ("l_orderkey", int),
        ("l_partkey", int),
        ("l_suppkey", int),
        ("l_linenumber", int),
        ("l_quantity", number),
        ("l_extendedprice", number),
        ("l_discount", number),
        ("l_tax", number),
        ("l_returnflag", text),
        ("l_linestatus", text),
        ("l_shipdate", date),
        ("l_commitdate", date),
        ("l_receiptdate", date),
        ("l_shipinstruct", text),
        ("l_shipmode", text),
        ("l_comment", text),
    ]
    .into_iter()
    .map(|(name, (type_sql, class))| (name, type_sql, class))
    .collect();
    catalog.insert(relation(10, "lineitem", &lineitem));
    catalog.insert(relation(11, "filtered", &lineitem));
    let accounts = [
        ("aid", int.0, int.1),
        ("bid", int.0, int.1),
        ("abalance", int.0, int.1),
        ("filler", text.0, text.1),
    ];
    catalog.insert(relation(12, "pgbench_accounts", &accounts));
    let branches = [("bid", int.0, int.1), ("bbalance", int.0, int.1)];
    catalog.insert(relation(13, "pgbench_branches", &branches));
    catalog
}

fn rights() -> Rights {
    let files = [("policy.yaml".to_owned(), POLICY.to_owned())];
    let policy = Policy::from_files(&files, 1).unwrap();
    let principal = policy.principal("analyst", Method::Scram).unwrap();
    policy.rights(&principal, "bench", jiff::Timestamp::UNIX_EPOCH)
}

/// The median of some samples, in microseconds a call.
fn time(mut work: impl FnMut()) -> f64 {
    let begin = Instant::now();
    let mut calls = 0_u32;
    while begin.elapsed() < Duration::from_millis(50) {
        work();
        calls += 1;
    }
    let calls = calls.max(1);
    let mut samples: Vec<f64> = (0..15)
        .map(|_| {
            let begin = Instant::now();
            (0..calls).for_each(|_| work());
            begin.elapsed().as_secs_f64() * 1e6 / f64::from(calls)
        })
        .collect();
    samples.sort_by(f64::total_cmp);
    samples.get(samples.len() / 2).copied().unwrap_or_default()
}

fn main() {
    let filter = std::env::args().skip(1).find(|one| !one.starts_with('-'));
    let (catalog, rights) = (catalog(), rights());
    let scope = Scope {
        search_path: Arc::from(["public".into()]),
        temporary: Arc::default(),
    };
    let context = Context {
        bounds: pgveil::sql::Bounds::default(),
        rights: &rights,
        catalog: &catalog,
        scope: &scope,
        parameters: &[],
    };
    println!("microseconds a statement    plan    parse  deparse  sqlparser");
    for (name, text) in STATEMENTS {
        if filter.as_ref().is_some_and(|part| !name.contains(part)) {
            continue;
        }
        let plan = time(|| {
            black_box(sql::plan(black_box(text), context)).unwrap();
        });
        let tree = pg_raw_parse::parse(text).unwrap();
        let parse = time(|| {
            black_box(pg_raw_parse::parse(black_box(text))).unwrap();
        });
        let deparse = time(|| {
            let statement = tree.iter().next().unwrap();
            black_box(pg_raw_parse::deparse(statement)).unwrap();
        });
        let sqlparser = time(|| {
            black_box(Parser::parse_sql(&PostgreSqlDialect {}, black_box(text))).unwrap();
        });
        println!("{name:<22} {plan:>9.1} {parse:>8.1} {deparse:>8.1} {sqlparser:>10.1}");
    }
}
