//! LISTEN and NOTIFY: for roles that may, and nobody else.

use super::support::client::By;
use super::{BOTH, proxy, server, short};

#[test]
fn who_may_listen_is_notified() {
    let proxy = proxy();
    for by in BOTH {
        let mut watcher = proxy.client("watcher");
        let answer = short(&watcher.run("LISTEN news", by));
        assert!(answer.ends_with("LISTEN Z"), "{answer}");
        // While idle.
        server().psql("NOTIFY news, 'from elsewhere'");
        let (tag, body) = watcher.receive();
        assert_eq!(tag, b'A');
        assert!(body.ends_with(b"news\0from elsewhere\0"), "{body:?}");
        // Of one's own.
        for statement in ["NOTIFY news, 'own'", "SELECT pg_notify('news', 'own')"] {
            let answer = watcher.run(statement, by);
            let heard = answer.iter().find(|(tag, _)| *tag == b'A').unwrap();
            assert!(heard.1.ends_with(b"news\0own\0"), "{heard:?}");
        }
        let answer = short(&watcher.run("UNLISTEN *", by));
        assert!(answer.ends_with("UNLISTEN Z"), "{answer}");
        server().psql("NOTIFY news, 'too late'");
        assert!(!short(&watcher.run("SELECT 1", by)).contains('A'));
    }
    for kind in ["LISTEN", "NOTIFY", "UNLISTEN"] {
        let record = format!("\"kind\":\"{kind}\"");
        assert!(proxy.records().contains(&record), "{kind}");
    }
}

#[test]
fn who_may_not_is_refused() {
    let proxy = proxy();
    let mut analyst = proxy.client("analyst");
    for by in BOTH {
        for statement in [
            "LISTEN news",
            "NOTIFY news, 'x'",
            "SELECT pg_notify('news', 'x')",
        ] {
            let answer = short(&analyst.run(statement, by));
            assert_eq!(answer, "42501 Z", "{statement}");
        }
    }
    // What pools send with every return.
    assert_eq!(short(&analyst.run("UNLISTEN *", By::Simple)), "UNLISTEN Z");
}
