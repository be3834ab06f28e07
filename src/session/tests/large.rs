//! Large answers, long pipelines, and bounds on both.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;

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
