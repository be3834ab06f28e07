//! The exchange, by a client that may lie.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;

use super::*;
use crate::identity::stand_in::StandIns;

/// The client's side of one exchange, for tests: everything a liar may vary.
pub(crate) fn client_final(
    password: &str,
    bare: &str,
    server_first: &str,
    binding: &[u8],
) -> String {
    let mut parts = server_first.split(',');
    let nonce = parts.next().unwrap().strip_prefix("r=").unwrap();
    let salt = parts.next().unwrap().strip_prefix("s=").unwrap();
    let iterations = parts.next().unwrap().strip_prefix("i=").unwrap();
    let mut salted = [0; 32];
    ring::pbkdf2::derive(
        ring::pbkdf2::PBKDF2_HMAC_SHA256,
        iterations.parse().unwrap(),
        &STANDARD.decode(salt).unwrap(),
        password.as_bytes(),
        &mut salted,
    );
    let sign = |key: &[u8], text: &str| {
        array(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref())
    };
    let client_key = sign(&salted, "Client Key");
    let without_proof = format!("c={},r={nonce}", STANDARD.encode(binding));
    let transcript = format!("{bare},{server_first},{without_proof}");
    let mut proof = sign(&sha256(&client_key), &transcript);
    for (proof, key) in proof.iter_mut().zip(client_key) {
        *proof ^= key;
    }
    format!("{without_proof},p={}", STANDARD.encode(proof))
}

const BARE: &str = "n=,r=abc";

fn scram(known: bool, endpoint: Option<&[u8]>) -> Scram {
    let verifier = Verifier::derive("pencil", 4096).unwrap();
    let stand_in = StandIns::after([&verifier], []).of("nobody");
    Scram::new(
        known.then_some(&verifier),
        &stand_in,
        endpoint.map(Into::into),
    )
    .unwrap()
}

fn run(
    scram: Scram,
    mechanism: &str,
    header: &str,
    password: &str,
    endpoint: &[u8],
) -> Result<Proof, ScramError> {
    let (challenge, first) = scram.first(mechanism, format!("{header}{BARE}").as_bytes())?;
    let mut binding = header.as_bytes().to_vec();
    binding.extend_from_slice(endpoint);
    challenge.finish(client_final(password, BARE, &first, &binding).as_bytes())
}

#[test]
fn proves_with_and_without_binding() {
    let plain = run(scram(true, None), SCRAM_SHA_256, "n,,", "pencil", b"").unwrap();
    assert_eq!(plain.method, Method::Scram);
    assert!(plain.server_final.starts_with("v="));
    let proof = run(scram(true, None), SCRAM_SHA_256, "y,,", "pencil", b"");
    assert_eq!(proof.unwrap().method, Method::Scram);
    let proof = run(
        scram(true, Some(b"cert")),
        SCRAM_SHA_256,
        "n,,",
        "pencil",
        b"",
    );
    assert_eq!(proof.unwrap().method, Method::Scram);
    let bound = scram(true, Some(b"cert"));
    let bound = run(bound, SCRAM_SHA_256_PLUS, BOUND_HEADER, "pencil", b"cert").unwrap();
    assert_eq!(bound.method, Method::ScramPlus);
}

#[test]
fn refuses_liars() {
    let check =
        |known, endpoint: Option<&[u8]>, mechanism, header, password, seen: &[u8], error| {
            assert_eq!(
                run(scram(known, endpoint), mechanism, header, password, seen).unwrap_err(),
                error,
                "{mechanism} {header}"
            );
        };
    let cert: Option<&[u8]> = Some(b"cert");
    check(
        true,
        None,
        SCRAM_SHA_256,
        "n,,",
        "pencils",
        b"",
        ScramError::Proof,
    );
    check(
        false,
        None,
        SCRAM_SHA_256,
        "n,,",
        "pencil",
        b"",
        ScramError::Proof,
    );
    check(
        true,
        cert,
        SCRAM_SHA_256_PLUS,
        BOUND_HEADER,
        "pencil",
        b"other",
        ScramError::Binding,
    );
    check(
        true,
        cert,
        SCRAM_SHA_256,
        "y,,",
        "pencil",
        b"",
        ScramError::Downgrade,
    );
    check(
        true,
        cert,
        SCRAM_SHA_256_PLUS,
        "n,,",
        "pencil",
        b"",
        ScramError::Flag,
    );
    check(
        true,
        cert,
        SCRAM_SHA_256_PLUS,
        "y,,",
        "pencil",
        b"",
        ScramError::Flag,
    );
    check(
        true,
        cert,
        SCRAM_SHA_256,
        BOUND_HEADER,
        "pencil",
        b"cert",
        ScramError::Flag,
    );
    check(
        true,
        None,
        SCRAM_SHA_256_PLUS,
        BOUND_HEADER,
        "pencil",
        b"",
        ScramError::Mechanism,
    );
    check(
        true,
        None,
        "PLAIN",
        "n,,",
        "pencil",
        b"",
        ScramError::Mechanism,
    );
    check(
        true,
        None,
        SCRAM_SHA_256,
        "n,a=auditor,",
        "pencil",
        b"",
        ScramError::AuthorizationIdentity,
    );
}

#[test]
fn refuses_malformed_firsts() {
    for message in [
        &b""[..],
        b"n",
        b"n,",
        b"n,,",
        b"n,,n=",
        b"n,,n=,r=",
        b"n,,m=x,n=,r=abc",
        b"n,,r=abc",
        b"x,,n=,r=abc",
        b"p=tls-unique,,n=,r=abc",
        b"n,,n=,r=a\x01",
        b"n,,n=,r=\xff",
        b"n,,n=,r=abc\0",
        b"n,,n=,r=a b",
        "n,,n=,r=é".as_bytes(),
    ] {
        let error = scram(true, None).first(SCRAM_SHA_256, message).unwrap_err();
        assert!(
            matches!(error, ScramError::Malformed(_)),
            "{message:?} {error}"
        );
    }
}

#[test]
fn refuses_malformed_finals() {
    let vary = |change: &dyn Fn(String) -> String| {
        let (challenge, first) = scram(true, None)
            .first(SCRAM_SHA_256, b"n,,n=,r=abc")
            .unwrap();
        let good = client_final("pencil", BARE, &first, b"n,,");
        challenge.finish(change(good).as_bytes())
    };
    assert!(vary(&|good| good).is_ok());
    let malformed = |change: &dyn Fn(String) -> String| {
        let error = vary(change).unwrap_err();
        assert!(matches!(error, ScramError::Malformed(_)), "{error}");
    };
    malformed(&|_| String::new());
    malformed(&|_| "c=biws".into());
    malformed(&|_| ",p=".into());
    malformed(&|good| good.replace(",p=", ",q="));
    malformed(&|good| good.replace("r=abc", "r=abd"));
    malformed(&|good| format!("{good}AAAA"));
    malformed(&|good| good[..good.len() - 8].to_owned());
    malformed(&|good| format!("{good}\0"));
    assert_eq!(
        vary(&|good| good.replace(",p=", ",x=1,p=")).unwrap_err(),
        ScramError::Proof,
        "an extension is part of what is signed"
    );
    assert_eq!(
        vary(&|good| good.replace("c=biws", "c=eSws")).unwrap_err(),
        ScramError::Binding
    );
}

#[test]
fn unknown_names_look_like_known_ones() {
    let verifier = Verifier::derive("pencil", 10_000).unwrap();
    let stand_ins = StandIns::after([&verifier], []);
    let first = |known: Option<&Verifier>| {
        let scram = Scram::new(known, &stand_ins.of("nobody"), None).unwrap();
        let (_, first) = scram.first(SCRAM_SHA_256, b"n,,n=,r=abc").unwrap();
        let (nonce, rest) = first.split_once(",s=").unwrap();
        (
            nonce.len(),
            rest.len(),
            rest.split_once(",i=").unwrap().1.to_owned(),
        )
    };
    assert_eq!(first(Some(&verifier)), first(None));
}

/// Not even whoever knew what a stand-in is made of is let in by it.
#[test]
fn a_stand_in_is_never_proved() {
    let verifier = Verifier::derive("pencil", 4096).unwrap();
    let scram = Scram::new(None, &verifier, None).unwrap();
    let refused = run(scram, SCRAM_SHA_256, "n,,", "pencil", b"");
    assert_eq!(refused.unwrap_err(), ScramError::Proof);
}

/// The work of a refused exchange, in hashes, does not depend on whether the name
/// is known; what little else differs is far below what a network shows. A bound of
/// a quarter is generous: without the stand-in made for everybody, or with a key
/// derived, it is a multiple.
#[test]
fn unknown_names_take_as_long_as_known_ones() {
    let verifier = Verifier::derive("pencil", 4096).unwrap();
    let stand_ins = StandIns::after([&verifier], []);
    let once = |known: bool| {
        let began = std::time::Instant::now();
        let stand_in = stand_ins.of("nobody");
        let scram = Scram::new(known.then_some(&verifier), &stand_in, None).unwrap();
        let (challenge, first) = scram.first(SCRAM_SHA_256, b"n,,n=,r=abc").unwrap();
        let nonce = first.split(',').next().unwrap();
        let proof = STANDARD.encode([7; 32]);
        let last = format!("c=biws,{nonce},p={proof}");
        assert_eq!(
            challenge.finish(last.as_bytes()).unwrap_err(),
            ScramError::Proof
        );
        began.elapsed()
    };
    let (mut known, mut unknown): (Vec<_>, Vec<_>) =
        (0..2_000).map(|_| (once(true), once(false))).unzip();
    known.sort();
    unknown.sort();
    let (known, unknown) = (known[1_000].as_secs_f64(), unknown[1_000].as_secs_f64());
    assert!(
        (0.75..1.33).contains(&(known / unknown)),
        "{known} s when known, {unknown} s when not"
    );
}
