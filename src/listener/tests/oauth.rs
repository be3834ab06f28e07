//! OAUTHBEARER by raw messages: what is taken, and what everything else hears.

use tokio::io::AsyncWriteExt as _;

use super::support::*;

const MECHANISM: &str = "OAUTHBEARER";
/// AuthenticationSASL with that one mechanism.
const OFFER: &[u8] = b"R\0\0\0\x15\0\0\0\x0aOAUTHBEARER\0\0";

fn first(user: &str) -> Vec<u8> {
    let pairs = [("user", user), ("options", "-c pgveil.credential=oauth")];
    startup(0x3_0000, &pairs)
}

fn bearer(token: &str) -> Vec<u8> {
    let data = format!("n,,\x01auth=Bearer {token}\x01\x01");
    sasl_initial(MECHANISM, data.as_bytes())
}

fn reply(data: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, b'p', data);
    out
}

/// What follows the offer.
async fn answer(proxy: &Proxy, user: &str, messages: &[Vec<u8>]) -> Vec<u8> {
    let answer = proxy
        .answer(&[first(user), messages.concat()].concat())
        .await;
    answer.strip_prefix(OFFER).expect("the offer").to_vec()
}

/// AuthenticationSASLContinue with that.
fn challenge(data: &str) -> Vec<u8> {
    let mut out = Vec::new();
    message(&mut out, b'R', &[b"\0\0\0\x0b", data.as_bytes()].concat());
    out
}

#[tokio::test]
async fn a_token_is_taken_with_the_first_message_or_after_it() {
    let proxy = Proxy::start(|_| ()).await;
    let data = b"n,,\x01auth=Bearer abc\x01\x01";
    let nothing = reply(&[MECHANISM.as_bytes(), b"\0\xff\xff\xff\xff"].concat());
    for messages in [vec![bearer("abc")], vec![nothing, reply(data)]] {
        let mut stream = proxy.connect().await;
        let all = [first("job"), messages.concat()].concat();
        stream.write_all(&all).await.unwrap();
        assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
        if messages.len() == 2 {
            let empty = read_message(&mut stream).await.unwrap();
            assert_eq!(empty, (b'R', vec![0, 0, 0, 11]));
        }
        assert_eq!(read_message(&mut stream).await.unwrap(), (b'R', vec![0; 4]));
        assert_eq!(read_message(&mut stream).await.unwrap().0, b'S');
    }
}

#[tokio::test]
async fn whatever_is_wrong_with_a_token_is_answered_alike() {
    let proxy = Proxy::start(|_| ()).await;
    let told = challenge(
        r#"{"openid-configuration":"https://login.corp.example/.well-known/openid-configuration","scope":"openid","status":"invalid_token"}"#,
    );
    let without = |answer: &[u8], user: &str| {
        String::from_utf8_lossy(answer)
            .replace(user, "?")
            .split_off(5)
    };
    let mut heard = Vec::new();
    for (user, message) in [
        ("job", bearer("another")),
        (
            "job",
            sasl_initial(MECHANISM, b"n,,\x01auth=Basic abc\x01\x01"),
        ),
        (
            "job",
            sasl_initial(MECHANISM, b"n,,\x01auth=Bearer \x01\x01"),
        ),
        // The client asks where tokens are to be had.
        ("job", sasl_initial(MECHANISM, b"n,,\x01auth=\x01\x01")),
        ("jobs", bearer("abc")),
        ("jobs", sasl_initial(MECHANISM, b"n,,\x01auth=\x01\x01")),
    ] {
        let answer = answer(&proxy, user, &[message, reply(b"\x01")]).await;
        let last = answer.strip_prefix(&*told).expect("where tokens are");
        is_error(last, "28000", "oauth bearer authentication failed for user");
        heard.push(without(last, user));
    }
    assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
    // Names that no issuer has: nothing can be told, and what is told does not differ.
    for user in ["analyst", "nobody"] {
        let answer = answer(&proxy, user, &[bearer("abc"), reply(b"\x01")]).await;
        let last = answer.strip_prefix(&*challenge(r#"{"status":"invalid_token"}"#));
        assert_eq!(without(last.unwrap(), user), heard[0]);
    }
    let refusals = proxy.echo.refusals.lock().unwrap();
    assert_eq!(refusals.len(), 8);
}

#[tokio::test]
async fn malformed_messages_are_refused() {
    let proxy = Proxy::start(|_| ()).await;
    let fails = async |messages: &[Vec<u8>], state: &str, what: &str| {
        is_error(&answer(&proxy, "job", messages).await, state, what);
    };
    let data = |data: &[u8]| [sasl_initial(MECHANISM, data)];
    let violation = "08P01";
    fails(&data(b""), violation, "no channel-binding flag").await;
    fails(&data(b"n,,\x01\x01"), violation, "no `auth`").await;
    fails(
        &data(b"n,,\x01auth=Bearer abc\x01"),
        violation,
        "bytes after its end",
    )
    .await;
    fails(
        &data(b"p=x,,\x01auth=Bearer abc\x01\x01"),
        violation,
        "channel bound",
    )
    .await;
    fails(
        &data(b"n,a=x,\x01auth=Bearer abc\x01\x01"),
        "0A000",
        "authorization identity",
    )
    .await;
    fails(
        &data(b"n,,\x01auth=Bearer a\0\x01\x01"),
        violation,
        "a value that is none",
    )
    .await;
    let scram = [sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc")];
    fails(&scram, violation, "not offered").await;
    fails(&[reply(b"a token\0")], violation, "malformed SASL response").await;
    let long = [bearer(&"x".repeat(10_000))];
    fails(&long, violation, "invalid length").await;
    // After a refusal, one byte and no other.
    for wrong in [
        &b""[..],
        b"\x01\x01",
        b"\0",
        b"n,,\x01auth=Bearer abc\x01\x01",
    ] {
        let after = |answer: &[u8]| answer.iter().rposition(|byte| *byte == b'}').unwrap() + 1;
        let asked = sasl_initial(MECHANISM, b"n,,\x01auth=\x01\x01");
        let heard = answer(&proxy, "job", &[asked, reply(wrong)]).await;
        let one = "a refusal is answered by one byte";
        is_error(&heard[after(&heard)..], violation, one);
        // Of a token that was looked at, the verdict stands.
        let heard = answer(&proxy, "job", &[bearer("x"), reply(wrong)]).await;
        is_error(&heard[after(&heard)..], "28000", "authentication failed");
    }
    let credential = startup(
        0x3_0000,
        &[("user", "job"), ("pgveil.credential", "kerberos")],
    );
    is_error(
        &proxy.answer(&credential).await,
        "22023",
        "`token` or `oauth`",
    );
}

#[tokio::test]
async fn who_leaves_before_the_verdict_has_failed_all_the_same() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    let all = [first("job"), bearer("x")].concat();
    stream.write_all(&all).await.unwrap();
    assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
    assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
    drop(stream);
    for _ in 0..100 {
        if !proxy.echo.refusals.lock().unwrap().is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    }
    proxy.refusals(&[(Some("job"), "28000")]);
}
