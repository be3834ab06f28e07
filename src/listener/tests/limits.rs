//! Who is served, how many and for how long.

use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::Certificate;
use super::support::*;
use crate::config::ServerTls;
use crate::identity::scram::tests::client_final;
use crate::listener::*;

#[tokio::test]
async fn plain_text_is_refused_where_it_is_not_served() {
    let certificate = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let proxy = Proxy::start(|listen| {
        listen.plaintext = Plaintext::Never;
        listen.tls = Some(certificate.files());
    })
    .await;
    let output = proxy.psql("user=analyst sslmode=disable", PASSWORD).await;
    fails(&output, "the connection from 127.0.0.1 is not encrypted");
    fails(&output, "sslmode=require");
    says(
        &proxy.psql("user=analyst sslmode=prefer", PASSWORD).await,
        "human:analyst ScramPlus",
    );
    proxy.refusals(&[(Some("analyst"), "28000")]);
}

/// An address of this machine by which others reach it; none on a machine without
/// a network.
fn own_address() -> Option<std::net::IpAddr> {
    // Connecting a datagram socket sends nothing: it only chooses a way. The other
    // end is one of RFC 5737's, which nobody has.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[tokio::test]
async fn plain_text_is_for_this_machine_alone() {
    let Some(own) = own_address() else {
        eprintln!("skipped: this machine has no address but loopback's");
        return;
    };
    let certificate = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for (tls, hint) in [(false, "`listen.tls`"), (true, "sslmode=require")] {
        let proxy = Proxy::start(|listen| {
            listen.address = vec!["0.0.0.0:0".parse().unwrap()];
            listen.tls = tls.then(|| certificate.files());
        })
        .await;
        let port = proxy.address.port();
        let mut stream = TcpStream::connect((own, port)).await.unwrap();
        stream.write_all(&analyst()).await.unwrap();
        // The first thing said: nobody is asked for a password in plain text.
        let answer = rest(&mut stream).await;
        is_error(&answer, "28000", &format!("from {own} is not encrypted"));
        assert!(String::from_utf8_lossy(&answer).contains(hint));
        proxy.refusals(&[(Some("analyst"), "28000")]);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        log_in(&mut stream, &analyst(), b"").await;
        if tls {
            let mut stream = TcpStream::connect((own, port)).await.unwrap();
            stream.write_all(SSL_REQUEST).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
            let mut stream = certificate.connect(stream, &[]).await.unwrap();
            log_in(&mut stream, &analyst(), b"").await;
        }
    }
}

#[test]
fn loopback_is_this_machine_alone() {
    let serves = |plain: Plaintext, peer: &str| plain.serves(peer.parse().unwrap());
    assert!(serves(Plaintext::Loopback, "127.0.0.1"));
    assert!(serves(Plaintext::Loopback, "127.8.0.1"));
    assert!(serves(Plaintext::Loopback, "::1"));
    assert!(serves(Plaintext::Loopback, "::ffff:127.0.0.1"));
    assert!(!serves(Plaintext::Loopback, "10.0.0.1"));
    assert!(!serves(Plaintext::Loopback, "::ffff:10.0.0.1"));
    assert!(!serves(Plaintext::Loopback, "fe80::1"));
    assert!(serves(Plaintext::Anywhere, "10.0.0.1"));
    assert!(!serves(Plaintext::Never, "127.0.0.1"));
}

#[tokio::test]
async fn the_slow_are_dropped() {
    let proxy = Proxy::start(|listen| listen.handshake_timeout = Duration::from_millis(600)).await;
    // Nothing at all, and a byte at a time: both end without a word.
    let mut stream = proxy.connect().await;
    assert_eq!(rest(&mut stream).await, b"");
    let mut stream = proxy.connect().await;
    stream.write_all(b"\0\0").await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    // One that was asked to authenticate hears why.
    let answer = proxy.answer(&analyst()).await;
    let error = answer.iter().position(|&byte| byte == b'E').unwrap();
    assert!(answer.starts_with(b"R"));
    is_error(&answer[error..], "57014", "took too long");
    // An authenticated one is no longer timed.
    let mut stream = proxy.connect().await;
    log_in(&mut stream, &analyst(), b"").await;
    tokio::time::sleep(Duration::from_millis(900)).await;
    stream.write_all(b"Q\0\0\0\x05\0").await.unwrap();
    let mut kinds = Vec::new();
    while kinds.iter().filter(|&&kind| kind == b'Z').count() < 2 {
        kinds.push(read_message(&mut stream).await.unwrap().0);
    }
    proxy.refusals(&[(Some("analyst"), "57014")]);
}

#[tokio::test]
async fn one_too_many_hears_it_and_cancels_pass() {
    let proxy = Proxy::start(|listen| listen.max_connections = 1.try_into().unwrap()).await;
    let mut held = proxy.connect().await;
    log_in(&mut held, &analyst(), b"").await;
    is_error(&proxy.answer(&analyst()).await, "53300", "the limit is 1");
    let secret = [9; 32];
    let cancel = [&[0, 0, 0, 44, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 7], &secret[..]].concat();
    assert_eq!(proxy.answer(&cancel).await, b"", "nothing is answered");
    assert_eq!(*proxy.echo.cancels.lock().unwrap(), [(7, secret.to_vec())]);
    // The place is free again once it is left.
    held.write_all(b"X\0\0\0\x04").await.unwrap();
    rest(&mut held).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let mut next = proxy.connect().await;
    log_in(&mut next, &analyst(), b"").await;
    proxy.refusals(&[(Some("analyst"), "53300")]);
}

#[tokio::test]
async fn shutdown_drains() {
    let proxy = Proxy::start(|_| ()).await;
    let mut told = proxy.connect().await;
    log_in(&mut told, &analyst(), b"").await;
    let mut busy = proxy.connect().await;
    log_in(&mut busy, &analyst(), b"Q\0\0\0\x09work\0").await;
    let mut deaf = proxy.connect().await;
    log_in(&mut deaf, &analyst(), b"Q\0\0\0\x09hang\0").await;
    let mut early = proxy.connect().await;
    early.write_all(b"\0").await.unwrap();
    let mut proving = proxy.connect().await;
    proving.write_all(&analyst()).await.unwrap();
    assert_eq!(read_message(&mut proving).await.unwrap().0, b'R');
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = std::time::Instant::now();
    Stage::Draining.reach(&proxy.stage);
    // The idle one ends at once, and who comes now hears why not.
    rest(&mut told).await;
    is_error(&rest(&mut proving).await, "57P03", "shutting down");
    is_error(&proxy.answer(&analyst()).await, "57P03", "shutting down");
    // What still runs can be cancelled.
    let cancel = [0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 7, 9, 9, 9, 9];
    assert_eq!(proxy.answer(&cancel).await, b"");
    assert_eq!(*proxy.echo.cancels.lock().unwrap(), [(7, vec![9; 4])]);
    assert!(!proxy.running.is_finished());
    // After the grace period the busy one may say so, the deaf one is dropped.
    let words = rest(&mut busy).await;
    assert!(words.ends_with(b"the end"), "{words:?}");
    assert!(began.elapsed() >= GRACE);
    assert!(TcpStream::connect(proxy.address).await.is_err());
    rest(&mut early).await;
    rest(&mut deaf).await;
    assert!(began.elapsed() >= GRACE + LAST_WORDS);
    proxy.running.await.unwrap();
}

#[tokio::test]
async fn shutdown_waits_for_nobody_who_is_not_there() {
    for stage in [Stage::Draining, Stage::Ending] {
        let proxy = Proxy::start(|_| ()).await;
        let mut early = proxy.connect().await;
        early.write_all(b"\0").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = std::time::Instant::now();
        if stage == Stage::Ending {
            let mut busy = proxy.connect().await;
            log_in(&mut busy, &analyst(), b"Q\0\0\0\x09work\0").await;
            tokio::time::sleep(Duration::from_millis(100)).await;
            stage.reach(&proxy.stage);
            assert!(rest(&mut busy).await.ends_with(b"the end"));
        } else {
            stage.reach(&proxy.stage);
        }
        proxy.running.await.unwrap();
        assert!(began.elapsed() < GRACE, "{stage:?}");
    }
}

#[tokio::test]
async fn bad_files_and_addresses_are_named() {
    let one = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let other = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let load = |certificate: PathBuf, key: PathBuf| {
        let files = ServerTls {
            certificate,
            key,
            ..one.files()
        };
        Tls::load(&files, None).unwrap_err().to_string()
    };
    let missing = one.folder.path().join("none.pem");
    assert!(load(missing, one.files().key).contains("none.pem: "));
    let error = load(one.files().key, one.files().key);
    assert!(error.contains("key.pem: no certificate in it"), "{error}");
    let error = load(one.pem(), one.pem());
    assert!(error.contains("cert.pem: "), "{error}");
    let error = load(one.pem(), other.files().key);
    assert!(error.contains("cert.pem: "), "{error}");
    let taken = Proxy::start(|_| ()).await;
    let listen = Listen {
        address: vec![taken.address],
        ..Listen::default()
    };
    let (workers, tls) = (Workers::start(1 << 20).unwrap(), watch::Sender::new(None));
    let bound = Listener::bind(&listen, tls.subscribe(), workers).await;
    let error = bound.unwrap_err().to_string();
    assert!(
        error.contains(&format!("cannot listen on {}", taken.address)),
        "{error}"
    );
}

#[tokio::test]
async fn a_connection_is_bound_to_the_certificate_that_it_was_given() {
    let (proxy, first) = Proxy::with_tls(&rcgen::PKCS_ECDSA_P256_SHA256).await;
    let second = Certificate::new(&rcgen::PKCS_ECDSA_P384_SHA384);
    let verify = |certificate: &Certificate| {
        format!(
            "user=analyst sslmode=verify-full channel_binding=require sslrootcert={}",
            certificate.pem().display()
        )
    };
    // One that began under the old certificate goes on by it, and by no other.
    let mut early = Vec::new();
    for _ in 0..2 {
        let mut stream = proxy.connect().await;
        stream.write_all(SSL_REQUEST).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'S');
        early.push(stream);
    }
    let next = Tls::load(&second.files(), None).unwrap();
    proxy.tls.send_replace(Some(next.into()));
    for (tcp, (bound_to, kind)) in early.into_iter().zip([(&first, b'R'), (&second, b'E')]) {
        let mut stream = first.connect(tcp, &[]).await.unwrap();
        stream.write_all(&analyst()).await.unwrap();
        read_message(&mut stream).await.unwrap();
        let header = b"p=tls-server-end-point,,";
        let bare = [&header[..], b"n=,r=abc"].concat();
        let initial = sasl_initial("SCRAM-SHA-256-PLUS", &bare);
        stream.write_all(&initial).await.unwrap();
        let (_, body) = read_message(&mut stream).await.unwrap();
        let server_first = std::str::from_utf8(&body[4..]).unwrap();
        let binding = [&header[..], &endpoint::hash(&bound_to.der()).unwrap()].concat();
        let last = client_final(PASSWORD, "n=,r=abc", server_first, &binding);
        let mut out = Vec::new();
        message(&mut out, b'p', last.as_bytes());
        stream.write_all(&out).await.unwrap();
        assert_eq!(read_message(&mut stream).await.unwrap().0, kind);
    }
    // Who comes now is given, and bound to, the new one.
    let output = proxy.psql(&verify(&second), PASSWORD).await;
    says(&output, "human:analyst ScramPlus");
    fails(
        &proxy.psql(&verify(&first), PASSWORD).await,
        "certificate verify failed",
    );
}
