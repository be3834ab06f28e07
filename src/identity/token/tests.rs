//! Tokens that are taken, and all that are not.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{Claims, Key, Revocation, TokenError, Tokens};
use crate::config;
use crate::identity::Kind;

/// When all of it happens.
pub(crate) const NOW: &str = "2026-06-01T12:00:00Z";

pub(crate) fn now() -> Timestamp {
    NOW.parse().unwrap()
}

/// Keys and revocations in a directory of their own.
pub(crate) struct Home {
    directory: tempfile::TempDir,
    pub(crate) config: config::Tokens,
    pub(crate) issuers: BTreeMap<String, config::Issuer>,
}

impl Home {
    /// With that many keys.
    pub(crate) fn new(keys: usize) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = |n| directory.path().join(format!("{n}.key"));
        for n in 0..keys {
            std::fs::write(path(n), Key::generate().unwrap()).unwrap();
        }
        Self {
            config: config::Tokens {
                keys: (0..keys).map(path).collect(),
                lifetime: Duration::from_secs(3600),
                revoked: directory.path().join("revoked.jsonl"),
                issuer: "pgveil".into(),
            },
            issuers: BTreeMap::new(),
            directory,
        }
    }

    pub(crate) fn tokens(&self) -> Tokens {
        Tokens::load(&self.config, &self.issuers, &Default::default(), None).unwrap()
    }

    pub(crate) fn key(&self, n: usize) -> Key {
        Key::read(&self.config.keys[n]).unwrap()
    }
}

/// Of that identity, for ten minutes.
pub(crate) fn claims(sub: &str) -> Claims {
    Claims {
        iss: "pgveil".into(),
        aud: "pgveil".into(),
        jti: "the-id".into(),
        iat: now().as_second(),
        exp: now().as_second() + 600,
        sub: sub.into(),
        kind: Kind::Agent,
        act: None,
        amr: Default::default(),
        credential: None,
        roles: None,
        dataset: None,
        purpose: None,
        run: None,
    }
}

/// Signed as the header says, or not at all.
fn forged(home: &Home, header: &Value, payload: &str) -> String {
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let signed = format!("{}.{}", part(header.to_string()), part(payload.into()));
    let signature = home.key(0).sign(signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

fn header(home: &Home) -> Value {
    json!({ "alg": "EdDSA", "kid": home.key(0).public().id, "typ": "pgveil+jwt" })
}

fn check(home: &Home, token: &str, why: TokenError) {
    let error = home.tokens().verify(token, now()).unwrap_err();
    assert_eq!(error, why, "{token}");
}

#[test]
fn what_is_minted_is_taken_until_it_expires() {
    let home = Home::new(2);
    let claims = claims("trainer");
    for n in [0, 1] {
        let token = home.key(n).mint(&claims);
        let tokens = home.tokens();
        let verified = tokens.verify(&token, now()).unwrap();
        assert_eq!(&*verified.actor.0, "trainer");
        assert!(verified.on_behalf_of.is_none());
        assert_eq!(&*tokens.id(&token).unwrap(), "the-id");
        let end = Timestamp::from_second(claims.exp).unwrap();
        tokens
            .verify(&token, end - SignedDuration::from_nanos(1))
            .unwrap();
        let late = tokens.verify(&token, end).unwrap_err();
        assert_eq!(late, TokenError::Expired(end));
        // Its id can be had all the same.
        tokens.id(&token).unwrap();
    }
}

#[test]
fn a_key_that_openssl_made_signs() {
    let home = Home::new(1);
    let path = home.directory.path().join("openssl.key");
    let made = std::process::Command::new("openssl")
        .args(["genpkey", "-algorithm", "ed25519", "-out"])
        .arg(&path)
        .status()
        .unwrap();
    assert!(made.success());
    let token = Key::read(&path).unwrap().mint(&claims("trainer"));
    check(&home, &token, TokenError::Key);
    let mut config = home.config.clone();
    config.keys.push(path);
    let tokens = Tokens::load(&config, &home.issuers, &Default::default(), None).unwrap();
    tokens.verify(&token, now()).unwrap();
}

/// RFC 8037, appendix A: the key's thumbprint and the signature are the RFC's.
#[test]
fn thumbprints_are_those_of_the_rfc() {
    let x = URL_SAFE_NO_PAD
        .decode("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")
        .unwrap();
    let public = super::jws::Public::new(&x);
    assert_eq!(public.id, "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k");
}

#[test]
fn what_is_no_token_of_ours() {
    let home = Home::new(1);
    let good = home.key(0).mint(&claims("trainer"));
    assert!(home.tokens().verify(&good, now()).is_ok());
    let payload = serde_json::to_string(&claims("trainer")).unwrap();
    assert!(
        home.tokens()
            .verify(&forged(&home, &header(&home), &payload), now())
            .is_ok()
    );
    let parts: Vec<&str> = good.split('.').collect();

    let shape = "it does not have three parts";
    for token in ["", "secret", "a.b", "a.b.c.d", &format!("{good}.")] {
        check(&home, token, TokenError::Malformed(shape));
    }
    let base = "a part of it is not base64url";
    for token in [
        format!("{}=.{}.{}", parts[0], parts[1], parts[2]),
        format!("{}.{}.{}=", parts[0], parts[1], parts[2]),
        format!("{}.{} .{}", parts[0], parts[1], parts[2]),
        format!("{}.{}+/.{}", parts[0], parts[1], parts[2]),
        format!(" {good}"),
        format!("{good}\n"),
    ] {
        check(&home, &token, TokenError::Malformed(base));
    }
    let long = format!("{}.{}.{}", parts[0], "A".repeat(9000), parts[2]);
    check(&home, &long, TokenError::Malformed("it is too long"));
    check(
        &home,
        "..",
        TokenError::Malformed("its header is not one of ours"),
    );

    // Whatever the header says beside what ours do is a way to be fooled.
    let with = |change: fn(&mut Value)| {
        let mut header = header(&home);
        change(&mut header);
        forged(&home, &header, &payload)
    };
    let unknown = TokenError::Malformed("its header is not one of ours");
    check(
        &home,
        &with(|it| it["crit"] = json!(["exp"])),
        unknown.clone(),
    );
    check(&home, &with(|it| it["jwk"] = json!({})), unknown.clone());
    check(
        &home,
        &with(|it| it["jku"] = json!("https://example.com")),
        unknown.clone(),
    );
    check(&home, &with(|it| it["alg"] = json!(1)), unknown.clone());
    check(&home, &with(|it| *it = json!([])), unknown.clone());
    let twice = format!(
        r#"{{"alg":"none","alg":"EdDSA","kid":"{}","typ":"pgveil+jwt"}}"#,
        home.key(0).public().id
    );
    let twice = format!(
        "{}.{}.{}",
        URL_SAFE_NO_PAD.encode(twice),
        parts[1],
        parts[2]
    );
    check(&home, &twice, unknown);
    for name in ["none", "None", "HS256", "RS256", "ES256", "eddsa", ""] {
        let mut header = header(&home);
        header["alg"] = json!(name);
        check(
            &home,
            &forged(&home, &header, &payload),
            TokenError::Algorithm,
        );
    }
    check(
        &home,
        &with(|it| it["typ"] = json!("JWT")),
        TokenError::Type,
    );
    check(&home, &with(|it| it["kid"] = json!("")), TokenError::Key);
    check(
        &home,
        &Home::new(1).key(0).mint(&claims("trainer")),
        TokenError::Key,
    );

    // Signed by somebody else, over something else, or not at all.
    let other = Home::new(1);
    let theirs = forged(&other, &header(&home), &payload);
    check(&home, &theirs, TokenError::Signature);
    let changed = URL_SAFE_NO_PAD.encode(payload.replace("trainer", "auditor"));
    check(
        &home,
        &format!("{}.{changed}.{}", parts[0], parts[2]),
        TokenError::Signature,
    );
    check(
        &home,
        &format!("{}.{}.", parts[0], parts[1]),
        TokenError::Signature,
    );
    let short = &parts[2][..parts[2].len() - 2];
    check(
        &home,
        &format!("{}.{}.{short}", parts[0], parts[1]),
        TokenError::Signature,
    );

    let none = Tokens::default().verify(&good, now()).unwrap_err();
    assert_eq!(none, TokenError::None);
}

#[test]
fn claims_that_are_none() {
    let home = Home::new(1);
    let with = |change: &dyn Fn(&mut Value)| {
        let mut claims = serde_json::to_value(claims("trainer")).unwrap();
        change(&mut claims);
        forged(&home, &header(&home), &claims.to_string())
    };
    for (name, value) in [
        ("sub", json!(1)),
        ("sub", json!(null)),
        ("kind", json!("root")),
        ("iat", json!("now")),
        ("exp", json!(1.5)),
        ("exp", json!(i64::MAX)),
        ("aud", json!(["pgveil"])),
        ("roles", json!("training")),
        ("act", json!("analyst")),
        ("act", json!({ "sub": "analyst" })),
        (
            "act",
            json!({ "sub": "a", "kind": "agent", "act": { "sub": "b", "kind": "agent" } }),
        ),
        ("admin", json!(true)),
    ] {
        let token = with(&|claims| claims[name] = value.clone());
        check(&home, &token, TokenError::Claims);
    }
    for name in ["iss", "aud", "jti", "iat", "exp", "sub", "kind"] {
        let token = with(&|claims| {
            claims.as_object_mut().unwrap().remove(name);
        });
        check(&home, &token, TokenError::Claims);
    }
    let twice = serde_json::to_string(&claims("trainer")).unwrap();
    let twice = twice.replace("{\"iss\"", "{\"sub\":\"auditor\",\"iss\"");
    check(
        &home,
        &forged(&home, &header(&home), &twice),
        TokenError::Claims,
    );
    check(
        &home,
        &forged(&home, &header(&home), "[]"),
        TokenError::Claims,
    );

    check(
        &home,
        &with(&|claims| claims["iss"] = json!("other")),
        TokenError::Issuer,
    );
    check(
        &home,
        &with(&|claims| claims["aud"] = json!("other")),
        TokenError::Audience,
    );
    let at = now().as_second();
    let times = |iat: i64, exp: i64| {
        with(&|claims| {
            claims["iat"] = json!(iat);
            claims["exp"] = json!(exp);
        })
    };
    let moment = |second| Timestamp::from_second(second).unwrap();
    check(&home, &times(at - 600, at), TokenError::Expired(moment(at)));
    check(
        &home,
        &times(at, at - 1),
        TokenError::Expired(moment(at - 1)),
    );
    check(&home, &times(at, at + 3601), TokenError::Lifetime);
    check(&home, &times(at - 3601, at + 3600), TokenError::Lifetime);
    check(
        &home,
        &times(at + 61, at + 600),
        TokenError::Early(moment(at + 61)),
    );
    // A clock that is a little ahead.
    let tokens = home.tokens();
    tokens.verify(&times(at + 60, at + 600), now()).unwrap();
    tokens.verify(&times(at, at + 3600), now()).unwrap();
}

#[test]
fn what_is_revoked_stays_so() {
    let home = Home::new(2);
    let path = &home.config.revoked;
    let before = home.tokens();
    assert_eq!(before.revoked(), 0);
    let token = home.key(1).mint(&claims("trainer"));
    let taken = before.verify(&token, now()).unwrap().token;
    let revoke = |revocation: Revocation| revocation.append(path).unwrap();
    let identity = |name: &str, at: Timestamp| Revocation::Identity {
        name: name.into(),
        at,
    };

    revoke(Revocation::Token {
        id: "another".into(),
        at: now(),
    });
    revoke(identity("trainer", now() - SignedDuration::from_secs(61)));
    let tokens = Tokens::load(
        &home.config,
        &home.issuers,
        &Default::default(),
        Some(&before),
    )
    .unwrap();
    tokens.verify(&token, now()).unwrap();
    // Where it was issued, the clock may be a minute ahead.
    revoke(identity("trainer", now() - SignedDuration::from_secs(60)));
    let tokens = Tokens::load(
        &home.config,
        &home.issuers,
        &Default::default(),
        Some(&tokens),
    )
    .unwrap();
    check(&home, &token, TokenError::Revoked);
    let still = |tokens: &Tokens| tokens.admits(&taken, ["trainer"], now());
    assert_eq!(still(&tokens), Err(TokenError::Revoked));
    // By whom it acts for, or by its id.
    assert_eq!(
        tokens.admits(&taken, ["a", "trainer"], now()),
        Err(TokenError::Revoked)
    );
    assert_eq!(tokens.admits(&taken, ["a"], now()), Ok(()));
    let id: Arc<str> = "the-id".into();
    revoke(Revocation::Token { id, at: now() });
    assert_eq!(
        home.tokens().admits(&taken, ["a"], now()),
        Err(TokenError::Revoked)
    );
    assert_eq!(home.tokens().revoked(), 3);

    // A file that is gone, shorter, or no longer one is no pardon.
    let whole = std::fs::read_to_string(path).unwrap();
    let refused = |text: Option<&str>| {
        match text {
            Some(text) => std::fs::write(path, text).unwrap(),
            None => std::fs::remove_file(path).unwrap(),
        }
        Tokens::load(
            &home.config,
            &home.issuers,
            &Default::default(),
            Some(&tokens),
        )
        .unwrap_err()
        .to_string()
    };
    assert!(refused(None).contains("are gone"));
    assert!(refused(Some("")).contains("are gone"));
    assert!(refused(Some(&format!("{whole}{{\"token\":"))).contains("line 5 is no revocation"));
    // What can be read of it counts, and what comes after a line that was cut off.
    let another = Revocation::Token {
        id: "later".into(),
        at: now(),
    };
    let said = another.append(path).unwrap_err().to_string();
    assert!(said.contains("line 5 is no revocation"), "{said}");
    assert_eq!(
        tokens
            .despite(&home.config, &Default::default())
            .unwrap()
            .revoked(),
        4
    );
    std::fs::remove_file(path).unwrap();
    assert!(tokens.despite(&home.config, &Default::default()).is_none());
    another.append(path).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&path.metadata().unwrap().permissions());
    assert_eq!(mode & 0o777, 0o644);
    assert_eq!(
        tokens
            .despite(&home.config, &Default::default())
            .unwrap()
            .revoked(),
        3
    );
    std::fs::write(path, format!("{}\n\n", whole.trim_end())).unwrap();
    Tokens::load(
        &home.config,
        &home.issuers,
        &Default::default(),
        Some(&tokens),
    )
    .unwrap();

    // A key that is gone takes its tokens with it.
    let mut config = home.config.clone();
    config.keys.pop();
    let fewer = Tokens::load(&config, &home.issuers, &Default::default(), Some(&tokens)).unwrap();
    let other = super::Token {
        id: "other".into(),
        ..taken
    };
    assert_eq!(tokens.admits(&other, ["a"], now()), Ok(()));
    assert_eq!(fewer.admits(&other, ["a"], now()), Err(TokenError::Key));
}

#[test]
fn keys_that_are_none_are_named_and_not_shown() {
    let home = Home::new(1);
    let path = home.directory.path().join("bad.key");
    let pem = std::fs::read_to_string(&home.config.keys[0]).unwrap();
    let inside = pem.lines().nth(1).unwrap().to_owned();
    let ec = rcgen::KeyPair::generate().unwrap().serialize_pem();
    for text in [
        "",
        "x",
        &pem.replace("PRIVATE", "PUBLIC"),
        &pem.replace(&inside, &inside[8..]),
        &ec,
    ] {
        std::fs::write(&path, text).unwrap();
        let error = Key::read(&path).unwrap_err().to_string();
        assert!(
            error.contains("bad.key") && !error.contains(&inside[8..]),
            "{error}"
        );
    }
    assert!(Key::read(Path::new("/nowhere.key")).is_err());
    let shown = format!("{:?}", home.key(0));
    assert!(
        shown.len() < 60 && shown.contains(&home.key(0).public().id),
        "{shown}"
    );
}
