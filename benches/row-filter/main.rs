//! What a row filter costs an indexed lookup: the same statements through the
//! proxy, by a caller with a row filter and by one without, in turns.
//!
//!     cargo bench --bench row-filter [-- SECONDS]
//!
//! Both callers read a masked column of a table of 200,000 rows. It ends with 1
//! where the filter costs more than a fifth.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a bench may end by panicking"
)]

#[path = "../../tests/support/mod.rs"]
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use support::postgres::{Options, Postgres};
use support::proxy::{DATASET, PASSWORD, Proxy};
use tokio_postgres::{Client, NoTls, SimpleQueryMessage, Statement};

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/row-filter");
const ROWS: i32 = 200_000;
const SCHEMA: &str = "
    CREATE TABLE public.customers (id integer PRIMARY KEY, email text, region text, created_at timestamptz);
    INSERT INTO public.customers
    SELECT i, 'person' || i || '@example.com', CASE i % 2 WHEN 0 THEN 'EU' ELSE 'US' END,
           TIMESTAMPTZ '2020-01-01 00:00+00' + i * INTERVAL '1 minute'
    FROM generate_series(1, 200000) i;
    CREATE INDEX ON public.customers (created_at);
    ANALYZE;
    CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy";
/// The most that a filter may cost.
const LIMIT: f64 = 1.2;
const ROUNDS: usize = 9;

/// A lookup, as text and as a prepared statement.
struct Lookup {
    name: &'static str,
    text: fn(i32) -> String,
    prepared: &'static str,
}

const LOOKUPS: &[Lookup] = &[
    Lookup {
        name: "=",
        text: |id| format!("SELECT id, email FROM customers WHERE id = {id}"),
        prepared: "SELECT id, email FROM customers WHERE id = $1",
    },
    Lookup {
        name: "IN",
        text: |id| {
            format!(
                "SELECT id, email FROM customers WHERE id IN ({id}, {})",
                id - 2
            )
        },
        prepared: "SELECT id, email FROM customers WHERE id IN ($1, $1)",
    },
    Lookup {
        name: "= ANY",
        text: |id| {
            format!(
                "SELECT id, email FROM customers WHERE id = ANY ('{{{id},{}}}')",
                id - 2
            )
        },
        prepared: "SELECT id, email FROM customers WHERE id = ANY ($1)",
    },
    Lookup {
        name: "BETWEEN",
        text: |id| {
            format!(
                "SELECT id, email FROM customers WHERE id BETWEEN {} AND {id}",
                id - 3
            )
        },
        prepared: "SELECT id, email FROM customers WHERE id BETWEEN $1 AND $2",
    },
];

fn main() {
    let seconds = std::env::args().find_map(|argument| argument.parse().ok());
    let each =
        Duration::from_secs_f64(seconds.unwrap_or(60.0) / (ROUNDS * 2 * 2 * LOOKUPS.len()) as f64);
    let postgres = Postgres::with(Options::default());
    postgres.psql(SCHEMA);
    let proxy = Proxy::start(&postgres, "proxy", &Path::new(HERE).join("policy"));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let worst = runtime.block_on(async {
        let without = session(&proxy, "everywhere").await;
        let with = session(&proxy, "europe").await;
        println!("{ROWS} rows; medians of {ROUNDS} rounds of {each:.1?} each, in turns");
        println!("lookup           without us   with us  ratio");
        let mut worst = 0.0_f64;
        for lookup in LOOKUPS {
            for prepared in [false, true] {
                worst = worst.max(compare(lookup, prepared, &without, &with, each).await);
            }
        }
        worst
    });
    drop((proxy, postgres));
    println!("a row filter costs at most {worst:.2} times the lookup (limit {LIMIT})");
    if worst > LIMIT {
        std::process::exit(1);
    }
}

async fn session(proxy: &Proxy, caller: &str) -> Client {
    let config = format!(
        "host={} port={} user={caller} password='{}' dbname={DATASET}",
        proxy.address.ip(),
        proxy.address.port(),
        PASSWORD.replace('\'', "\\'")
    );
    let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// Both callers' latency of a lookup; gives how many times the one without a
/// filter the one with it takes.
async fn compare(
    lookup: &Lookup,
    prepared: bool,
    without: &Client,
    with: &Client,
    each: Duration,
) -> f64 {
    let mut rounds = Vec::new();
    let mut ways = Vec::new();
    for client in [without, with] {
        let statement = match prepared {
            true => Some(client.prepare(lookup.prepared).await.unwrap()),
            false => None,
        };
        ways.push((client, statement));
    }
    for _ in 0..ROUNDS {
        let mut round = Vec::new();
        for (client, statement) in &ways {
            round.push(latency(lookup, client, statement.as_ref(), each).await);
        }
        rounds.push((round[0], round[1], round[1] / round[0]));
    }
    let median = |of: fn(&(f64, f64, f64)) -> f64| {
        let mut all: Vec<f64> = rounds.iter().map(of).collect();
        all.sort_by(f64::total_cmp);
        all[all.len() / 2]
    };
    let ratio = median(|round| round.2);
    println!(
        "{:<8}{:<10}{:>9.1} {:>9.1} {ratio:>6.2}",
        lookup.name,
        if prepared { "prepared" } else { "text" },
        median(|round| round.0),
        median(|round| round.1),
    );
    ratio
}

/// Microseconds that one takes, of ids that both callers see.
async fn latency(
    lookup: &Lookup,
    client: &Client,
    statement: Option<&Statement>,
    each: Duration,
) -> f64 {
    let begun = Instant::now();
    let mut count = 0;
    while begun.elapsed() < each {
        let id = 2 + 2 * (count * 7919 % (ROWS / 2 - 2) + 1);
        let found = match statement {
            None => {
                let messages = client.simple_query(&(lookup.text)(id)).await.unwrap();
                let row =
                    |message: &&SimpleQueryMessage| matches!(message, SimpleQueryMessage::Row(_));
                messages.iter().filter(row).count()
            }
            Some(statement) if lookup.name == "= ANY" => client
                .query(statement, &[&vec![id, id - 2]])
                .await
                .unwrap()
                .len(),
            Some(statement) => {
                let all = [&id as &(dyn tokio_postgres::types::ToSql + Sync), &id];
                let needed = statement.params().len();
                client.query(statement, &all[..needed]).await.unwrap().len()
            }
        };
        assert!(found > 0, "{} finds nothing for {id}", lookup.name);
        count += 1;
    }
    begun.elapsed().as_secs_f64() * 1e6 / f64::from(count)
}
