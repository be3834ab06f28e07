//! A limit on rows: what passes, and that what is told is true of what upstream did.

use super::support::*;
use crate::policy::Limits;

fn limited(proxy: &Proxy, rows: u64) {
    proxy.trial.change(|rules| {
        rules.limits = Limits {
            rows_per_query: Some(rows),
            statement_timeout_ms: None,
        };
    });
}

fn select(rows: u32) -> String {
    format!("SELECT generate_series(1, {rows})")
}

#[tokio::test]
async fn a_limit_on_rows_ends_the_query_but_not_the_session() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    let mut raw = proxy.raw().await;
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
    assert_eq!(
        raw.ask(&[q("FETCH 2 FROM cur")]).await,
        "T D:3 ERROR:54000 Z:E"
    );
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

#[tokio::test]
async fn a_heading_and_the_end_of_a_binary_copy_are_no_rows() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    let mut raw = proxy.raw().await;
    for (form, within, beyond) in [
        ("", "H d d d c C:COPY_3 Z:I", "H d d d ERROR:54000 Z:I"),
        (
            " WITH (FORMAT csv, HEADER)",
            "H d d d d c C:COPY_3 Z:I",
            "H d d d d ERROR:54000 Z:I",
        ),
        (
            " WITH (FORMAT binary)",
            "H d d d d c C:COPY_3 Z:I",
            "H d d d ERROR:54000 Z:I",
        ),
    ] {
        let copy = |rows: u32| format!("COPY ({}) TO STDOUT{form}", select(rows));
        assert_eq!(raw.ask(&[q(&copy(3))]).await, within, "{form}");
        assert_eq!(raw.ask(&[q(&copy(4))]).await, beyond, "{form}");
        let within = format!("1 2 {within}");
        assert_eq!(raw.ask(&[pbe(&copy(3)), s()]).await, within, "{form}");
        assert_eq!(raw.ask(&[q(&copy(200_000))]).await, beyond, "{form}");
    }
}

#[tokio::test]
async fn a_transaction_that_is_told_of_an_error_has_failed() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    let mut raw = proxy.raw().await;
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("INSERT INTO sink VALUES (1001)")]).await;
    // The fourth row is the last one: too late to cancel anything.
    let told = "T D:1 D:2 D:3 ERROR:54000 Z:E";
    assert_eq!(raw.ask(&[q(&select(4))]).await, told);
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "ERROR:25P02 Z:E");
    assert_eq!(raw.ask(&[q("COMMIT")]).await, "C:ROLLBACK Z:I");
    let found = "SELECT count(*) FROM sink WHERE id = 1001";
    assert_eq!(truly(found).await, "0");
    // By the extended protocol, with and without Sync behind it.
    raw.ask(&[q("BEGIN")]).await;
    let told = "1 2 D:1 D:2 D:3 ERROR:54000 Z:E";
    assert_eq!(raw.ask(&[pbe(&select(4)), s()]).await, told);
    raw.ask(&[q("ROLLBACK"), q("BEGIN")]).await;
    raw.answer().await;
    raw.send(&[pbe(&select(4)), h()]).await;
    assert_eq!(raw.until(b'E').await, told.trim_end_matches(" Z:E"));
    assert_eq!(raw.ask(&[pbe("SELECT 1"), s()]).await, "Z:E");
    assert_eq!(raw.ask(&[q("ROLLBACK")]).await, "C:ROLLBACK Z:I");
    // What was sent behind it has run in a transaction that is told to have
    // failed: only the end of the session makes that true.
    raw.ask(&[q("BEGIN")]).await;
    raw.send(&[
        q(&select(4)),
        q("INSERT INTO sink VALUES (1002)"),
        q("COMMIT"),
    ])
    .await;
    let answer = raw.until(b'\0').await;
    assert!(answer.ends_with("FATAL:54000 end"), "{answer}");
    assert!(!answer.contains("C:"), "{answer}");
}

#[tokio::test]
async fn no_error_is_told_of_a_write_that_took_hold() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    let mut raw = proxy.raw().await;
    raw.ask(&[q(
        "INSERT INTO sink SELECT n FROM generate_series(1011, 1015) n",
    )])
    .await;
    for (ask, check) in [
        (
            q("UPDATE sink SET note = 'a' WHERE id BETWEEN 1011 AND 1015 RETURNING id"),
            "SELECT count(*) FROM sink WHERE note = 'a' AND id BETWEEN 1011 AND 1015",
        ),
        (
            [
                pbe("UPDATE sink SET note = 'b' WHERE id BETWEEN 1011 AND 1015 RETURNING id"),
                s(),
            ]
            .concat(),
            "SELECT count(*) FROM sink WHERE note = 'b' AND id BETWEEN 1011 AND 1015",
        ),
        (
            q("SELECT generate_series(1, 4); INSERT INTO sink VALUES (1021)"),
            "SELECT count(*) FROM sink WHERE id = 1021",
        ),
        (
            q("INSERT INTO sink VALUES (1022); SELECT generate_series(1, 4)"),
            "SELECT count(*) FROM sink WHERE id = 1022",
        ),
        (
            [
                pbe("INSERT INTO sink VALUES (1023)"),
                pbe("SELECT generate_series(1, 4)"),
                s(),
            ]
            .concat(),
            "SELECT count(*) FROM sink WHERE id = 1023",
        ),
    ] {
        let mut raw = proxy.raw().await;
        let answer = raw.ask(&[ask]).await;
        // If upstream could be stopped in time, it is an error and nothing else.
        match answer.contains("ERROR:54000") {
            true => assert_eq!(truly(check).await, "0", "{answer}"),
            false => assert!(answer.ends_with("FATAL:54000 end"), "{answer}"),
        }
    }
}

#[tokio::test]
async fn what_is_sent_behind_is_not_cancelled() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    let mut raw = proxy.raw().await;
    let slow = "SELECT 7 FROM pg_sleep(0.3)";
    raw.ask(&[p("n", "SELECT 1"), s()]).await;
    for _ in 0..5 {
        raw.send(&[q(&select(2000)), q(slow)]).await;
        assert_eq!(raw.answer().await, "T D:1 D:2 D:3 ERROR:54000 Z:I");
        assert_eq!(raw.answer().await, "T D:7 C:SELECT_1 Z:I");
        raw.send(&[pbe(&select(2000)), s(), pbe(slow), s()]).await;
        assert_eq!(raw.answer().await, "1 2 D:1 D:2 D:3 ERROR:54000 Z:I");
        assert_eq!(raw.answer().await, "1 2 D:7 C:SELECT_1 Z:I");
        // What is sent once it is told.
        assert_eq!(
            raw.ask(&[q(&select(2000))]).await,
            "T D:1 D:2 D:3 ERROR:54000 Z:I"
        );
        assert_eq!(raw.ask(&[d('S', "n"), s()]).await, "t T Z:I");
    }
}

#[tokio::test]
async fn an_error_is_told_once() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    proxy.trial.change(|rules| rules.denied = vec!["ssn"]);
    let mut raw = proxy.raw().await;
    raw.send(&[pbe(&select(4)), pbe("SELECT ssn"), s()]).await;
    assert_eq!(raw.answer().await, "1 2 D:1 D:2 D:3 ERROR:54000 Z:I");
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
}

#[tokio::test]
async fn a_bind_that_waited_for_the_error_is_skipped() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    let mut raw = proxy.raw().await;
    // From here on, every message waits for the answer to the one before.
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("SET LOCAL search_path TO other")]).await;
    raw.send(&[pbe(&select(4)), b("", ""), e("", 0), s()]).await;
    assert_eq!(raw.answer().await, "1 2 D:1 D:2 D:3 ERROR:54000 Z:E");
    assert_eq!(raw.ask(&[q("ROLLBACK")]).await, "C:ROLLBACK Z:I");
}

#[tokio::test]
async fn notifications_pass_whatever_else_is_withheld() {
    let proxy = Proxy::start().await;
    limited(&proxy, 3);
    let mut raw = proxy.raw().await;
    raw.ask(&[q("LISTEN news")]).await;
    // While idle.
    truly("NOTIFY news, 'idle'").await;
    assert_eq!(raw.until(b'A').await, "A");
    // Of one's own: with the end of the statement, withheld or not.
    assert_eq!(
        raw.ask(&[q("SELECT pg_notify('news', 'own')")]).await,
        "T D: C:SELECT_1 A Z:I"
    );
    let many = "SELECT generate_series(1, 4), pg_notify('news', 'many')";
    assert_eq!(raw.ask(&[q(many)]).await.matches(" A").count(), 1);
}
