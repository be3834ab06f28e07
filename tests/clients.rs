//! tokio-postgres through `pgveil demo --json`: prepared statements in binary,
//! pipelines, portals, COPY, cancelling, and one text for three callers.
//!
//! Which Postgres the demo stands on: `PGVEIL_TEST_PGBIN`, else what it finds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

use std::io::{BufRead, BufReader};
use std::pin::pin;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, future};
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

/// Ends by SIGKILL when this process does not end it: the demo cleans up after
/// itself even then.
struct Demo {
    process: Child,
    shown: serde_json::Value,
}

impl Demo {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
        command.args(["demo", "--json"]);
        if let Some(directory) = std::env::var_os("PGVEIL_TEST_PGBIN") {
            command.arg("--postgres").arg(directory);
        }
        let mut process = command.stdout(Stdio::piped()).spawn().expect("it starts");
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let shown = serde_json::from_str(&line).expect("one JSON object");
        Self { process, shown }
    }

    async fn connect(&self, persona: &str) -> Client {
        let dsn = self.shown["dsns"][persona].as_str().unwrap();
        let (client, connection) = tokio_postgres::connect(dsn, NoTls).await.unwrap();
        tokio::spawn(connection);
        client
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ended = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// Of a raw address, and no masked one: masks star the owner's name.
fn is_raw(email: &str) -> bool {
    !email.contains('*') && email.contains('.') && email.contains('@')
}

/// One test, since the demo takes seconds to start: each part has its own session.
#[tokio::test(flavor = "multi_thread")]
async fn tokio_postgres_works_unmodified() {
    let demo = Demo::start();
    three_callers(&demo).await;
    refusals(&demo).await;
    prepared(&demo).await;
    pipelined(&demo).await;
    portals(&demo).await;
    copied(&demo).await;
    cancelled(&demo).await;
    discarded(&demo).await;
}

async fn three_callers(demo: &Demo) {
    let text = "SELECT id, email FROM customers WHERE region = 'EU' ORDER BY id LIMIT 20";
    let mut heard = Vec::new();
    for persona in ["analyst", "trainer", "auditor"] {
        let rows = demo.connect(persona).await.query(text, &[]).await.unwrap();
        let rows: Vec<(i64, String)> = rows.iter().map(|row| (id(row), row.get(1))).collect();
        heard.push(rows);
    }
    let ids = |rows: &[(i64, String)]| rows.iter().map(|row| row.0).collect::<Vec<_>>();
    assert_eq!(ids(&heard[0]), ids(&heard[2]));
    assert_eq!(ids(&heard[1]), ids(&heard[2]));
    for (masked, hashed, raw) in (0..20).map(|i| (&heard[0][i].1, &heard[1][i].1, &heard[2][i].1)) {
        assert!(
            !is_raw(masked) && !is_raw(hashed) && is_raw(raw),
            "{masked} {hashed} {raw}"
        );
    }
}

/// Whichever integer the column is.
fn id(row: &tokio_postgres::Row) -> i64 {
    row.try_get::<_, i64>(0)
        .unwrap_or_else(|_| row.get::<_, i32>(0).into())
}

async fn refusals(demo: &Demo) {
    let client = demo.connect("analyst").await;
    for text in [
        "SELECT ssn FROM customers",
        "SELECT * FROM customers",
        "SELECT c FROM customers c",
        "SELECT count(*) FROM customers WHERE ssn LIKE '1%'",
        "SELECT id FROM customers ORDER BY ssn",
    ] {
        let error = client.query(text, &[]).await.unwrap_err();
        let error = error
            .as_db_error()
            .unwrap_or_else(|| panic!("{text}: {error}"));
        assert_eq!(error.code(), &SqlState::INSUFFICIENT_PRIVILEGE, "{text}");
        assert!(
            error.message().contains("ssn") && error.hint().is_some(),
            "{text}"
        );
        assert_eq!(
            client
                .query_one("SELECT 1", &[])
                .await
                .unwrap()
                .get::<_, i32>(0),
            1
        );
    }
    let error = client
        .query("SELECT 'ä', FROM customers", &[])
        .await
        .unwrap_err();
    let error = error.as_db_error().unwrap();
    assert_eq!(error.code(), &SqlState::SYNTAX_ERROR);
    assert_eq!(
        error.position(),
        Some(&tokio_postgres::error::ErrorPosition::Original(13))
    );
}

async fn prepared(demo: &Demo) {
    let client = demo.connect("analyst").await;
    let statement = client
        .prepare("SELECT email, phone, created_at FROM customers WHERE id = ANY($1)")
        .await
        .unwrap();
    let names: Vec<_> = statement
        .columns()
        .iter()
        .map(|column| column.name())
        .collect();
    assert_eq!(names, ["email", "phone", "created_at"]);
    assert_eq!(
        statement.columns()[1].type_(),
        &tokio_postgres::types::Type::VARCHAR
    );
    for _ in 0..20 {
        let rows = match statement.params()[0].name() {
            "_int8" => client.query(&statement, &[&vec![1i64, 2, 3]]).await,
            _ => client.query(&statement, &[&vec![1i32, 2, 3]]).await,
        };
        let rows = rows.unwrap();
        assert_eq!(rows.len(), 3);
        assert!(rows.iter().all(|row| !is_raw(row.get(0))));
    }
    // A domain, an enum or a composite would be looked up in the catalog.
    let row = client
        .query_one("SELECT array_agg(region) FROM customers WHERE id < 9", &[])
        .await
        .unwrap();
    assert_eq!(row.get::<_, Vec<String>>(0).len(), 8);
}

async fn pipelined(demo: &Demo) {
    let client = demo.connect("analyst").await;
    let asked = (0..200).map(|i| {
        let text = match i % 10 {
            9 => "SELECT ssn FROM customers LIMIT 1".to_owned(),
            _ => format!("SELECT {i}::int4"),
        };
        let client = &client;
        async move { (i, client.query_one(&text, &[]).await) }
    });
    for (i, answer) in future::join_all(asked).await {
        match (i % 10, answer) {
            (9, answer) => assert!(answer.is_err(), "{i}"),
            (_, answer) => assert_eq!(answer.unwrap().get::<_, i32>(0), i),
        }
    }
}

async fn portals(demo: &Demo) {
    let mut client = demo.connect("analyst").await;
    let transaction = client.transaction().await.unwrap();
    let portal = transaction
        .bind("SELECT email FROM customers ORDER BY id", &[])
        .await
        .unwrap();
    for _ in 0..5 {
        let rows = transaction.query_portal(&portal, 100).await.unwrap();
        assert_eq!(rows.len(), 100);
        assert!(rows.iter().all(|row| !is_raw(row.get(0))));
    }
    transaction.commit().await.unwrap();
}

async fn copied(demo: &Demo) {
    let client = demo.connect("analyst").await;
    let text = "COPY (SELECT email FROM customers WHERE id <= 1000) TO STDOUT";
    let stream = client.copy_out(text).await.unwrap();
    let blocks: Vec<_> = stream.try_collect().await.unwrap();
    let out = String::from_utf8(blocks.concat()).unwrap();
    assert_eq!(out.lines().count(), 1000);
    assert!(!out.lines().any(is_raw));
    assert!(
        client
            .copy_out("COPY customers (ssn) TO STDOUT")
            .await
            .is_err()
    );

    let text = "SELECT id, amount FROM orders";
    let none: [&str; 0] = [];
    let mut rows = pin!(client.query_raw(text, none).await.unwrap());
    let mut count = 0;
    while let Some(row) = rows.next().await {
        row.unwrap();
        count += 1;
    }
    assert_eq!(count, 300_000);
}

async fn cancelled(demo: &Demo) {
    let client = demo.connect("analyst").await;
    let token = client.cancel_token();
    let (asked, ()) = tokio::join!(client.query("SELECT pg_sleep(60)", &[]), async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        token.cancel_query(NoTls).await.unwrap();
    });
    assert_eq!(asked.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));
}

async fn discarded(demo: &Demo) {
    let client = demo.connect("analyst").await;
    for text in [
        "DISCARD ALL",
        "RESET ALL",
        "SET application_name = 'nobody'",
    ] {
        client.batch_execute(text).await.unwrap();
        let messages = client
            .simple_query("SELECT email FROM customers WHERE id = 1; SELECT 2")
            .await
            .unwrap();
        let firsts: Vec<_> = messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0),
                _ => None,
            })
            .collect();
        assert!(!is_raw(firsts[0]) && firsts[1] == "2", "{text}");
    }
}
