//! One side that goes while the other does something.

use std::time::Duration;

use super::support::*;

#[tokio::test]
async fn a_client_that_goes_while_its_next_statement_waits_leaves_nothing_running() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    // With a SET LOCAL open, every statement waits for the one before.
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("SET LOCAL search_path TO other")]).await;
    raw.send(&[q("SELECT pg_sleep(60) /* waited for */"), q("SELECT 1")])
        .await;
    assert!(running("/* waited for */", "1").await);
    drop(raw);
    assert!(running("/* waited for */", "0").await);
    proxy.records_soon("disconnect", 1).await;
}

#[tokio::test]
async fn a_client_that_goes_while_upstream_reads_nothing_leaves_nothing_running() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let long = format!("SELECT '{}'", "x".repeat(15 << 20));
    raw.send(&[q("SELECT pg_sleep(60) /* deaf */"), q(&long)])
        .await;
    assert!(running("/* deaf */", "1").await);
    // What was sent has been taken in, and more than upstream's buffers hold.
    drop(raw);
    assert!(running("/* deaf */", "0").await);
}

#[tokio::test]
async fn what_is_waited_for_before_terminate_is_finished() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("SET LOCAL search_path TO public")]).await;
    raw.send(&[
        q("INSERT INTO public.sink SELECT 911 FROM pg_sleep(0.5)"),
        q("COMMIT"),
        any(b'X', b""),
    ])
    .await;
    drop(raw);
    proxy.records_soon("disconnect", 1).await;
    let found = "SELECT count(*) FROM sink WHERE id = 911";
    assert_eq!(truly(found).await, "1");
}

#[tokio::test]
async fn what_comes_instead_of_data_is_not_waited_with() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("SET LOCAL search_path TO public")]).await;
    raw.send(&[q("COPY sink FROM STDIN /* no data */"), q("SELECT 1")])
        .await;
    assert_eq!(raw.until(b'\0').await, "G FATAL:08P01 end");
    assert!(running("/* no data */", "0").await);
}

#[tokio::test]
async fn upstream_lost_without_a_word_is_told() {
    let way = Way::start().await;
    let proxy = Proxy::through(&way).await;
    let mut idle = proxy.raw().await;
    let mut busy = proxy.raw().await;
    busy.send(&[q("SELECT pg_sleep(60) /* lost */")]).await;
    assert!(running("/* lost */", "1").await);
    way.cut();
    assert_eq!(busy.until(b'\0').await, "FATAL:08006 end");
    assert_eq!(idle.until(b'\0').await, "FATAL:08006 end");
    let records = proxy.records_soon("statement", 1).await;
    assert_eq!(records[0]["sqlstate"], "08006");
    proxy.records_soon("disconnect", 2).await;
    // Postgres notices the loss of a busy session's client late.
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE query LIKE '%/* lost */%' AND usename = 'proxy'";
    truly(kill).await;
}

#[tokio::test]
async fn the_last_word_is_not_lost_behind_what_was_not_read() {
    use tokio::io::AsyncReadExt;
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    // An answer that waits in buffers, then what ends the session, and more.
    raw.send(&[q("SELECT repeat('x', 1000000)")]).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    raw.send(&[any(b'?', b""), vec![b'x'; 50_000]]).await;
    proxy.records_soon("disconnect", 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut all = Vec::new();
    // A reset would be an error here.
    raw.stream.read_to_end(&mut all).await.unwrap();
    assert!(all.len() > 1_000_000, "{}", all.len());
    let last = String::from_utf8_lossy(&all[all.len() - 200..]);
    assert!(last.contains("C08P01"), "{last}");
}
