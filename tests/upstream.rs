//! Connecting, authenticating and cancelling, against a real Postgres.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "tests fail by panicking"
)]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use pgveil::config::{Exec, SecretRef};
use pgveil::error::Tell;
use pgveil::secret::Source;
use pgveil::upstream::Stream;
use pgveil::upstream::connect::{
    CancelKey, Cause, ConnectError, Target, TlsMode, Upstream, cancel, connect,
};
use support::postgres::{Options, Postgres};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::with(Options {
            tls: true,
            hba: [
                "host all scram,turning,guarded all scram-sha-256",
                "host all md5 all md5",
                "host all clear all password",
                "hostssl all tls all scram-sha-256",
                "host all barred all reject",
                "local all scram scram-sha-256",
            ]
            .map(str::to_owned)
            .into(),
            settings: vec!["log_statement = all".into()],
        });
        server.psql(
            "CREATE ROLE scram LOGIN PASSWORD 'pässword of scram';
             CREATE ROLE clear LOGIN PASSWORD 'password of clear';
             CREATE ROLE tls LOGIN PASSWORD 'password of tls';
             CREATE ROLE trusted LOGIN;
             CREATE ROLE barred LOGIN;
             CREATE ROLE full_up LOGIN CONNECTION LIMIT 0;
             SET password_encryption = 'md5';
             CREATE ROLE md5 LOGIN PASSWORD 'password of md5';",
        );
        server
    })
}

async fn refused(target: &Target) -> ConnectError {
    match connect(target, &[]).await {
        Ok(_) => panic!("{target:?} connects"),
        Err(error) => error,
    }
}

/// Sends a simple query as bytes and reads until ReadyForQuery.
async fn ask(upstream: &mut Upstream, sql: &str) -> Vec<u8> {
    let mut message = vec![b'Q'];
    message.extend((sql.len() as u32 + 5).to_be_bytes());
    message.extend(sql.as_bytes());
    message.push(0);
    upstream.stream.write_all(&message).await.unwrap();
    upstream.stream.flush().await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"Z\0\0\0\x05I") {
        assert!(upstream.stream.read_buf(&mut answer).await.unwrap() > 0);
    }
    answer
}

fn contains(answer: &[u8], text: &str) -> bool {
    answer
        .windows(text.len())
        .any(|bytes| bytes == text.as_bytes())
}

/// Everything a client could be told holds none of the words.
#[track_caller]
fn tells_nothing(error: &ConnectError, target: &Target) {
    let told = error.tell();
    assert_eq!(told.state.0, "08001", "{error}");
    let mut bytes = Vec::new();
    told.encode(&mut bytes);
    assert!(contains(&bytes, "the dataset `shop` cannot be reached"));
    for word in [&target.host, &target.user, &target.port.to_string()] {
        assert!(!contains(&bytes, word), "{told:?}");
    }
}

#[tokio::test]
async fn trust_over_the_socket() {
    let given = [("application_name".to_owned(), "agent:trainer".to_owned())];
    let mut upstream = connect(&server().target("trusted"), &given).await.unwrap();
    assert!(matches!(upstream.stream, Stream::Unix(_)));
    assert_eq!(
        upstream.parameter("application_name"),
        Some("agent:trainer")
    );
    assert_eq!(upstream.parameter("is_superuser"), Some("off"));
    assert!(upstream.key.is_some());
    assert!(contains(
        &ask(&mut upstream, "SELECT current_user").await,
        "trusted"
    ));
}

#[tokio::test]
async fn each_password_method_over_tcp() {
    for (role, password) in [
        ("scram", "pässword of scram"),
        ("md5", "password of md5"),
        ("clear", "password of clear"),
    ] {
        let mut upstream = connect(&server().tcp(role, password), &[]).await.unwrap();
        let Stream::Tcp(tcp) = &upstream.stream else {
            panic!("{:?}", upstream.stream)
        };
        assert!(socket2::SockRef::from(tcp).keepalive().unwrap());
        assert!(contains(
            &ask(&mut upstream, "SELECT current_user").await,
            role
        ));

        let target = server().tcp(role, "a wrong one");
        let error = refused(&target).await;
        assert!(
            matches!(&error.cause, Cause::Refused { state, .. } if state == "28P01"),
            "{error}"
        );
        tells_nothing(&error, &target);

        let mut target = server().tcp(role, "");
        target.password = None;
        assert!(matches!(refused(&target).await.cause, Cause::NoPassword));
    }
}

/// Over a network that others share, a password is not sent in clear, whatever the
/// server asks for; over TLS it is.
#[tokio::test]
async fn no_password_in_clear_over_an_open_network() {
    let Some(own) = own_address() else {
        eprintln!("skipped: this machine has no address but loopback's");
        return;
    };
    let server = Postgres::with(Options {
        tls: true,
        hba: vec!["host all clear all password".into()],
        settings: vec!["listen_addresses = '*'".into()],
    });
    server.psql("CREATE ROLE clear LOGIN PASSWORD 'password of clear'");
    let mut target = server.tcp("clear", "password of clear");
    target.host = own.to_string();
    let error = refused(&target).await;
    assert!(matches!(error.cause, Cause::Cleartext), "{error}");
    tells_nothing(&error, &target);
    target.tls = TlsMode::Require;
    connect(&target, &[]).await.unwrap();
}

/// An address of this machine by which others reach it, if it has any. Nothing is
/// sent: connecting a datagram socket only chooses a way.
fn own_address() -> Option<std::net::IpAddr> {
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[tokio::test]
async fn scram_over_the_socket() {
    let mut target = server().target("scram");
    target.password = Some(Arc::new(Source::fixed("pässword of scram")));
    connect(&target, &[]).await.unwrap();
}

/// Over TLS Postgres offers SCRAM-SHA-256-PLUS, and the channel is bound.
#[tokio::test]
async fn tls_in_every_mode() {
    for (mode, host, ca) in [
        (TlsMode::Prefer, "127.0.0.1", false),
        (TlsMode::Require, "127.0.0.1", false),
        (TlsMode::Require, "127.0.0.1", true),
        (TlsMode::VerifyCa, "127.0.0.1", true),
        (TlsMode::VerifyFull, "localhost", true),
    ] {
        let mut target = server().tcp("tls", "password of tls");
        target.host = host.into();
        target.tls = mode;
        target.ca = ca.then(|| server().ca());
        let mut upstream = connect(&target, &[]).await.unwrap();
        assert!(matches!(upstream.stream, Stream::Tls(_)));
        let sql = "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        assert!(contains(&ask(&mut upstream, sql).await, "TLSv1.3"));
    }
}

#[tokio::test]
async fn tls_that_is_not_what_it_should_be() {
    let stranger = Postgres::with(Options {
        tls: true,
        ..Options::default()
    });
    for (mode, host, ca) in [
        // The certificate is for `localhost`, not for its address.
        (TlsMode::VerifyFull, "127.0.0.1", Some(server().ca())),
        // Signed by somebody else.
        (TlsMode::VerifyFull, "localhost", Some(stranger.ca())),
        (TlsMode::VerifyCa, "localhost", Some(stranger.ca())),
        (TlsMode::Require, "localhost", Some(stranger.ca())),
    ] {
        let mut target = server().tcp("tls", "password of tls");
        target.host = host.into();
        target.tls = mode;
        target.ca = ca;
        let error = refused(&target).await;
        assert!(matches!(error.cause, Cause::Tls(_)), "{error}");
        tells_nothing(&error, &target);
    }
    let mut target = server().tcp("tls", "password of tls");
    for ca in [
        None,
        Some("/nonexistent/ca.pem".into()),
        Some(server().directory.join("log")),
    ] {
        target.tls = TlsMode::VerifyFull;
        target.ca = ca;
        let error = refused(&target).await;
        assert!(matches!(error.cause, Cause::Setup(_)), "{error}");
    }
}

#[tokio::test]
async fn tls_where_there_is_none() {
    let plain = Postgres::start();
    let mut target = plain.tcp("postgres", "");
    target.allow_superuser = true;
    target.tls = TlsMode::Prefer;
    let upstream = connect(&target, &[]).await.unwrap();
    assert!(matches!(upstream.stream, Stream::Tcp(_)));
    target.tls = TlsMode::Require;
    let error = refused(&target).await;
    assert!(matches!(error.cause, Cause::NoTls("require")), "{error}");
}

#[tokio::test]
async fn a_server_that_is_not_there() {
    let mut target = server().tcp("trusted", "");
    target.port = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let error = refused(&target).await;
    assert!(matches!(error.cause, Cause::Io(_)), "{error}");
    assert!(error.may_pass());
    assert!(error.to_string().contains(&target.port.to_string()));
    tells_nothing(&error, &target);

    let mut target = server().target("trusted");
    target.host = "/nonexistent".into();
    assert!(matches!(refused(&target).await.cause, Cause::Io(_)));
}

#[tokio::test]
async fn a_server_that_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    for tls in [TlsMode::Disable, TlsMode::Require] {
        let mut target = server().tcp("trusted", "");
        target.port = listener.local_addr().unwrap().port();
        target.tls = tls;
        target.timeout = Duration::from_millis(200);
        let error = refused(&target).await;
        assert!(matches!(error.cause, Cause::Timeout(_)), "{error}");
        tells_nothing(&error, &target);
    }
}

#[tokio::test]
async fn a_server_that_speaks_something_else() {
    for answer in [
        &b"HTTP/1.1 400 Bad Request\r\n\r\n"[..],
        b"R\0\0\0\x03",
        b"R\0\0\0\x08\0\0\0\x0b",
        b"R\0\0\0\x06\0\0",
        b"Z\0\0\0\x05I",
        b"R\0\0\0\x08\0\0\0\0Z\0\0\0\x05T",
        b"R\0\0\0\x08\0\0\0\0D\0\0\0\x06\0\0",
        b"R\0\0\0\x08\0\0\0\0R\0\0\0\x08\0\0\0\0",
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut target = server().tcp("trusted", "x");
        target.port = listener.local_addr().unwrap().port();
        let serve = async {
            let (mut client, _) = listener.accept().await.unwrap();
            client.write_all(answer).await.unwrap();
            let _ = client.read(&mut [0; 256]).await;
        };
        let (error, ()) = tokio::join!(refused(&target), serve);
        assert!(matches!(error.cause, Cause::Protocol(_)), "{error}");
        tells_nothing(&error, &target);
    }
}

/// A server that has no proof of the password says AuthenticationOk instead of one.
#[tokio::test]
async fn a_server_that_skips_its_proof() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = server().tcp("scram", "pässword of scram");
    target.port = listener.local_addr().unwrap().port();
    let serve = async {
        let (mut client, _) = listener.accept().await.unwrap();
        assert!(client.read(&mut [0; 256]).await.unwrap() > 0);
        let offer = b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0";
        client.write_all(offer).await.unwrap();
        assert!(client.read(&mut [0; 256]).await.unwrap() > 0);
        client.write_all(b"R\0\0\0\x08\0\0\0\0").await.unwrap();
        let _ = client.read(&mut [0; 256]).await;
    };
    let (error, ()) = tokio::join!(refused(&target), serve);
    assert!(error.to_string().contains("out of order"), "{error}");
}

#[tokio::test]
async fn bytes_slipped_in_before_tls_are_not_taken_for_tls() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut target = server().tcp("trusted", "x");
    target.port = listener.local_addr().unwrap().port();
    target.tls = TlsMode::Require;
    let serve = async {
        let (mut client, _) = listener.accept().await.unwrap();
        client
            .write_all(b"SR\0\0\0\x08\0\0\0\0Z\0\0\0\x05I")
            .await
            .unwrap();
        let _ = client.read(&mut [0; 1024]).await;
    };
    let (error, ()) = tokio::join!(refused(&target), serve);
    assert!(matches!(error.cause, Cause::Tls(_)), "{error}");
}

#[tokio::test]
async fn the_upstreams_refusals() {
    let error = refused(&server().tcp("full_up", "")).await;
    assert_eq!(error.tell().state.0, "53300", "{error}");
    assert!(error.may_pass());
    assert!(!error.tell().message.contains("full_up"));

    for role in ["barred", "nobody_of_that_name"] {
        let target = server().tcp(role, "");
        let error = refused(&target).await;
        assert!(!error.may_pass());
        tells_nothing(&error, &target);
    }
    let mut target = server().target("trusted");
    target.dbname = "nowhere".into();
    tells_nothing(&refused(&target).await, &target);

    let target = server().target("trusted");
    let zone = [("TimeZone".to_owned(), "nowhere".to_owned())];
    let error = connect(&target, &zone).await.err().unwrap();
    assert_eq!(error.tell().state.0, "22023", "{error}");
}

#[tokio::test]
async fn a_superuser_is_refused_unless_allowed() {
    let mut target = server().target("postgres");
    let error = refused(&target).await;
    assert!(matches!(error.cause, Cause::Superuser), "{error}");
    tells_nothing(&error, &target);
    target.allow_superuser = true;
    connect(&target, &[]).await.unwrap();
}

#[tokio::test]
async fn who_and_where_are_not_the_sessions_to_set() {
    for name in ["user", "database", "replication", "_pq_.grease"] {
        let given = [(name.to_owned(), "x".to_owned())];
        let error = connect(&server().target("trusted"), &given)
            .await
            .err()
            .unwrap();
        assert!(matches!(error.cause, Cause::Parameter(_)), "{error}");
        assert_eq!(error.tell().state.0, "22023");
    }
}

#[tokio::test]
async fn a_statement_can_be_cancelled() {
    let mut over_tls = server().tcp("tls", "password of tls");
    over_tls.tls = TlsMode::VerifyFull;
    over_tls.host = "localhost".into();
    over_tls.ca = Some(server().ca());
    for target in [server().target("trusted"), over_tls] {
        let mut upstream = connect(&target, &[]).await.unwrap();
        let key = upstream.key.clone().unwrap();
        let start = Instant::now();
        let wrong = CancelKey {
            pid: key.pid,
            secret: vec![0; key.secret.len()],
        };
        let interrupt = async {
            // A wrong secret does nothing; the right one does, once it sleeps.
            cancel(&target, &wrong).await.unwrap();
            tokio::time::sleep(Duration::from_millis(300)).await;
            cancel(&target, &key).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&mut upstream, "SELECT pg_sleep(20)"), interrupt);
        assert!(contains(&answer, "C57014"));
        let took = start.elapsed();
        assert!(took > Duration::from_millis(250) && took < Duration::from_secs(10));
        // And the session goes on.
        assert!(contains(&ask(&mut upstream, "SELECT 41 + 1").await, "42"));
    }
}

#[test]
fn a_password_is_printed_nowhere() {
    let target = server().tcp("scram", "pässword of scram");
    assert!(!format!("{target:?}").contains("pässword"));
}

/// Nor is it shown again and again where it is wrong: accounts are locked for less.
#[tokio::test]
async fn a_password_that_is_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "wrong").unwrap();
    server().psql("CREATE ROLE guarded LOGIN PASSWORD 'right'");
    let target = Target {
        password: Some(Arc::new(Source::of(&SecretRef::File(file.clone())))),
        ..server().tcp("guarded", "")
    };
    let error = refused(&target).await;
    assert!(matches!(error.cause, Cause::Refused { .. }), "{error}");
    for _ in 0..10 {
        let error = refused(&target).await;
        assert!(matches!(error.cause, Cause::Rests(_)), "{error}");
        tells_nothing(&error, &target);
    }
    // Another one is shown at once.
    std::fs::write(&file, "right").unwrap();
    connect(&target, &[]).await.unwrap();
}

/// A program that hangs is no reason to wait for longer than for anything else.
#[tokio::test]
async fn a_password_that_does_not_come() {
    let exec = Exec {
        command: vec!["/bin/sleep".into(), "20".into()],
        timeout: Duration::from_secs(15),
        lifetime: Some(Duration::from_secs(3_600)),
        json: None,
        environment: Vec::new(),
    };
    let target = Target {
        password: Some(Arc::new(Source::of(&SecretRef::Exec(exec)))),
        timeout: Duration::from_millis(200),
        ..server().tcp("tls", "")
    };
    let error = refused(&target).await;
    assert!(matches!(error.cause, Cause::Timeout(_)), "{error}");
}

/// A password is changed in two places, and neither order loses a connection.
#[tokio::test]
async fn a_password_that_changes() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    server().psql("CREATE ROLE turning LOGIN PASSWORD 'one'");
    let tool = folder.path().join("tool");
    let text = format!("#!/bin/sh\ncat {}", file.display());
    std::fs::write(&tool, text).unwrap();
    std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o700)).unwrap();
    let exec = Exec {
        command: vec![tool.display().to_string()],
        timeout: Duration::from_secs(5),
        lifetime: Some(Duration::from_secs(3_600)),
        json: None,
        environment: Vec::new(),
    };
    std::fs::write(&file, "one").unwrap();
    let by = |reference| Target {
        password: Some(Arc::new(Source::of(&reference))),
        ..server().tcp("turning", "")
    };
    let (read, run) = (by(SecretRef::File(file.clone())), by(SecretRef::Exec(exec)));
    let mut running = connect(&read, &[]).await.unwrap();
    connect(&run, &[]).await.unwrap();

    // First the file: what Postgres still takes is what it took before.
    std::fs::write(&file, "two").unwrap();
    connect(&read, &[]).await.unwrap();
    connect(&run, &[]).await.unwrap();
    // Then Postgres: the program, whose answer is good for an hour, is asked again.
    server().psql("ALTER ROLE turning PASSWORD 'two'");
    connect(&read, &[]).await.unwrap();
    connect(&run, &[]).await.unwrap();

    // First Postgres.
    server().psql("ALTER ROLE turning PASSWORD 'three'");
    let error = refused(&read).await;
    assert!(matches!(&error.cause, Cause::Refused { state, .. } if state == "28P01"));
    for secret in ["two", "three"] {
        assert!(!format!("{error:?} {error} {read:?}").contains(secret));
    }
    std::fs::write(&file, "three\n").unwrap();
    connect(&read, &[]).await.unwrap();

    // None that can be had ends no session, and is no reason to refuse the next.
    for nonsense in [&b""[..], b"\xff\xfe", b"wrong"] {
        std::fs::write(&file, nonsense).unwrap();
        connect(&read, &[]).await.unwrap();
    }
    std::fs::remove_file(&file).unwrap();
    connect(&read, &[]).await.unwrap();
    assert!(contains(&ask(&mut running, "SELECT 41 + 1").await, "42"));
    let target = by(SecretRef::File(file));
    let error = refused(&target).await;
    assert!(matches!(error.cause, Cause::Secret(_)), "{error}");
    tells_nothing(&error, &target);
}
