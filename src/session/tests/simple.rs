//! The simple protocol.

use super::support::*;

#[tokio::test]
async fn a_query_passes_and_carries_the_tag() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw_with(&[("application_name", "psql")]).await;
    let answer = raw
        .ask(&[q("SELECT id FROM customers WHERE id < 3 ORDER BY 1")])
        .await;
    assert_eq!(answer, "T D:1 D:2 C:SELECT_2 Z:I");
    let own = "SELECT query || ' / ' || application_name FROM pg_stat_activity \
               WHERE pid = pg_backend_pid()";
    let answer = raw.ask(&[q(own)]).await;
    assert!(
        answer.contains("/*pgveil_principal='agent%3Atrainer',pgveil_query='"),
        "{answer}"
    );
    let client = proxy.client().await;
    let name = "SELECT current_setting('application_name')";
    assert_eq!(
        raw.ask(&[q(name)]).await,
        "T D:agent:trainer psql C:SELECT_1 Z:I"
    );
    let row = client.query_one(name, &[]).await.unwrap();
    assert_eq!(row.get::<_, String>(0), "agent:trainer");

    let records = proxy.records("statement");
    assert_eq!(records[0]["rows"], 2);
    assert_eq!(records[0]["sqlstate"], "00000");
    assert_eq!(records[0]["principal"]["name"], "trainer");
    assert_eq!(records[0]["application"], "psql");
    assert!(records[0]["bytes"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn several_statements_are_one_decision_and_one_record_each() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| rules.denied = vec!["ssn"]);
    let mut raw = proxy.raw().await;
    let answer = raw
        .ask(&[q("SELECT 1; SELECT 2; SELECT 1/0; SELECT 4")])
        .await;
    assert_eq!(answer, "T D:1 C:SELECT_1 T D:2 C:SELECT_1 ERROR:22012 Z:I");
    let records = proxy.records("statement");
    assert_eq!(records.len(), 3);
    assert_eq!(records[2]["sqlstate"], "22012");

    let answer = raw
        .ask(&[q("INSERT INTO sink VALUES (-1); SELECT ssn")])
        .await;
    assert_eq!(answer, "ERROR:42501 Z:I");
    let answer = raw
        .ask(&[q("SELECT count(*) FROM sink WHERE id = -1")])
        .await;
    assert_eq!(answer, "T D:0 C:SELECT_1 Z:I");
    let denials = proxy.records("denial");
    assert_eq!(denials.len(), 2);
    assert_eq!(denials[0]["reason"], "another statement");
    assert_eq!(denials[0]["kind"], "INSERT");
    assert_eq!(denials[0]["sqlstate"], "42501");
    assert_eq!(
        denials[0]["message"],
        "statement 2 of the same message is refused, so none of them runs"
    );
    assert_eq!(denials[1]["reason"], "policy");
    assert_eq!(denials[1]["statement"], "SELECT ssn");
}

#[tokio::test]
async fn each_statement_of_a_refused_message_is_on_record() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| rules.denied = vec!["ssn"]);
    let mut raw = proxy.raw().await;
    let mut seen = 0;
    for (message, answer, expected) in [
        (
            vec![q("SELECT 1; SELECT ssn; ; SELECT 2; SELECT ssn")],
            "ERROR:42501 Z:I",
            vec![
                ("SELECT", "another statement"),
                ("SELECT", "policy"),
                ("SELECT", "another statement"),
                ("SELECT", "policy"),
            ],
        ),
        // What a name stands for is known only when it is looked up.
        (
            vec![q("SELECT 1; EXECUTE nothing")],
            "ERROR:26000 Z:I",
            vec![("SELECT", "another statement"), ("EXECUTE", "protocol")],
        ),
        (
            vec![q("EXECUTE nothing")],
            "ERROR:26000 Z:I",
            vec![("EXECUTE", "protocol")],
        ),
        (
            vec![p("", "SELECT 1; BEGIN"), s()],
            "ERROR:42601 Z:I",
            vec![("SELECT", "protocol"), ("BEGIN", "protocol")],
        ),
    ] {
        assert_eq!(raw.ask(&message).await, answer);
        let denials = proxy.records("denial");
        let new: Vec<_> = denials[seen..]
            .iter()
            .map(|it| (it["kind"].as_str().unwrap(), it["reason"].as_str().unwrap()))
            .collect();
        assert_eq!(new, expected);
        seen = denials.len();
    }
    assert_eq!(proxy.records("statement").len(), 0);
}

#[tokio::test]
async fn nothing_at_all_is_a_query() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    assert_eq!(raw.ask(&[q("")]).await, "I Z:I");
    assert_eq!(raw.ask(&[q(" ; ")]).await, "I Z:I");
    assert_eq!(raw.ask(&[pbe(""), s()]).await, "1 2 I Z:I");
}

#[tokio::test]
async fn a_denial_in_a_transaction_fails_it() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| rules.denied = vec!["ssn"]);
    let mut raw = proxy.raw().await;
    assert_eq!(raw.ask(&[q("BEGIN")]).await, "C:BEGIN Z:T");
    assert_eq!(raw.ask(&[q("SELECT ssn")]).await, "ERROR:42501 Z:E");
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "ERROR:25P02 Z:E");
    assert_eq!(raw.ask(&[q("COMMIT")]).await, "C:ROLLBACK Z:I");
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
}

#[tokio::test]
async fn denials_keep_their_place_among_queries_in_flight() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| rules.denied = vec!["ssn"]);
    let mut raw = proxy.raw().await;
    raw.send(&[
        q("SELECT 1 FROM pg_sleep(0.1)"),
        q("SELECT ssn"),
        q("SELECT 2"),
        q("BEGIN"),
        q("SELECT ssn"),
        q("ROLLBACK"),
        q("SELECT ssn"),
    ])
    .await;
    for expected in [
        "T D:1 C:SELECT_1 Z:I",
        "ERROR:42501 Z:I",
        "T D:2 C:SELECT_1 Z:I",
        "C:BEGIN Z:T",
        "ERROR:42501 Z:E",
        "C:ROLLBACK Z:I",
        "ERROR:42501 Z:I",
    ] {
        assert_eq!(raw.answer().await, expected);
    }
}

#[tokio::test]
async fn a_search_path_holds_as_long_as_it_does_upstream() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let path = "SELECT {path} || ':' || current_setting('search_path')";
    let set = |to: &str| q(&format!("SET search_path TO {to}"));
    let both = |name: &str| format!("T D:{name}:{name} C:SELECT_1 Z:I");
    raw.ask(&[set("other")]).await;
    assert_eq!(raw.ask(&[q(path)]).await, both("other"));
    // Within one message.
    let answer = raw
        .ask(&[q(&format!("SET search_path TO public; {path}"))])
        .await;
    assert_eq!(answer, format!("C:SET {}", both("public")));
    // Pipelined, and reverted by an error in the same implicit transaction.
    raw.send(&[
        pbe("SET search_path TO a"),
        pbe("SELECT 1 / (n - n) FROM generate_series(1, 1) n"),
        s(),
        q(path),
    ])
    .await;
    assert_eq!(raw.answer().await, "1 2 C:SET 1 2 ERROR:22012 Z:I");
    assert_eq!(raw.answer().await, both("public"));
    raw.send(&[
        q("BEGIN"),
        set("b"),
        q("SAVEPOINT x"),
        set("c"),
        q("ROLLBACK TO x"),
        q(path),
    ])
    .await;
    for expected in [
        "C:BEGIN Z:T",
        "C:SET Z:T",
        "C:SAVEPOINT Z:T",
        "C:SET Z:T",
        "C:ROLLBACK Z:T",
    ] {
        assert_eq!(raw.answer().await, expected);
    }
    assert_eq!(raw.answer().await, both("b").replace("Z:I", "Z:T"));
    raw.send(&[q("SELECT nonsense"), q("COMMIT"), q(path)])
        .await;
    assert_eq!(raw.answer().await, "ERROR:42703 Z:E");
    assert_eq!(raw.answer().await, "C:ROLLBACK Z:I");
    assert_eq!(raw.answer().await, both("public"));
    let local = format!("BEGIN; SET LOCAL search_path TO other; {path}; COMMIT; {path}");
    let answer = raw.ask(&[q(&local)]).await;
    assert_eq!(
        answer,
        "C:BEGIN C:SET T D:other:other C:SELECT_1 C:COMMIT T D:public:public C:SELECT_1 Z:I"
    );
}

#[tokio::test]
async fn discard_all_keeps_identity_and_hardening() {
    let proxy = Proxy::start().await;
    let mut raw = proxy
        .raw_with(&[("application_name", "x"), ("search_path", "other")])
        .await;
    let answer = raw.ask(&[q("SET application_name TO 'evil'")]).await;
    assert_eq!(answer, "C:SET Z:I");
    let show = "SELECT current_setting('application_name'), {path}";
    assert_eq!(
        raw.ask(&[q("SELECT current_setting('application_name')")])
            .await,
        "T D:agent:trainer evil C:SELECT_1 Z:I"
    );
    raw.ask(&[p("kept", "SELECT 1"), s()]).await;
    raw.ask(&[q("SET search_path TO a")]).await;
    assert_eq!(raw.ask(&[q("DISCARD ALL")]).await, "C:DISCARD_ALL Z:I");
    let answer = raw.ask(&[q(&show.replace(", {path}", " || {path}"))]).await;
    assert_eq!(answer, "T D:agent:trainer xother C:SELECT_1 Z:I");
    assert_eq!(raw.ask(&[b("", "kept"), s()]).await, "ERROR:26000 Z:I");
    let last = proxy.records("statement").pop().unwrap();
    assert_eq!(last["application"], "x");
}

#[tokio::test]
async fn sql_prepared_statements_and_cursors_are_decided_anew() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let answer = raw
        .ask(&[q(
            "PREPARE one AS SELECT email FROM customers WHERE id = 1; EXECUTE one",
        )])
        .await;
    assert_eq!(answer, "C:PREPARE T D:c1@example.com C:SELECT_1 Z:I");
    raw.ask(&[q("BEGIN")]).await;
    let cursor = "DECLARE cur CURSOR FOR SELECT email FROM customers ORDER BY id";
    assert_eq!(raw.ask(&[q(cursor)]).await, "C:DECLARE_CURSOR Z:T");
    assert_eq!(
        raw.ask(&[q("FETCH 1 FROM cur")]).await,
        "T D:c1@example.com C:FETCH_1 Z:T"
    );
    proxy.trial.change(|rules| {
        rules.rights = 2;
        rules.replaced = vec![("email", "'***' AS email")];
    });
    assert_eq!(raw.ask(&[q("FETCH 1 FROM cur")]).await, "ERROR:42501 Z:E");
    raw.ask(&[q("ROLLBACK")]).await;
    assert_eq!(raw.ask(&[q("EXECUTE one")]).await, "ERROR:42501 Z:I");
    assert_eq!(raw.ask(&[b("", "one"), s()]).await, "ERROR:42501 Z:I");
    raw.ask(&[q("DEALLOCATE one")]).await;
    raw.ask(&[q("PREPARE one AS SELECT email FROM customers WHERE id = 1")])
        .await;
    assert_eq!(raw.ask(&[q("EXECUTE one")]).await, "T D:*** C:SELECT_1 Z:I");
    assert_eq!(raw.ask(&[q("EXECUTE other")]).await, "ERROR:26000 Z:I");
}

#[tokio::test]
async fn what_is_not_served_is_refused_and_the_session_goes_on() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    assert_eq!(raw.ask(&[any(b'F', &[0; 40])]).await, "ERROR:0A000 Z:I");
    assert_eq!(
        raw.ask(&[any(b'Q', b"SELECT '\xff'\0")]).await,
        "ERROR:22021 Z:I"
    );
    let long = format!("SELECT '{}'", "x".repeat(17 << 20));
    assert_eq!(raw.ask(&[q(&long)]).await, "ERROR:54000 Z:I");
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_long_text_is_planned_beside_other_sessions() {
    let proxy = Proxy::start().await;
    let (mut slow, mut other) = (proxy.raw().await, proxy.raw().await);
    let long = format!("SELECT 1 /* slow */ /* {} */", "x".repeat(10_000));
    let began = std::time::Instant::now();
    slow.send(&[q(&long)]).await;
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    assert_eq!(other.ask(&[q("SELECT 2")]).await, "T D:2 C:SELECT_1 Z:I");
    assert!(began.elapsed() < SLOW, "{:?}", began.elapsed());
    assert_eq!(slow.answer().await, "T D:1 C:SELECT_1 Z:I");
    assert!(began.elapsed() >= SLOW);
}

#[tokio::test]
async fn upstreams_parameters_are_passed_on() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.open(&[("application_name", "psql")]).await;
    let greeting = raw.parameters().await;
    let version = truly("SHOW server_version").await;
    for (name, value) in [
        ("server_version", version.as_str()),
        ("server_encoding", "UTF8"),
        ("client_encoding", "UTF8"),
        ("standard_conforming_strings", "on"),
        ("is_superuser", "off"),
        ("integer_datetimes", "on"),
        ("application_name", "agent:trainer psql"),
    ] {
        let found = greeting.iter().find(|(own, _)| own == name);
        assert_eq!(
            found.map(|(_, value)| value.as_str()),
            Some(value),
            "{name}"
        );
    }
    // One that changes in the session, and back.
    raw.send(&[q("SET TimeZone TO 'Asia/Tokyo'")]).await;
    let changed = [("TimeZone".to_owned(), "Asia/Tokyo".to_owned())];
    assert_eq!(raw.parameters().await, changed);
    raw.send(&[pbe("SET application_name TO 'x'"), s()]).await;
    let changed = [("application_name".to_owned(), "agent:trainer x".to_owned())];
    assert_eq!(raw.parameters().await, changed);
}

#[tokio::test]
async fn what_a_client_calls_itself_ends_with_its_transaction() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw_with(&[("application_name", "psql")]).await;
    let show = q("SELECT current_setting('application_name')");
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("SET LOCAL application_name TO 'local'")]).await;
    assert_eq!(
        raw.ask(std::slice::from_ref(&show)).await,
        "T D:agent:trainer local C:SELECT_1 Z:T"
    );
    raw.ask(&[q("COMMIT")]).await;
    assert_eq!(
        raw.ask(std::slice::from_ref(&show)).await,
        "T D:agent:trainer psql C:SELECT_1 Z:I"
    );
    raw.ask(&[q("BEGIN")]).await;
    raw.ask(&[q("SET application_name TO 'undone'")]).await;
    raw.ask(std::slice::from_ref(&show)).await;
    raw.ask(&[q("ROLLBACK")]).await;
    assert_eq!(
        raw.ask(&[show]).await,
        "T D:agent:trainer psql C:SELECT_1 Z:I"
    );
    let records = proxy.records("statement");
    let selects = records.iter().filter(|it| it["kind"] == "SELECT");
    let names: Vec<_> = selects.map(|it| it["application"].clone()).collect();
    assert_eq!(names, ["local", "psql", "undone", "psql"]);
}
