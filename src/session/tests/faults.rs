//! What goes wrong: protocol, upstream, log, policy.

use std::fs::OpenOptions;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::support::*;
use crate::stage::Stage;

#[tokio::test]
async fn nonsense_ends_the_session_with_08p01() {
    let proxy = Proxy::start().await;
    for bytes in [
        any(b'?', b""),
        any(b'p', b"secret\0"),
        any(b'Q', b"SELECT 1"),
        any(b'Q', b"SELECT 1\0SELECT 2\0"),
        any(b'S', b"x"),
        any(b'B', b"no end"),
        any(b'E', b"\0"),
        any(b'D', b"Xname\0"),
        any(b'P', b"\0SELECT 1\0\0\x09"),
        // Counts and lengths that lie, in a Bind.
        any(b'B', b"\0\0\0\0\0\x05\0\0"),
        any(b'B', b"\0\0\0\0\0\x01\0\0\0\x09x\0\0"),
        any(b'B', b"\0\0\0\0\0\x01\xff\xff\xff\xfe\0\0"),
        any(b'B', b"\0\0\0\0\0\0\0\0more"),
        any(b'B', b"\0\0\0\x03\0\0"),
        b"Q\0\0\0\x03".to_vec(),
        b"Q\xff\xff\xff\xff".to_vec(),
        b"D\x00\xff\xff\xff".to_vec(),
    ] {
        let mut raw = proxy.raw().await;
        // What came before is still answered.
        raw.send(&[pbe("SELECT 1"), bytes.clone()]).await;
        let answer = raw.answer().await;
        assert_eq!(answer, "1 2 D:1 C:SELECT_1 FATAL:08P01 end", "{bytes:?}");
    }
}

#[tokio::test]
async fn startup_is_governed() {
    let proxy = Proxy::start().await;
    for (parameter, state) in [
        (("database", "nowhere"), "FATAL:3D000"),
        (("client_encoding", "LATIN1"), "FATAL:22023"),
        (("role", "postgres"), "FATAL:42501"),
        (("search_path", "a,,b"), "FATAL:22023"),
    ] {
        let answer = proxy.open(&[parameter]).await.answer().await;
        assert_eq!(answer, format!("{state} end"), "{parameter:?}");
    }
    assert_eq!(proxy.records("denial").len(), 4);
    let mut raw = proxy
        .raw_with(&[("search_path", "other"), ("datestyle", "German")])
        .await;
    let both = "SELECT {path} || current_setting('search_path') || current_setting('datestyle')";
    assert_eq!(
        raw.ask(&[q(both)]).await,
        "T D:other\"other\"German, DMY C:SELECT_1 Z:I"
    );
}

#[tokio::test]
async fn a_cancel_request_needs_the_key() {
    let proxy = Proxy::start().await;
    let client = proxy.client().await;
    let token = client.cancel_token();
    let sleeping = tokio::spawn(async move {
        let slept = client.query("SELECT pg_sleep(20)", &[]).await;
        (slept, client)
    });
    tokio::time::sleep(Duration::from_millis(300)).await;
    // A wrong key does nothing.
    let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
    let mut bytes = 16u32.to_be_bytes().to_vec();
    bytes.extend_from_slice(&80_877_102u32.to_be_bytes());
    bytes.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 2]);
    stream.write_all(&bytes).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(!sleeping.is_finished());
    token.cancel_query(tokio_postgres::NoTls).await.unwrap();
    let (slept, client) = sleeping.await.unwrap();
    assert_eq!(slept.unwrap_err().code().unwrap().code(), "57014");
    client.query_one("SELECT 1", &[]).await.unwrap();
    let records = proxy.records("statement");
    assert_eq!(records[0]["sqlstate"], "57014");
}

#[tokio::test]
async fn a_cancel_request_of_protocol_3_2_needs_all_of_a_longer_key() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.open_minor(2, &[]).await;
    let key = loop {
        let (tag, body) = raw.message().await.unwrap();
        if tag == b'K' {
            break body;
        }
    };
    raw.answer().await;
    assert_eq!(key.len(), 4 + 32);
    raw.send(&[q("SELECT pg_sleep(60) /* by 3.2 */")]).await;
    assert!(running("/* by 3.2 */", "1").await);
    let request = async |key: &[u8]| {
        let mut stream = tokio::net::TcpStream::connect(proxy.address).await.unwrap();
        let mut bytes = (key.len() as u32 + 8).to_be_bytes().to_vec();
        bytes.extend_from_slice(&80_877_102u32.to_be_bytes());
        bytes.extend_from_slice(key);
        stream.write_all(&bytes).await.unwrap();
        stream.read_to_end(&mut Vec::new()).await.unwrap();
    };
    let mut wrong = key.clone();
    wrong[35] ^= 1;
    for key in [&key[..8], &key[..35], &wrong] {
        request(key).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(running("/* by 3.2 */", "1").await);
    request(&key).await;
    assert_eq!(raw.answer().await, "T ERROR:57014 Z:I");
}

#[tokio::test]
async fn upstream_killed_in_a_query_is_told() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.send(&[q("SELECT pg_sleep(20) /* victim */")]).await;
    let killed = tokio::task::spawn_blocking(|| {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE query LIKE '%/* victim */%' AND usename = 'proxy'";
        while server().psql(kill) != "1" {
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    assert_eq!(raw.answer().await, "T FATAL:57P01 end");
    killed.await.unwrap();
    let records = proxy.records_soon("statement", 1).await;
    assert_eq!(records[0]["sqlstate"], "57P01");
    proxy.records_soon("disconnect", 1).await;
}

#[tokio::test]
async fn a_client_that_goes_leaves_nothing_running() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    raw.send(&[q("SELECT pg_sleep(30) /* abandoned */")]).await;
    let running = "SELECT count(*) FROM pg_stat_activity \
                   WHERE query LIKE '%/* abandoned */%' AND state = 'active' AND usename = 'proxy'";
    let wait = |count: &'static str| {
        tokio::task::spawn_blocking(move || {
            (0..100).any(|_| {
                std::thread::sleep(Duration::from_millis(50));
                server().psql(running) == count
            })
        })
    };
    assert!(wait("1").await.unwrap());
    drop(raw);
    assert!(wait("0").await.unwrap());
    let records = proxy.records_soon("disconnect", 1).await;
    assert_eq!(records[0]["reason"], "client closed the connection");
}

#[tokio::test]
async fn terminate_lets_upstream_finish() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    let insert = "INSERT INTO sink SELECT 901 FROM pg_sleep(0.3)";
    raw.send(&[q(insert), any(b'X', b"")]).await;
    drop(raw);
    proxy.records_soon("disconnect", 1).await;
    let found =
        tokio::task::spawn_blocking(|| server().psql("SELECT count(*) FROM sink WHERE id = 901"));
    assert_eq!(found.await.unwrap(), "1");
}

#[tokio::test]
async fn no_record_no_answer() {
    let proxy = Proxy::with(Some("/dev/full")).await;
    assert_eq!(proxy.open(&[]).await.answer().await, "FATAL:58030 end");

    // A log that fails later: a pipe that nobody reads.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("records");
    let made = std::process::Command::new("mkfifo")
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let reader = OpenOptions::new()
        .read(true)
        .write(true)
        .open(&path)
        .unwrap();
    let proxy = Proxy::with(path.to_str()).await;
    let mut raw = proxy.raw().await;
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
    let mut other = proxy.raw().await;
    leave(reader, &path).await;
    // This one's intent is the first that cannot be written: it is not sent.
    assert_eq!(raw.ask(&[q("SELECT 2")]).await, "ERROR:58030 Z:I");
    assert_eq!(other.ask(&[q("SELECT 3")]).await, "ERROR:58030 Z:I");
    assert_eq!(other.ask(&[pbe("SELECT 3"), s()]).await, "ERROR:58030 Z:I");
    // O_NONBLOCK
    let mut reader = OpenOptions::new()
        .read(true)
        .custom_flags(0o4000)
        .open(&path)
        .unwrap();
    assert_eq!(other.ask(&[q("SELECT 4")]).await, "T D:4 C:SELECT_1 Z:I");
    let mut kept = vec![0; 1 << 16];
    let len = reader.read(&mut kept).unwrap();
    let kept = String::from_utf8(kept[..len].to_vec()).unwrap();
    let count = |what: &str| kept.matches(&format!("\"event\":\"{what}\"")).count();
    // Nothing that ran is missing, and what did not run is said not to have.
    assert_eq!((count("statement"), count("denial")), (2, 3), "{kept}");
    assert_eq!(count("intent"), 3);
    assert_eq!(count("log_resumed"), 1);
}

#[tokio::test]
async fn the_tripwire_withholds_and_alerts() {
    let proxy = Proxy::start().await;
    proxy.trial.change(|rules| {
        rules.rights = 7;
        rules.unseen = vec![2];
    });
    let mut raw = proxy.raw().await;
    assert_eq!(
        raw.ask(&[q("SELECT id FROM customers WHERE id = 1")]).await,
        "T D:1 C:SELECT_1 Z:I"
    );
    let leak = "SELECT id, email FROM customers";
    assert_eq!(raw.ask(&[q(leak)]).await, "ERROR:42501 Z:I");
    assert_eq!(
        raw.ask(&[p("", leak), d('S', ""), b("", ""), e("", 0), s()])
            .await,
        "1 t ERROR:42501 Z:I"
    );
    raw.send(&[p("", leak), d('S', ""), h()]).await;
    assert_eq!(raw.until(b'E').await, "1 t ERROR:42501");
    assert_eq!(raw.ask(&[b("", ""), e("", 0), s()]).await, "Z:I");
    assert_eq!(raw.ask(&[q("SELECT 1")]).await, "T D:1 C:SELECT_1 Z:I");
    let alerts = proxy.records("tripwire");
    assert_eq!(alerts.len(), 3);
    assert_eq!(alerts[0]["attribute"], 2);
}

#[tokio::test]
async fn draining_ends_idle_sessions_and_lets_others_finish() {
    let proxy = Proxy::start().await;
    let mut idle = proxy.raw().await;
    let mut busy = proxy.raw().await;
    busy.send(&[q("SELECT 1 FROM pg_sleep(0.5)")]).await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    Stage::Draining.reach(&proxy.stage);
    assert_eq!(idle.answer().await, "FATAL:57P01 end");
    assert_eq!(busy.answer().await, "T D:1 C:SELECT_1 Z:I");
    assert_eq!(busy.answer().await, "FATAL:57P01 end");
}

#[tokio::test]
async fn ending_tells_the_busy_and_leaves_nothing_running() {
    let proxy = Proxy::start().await;
    let mut busy = proxy.raw().await;
    busy.send(&[q("SELECT pg_sleep(30) /* ended */")]).await;
    let mut open = proxy.raw().await;
    assert_eq!(open.ask(&[q("BEGIN")]).await, "C:BEGIN Z:T");
    // One that does not read what it asked for.
    let mut deaf = proxy.raw().await;
    deaf.send(&[q("SELECT repeat('x', 200000000)")]).await;
    let mut head = [0; 4096];
    deaf.stream.read_exact(&mut head).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    Stage::Draining.reach(&proxy.stage);
    tokio::time::sleep(Duration::from_millis(200)).await;
    let began = std::time::Instant::now();
    Stage::Ending.reach(&proxy.stage);
    assert_eq!(busy.answer().await, "FATAL:57P01 end");
    assert_eq!(open.answer().await, "FATAL:57P01 end");
    let ended = proxy.records_soon("disconnect", 3).await;
    assert!(began.elapsed() < Duration::from_secs(2));
    for record in ended {
        assert_eq!(record["reason"], "57P01: the proxy is shutting down");
    }
    let mut states: Vec<_> = proxy
        .records("statement")
        .iter()
        .map(|record| record["sqlstate"].as_str().unwrap().to_owned())
        .collect();
    states.sort();
    assert_eq!(states, ["00000", "57014", "57014"]);
    let running = "SELECT count(*) FROM pg_stat_activity \
                   WHERE query LIKE '%/* ended */%' AND state = 'active' AND usename = 'proxy'";
    let stopped = tokio::task::spawn_blocking(move || {
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            server().psql(running) == "0"
        })
    });
    assert!(stopped.await.unwrap());
}

#[tokio::test]
async fn upstream_lost_within_a_row_adds_nothing_to_the_row() {
    let proxy = Proxy::start().await;
    let mut raw = proxy.raw().await;
    // More than all buffers on the way hold, so that it is cut short.
    raw.send(&[q("SELECT repeat('x', 200000000) /* cut short */")])
        .await;
    let mut head = [0; 4096];
    raw.stream.read_exact(&mut head).await.unwrap();
    let killed = tokio::task::spawn_blocking(|| {
        let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                    WHERE query LIKE '%/* cut short */%' AND usename = 'proxy'";
        server().psql(kill)
    });
    assert_eq!(killed.await.unwrap(), "1");
    let mut rest = Vec::new();
    raw.stream.read_to_end(&mut rest).await.unwrap();
    assert!(rest.len() < 200_000_000);
    assert!(rest.iter().all(|byte| *byte == b'x'));
}
