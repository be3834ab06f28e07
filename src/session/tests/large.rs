//! Large answers, long pipelines, and bounds on both.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;
use crate::policy::Limits;

/// Resident memory of this process, in MiB, at its highest so far.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status
        .lines()
        .find(|line| line.starts_with("VmHWM"))
        .unwrap();
    line.split_whitespace()
        .nth(1)
        .unwrap()
        .parse::<u64>()
        .unwrap()
        >> 10
}

#[tokio::test]
async fn a_single_row_of_300_mb_passes_in_constant_memory() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.ask(&[q("SELECT 1")]).await;
    let before = peak();
    raw.send(&[q("SELECT repeat('x', 300000000)")]).await;
    let mut buffer = vec![0; 1 << 16];
    let mut last = Vec::new();
    while !last.ends_with(b"Z\0\0\0\x05I") {
        let read = raw.stream.read(&mut buffer).await.unwrap();
        let tail = &buffer[read.saturating_sub(6)..read];
        last.extend_from_slice(tail);
        last.drain(..last.len().saturating_sub(6));
    }
    let grown = peak() - before;
    // Other tests run beside this one.
    assert!(grown < 150, "grew by {grown} MiB");
    let records = proxy.records_soon("statement", 2).await;
    assert!(records[1]["bytes"].as_u64().unwrap() > 300_000_000);
    assert_eq!(records[1]["rows"], 1);
}

#[tokio::test]
async fn sending_much_while_much_is_answered_does_not_deadlock() {
    let proxy = Proxy::start().await;
    let raw = proxy.raw().await;
    let (mut from, mut to) = raw.stream.into_split();
    // 50 MB of requests, and more of answers.
    let pad = "x".repeat(50_000);
    let one = [pbe(&format!("SELECT repeat('y', 60000) /* {pad} */")), s()].concat();
    let writing = tokio::spawn(async move {
        for _ in 0..1000 {
            to.write_all(&one).await.unwrap();
        }
        to
    });
    let reading = async {
        let mut buffer = vec![0; 1 << 16];
        let mut total = 0;
        while total < 1000 * 60_000 {
            total += from.read(&mut buffer).await.unwrap();
        }
    };
    tokio::time::timeout(Duration::from_secs(120), reading)
        .await
        .unwrap();
    writing.await.unwrap();
}

#[tokio::test]
async fn many_queries_in_flight_are_all_answered_and_recorded() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let all: Vec<_> = (0..5000).map(|n| pbe(&format!("SELECT {n}"))).collect();
    raw.send(&all).await;
    raw.send(&[s()]).await;
    let answer = raw.answer().await;
    assert_eq!(answer.matches("C:SELECT_1").count(), 5000);
    assert_eq!(proxy.records("statement").len(), 5000);
}

#[tokio::test]
async fn a_limit_on_rows_ends_the_query_but_not_the_session() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| {
        rules.limits = Limits {
            rows_per_query: Some(3),
            statement_timeout_ms: None,
        };
    });
    let mut raw = proxy.raw().await;
    let select = |n: u32| format!("SELECT generate_series(1, {n})");
    assert_eq!(
        raw.ask(&[q(&select(3))]).await,
        "T D:1 D:2 D:3 C:SELECT_3 Z:I"
    );
    let told = "T D:1 D:2 D:3 ERROR:54000 Z:I";
    assert_eq!(raw.ask(&[q(&select(4))]).await, told);
    assert_eq!(raw.ask(&[q(&select(50_000_000))]).await, told);
    assert_eq!(
        raw.ask(&[pbe(&select(4_000_000)), s()]).await,
        told.replace("T ", "1 2 ")
    );
    // Over several fetches of one portal, and of one cursor.
    raw.send(&[
        p("", &select(9)),
        b("", ""),
        e("", 2),
        e("", 2),
        e("", 2),
        s(),
    ])
    .await;
    assert_eq!(raw.answer().await, "1 2 D:1 D:2 s D:3 ERROR:54000 Z:I");
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q(&format!("DECLARE cur CURSOR FOR {}", select(9)))])
        .await;
    assert_eq!(
        raw.ask(&[q("FETCH 2 FROM cur")]).await,
        "T D:1 D:2 C:FETCH_2 Z:T"
    );
    let answer = raw.ask(&[q("FETCH 2 FROM cur")]).await;
    assert!(answer.starts_with("T D:3 ERROR:54000 Z:"), "{answer}");
    raw.ask(&[q("ROLLBACK")]).await;
    let copy = "COPY (SELECT generate_series(1, 1000000)) TO STDOUT";
    assert_eq!(raw.ask(&[q(copy)]).await, "H d d d ERROR:54000 Z:I");
    assert_eq!(raw.ask(&[q(&select(1))]).await, "T D:1 C:SELECT_1 Z:I");
    let ended = proxy.records("statement");
    assert_eq!(
        ended.iter().filter(|it| it["sqlstate"] == "54000").count(),
        6
    );
}
