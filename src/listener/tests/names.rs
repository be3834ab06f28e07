//! Names that exist and names that do not: nobody can tell.

use std::time::Duration;

use tokio::io::AsyncWriteExt as _;

use super::support::*;
use crate::config::{Failures, Plaintext};

#[tokio::test]
async fn unknown_and_wrong_get_one_answer() {
    let proxy = Proxy::start(|_| ()).await;
    let mut answers = Vec::new();
    // `ghost` has a verifier and no identity: not even its password helps.
    for (user, password) in [
        ("analyst", "wrong"),
        ("nobody", PASSWORD),
        ("ghost", PASSWORD),
    ] {
        let output = proxy
            .psql(&format!("user={user} sslmode=disable"), password)
            .await;
        fails(
            &output,
            &format!("FATAL:  password authentication failed for user \"{user}\""),
        );
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        answers.push(error.replace(user, "?"));
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    proxy.refusals(&[
        (Some("analyst"), "28P01"),
        (Some("nobody"), "28P01"),
        (Some("ghost"), "28P01"),
    ]);
}

/// What a name is challenged with, and how long both answers take.
async fn challenge(proxy: &Proxy, user: &str) -> (String, Duration) {
    let began = std::time::Instant::now();
    let mut stream = proxy.connect().await;
    stream
        .write_all(&startup(0x3_0000, &[("user", user)]))
        .await
        .unwrap();
    assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
    let first = sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc");
    stream.write_all(&first).await.unwrap();
    let (_, body) = read_message(&mut stream).await.unwrap();
    let first = String::from_utf8(body[4..].to_vec()).unwrap();
    let (nonce, rest) = first.split_once(',').unwrap();
    let proof = "A".repeat(43);
    let mut last = Vec::new();
    message(
        &mut last,
        b'p',
        format!("c=biws,{nonce},p={proof}=").as_bytes(),
    );
    stream.write_all(&last).await.unwrap();
    let answer = read_message(&mut stream).await.unwrap();
    let took = began.elapsed();
    assert_eq!(answer.0, b'E');
    (rest.to_owned(), took)
}

#[tokio::test]
async fn unknown_names_are_challenged_like_known_ones() {
    let one = Proxy::start(|_| ()).await;
    let other = Proxy::with(one.echo.identities.clone(), |_| ()).await;
    let known = challenge(&one, "analyst").await.0;
    let unknown = challenge(&one, "nobody").await.0;
    assert!(known.ends_with(",i=10000"), "{known}");
    assert!(unknown.ends_with(",i=10000"), "{unknown}");
    assert_eq!(known.len(), unknown.len());
    assert_eq!(unknown, challenge(&one, "nobody").await.0);
    // As after a restart, or at another replica.
    assert_eq!(unknown, challenge(&other, "nobody").await.0);
    assert_ne!(unknown, challenge(&one, "somebody").await.0);
}

#[tokio::test]
async fn unknown_names_are_refused_as_fast_as_known_ones() {
    let proxy = Proxy::start(|_| ()).await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        known.push(challenge(&proxy, "analyst").await.1);
        unknown.push(challenge(&proxy, "nobody").await.1);
    }
    known.sort();
    unknown.sort();
    let ratio = known[100].as_secs_f64() / unknown[100].as_secs_f64();
    // Deriving a key from a password, say, would make it ten times more.
    assert!(
        (0.5..2.0).contains(&ratio),
        "{:?} {:?}",
        known[100],
        unknown[100]
    );
}

#[tokio::test]
async fn tokens_are_asked_for_in_clear_text_where_nobody_else_reads_them() {
    let proxy = Proxy::start(|_| ()).await;
    let first = |user: &str| startup(0x3_0000, &[("user", user)]);
    let password = |text: &[u8]| {
        let mut out = Vec::new();
        message(&mut out, b'p', text);
        out
    };
    let asked = b"R\0\0\0\x08\0\0\0\x03";
    let answer = async |user: &str, text: &[u8]| {
        let answer = proxy.answer(&[first(user), password(text)].concat()).await;
        let rest = answer
            .strip_prefix(asked)
            .expect("a request for a password");
        rest.to_vec()
    };
    // Known or not, and whatever is wrong with the token.
    let known = answer("job", b"another\0").await;
    is_error(
        &known,
        "28P01",
        "password authentication failed for user \"job\"",
    );
    let unknown = answer("jobs", b"another\0").await;
    let without = |answer: &[u8]| String::from_utf8_lossy(&answer[5..]).replace("jobs", "job");
    assert_eq!(without(&unknown), without(&known));
    for malformed in [&b"a token"[..], b"a\0token\0", b"\xff\0", b""] {
        is_error(
            &answer("job", malformed).await,
            "08P01",
            "malformed password message",
        );
    }
    let long = [&[b'x'; 9000][..], b"\0"].concat();
    is_error(&answer("job", &long).await, "08P01", "invalid length");
    let sasl = [first("job"), sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc")].concat();
    let sasl = proxy.answer(&sasl).await;
    is_error(&sasl[asked.len()..], "08P01", "malformed password message");
    assert_eq!(proxy.echo.refusals.lock().unwrap().len(), 8);

    let mut stream = proxy.connect().await;
    stream
        .write_all(&[first("job"), password(b"a token\0")].concat())
        .await
        .unwrap();
    assert_eq!(
        read_message(&mut stream).await.unwrap(),
        (b'R', vec![0, 0, 0, 3])
    );
    assert_eq!(read_message(&mut stream).await.unwrap(), (b'R', vec![0; 4]));
    let (kind, _) = read_message(&mut stream).await.unwrap();
    assert_eq!(kind, b'S');
}

/// Where plain TCP is served to other machines, tokens still are not.
#[tokio::test]
async fn tokens_are_not_asked_for_where_others_read_along() {
    // Nothing is sent to that address: it tells which of this machine's is not loopback.
    let probe = std::net::UdpSocket::bind("0.0.0.0:0").unwrap();
    let own = probe
        .connect("192.0.2.1:9")
        .and_then(|()| probe.local_addr());
    let Some(own) = own.ok().filter(|own| !own.ip().is_loopback()) else {
        eprintln!("this machine has no address but loopback: not tested");
        return;
    };
    let proxy = Proxy::start(|listen| {
        listen.address = vec![(own.ip(), 0).into()];
        listen.plaintext = Plaintext::Anywhere;
    })
    .await;
    let answer = async |user: &str| {
        let mut stream = proxy.connect().await;
        let first = startup(0x3_0000, &[("user", user)]);
        stream.write_all(&first).await.unwrap();
        read_message(&mut stream).await.unwrap()
    };
    let (kind, body) = answer("job").await;
    assert_eq!(kind, b'E');
    let text = String::from_utf8_lossy(&body).into_owned();
    assert!(
        text.contains("C28000") && text.contains("tokens are taken by encrypted"),
        "{text}"
    );
    assert_eq!(answer("analyst").await.1[..4], [0, 0, 0, 10]);
}

#[tokio::test]
async fn who_guesses_is_refused_for_a_while_and_others_are_not() {
    let proxy = Proxy::start(|listen| {
        listen.failures = Failures {
            per_source: 2,
            per_identity: 100,
            pause: Duration::from_secs(2),
            longest: Duration::from_secs(2),
        };
    })
    .await;
    let log_in = async |user: &str, password: &str| {
        let connection = format!("user={user} sslmode=disable");
        proxy.psql(&connection, password).await
    };
    // One that began before the others failed does not get to guess either.
    let mut early = proxy.connect().await;
    early
        .write_all(&startup(0x3_0000, &[("user", "nobody")]))
        .await
        .unwrap();
    assert_eq!(read_message(&mut early).await.unwrap().0, b'R');
    for name in ["analyst", "nobody"] {
        for _ in 0..2 {
            fails(
                &log_in(name, "wrong").await,
                "password authentication failed",
            );
        }
        // A name that nobody has is as one that somebody has.
        let output = log_in(name, PASSWORD).await;
        fails(&output, "FATAL:  too many failed logins from 127.0.0.1");
        fails(&output, "HINT:  try again in 2 s");
    }
    let first = sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc");
    early.write_all(&first).await.unwrap();
    assert_eq!(read_message(&mut early).await.unwrap().0, b'R');
    let mut last = Vec::new();
    message(&mut last, b'p', b"c=biws,r=abc,p=AAAA");
    early.write_all(&last).await.unwrap();
    is_error(&rest(&mut early).await, "53300", "too many failed logins");
    proxy.refusals(&[
        (Some("analyst"), "28P01"),
        (Some("analyst"), "28P01"),
        (
            Some("analyst"),
            "53300 too many failed logins from 127.0.0.1",
        ),
        (Some("nobody"), "28P01"),
        (Some("nobody"), "28P01"),
        (
            Some("nobody"),
            "53300 too many failed logins from 127.0.0.1",
        ),
        (Some("nobody"), "53300"),
    ]);
    // On this machine, a name that fails stops no other; and it passes.
    let output = log_in("ghost", "wrong").await;
    fails(&output, "password authentication failed");
    tokio::time::sleep(Duration::from_secs(2)).await;
    says(&log_in("analyst", PASSWORD).await, "human:analyst Scram");
}

#[tokio::test]
async fn a_name_that_fails_makes_those_wait_who_have_not_been_here() {
    let proxy = Proxy::start(|listen| {
        listen.failures = Failures {
            per_source: u32::MAX,
            per_identity: 2,
            pause: Duration::from_millis(300),
            longest: Duration::from_secs(60),
        };
    })
    .await;
    let took = async |user: &str, password: &str| {
        let began = std::time::Instant::now();
        let connection = format!("user={user} sslmode=disable");
        let output = proxy.psql(&connection, password).await;
        (output, began.elapsed())
    };
    for _ in 0..2 {
        took("analyst", "wrong").await;
    }
    let pause = Duration::from_millis(300);
    let (output, time) = took("analyst", PASSWORD).await;
    says(&output, "human:analyst Scram");
    assert!(time >= pause, "{time:?}");
    // From where it has just logged in, the time is not waited for: the next failure
    // alone would make it 600 ms.
    took("analyst", "wrong").await;
    let (output, time) = took("analyst", PASSWORD).await;
    says(&output, "human:analyst Scram");
    assert!(time < 2 * pause, "{time:?}");
}
