//! What is on record, and when.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use super::support::*;

/// `O_NONBLOCK`
const NONBLOCK: i32 = 0o4000;

fn pipe(directory: &Path) -> std::path::PathBuf {
    let path = directory.join("records");
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    path
}

#[tokio::test]
async fn nobody_hears_the_end_of_a_statement_that_is_not_on_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = pipe(directory.path());
    let mut log = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(NONBLOCK)
        .open(&path)
        .unwrap();
    let proxy = Proxy::with(path.to_str()).await;
    for ask in [
        q("SELECT 5 FROM pg_sleep(0.3)"),
        [pbe("SELECT 5 FROM pg_sleep(0.3)"), s()].concat(),
        [pbe("SELECT 5 FROM pg_sleep(0.3)"), h()].concat(),
        q("COPY (SELECT 5 FROM pg_sleep(0.3)) TO STDOUT"),
        q("SELECT 1 / (count(*) - 1) FROM pg_sleep(0.3) /* FAILS */"),
    ] {
        let mut raw = proxy.raw().await;
        raw.send(std::slice::from_ref(&ask)).await;
        let mut begun = String::new();
        while !begun.contains("\"event\":\"intent\"") {
            let mut bytes = vec![0; 1 << 16];
            match log.read(&mut bytes) {
                Ok(len) => begun.push_str(&String::from_utf8_lossy(&bytes[..len])),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        assert!(!begun.contains("\"event\":\"statement\""), "{begun}");
        // Whoever writes to it from now on waits.
        while log.write(&[b' '; 4096]).is_ok() {}
        while log.write(b" ").is_ok() {}
        let heard = tokio::time::timeout(Duration::from_millis(700), async {
            let mut heard = Vec::new();
            while let Some((tag, _)) = raw.message().await {
                heard.push(tag);
                if matches!(tag, b'C' | b'Z') {
                    return heard;
                }
            }
            heard
        });
        let heard = heard.await;
        assert!(heard.is_err(), "{ask:?}: {heard:?}");
        // Once it is written, they do.
        let mut kept = String::new();
        while !kept.contains("\"event\":\"statement\"") {
            let mut bytes = vec![0; 1 << 16];
            match log.read(&mut bytes) {
                Ok(len) => kept.push_str(&String::from_utf8_lossy(&bytes[..len])),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        let answer = raw
            .until(if ask.ends_with(&h()) { b'C' } else { b'Z' })
            .await;
        assert!(
            answer.contains("C:") || answer.contains("22012"),
            "{answer}"
        );
        drop(raw);
        // The record of its end.
        while !kept.contains("\"event\":\"disconnect\"") {
            let mut bytes = vec![0; 1 << 16];
            match log.read(&mut bytes) {
                Ok(len) => kept.push_str(&String::from_utf8_lossy(&bytes[..len])),
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
    }
}

#[tokio::test]
async fn a_commit_that_fails_is_on_record() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let insert = "INSERT INTO late VALUES (1)";
    raw.send(&[pbe(insert), pbe(insert), s()]).await;
    assert_eq!(
        raw.answer().await,
        "1 2 C:INSERT_0_1 1 2 C:INSERT_0_1 ERROR:23505 Z:I"
    );
    let records = proxy.records("statement");
    assert_eq!(records.len(), 3);
    assert_eq!(records[2]["kind"], "COMMIT");
    assert_eq!(records[2]["sqlstate"], "23505");
    assert_eq!(records[2]["principal"]["name"], "trainer");
    // One that is asked for is a statement of its own.
    for text in ["BEGIN", insert, insert] {
        raw.ask(&[pbe(text), s()]).await;
    }
    assert_eq!(raw.ask(&[pbe("COMMIT"), s()]).await, "1 2 ERROR:23505 Z:I");
    let records = proxy.records("statement");
    assert_eq!(records.len(), 7);
    assert_eq!(records[6]["sqlstate"], "23505");
}

#[tokio::test]
async fn what_a_client_calls_itself_is_cut() {
    let proxy = Proxy::start().await;
    let long = "ö".repeat(5000);
    let mut raw = proxy.raw_with(&[("application_name", &long)]).await;
    raw.ask(&[q("SELECT 1")]).await;
    raw.ask(&[q(&format!("SET application_name TO 'x{long}'"))])
        .await;
    raw.ask(&[q("SELECT 1")]).await;
    let records = proxy.records("statement");
    assert_eq!(records[0]["application"], "ö".repeat(31));
    assert_eq!(records[2]["application"], format!("x{}", "ö".repeat(31)));
}
