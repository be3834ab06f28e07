//! What a connection begins with, up to its authentication.

use tokio::io::AsyncWriteExt as _;

use super::support::*;

#[tokio::test]
async fn grease_is_negotiated_down() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    let grease = [("user", "analyst"), ("_pq_.test_protocol_negotiation", "")];
    stream.write_all(&startup(0x3_270f, &grease)).await.unwrap();
    let (kind, body) = read_message(&mut stream).await.unwrap();
    assert_eq!(kind, b'v');
    assert_eq!(
        body,
        b"\0\x03\0\x02\0\0\0\x01_pq_.test_protocol_negotiation\0"
    );
    assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
    let mut stream = proxy.connect().await;
    log_in(&mut stream, &startup(0x3_0002, &grease[..1]), b"").await;
}

#[tokio::test]
async fn bad_startups_end_with_a_reason() {
    let proxy = Proxy::start(|_| ()).await;
    let check = async |bytes: &[u8], state: &str, message: &str| {
        is_error(&proxy.answer(bytes).await, state, message);
    };
    check(b"GET / HTTP/1.1\r\n\r\n", "08P01", "invalid length").await;
    check(b"\0\0\0\x04", "08P01", "invalid length").await;
    check(b"\xff\xff\xff\xff", "08P01", "invalid length").await;
    check(
        b"\0\0\x27\x11",
        "08P01",
        "invalid length of startup packet: 10001",
    )
    .await;
    check(
        b"\0\0\0\x08\0\x02\0\0",
        "0A000",
        "unsupported frontend protocol 2.0",
    )
    .await;
    check(b"\0\0\0\x08\0\x03\0\0", "08P01", "malformed startup packet").await;
    check(
        &startup(0x3_0000, &[("database", "shop")]),
        "28000",
        "no user name",
    )
    .await;
    let with = |name, value| startup(0x3_0000, &[("user", "analyst"), (name, value)]);
    check(&with("replication", "database"), "0A000", "replication").await;
    check(&with("replication", "true"), "0A000", "replication").await;
    check(&with("options", "-d 5"), "0A000", "`-d`").await;
    check(&with("options", "-c geqo"), "42601", "requires a value").await;
    check(b"\0\0\0\x10\0\x03\0\0user\0\xff\0\0", "22021", "UTF-8").await;
    // A flood after the mistake does not keep the reason from being read.
    let flood = [b"\xff\xff\xff\xff".to_vec(), vec![b'x'; 1 << 16]].concat();
    check(&flood, "08P01", "invalid length").await;
    // The largest that may be is read.
    let filler = "x".repeat(10_000 - 4 - 4 - "user\0analyst\0application_name\0\0\0".len());
    let mut stream = proxy.connect().await;
    let largest = with("application_name", &filler);
    assert_eq!(largest.len(), 10_000);
    log_in(&mut stream, &largest, b"").await;
}

#[tokio::test]
async fn bad_sasl_ends_with_a_reason() {
    let proxy = Proxy::start(|_| ()).await;
    let check = async |bytes: &[u8], state: &str, message: &str| {
        let mut stream = proxy.connect().await;
        stream.write_all(&analyst()).await.unwrap();
        assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
        stream.write_all(bytes).await.unwrap();
        is_error(&rest(&mut stream).await, state, message);
    };
    check(
        b"Q\0\0\0\x0dselect 1\0",
        "08P01",
        "expected a SASL response",
    )
    .await;
    check(b"p\0\0\0\0", "08P01", "invalid length of a SASL response").await;
    check(b"p\xff\xff\xff\xff", "08P01", "invalid length").await;
    check(b"p\0\0\x08\0", "08P01", "invalid length").await;
    check(b"p\0\0\0\x06pw", "08P01", "malformed SASL response").await;
    check(&sasl_initial("PLAIN", b"x"), "08P01", "not offered").await;
    check(
        &sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=a"),
        "08P01",
        "not offered",
    )
    .await;
    check(
        &sasl_initial("SCRAM-SHA-256", b"n,,n=,r="),
        "08P01",
        "malformed SCRAM",
    )
    .await;
    check(
        &sasl_initial("SCRAM-SHA-256", b"n,a=auditor,n=,r=a"),
        "0A000",
        "authorization identity",
    )
    .await;
    check(
        &sasl_initial("SCRAM-SHA-256", b"\xff"),
        "08P01",
        "malformed SCRAM",
    )
    .await;
    // Truncated, and then nothing: the deadline's matter, or the client's.
    let mut stream = proxy.connect().await;
    stream
        .write_all(&[&analyst()[..], b"p\0\0\0\x40SCRAM"].concat())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(answer.first(), Some(&b'R'));
    assert!(!answer.contains(&b'E'), "{answer:?}");
}

#[tokio::test]
async fn an_initial_response_may_come_later() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    stream.write_all(&analyst()).await.unwrap();
    read_message(&mut stream).await.unwrap();
    let mut out = Vec::new();
    message(&mut out, b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    stream.write_all(&out).await.unwrap();
    assert_eq!(
        read_message(&mut stream).await.unwrap(),
        (b'R', vec![0, 0, 0, 11])
    );
    out.clear();
    message(&mut out, b'p', b"n,,n=,r=abc");
    stream.write_all(&out).await.unwrap();
    assert!(
        read_message(&mut stream)
            .await
            .unwrap()
            .1
            .starts_with(b"\0\0\0\x0br=abc")
    );
}

#[tokio::test]
async fn what_follows_authentication_reaches_the_session() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    log_in(&mut stream, &analyst(), b"Q\0\0\0\x05\0").await;
    let mut kinds = Vec::new();
    while kinds.iter().filter(|&&kind| kind == b'Z').count() < 2 {
        kinds.push(read_message(&mut stream).await.unwrap().0);
    }
    assert_eq!(kinds, b"SSZTDCZ");
}
