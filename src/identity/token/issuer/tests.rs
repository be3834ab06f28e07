//! An identity provider of the tests' own: its tokens that are taken, and all that
//! are not.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair,
};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde_json::{Value, json};

use crate::config::{self, Algorithm};
use crate::identity::Kind;
use crate::identity::token::tests::{Home, claims as own_claims, now};
use crate::identity::token::{Jwks, TokenError, Tokens};

/// One key of each kind, made once.
struct Keys {
    rsa: RsaKeyPair,
    p256: EcdsaKeyPair,
    ed25519: Ed25519KeyPair,
}

fn keys() -> &'static Keys {
    static KEYS: OnceLock<Keys> = OnceLock::new();
    KEYS.get_or_init(|| {
        let random = SystemRandom::new();
        let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
        let p256 = EcdsaKeyPair::generate_pkcs8(algorithm, &random).unwrap();
        let ed25519 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
        Keys {
            rsa: rsa(2048),
            p256: EcdsaKeyPair::from_pkcs8(algorithm, p256.as_ref(), &random).unwrap(),
            ed25519: Ed25519KeyPair::from_pkcs8(ed25519.as_ref()).unwrap(),
        }
    })
}

fn rsa(bits: u16) -> RsaKeyPair {
    let made = Command::new("openssl")
        .args(["genpkey", "-algorithm", "RSA", "-pkeyopt"])
        .arg(format!("rsa_keygen_bits:{bits}"))
        .output()
        .unwrap();
    let der = PrivatePkcs8KeyDer::from_pem_slice(&made.stdout).unwrap();
    RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()).unwrap()
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn jwks() -> Value {
    let keys = keys();
    let rsa: PublicKeyComponents<Vec<u8>> = keys.rsa.public().into();
    let point = keys.p256.public_key().as_ref();
    // As some do, a zero before the modulus.
    let n = [vec![0], rsa.n].concat();
    json!({ "keys": [
        { "kty": "RSA", "kid": "r", "use": "sig", "alg": "RS256", "n": encoded(n), "e": encoded(rsa.e) },
        { "kty": "EC", "kid": "p", "crv": "P-256", "x": encoded(&point[1..33]), "y": encoded(&point[33..]) },
        { "kty": "OKP", "kid": "e", "crv": "Ed25519", "x": encoded(keys.ed25519.public_key()) },
        { "kty": "oct", "kid": "secret", "k": encoded("secret") },
        { "kty": "OKP", "kid": "encrypts", "use": "enc", "crv": "Ed25519", "x": encoded(keys.ed25519.public_key()) },
        { "kty": "OKP", "kid": "named otherwise", "alg": "RS256", "crv": "Ed25519", "x": encoded(keys.ed25519.public_key()) },
        { "kty": "OKP", "crv": "Ed25519", "x": encoded(keys.ed25519.public_key()) },
    ] })
}

/// A token with that header and those claims, signed by the kind of key that `by` says.
fn signed(by: &str, header: &Value, claims: &Value) -> String {
    let text = format!(
        "{}.{}",
        encoded(header.to_string()),
        encoded(claims.to_string())
    );
    let (keys, random, bytes) = (keys(), SystemRandom::new(), text.as_bytes());
    let signature = match by {
        "r" => {
            let mut signature = vec![0; keys.rsa.public().modulus_len()];
            keys.rsa
                .sign(&RSA_PKCS1_SHA256, &random, bytes, &mut signature)
                .unwrap();
            signature
        }
        "p" => keys.p256.sign(&random, bytes).unwrap().as_ref().to_vec(),
        "e" => keys.ed25519.sign(bytes).as_ref().to_vec(),
        // The public key's text as a shared secret, as libraries have been fooled by.
        "hmac" => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, jwks().to_string().as_bytes());
            ring::hmac::sign(&key, bytes).as_ref().to_vec()
        }
        _ => Vec::new(),
    };
    format!("{text}.{}", encoded(signature))
}

fn header(kid: &str) -> Value {
    let alg = match kid {
        "r" => "RS256",
        "p" => "ES256",
        _ => "EdDSA",
    };
    json!({ "alg": alg, "kid": kid, "typ": "at+jwt", "x5t": "ignored" })
}

fn claims() -> Value {
    let now = now().as_second();
    json!({
        "iss": "https://login.corp.example", "aud": ["other", "pgveil"], "sub": "8f1b",
        "email": "jo@corp.example", "groups": ["data", "staff"],
        "iat": now, "nbf": now, "exp": now + 600, "jti": "theirs", "azp": "ignored",
    })
}

pub(crate) fn config(jwks: &Path) -> config::Issuer {
    config::Issuer {
        issuer: "https://login.corp.example".into(),
        audience: "pgveil".into(),
        jwks: config::Jwks::File(jwks.to_owned()),
        refresh: Duration::from_secs(600),
        stale: Duration::from_secs(86400),
        ca: None,
        names: vec!["*@corp.example".into()],
        name: "email".into(),
        groups: Some("groups".into()),
        group_names: None,
        oauth: false,
        actors: Vec::new(),
        scope: "openid".into(),
        amr: ["mfa", "hwk"].map(str::to_owned).into(),
        acr: ["high".to_owned()].into(),
        kind: Kind::Human,
        algorithms: vec![Algorithm::Rs256, Algorithm::Es256, Algorithm::EdDsa],
        skew: Duration::from_secs(60),
    }
}

/// A proxy's keys, and beside them the provider's.
fn home() -> Home {
    let mut home = Home::new(1);
    let path = home.config.revoked.with_file_name("jwks.json");
    std::fs::write(&path, jwks().to_string()).unwrap();
    home.issuers = BTreeMap::from([("corp".to_owned(), config(&path))]);
    home
}

/// A home whose provider may name agents as acting, and such a token of `other` on behalf
/// of `jo@corp.example`.
pub(crate) fn home_and_delegated() -> (Home, String) {
    let mut home = home();
    home.issuers.get_mut("corp").unwrap().actors = vec!["other".into(), "job-*".into()];
    let mut claims = claims();
    claims["act"] = json!({ "sub": "other" });
    (home, signed("e", &header("e"), &claims))
}

/// A home, and a good token of the provider's for `jo@corp.example`.
pub(crate) fn home_and_token() -> (Home, String) {
    (home(), signed("e", &header("e"), &claims()))
}

#[test]
fn each_algorithm_is_verified_by_its_own_key() {
    let tokens = home().tokens();
    for kid in ["r", "p", "e"] {
        let token = signed(kid, &header(kid), &claims());
        let verified = tokens.verify(&token, now()).unwrap();
        assert_eq!(&*verified.actor.0, "jo@corp.example");
        assert_eq!(verified.actor.1, Kind::Human);
        let groups: Vec<_> = verified.token.groups.iter().map(|one| &**one).collect();
        assert_eq!(groups, ["data", "staff"]);
        assert_eq!(verified.token.issuer.as_deref(), Some("corp"));
        assert_eq!(&*verified.token.id, "theirs");
        for other in ["r", "p", "e", "hmac", ""] {
            if other != kid {
                let token = signed(other, &header(kid), &claims());
                assert_eq!(
                    tokens.verify(&token, now()).unwrap_err(),
                    TokenError::Signature
                );
            }
        }
    }
    // Beside them, our own.
    let home = home();
    let own = home.key(0).mint(&own_claims("trainer"));
    assert!(
        home.tokens()
            .verify(&own, now())
            .unwrap()
            .token
            .issuer
            .is_none()
    );
}

/// Keys that have been fetched, and another in place of one, under the same id.
#[test]
fn another_key_is_another_under_the_same_id_too() {
    let mut home = home();
    let corp = home.issuers.get_mut("corp").unwrap();
    corp.jwks = config::Jwks::Discovered;
    let load = |jwks: Option<&Value>| {
        let none = Jwks::none(std::sync::Arc::default());
        let jwks = jwks.map_or(none.clone(), |text| {
            none.of(text.to_string().as_bytes()).unwrap()
        });
        let fetched = [("corp".to_owned(), jwks)].into();
        Tokens::load(&home.config, &home.issuers, &fetched, None).unwrap()
    };
    let text = signed("e", &header("e"), &claims());
    assert_eq!(
        load(None).verify(&text, now()).unwrap_err(),
        TokenError::Key
    );
    let token = load(Some(&jwks())).verify(&text, now()).unwrap().token;
    let admits = |jwks: &Value| load(Some(jwks)).admits(&token, ["jo@corp.example"], now());
    assert_eq!(admits(&jwks()), Ok(()));
    let mut other = jwks();
    other["keys"][2]["x"] = json!(encoded([7; 32]));
    assert_eq!(admits(&other), Err(TokenError::Key));
    let none = Jwks::none(std::sync::Arc::default());
    for (text, why) in [
        ("[]", "it is no JSON object"),
        ("{}", "it has no `keys`"),
        ("{\"keys\":{}}", "it has no `keys`"),
    ] {
        assert_eq!(none.of(text.as_bytes()).err(), Some(why), "{text}");
    }
    // Whoever publishes no key of use has taken back all of them.
    for text in ["{\"keys\":[]}", "{\"keys\":[{\"kty\":\"oct\"}]}"] {
        assert!(none.of(text.as_bytes()).unwrap().is_empty(), "{text}");
    }
    // Whichever the order they are listed in, they are the same.
    let mut reversed = jwks();
    reversed["keys"].as_array_mut().unwrap().reverse();
    let of = |jwks: &Value| none.of(jwks.to_string().as_bytes()).unwrap();
    assert!(of(&jwks()).is(&of(&reversed)));
    assert!(!of(&jwks()).is(&of(&other)));
}

#[test]
fn who_acts_is_whom_the_configuration_lets_the_issuer_name() {
    let (home, token) = home_and_delegated();
    let verified = home.tokens().verify(&token, now()).unwrap();
    assert_eq!(verified.actor, ("other".into(), Kind::Agent));
    assert_eq!(verified.on_behalf_of.unwrap().0, "jo@corp.example".into());
    let with = |more: Value| {
        let mut claims = claims();
        let all = more.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(all);
        home.tokens()
            .verify(&signed("e", &header("e"), &claims), now())
    };
    let issuer = "https://login.corp.example";
    for more in [
        json!({ "act": { "sub": "job-7" } }),
        json!({ "act": { "sub": "other", "iss": issuer, "client_id": "x" } }),
        json!({ "act": { "sub": "other" }, "may_act": { "sub": "other" } }),
        // By itself, it is for whoever issues another token by this one.
        json!({ "may_act": { "sub": "anybody" } }),
    ] {
        assert!(with(more.clone()).is_ok(), "{more}");
    }
    for (more, why) in [
        (
            json!({ "act": { "sub": "trainer" } }),
            TokenError::Delegation,
        ),
        (json!({ "act": { "sub": "job-" } }), TokenError::Delegation),
        (
            json!({ "act": { "sub": "other", "act": { "sub": "job-7" } } }),
            TokenError::Delegation,
        ),
        (
            json!({ "act": { "sub": "other", "iss": "https://other.example" } }),
            TokenError::Delegation,
        ),
        (
            json!({ "act": { "sub": "other" }, "may_act": { "sub": "job-7" } }),
            TokenError::MayAct,
        ),
        (
            json!({ "act": { "sub": "other" }, "may_act": "other" }),
            TokenError::Claims,
        ),
        (
            json!({ "act": { "sub": "other" }, "may_act": {} }),
            TokenError::Claims,
        ),
        (json!({ "act": { "sub": ["other"] } }), TokenError::Claims),
        (json!({ "act": {} }), TokenError::Claims),
        (json!({ "act": "other" }), TokenError::Claims),
        (json!({ "act": null }), TokenError::Claims),
        (json!({ "act": [{ "sub": "other" }] }), TokenError::Claims),
    ] {
        assert_eq!(with(more.clone()).unwrap_err(), why, "{more}");
    }
}

/// What counts as a second factor is what the configuration says.
#[test]
fn second_factors_are_those_that_are_configured() {
    let home = home();
    let with = |more: Value| {
        let mut claims = claims();
        let all = more.as_object().unwrap().clone();
        claims.as_object_mut().unwrap().extend(all);
        let token = signed("e", &header("e"), &claims);
        home.tokens().verify(&token, now())
    };
    let at = now().as_second();
    let moment = |second| jiff::Timestamp::from_second(second).unwrap();
    for (more, proved) in [
        (json!({}), None),
        (json!({ "amr": ["pwd"] }), None),
        (json!({ "amr": [], "acr": "low" }), None),
        // When it was issued is not when it was proved: it may have been refreshed.
        (json!({ "amr": ["pwd", "mfa"] }), Some(0)),
        (json!({ "acr": "high", "iat": at }), Some(0)),
        (
            json!({ "amr": ["hwk"], "auth_time": at - 900 }),
            Some(at - 900),
        ),
        (
            json!({ "acr": "high", "auth_time": at as f64 - 90.5 }),
            Some(at - 91),
        ),
        // Clocks differ: no later than now.
        (json!({ "acr": "high", "auth_time": at + 60 }), Some(at)),
    ] {
        let verified = with(more.clone()).unwrap();
        assert_eq!(verified.token.second_factor, proved.map(moment), "{more}");
    }
    let counted = with(json!({ "amr": ["pwd", "mfa", "hwk"] }))
        .unwrap()
        .token
        .amr;
    assert_eq!(counted, ["hwk".into(), "mfa".into()].into());
    for (more, why) in [
        (json!({ "amr": "mfa" }), TokenError::Claims),
        (json!({ "amr": ["mfa", 1] }), TokenError::Claims),
        (json!({ "amr": { "mfa": true } }), TokenError::Claims),
        (json!({ "amr": null }), TokenError::Claims),
        (json!({ "acr": ["high"] }), TokenError::Claims),
        (json!({ "acr": 2 }), TokenError::Claims),
        (
            json!({ "acr": "high", "auth_time": "now" }),
            TokenError::Claims,
        ),
        (
            json!({ "acr": "high", "auth_time": at + 61 }),
            TokenError::Early(moment(at + 61)),
        ),
    ] {
        assert_eq!(with(more.clone()).unwrap_err(), why, "{more}");
    }
    // Of what nothing is configured, nothing is read.
    let mut plain = self::home();
    let issuer = plain.issuers.get_mut("corp").unwrap();
    (issuer.amr, issuer.acr) = Default::default();
    let mut claims = claims();
    (claims["amr"], claims["acr"]) = (json!("mfa"), json!("high"));
    let verified = plain
        .tokens()
        .verify(&signed("e", &header("e"), &claims), now());
    assert_eq!(verified.unwrap().token.second_factor, None);
}

#[test]
fn headers_that_would_choose_another_way() {
    let home = home();
    let check = |by: &str, header: Value, why: TokenError| {
        let error = home.tokens().verify(&signed(by, &header, &claims()), now());
        assert_eq!(error.unwrap_err(), why, "{header}");
    };
    let with = |kid: &str, name: &str, value: Value| {
        let mut header = header(kid);
        header[name] = value;
        header
    };
    for alg in [
        "none", "None", "", "HS256", "RS384", "PS256", "ES384", "rs256",
    ] {
        check("hmac", with("r", "alg", json!(alg)), TokenError::Algorithm);
        check("", with("r", "alg", json!(alg)), TokenError::Algorithm);
    }
    // An algorithm that is allowed, but not this key's.
    check("e", with("r", "alg", json!("EdDSA")), TokenError::Algorithm);
    check("p", with("e", "alg", json!("ES256")), TokenError::Algorithm);
    for kid in ["", "x", "secret", "encrypts", "named otherwise"] {
        check("e", with("e", "kid", json!(kid)), TokenError::Key);
    }
    let lacks = TokenError::Malformed("its header lacks what is read of it");
    check("e", with("e", "kid", json!(null)), lacks.clone());
    check("e", with("e", "typ", json!(1)), lacks.clone());
    check("e", with("e", "alg", json!(["EdDSA"])), lacks);
    for typ in ["", "logout+jwt", "secevent+jwt", "dpop+jwt", "pgveil+jwt"] {
        check("e", with("e", "typ", json!(typ)), TokenError::Type);
    }
    for typ in [
        json!(null),
        json!("JWT"),
        json!("jwt"),
        json!("application/at+jwt"),
    ] {
        let token = signed("e", &with("e", "typ", typ.clone()), &claims());
        assert!(home.tokens().verify(&token, now()).is_ok(), "{typ}");
    }
    let critical = TokenError::Malformed("its header has critical extensions");
    check("e", with("e", "crit", json!(["b64"])), critical.clone());
    check("e", with("e", "crit", json!([])), critical);

    // One that the configuration does not allow.
    let mut narrow = self::home();
    let issuer = narrow.issuers.get_mut("corp").unwrap();
    issuer.algorithms = vec![Algorithm::Es256];
    let token = signed("e", &header("e"), &claims());
    assert_eq!(
        narrow.tokens().verify(&token, now()).unwrap_err(),
        TokenError::Algorithm
    );
    let token = signed("p", &header("p"), &claims());
    assert!(narrow.tokens().verify(&token, now()).is_ok());
}

#[test]
fn claims_that_are_none_or_somebody_else_s() {
    let home = home();
    let tokens = home.tokens();
    let verify = |name: &str, value: Value| {
        let mut claims = claims();
        claims[name] = value;
        tokens.verify(&signed("e", &header("e"), &claims), now())
    };
    let at = now().as_second();
    let moment = |second| jiff::Timestamp::from_second(second).unwrap();
    // Of somebody else, it is not even theirs to verify.
    assert_eq!(
        verify("iss", json!("https://login.other.example")).unwrap_err(),
        TokenError::Malformed("its header is not one of ours")
    );
    for (name, value, why) in [
        ("aud", json!("other"), TokenError::Audience),
        ("aud", json!([]), TokenError::Audience),
        ("aud", json!(["other", 1]), TokenError::Claims),
        ("aud", json!(null), TokenError::Claims),
        ("email", json!("jo@other.example"), TokenError::Subject),
        ("email", json!("@corp.example"), TokenError::Subject),
        ("email", json!("jo@corp.example.other"), TokenError::Subject),
        ("email", json!("trainer"), TokenError::Subject),
        ("email", json!(""), TokenError::Claims),
        ("email", json!("a\nb@corp.example"), TokenError::Claims),
        ("email", json!(["jo@corp.example"]), TokenError::Claims),
        ("groups", json!({ "data": true }), TokenError::Claims),
        ("groups", json!(["data", 7]), TokenError::Claims),
        ("exp", json!("never"), TokenError::Claims),
        ("exp", json!(-1e300), TokenError::Claims),
        ("exp", json!(at - 60), TokenError::Expired(moment(at))),
        ("nbf", json!(at + 61), TokenError::Early(moment(at + 61))),
        ("iat", json!(at + 61), TokenError::Early(moment(at + 61))),
        ("jti", json!(4), TokenError::Claims),
        ("cnf", json!({ "jkt": "x" }), TokenError::Type),
        ("events", json!({}), TokenError::Type),
        ("email_verified", json!(false), TokenError::Subject),
        ("email_verified", json!("false"), TokenError::Subject),
        ("email_verified", json!(null), TokenError::Subject),
        (
            "email",
            json!(format!("{}@corp.example", "a".repeat(51))),
            TokenError::Subject,
        ),
        ("act", json!({ "sub": "bot" }), TokenError::Delegation),
    ] {
        assert_eq!(
            verify(name, value.clone()).unwrap_err(),
            why,
            "{name} {value}"
        );
    }
    for name in ["iss", "aud", "exp", "email"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        let token = signed("e", &header("e"), &claims);
        assert!(tokens.verify(&token, now()).is_err(), "{name}");
    }
    // Clocks differ, times have fractions, one audience is no list, no group is none.
    for (name, value) in [
        ("exp", json!(at - 59)),
        ("exp", json!(at as f64 + 600.5)),
        ("nbf", json!(at + 60)),
        ("aud", json!("pgveil")),
        ("groups", json!("data")),
        ("groups", json!([])),
        ("email_verified", json!(true)),
        ("email", json!(format!("{}@corp.example", "a".repeat(50)))),
    ] {
        assert!(verify(name, value.clone()).is_ok(), "{name} {value}");
    }
    let long = verify("jti", json!("x".repeat(129))).unwrap().token.id;
    assert_eq!(long.len(), 43);
    let whole = verify("jti", json!("x".repeat(128))).unwrap().token.id;
    assert_eq!(whole.len(), 128);
    let mut nameless = claims();
    nameless.as_object_mut().unwrap().remove("jti");
    let one = signed("e", &header("e"), &nameless);
    let id = tokens.verify(&one, now()).unwrap().token.id;
    nameless["azp"] = json!("another");
    let other = signed("e", &header("e"), &nameless);
    assert_ne!(tokens.verify(&other, now()).unwrap().token.id, id);
}

#[test]
fn all_of_an_identity_s_tokens_are_revoked_whatever_they_say_of_their_time() {
    let home = home();
    let at = now().as_second();
    let all = crate::identity::token::Revocation::Identity {
        name: "jo@corp.example".into(),
        at: now(),
    };
    all.append(&home.config.revoked).unwrap();
    let verify = |iat: Option<i64>| {
        let mut claims = claims();
        claims["iat"] = json!(iat);
        if iat.is_none() {
            claims.as_object_mut().unwrap().remove("iat");
        }
        let token = signed("e", &header("e"), &claims);
        home.tokens().verify(&token, now())
    };
    for iat in [None, Some(at), Some(at + 60)] {
        assert_eq!(verify(iat).unwrap_err(), TokenError::Revoked, "{iat:?}");
    }
}

#[test]
fn groups_that_are_not_the_issuer_s_to_give_do_not_count() {
    let mut home = home();
    let issuer = home.issuers.get_mut("corp").unwrap();
    issuer.group_names = Some(vec!["da*".into(), "other".into()]);
    let token = signed("e", &header("e"), &claims());
    let verified = home.tokens().verify(&token, now()).unwrap();
    assert_eq!(verified.token.groups, ["data".into()].into());
}

#[test]
fn key_sets_that_are_none_do_not_load() {
    let home = home();
    let path = home.issuers["corp"].jwks.file().unwrap().clone();
    let refused = |text: &str| {
        std::fs::write(&path, text).unwrap();
        let error =
            Tokens::load(&home.config, &home.issuers, &Default::default(), None).unwrap_err();
        assert!(error.to_string().contains("jwks.json"), "{error}");
    };
    for text in [
        "",
        "[]",
        "{}",
        "{\"keys\":{}}",
        "{\"keys\":[]}",
        "{\"keys\":[1,{\"kty\":\"oct\"}]}",
    ] {
        refused(text);
    }
    // A key of RSA that is too short verifies nothing.
    let short = rsa(1024 * 2);
    let public: PublicKeyComponents<Vec<u8>> = short.public().into();
    let set = json!({ "keys": [{ "kty": "RSA", "kid": "r", "n": encoded(&public.n[..100]), "e": encoded(public.e) }] });
    std::fs::write(&path, set.to_string()).unwrap();
    let token = signed("r", &header("r"), &claims());
    assert_eq!(
        home.tokens().verify(&token, now()).unwrap_err(),
        TokenError::Signature
    );
}
