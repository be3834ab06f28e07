//! Text that is no SQL, or too much of it, at the door of the real authority.

use super::proxy;
use super::support::client::{By, Client, frame, refusal, show};
use super::support::proxy::Setup;

/// The code by Query and by Parse, which are the same.
fn refused(client: &mut Client, text: &[u8]) -> Option<String> {
    client.send(&frame(b'Q', &[text, b"\0"]));
    let by_query = refusal(&client.answer());
    client.send(&frame(b'P', &[b"\0", text, b"\0\0\0"]));
    client.send(&frame(b'S', &[]));
    let by_parse = refusal(&client.answer());
    assert_eq!(
        by_query,
        by_parse,
        "{}",
        String::from_utf8_lossy(&text[..text.len().min(200)])
    );
    by_query
}

#[test]
fn statements_are_bounded_as_configured() {
    let proxy = proxy(&Setup {
        more: "limits: { statement_size: 2kB, statement_depth: 60 }".into(),
        ..Setup::default()
    });
    let mut client = proxy.client("analyst");
    let long = |len: usize| format!("SELECT '{}'", "x".repeat(len - 9)).into_bytes();
    assert_eq!(refused(&mut client, &long(2048)), None);
    assert_eq!(refused(&mut client, &long(2049)).unwrap(), "54000");
    // Beyond what is even read.
    assert_eq!(refused(&mut client, &long(3 << 20)).unwrap(), "54000");
    let answer = client.run(&String::from_utf8(long(2049)).unwrap(), By::Simple);
    assert!(show(&answer).contains("limit 2048"), "{}", show(&answer));

    let mut sum = |terms: usize| {
        let text = format!("SELECT id{} FROM customers", "+1".repeat(terms));
        refused(&mut client, text.as_bytes())
    };
    let most = (1..100)
        .take_while(|terms| sum(*terms).is_none())
        .last()
        .unwrap();
    assert!((40..60).contains(&most), "{most}");
    assert_eq!(sum(most + 1).unwrap(), "54001");
    assert_eq!(sum(most), None);
}

/// Deep and wide over a masked table: served, or refused for what it is, and nobody
/// else notices.
#[test]
fn deep_and_wide_over_a_masked_table() {
    let proxy = proxy(&Setup::default());
    let mut client = proxy.client("analyst");
    let mut other = proxy.client("analyst");
    let nested = |count: usize| {
        let (open, close) = ("(SELECT * FROM ".repeat(count), ") x".repeat(count));
        format!("SELECT email FROM {open}(SELECT id, email FROM customers) x{close}")
    };
    for (text, code) in [
        (
            format!("SELECT email{} FROM customers", "||'a'".repeat(400)),
            None,
        ),
        (
            // Deeper than the second parser goes, without which nothing masked is read.
            format!("SELECT email{} FROM customers", "||'a'".repeat(9_000)),
            Some("54001"),
        ),
        (
            format!(
                "SELECT email FROM customers WHERE id = 1{}",
                " OR id = 2".repeat(4_000)
            ),
            None,
        ),
        (
            format!(
                "SELECT email FROM customers WHERE id IN (1{})",
                ",2".repeat(100_000)
            ),
            None,
        ),
        (nested(100), None),
        (nested(5_000), Some("54001")),
        (
            format!("SELECT email{} FROM customers", "||'a'".repeat(150_000)),
            Some("54001"),
        ),
        (
            format!(
                "SELECT {}1{} FROM customers",
                "(".repeat(400_000),
                ")".repeat(400_000)
            ),
            Some("54001"),
        ),
        (
            format!(
                "SELECT email FROM customers WHERE id = 1{}",
                " OR id = 2".repeat(60_000)
            ),
            Some("54000"),
        ),
        ("SELECT 1;".repeat(2_000), Some("54000")),
    ] {
        let answer = client.run(&text, By::Simple);
        let start = &text[..text.len().min(80)];
        assert_eq!(refusal(&answer).as_deref(), code, "{start}");
        let answer = other.run("SELECT 1", By::Simple);
        assert_eq!(refusal(&answer), None);
    }
}

/// What is not UTF-8 is refused by that code, wherever it stands, and the session
/// goes on.
#[test]
fn text_that_is_not_utf_8_is_refused() {
    let proxy = proxy(&Setup::default());
    let mut client = proxy.client("analyst");
    for text in [
        &b"SELECT '\xff'"[..],
        b"SELECT 1 AS \"\xc3\"",
        b"\xf0\x28\x8c\xbc",
        b"SELECT 1 -- \xe2\x28\xa1",
        b"SELECT E'\\xff'",
        b"SELECT E'\\xc3\\x28'",
        b"SELECT E'\\303'",
        // Surrogates and what is beyond Unicode are no UTF-8 either.
        b"SELECT '\xed\xa0\x80'",
        b"SELECT '\xf5\x80\x80\x80'",
    ] {
        assert_eq!(
            refused(&mut client, text).unwrap(),
            "22021",
            "{}",
            text.escape_ascii()
        );
    }
    let sync = frame(b'S', &[]);
    for message in [
        frame(b'P', &[b"\xff\0SELECT 1\0\0\0"]),
        frame(b'B', &[b"\xff\0\0\0\0\0\0\0\0"]),
        frame(b'B', &[b"\0\xff\0\0\0\0\0\0\0"]),
        frame(b'D', &[b"S\xff\0"]),
        frame(b'D', &[b"P\xff\0"]),
        frame(b'E', &[b"\xff\0\0\0\0\0"]),
        frame(b'C', &[b"S\xff\0"]),
        frame(b'C', &[b"P\xff\0"]),
    ] {
        client.send(&message);
        client.send(&sync);
        let answer = client.answer();
        assert_eq!(
            refusal(&answer).unwrap(),
            "22021",
            "{}",
            message.escape_ascii()
        );
        assert_eq!(answer.last().unwrap().0, b'Z');
    }
    assert_eq!(
        proxy
            .login("analyst", &[("database", "sh\u{f6}p")])
            .err()
            .unwrap(),
        "3D000"
    );
    let answer = client.run("SELECT 'ö'", By::Extended);
    assert_eq!(refusal(&answer), None);
}

#[test]
fn a_mistake_is_told_as_postgres_tells_it() {
    let proxy = proxy(&Setup::default());
    let mut client = proxy.client("analyst");
    for (text, code) in [
        ("SELEC 1", "42601"),
        ("SELECT E'\\u12'", "22025"),
        ("SELECT sum(1) OVER (ROWS UNBOUNDED FOLLOWING)", "42P20"),
        ("SELECT UNIQUE (SELECT 1)", "0A000"),
    ] {
        assert_eq!(
            refused(&mut client, text.as_bytes()).unwrap(),
            code,
            "{text}"
        );
        // The same as without the proxy.
        let direct = super::server().psql(&format!(
            "CREATE FUNCTION pg_temp.code(text) RETURNS text LANGUAGE plpgsql AS
             'BEGIN EXECUTE $1; RETURN NULL;
              EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE; END';
             SELECT pg_temp.code($text${text}$text$)"
        ));
        assert_eq!(direct, code, "{text}");
    }
}
