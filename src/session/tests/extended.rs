//! The extended protocol.

use super::support::*;

/// Fails when it runs: what is constant would fail at Bind already.
const FAILS: &str = "SELECT 1 / (n - n) FROM generate_series(1, 1) n";

#[tokio::test]
async fn tokio_postgres_runs() {
    let proxy = Proxy::start().await;
    let client = proxy.client().await;
    let statement = client
        .prepare("SELECT id, email FROM customers WHERE id = $1")
        .await
        .unwrap();
    for id in 1..20i32 {
        let row = client.query_one(&statement, &[&id]).await.unwrap();
        assert_eq!(row.get::<_, String>(1), format!("c{id}@example.com"));
    }
    let error = client.query("SELECT nonsense", &[]).await.unwrap_err();
    assert_eq!(error.code().unwrap().code(), "42703");
    let records = proxy.records("statement");
    assert_eq!(records.len(), 20);
    assert_eq!(records[19]["sqlstate"], "42703");
}

#[tokio::test]
async fn an_error_skips_to_sync() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.send(&[
        pbe("SELECT 1"),
        pbe(FAILS),
        pbe("SELECT 2"),
        q("SELECT 3"),
        s(),
        pbe("SELECT 4"),
        s(),
    ])
    .await;
    assert_eq!(raw.answer().await, "1 2 D:1 C:SELECT_1 1 2 ERROR:22012 Z:I");
    assert_eq!(raw.answer().await, "1 2 D:4 C:SELECT_1 Z:I");
    // The same, each after the answer to the one before.
    raw.send(&[pbe(FAILS), h()]).await;
    assert_eq!(raw.until(b'E').await, "1 2 ERROR:22012");
    raw.send(&[pbe("SELECT 2"), q("SELECT 3"), h()]).await;
    assert_eq!(raw.ask(&[s()]).await, "Z:I");
}

#[tokio::test]
async fn a_denial_fails_in_its_place() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| rules.denied = vec!["ssn"]);
    let mut raw = proxy.raw().await;
    let insert = "INSERT INTO sink VALUES (-2)";
    raw.send(&[pbe(insert), pbe("SELECT ssn"), pbe("SELECT 2"), s()])
        .await;
    assert_eq!(raw.answer().await, "1 2 C:INSERT_0_1 ERROR:42501 Z:I");
    let count = "SELECT count(*) FROM sink WHERE id = -2";
    assert_eq!(
        raw.ask(&[q(count)]).await,
        "T D:0 C:SELECT_1 Z:I",
        "rolled back"
    );

    raw.send(&[
        pbe("SELECT ssn"),
        pbe("SELECT 2"),
        s(),
        pbe("SELECT 3"),
        s(),
    ])
    .await;
    assert_eq!(raw.answer().await, "ERROR:42501 Z:I");
    assert_eq!(raw.answer().await, "1 2 D:3 C:SELECT_1 Z:I");

    raw.ask(&[pbe("BEGIN"), s()]).await;
    assert_eq!(raw.ask(&[pbe("SELECT ssn"), s()]).await, "ERROR:42501 Z:E");
    assert_eq!(raw.ask(&[pbe("ROLLBACK"), s()]).await, "1 2 C:ROLLBACK Z:I");

    // A Query behind messages without Sync.
    raw.send(&[pbe("SELECT 1"), q("SELECT ssn"), q("SELECT 2")])
        .await;
    assert_eq!(raw.answer().await, "1 2 D:1 C:SELECT_1 ERROR:42501 Z:I");
    assert_eq!(raw.answer().await, "T D:2 C:SELECT_1 Z:I");
    raw.send(&[pbe(FAILS), q("SELECT ssn"), s()]).await;
    assert_eq!(raw.answer().await, "1 2 ERROR:22012 Z:I");
    assert_eq!(proxy.records("denial").len(), 5);
}

#[tokio::test]
async fn portals_have_row_limits_and_flush_needs_no_sync() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let text = "SELECT id FROM customers WHERE id < 6 ORDER BY 1";
    raw.send(&[
        p("s", text),
        d('S', "s"),
        b("p", "s"),
        d('P', "p"),
        e("p", 2),
        h(),
    ])
    .await;
    assert_eq!(raw.until(b's').await, "1 t T 2 T D:1 D:2 s");
    raw.send(&[e("p", 2), h()]).await;
    assert_eq!(raw.until(b's').await, "D:3 D:4 s");
    assert_eq!(
        raw.ask(&[e("p", 2), c('P', "p"), s()]).await,
        "D:5 C:SELECT_1 3 Z:I"
    );
    assert_eq!(raw.ask(&[e("p", 0), s()]).await, "ERROR:34000 Z:I");
    assert_eq!(
        raw.ask(&[c('S', "s"), b("", "s"), s()]).await,
        "3 ERROR:26000 Z:I"
    );
    let rows: Vec<_> = proxy
        .records("statement")
        .iter()
        .map(|it| it["rows"].clone())
        .collect();
    assert_eq!(rows, [2, 2, 1]);
    assert_eq!(raw.ask(&[c('S', "never was"), s()]).await, "3 Z:I");
}

#[tokio::test]
async fn a_policy_swap_has_statements_decided_anew() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let text = "SELECT email FROM customers WHERE id = 1";
    let clear = "2 D:c1@example.com C:SELECT_1 Z:I";
    assert_eq!(raw.ask(&[p("s", text), s()]).await, "1 Z:I");
    assert_eq!(raw.ask(&[b("", "s"), e("", 0), s()]).await, clear);
    // Nothing that matters has changed.
    proxy.trial.change(|rules| rules.rights = 1);
    assert_eq!(raw.ask(&[b("", "s"), e("", 0), s()]).await, clear);
    // A bound portal, then a mask.
    raw.send(&[q("BEGIN"), b("held", "s"), h()]).await;
    assert_eq!(raw.until(b'2').await, "C:BEGIN Z:T 2");
    proxy.trial.change(|rules| {
        rules.rights = 2;
        rules.replaced = vec![("email", "'***' AS email")];
    });
    assert_eq!(raw.ask(&[e("held", 0), s()]).await, "ERROR:42501 Z:E");
    assert_eq!(raw.ask(&[q("ROLLBACK")]).await, "C:ROLLBACK Z:I");
    assert_eq!(
        raw.ask(&[b("", "s"), e("", 0), s()]).await,
        "2 D:*** C:SELECT_1 Z:I"
    );
    assert_eq!(
        raw.ask(&[d('S', "s"), b("", "s"), e("", 0), s()]).await,
        "t T 2 D:*** C:SELECT_1 Z:I"
    );
    // In the middle of a pipeline, several times.
    proxy.trial.change(|rules| {
        rules.rights = 3;
        rules.replaced = vec![("email", "'+++' AS email")];
    });
    let twice = [
        pbe("SELECT 1"),
        b("", "s"),
        e("", 0),
        b("", "s"),
        e("", 0),
        s(),
    ];
    assert_eq!(
        raw.ask(&twice).await,
        "1 2 D:1 C:SELECT_1 2 D:+++ C:SELECT_1 2 D:+++ C:SELECT_1 Z:I"
    );
    proxy.trial.change(|rules| {
        rules.rights = 4;
        rules.denied = vec!["email"];
        rules.replaced = vec![];
    });
    assert_eq!(
        raw.ask(&[b("", "s"), e("", 0), s()]).await,
        "ERROR:42501 Z:I"
    );
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
    proxy.trial.change(|rules| rules.gone = true);
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "FATAL:28000 end");
}

#[tokio::test]
async fn a_failed_redefinition_does_not_hide_what_is_there() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.ask(&[p("s", "SELECT email FROM customers WHERE id = 1"), s()])
        .await;
    // Postgres refuses the second: the name still means the first.
    assert_eq!(
        raw.ask(&[p("s", "SELECT 'harmless'"), s()]).await,
        "ERROR:42P05 Z:I"
    );
    proxy.trial.change(|rules| {
        rules.rights = 2;
        rules.denied = vec!["email"];
    });
    assert_eq!(
        raw.ask(&[b("", "s"), e("", 0), s()]).await,
        "ERROR:42501 Z:I"
    );
    // The same in one go, where the failure is not yet known.
    let again = [p("s", "SELECT 'harmless'"), s(), b("", "s"), e("", 0), s()];
    raw.send(&again).await;
    assert_eq!(raw.answer().await, "ERROR:42P05 Z:I");
    assert_eq!(raw.answer().await, "ERROR:42501 Z:I");
    proxy.trial.change(|rules| {
        rules.rights = 3;
        rules.denied = vec![];
    });
    raw.send(&again).await;
    assert_eq!(raw.answer().await, "ERROR:42P05 Z:I");
    assert_eq!(raw.answer().await, "2 D:c1@example.com C:SELECT_1 Z:I");
    // By other messages, and by SQL.
    for (first, second, answer) in [
        (p("s", "SELECT 'x'"), d('S', "s"), "t T Z:I"),
        (
            p("s", "SELECT 'x'"),
            q("EXECUTE s"),
            "T D:c1@example.com C:SELECT_1 Z:I",
        ),
        (pbe("PREPARE s AS SELECT 'x'"), b("", "s"), "2 Z:I"),
    ] {
        let sync = if second[0] == b'Q' { vec![] } else { s() };
        raw.send(&[first, s(), second, sync]).await;
        let failed = raw.answer().await;
        assert!(failed.ends_with("ERROR:42P05 Z:I"), "{failed}");
        assert_eq!(raw.answer().await, answer);
    }
    // Given up and made anew, where that is skipped with what failed before it.
    raw.send(&[
        pbe(FAILS),
        c('S', "s"),
        s(),
        p("s", "SELECT 'harmless'"),
        s(),
        b("", "s"),
        e("", 0),
        s(),
    ])
    .await;
    assert_eq!(raw.answer().await, "1 2 ERROR:22012 Z:I");
    assert_eq!(raw.answer().await, "ERROR:42P05 Z:I");
    assert_eq!(raw.answer().await, "2 D:c1@example.com C:SELECT_1 Z:I");
    // A cursor.
    let cursor = |n: u32| format!("DECLARE cur CURSOR WITH HOLD FOR SELECT {n}");
    raw.ask(&[q(&cursor(1))]).await;
    raw.send(&[q(&cursor(2)), q("FETCH 1 FROM cur")]).await;
    assert_eq!(raw.answer().await, "ERROR:42P03 Z:I");
    assert_eq!(raw.answer().await, "T D:1 C:FETCH_1 Z:I");
}

#[tokio::test]
async fn a_refused_unnamed_statement_is_not_the_one_before() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| rules.denied = vec!["ssn"]);
    let mut raw = proxy.raw().await;
    let before = [p("", "SELECT 1"), s()];
    let then = [p("", "SELECT ssn"), s(), b("", ""), e("", 0), s()];
    assert_eq!(raw.ask(&before).await, "1 Z:I");
    raw.send(&then).await;
    assert_eq!(raw.answer().await, "ERROR:42501 Z:I");
    assert_eq!(raw.answer().await, "ERROR:26000 Z:I");
    // With something before it in flight.
    assert_eq!(raw.ask(&before).await, "1 Z:I");
    raw.send(&[q("SELECT 2 FROM pg_sleep(0.1)")]).await;
    raw.send(&then).await;
    assert_eq!(raw.answer().await, "T D:2 C:SELECT_1 Z:I");
    assert_eq!(raw.answer().await, "ERROR:42501 Z:I");
    assert_eq!(raw.answer().await, "ERROR:26000 Z:I");
}

#[tokio::test]
async fn prepared_statements_are_bounded_in_bytes() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let long = format!("SELECT 1 /* {} */", "x".repeat(1000 << 10));
    let mut made = 0;
    let answer = loop {
        let answer = raw.ask(&[p(&format!("s{made}"), &long), s()]).await;
        if answer != "1 Z:I" {
            break answer;
        }
        made += 1;
        assert!(made < 100, "not bounded");
    };
    assert_eq!(answer, "ERROR:54000 Z:I");
    assert!(made > 0);
    let prepare = format!("PREPARE x AS {long}");
    assert_eq!(raw.ask(&[q(&prepare)]).await, "ERROR:54000 Z:I");
    // What is given up is free again.
    assert_eq!(raw.ask(&[c('S', "s0"), s()]).await, "3 Z:I");
    assert_eq!(raw.ask(&[p("y", &long), s()]).await, "1 Z:I");
    // The unnamed one gives up the one before.
    for _ in 0..3 {
        raw.ask(&[c('S', "y"), p("", "SELECT 1"), s()]).await;
        assert_eq!(raw.ask(&[p("", &long), s()]).await, "1 Z:I");
    }
}

#[tokio::test]
async fn what_is_executed_without_a_description_trips_the_wire_as_well() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let leak = "SELECT id, email FROM customers WHERE id = 1";
    assert_eq!(raw.ask(&[p("s", leak), s()]).await, "1 Z:I");
    assert_eq!(
        raw.ask(&[b("", "s"), e("", 0), s()]).await,
        "2 D:1\0\0\0\x0ec1@example.com C:SELECT_1 Z:I"
    );
    proxy.trial.change(|rules| {
        rules.rights = 7;
        rules.unseen = vec![2];
    });
    assert_eq!(raw.ask(&[pbe(leak), s()]).await, "1 2 ERROR:42501 Z:I");
    assert_eq!(proxy.records("tripwire").len(), 1);
}

#[tokio::test]
async fn long_names_and_several_statements_are_refused() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let long = "n".repeat(64);
    assert_eq!(
        raw.ask(&[p(&long, "SELECT 1"), s()]).await,
        "ERROR:0A000 Z:I"
    );
    assert_eq!(
        raw.ask(&[b(&"n".repeat(200), ""), s()]).await,
        "ERROR:0A000 Z:I"
    );
    assert_eq!(
        raw.ask(&[p("", "SELECT 1; SELECT 2"), s()]).await,
        "ERROR:42601 Z:I"
    );
    let exact = "n".repeat(63);
    assert_eq!(
        raw.ask(&[p(&exact, "SELECT 1"), b(&exact, &exact), e(&exact, 0), s()])
            .await,
        "1 2 D:1 C:SELECT_1 Z:I"
    );
}
