//! A second factor: enrolled, proved by `pgveil login`, and what it gives.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use pgveil::identity::verifier::{DEFAULT_ITERATIONS, Verifier};
use serde_json::json;

use super::support::client::{By, Client, refusal, show};
use super::support::proxy::{DATASET, PASSWORD, Proxy, Setup};
use super::{proxy, tokens};

/// What jo sees by a password, what by two factors, and who may act for jo.
fn policy(scram: &str, totp: &str) -> String {
    format!(
        "identities:
  jo: {{ kind: human, roles: [careful], scram: \"{scram}\", may_act: [trainer], {totp} }}
  trainer: {{ kind: agent, roles: [training], tokens: true }}
  other: {{ kind: agent, roles: [training], tokens: true }}
roles:
  careful:
    grants:
      - {{ dataset: shop, tables: [public.customers], tags: {{ key: clear, email: {{ mask: email }} }} }}
      - dataset: shop
        tables: [public.customers]
        tags: {{ '*': clear }}
        require: {{ mfa: true, max_age: 1h }}
  training:
    grants: [{{ dataset: shop, tables: [public.customers], tags: {{ '*': clear }} }}]
"
    )
}

/// `pgveil` in a proxy's own directory, with those lines of input.
fn pgveil(proxy: &Proxy, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .current_dir(proxy.home())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // One that reads nothing is gone by now, maybe.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// What it prints, or what it complains of.
fn login(proxy: &Proxy, code: &str, more: &[&str]) -> Result<String, String> {
    let port = proxy.address.port().to_string();
    let arguments = [&["login", "jo", "--port", &port], more].concat();
    let output = pgveil(proxy, &arguments, &format!("{PASSWORD}\n{code}\n"));
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

/// The code that an app shows, so many steps from now (RFC 6238).
fn code(uri: &str, steps: i64) -> String {
    let secret = uri.split_once("secret=").unwrap().1;
    let (secret, _) = secret.split_once('&').unwrap();
    let letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    let bits: Vec<u8> = secret
        .chars()
        .map(|letter| letters.find(letter).unwrap() as u8)
        .flat_map(|five| (0..5).rev().map(move |at| five >> at & 1))
        .collect();
    let bytes: Vec<u8> = bits
        .chunks_exact(8)
        .map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | bit))
        .collect();
    let step = jiff::Timestamp::now().as_second() / 30 + steps;
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &bytes);
    let tag = ring::hmac::sign(&key, &step.to_be_bytes());
    let at = usize::from(tag.as_ref()[19] & 0xf);
    let number = u32::from_be_bytes(tag.as_ref()[at..at + 4].try_into().unwrap());
    format!("{:06}", (number & 0x7fff_ffff) % 1_000_000)
}

fn by_token(proxy: &Proxy, user: &str, token: &str) -> Result<Client, String> {
    let parameters = [
        ("user", user),
        ("database", DATASET),
        ("options", "-c pgveil.credential=token"),
    ];
    Client::with(proxy.address, &parameters, token)
}

fn reasons(proxy: &Proxy) -> Vec<String> {
    let failures = proxy.events("authentication_failure");
    let reason = |it: &serde_json::Value| it["reason"].as_str().unwrap().to_owned();
    failures.iter().map(reason).collect()
}

#[test]
fn a_second_factor_is_enrolled_proved_once_and_gives_the_rest() {
    let verifier = || {
        Verifier::derive(PASSWORD, DEFAULT_ITERATIONS)
            .unwrap()
            .encode()
    };
    let scram = verifier();
    let proxy = proxy(&Setup {
        more: "tokens: { keys: [token.key] }\nlogin: { key: { file: login.key }, lifetime: 30m }"
            .into(),
        files: vec![
            ("token.key", tokens::key()),
            ("login.key", "0123456789abcdef".into()),
            ("policies/jo.yaml", policy(&scram, "")),
        ],
        ..Setup::default()
    });
    let refused = login(&proxy, "123456", &[]).unwrap_err();
    assert!(
        refused.contains("no second factor is enrolled for you"),
        "{refused}"
    );
    let enrolled = pgveil(&proxy, &["identity", "enroll-totp", "jo"], "");
    let (uri, totp) = (enrolled.stderr, enrolled.stdout);
    let (uri, totp) = (
        String::from_utf8(uri).unwrap(),
        String::from_utf8(totp).unwrap(),
    );
    let secret = &uri.split_once("secret=").unwrap().1[..32];
    assert!(uri.starts_with("otpauth://totp/pgveil:jo?secret="), "{uri}");
    assert!(totp.starts_with("totp: \"TOTP-A256GCM$"), "{totp}");
    let file = proxy.home().join("policies/jo.yaml");
    fs::write(&file, policy(&scram, totp.trim_end())).unwrap();
    proxy.events_soon("policy_load", 2);

    // By the password, the lesser view, and how to get the rest.
    let mut lesser = proxy.client("jo");
    let email = "SELECT email FROM customers";
    let seen = show(&lesser.run(email, By::Simple));
    assert!(seen.contains("o***@example.com"), "{seen}");
    let ssn = show(&lesser.run("SELECT ssn FROM customers", By::Simple));
    assert!(
        ssn.contains("C42501")
            && ssn.contains("prove a second factor")
            && ssn.contains("pgveil login"),
        "{ssn}"
    );

    // Neither without the password, nor by another code.
    let port = proxy.address.port().to_string();
    let input = format!("wrong\n{}\n", code(&uri, 0));
    let wrong = pgveil(&proxy, &["login", "jo", "--port", &port], &input);
    assert!(!wrong.status.success());
    // Without a code nobody hears which agents there are, or may act.
    for (wrong, agent) in [("", "trainer"), ("abcdef", "other"), ("12345", "nobody")] {
        let said = login(&proxy, wrong, &["--for", agent]).unwrap_err();
        assert_eq!(
            said,
            "pgveil: the proxy gives no token: the code is not taken"
        );
    }
    // Whoever may not act for jo gets nothing, and the code stays good.
    for agent in ["other", "analyst", "nobody"] {
        let said = login(&proxy, &code(&uri, 0), &["--for", agent]).unwrap_err();
        assert!(
            said.contains("no token is given for that"),
            "{agent}: {said}"
        );
    }
    let now = code(&uri, 0);
    let token = login(&proxy, &now, &[]).unwrap();
    let mut all = by_token(&proxy, "jo", &token).unwrap();
    let seen = show(&all.run("SELECT email, ssn FROM customers", By::Simple));
    assert!(
        seen.contains("one@example.com") && seen.contains("123-45-6789"),
        "{seen}"
    );
    // One text is planned for each of the two, however often.
    for _ in 0..3 {
        let seen = show(&lesser.run(email, By::Simple));
        assert!(seen.contains("o***@example.com"), "{seen}");
        let seen = show(&all.run(email, By::Simple));
        assert!(seen.contains("one@example.com"), "{seen}");
    }
    let record = proxy.events("statement").pop().unwrap();
    let stamp = &record["principal"]["token"];
    assert_eq!(stamp["amr"], json!(["mfa", "otp", "pwd"]));
    assert!(stamp["second_factor"].as_str().unwrap().ends_with('Z'));
    let issued = &proxy.events("token_issued")[0];
    assert_eq!(issued["principal"]["token"]["id"], stamp["id"]);

    // Once is once, whatever it is for.
    let said = login(&proxy, &now, &["--for", "trainer"]).unwrap_err();
    assert!(said.contains("the code is not taken"), "{said}");
    let agent = login(&proxy, &code(&uri, 1), &["--for", "trainer"]).unwrap();
    let mut agent = by_token(&proxy, "trainer", &agent).unwrap();
    let seen = show(&agent.run(email, By::Simple));
    assert!(seen.contains("one@example.com"), "{seen}");
    let record = proxy.events("statement").pop().unwrap();
    assert_eq!(record["principal"]["on_behalf_of"]["name"], "jo");

    // A token is no password, and gets no other.
    assert_eq!(by_token(&proxy, "other", &token).err().unwrap(), "28P01");
    assert_eq!(by_token(&proxy, "jo", PASSWORD).err().unwrap(), "28P01");
    let reasons = reasons(&proxy).join("\n");
    for why in [
        "no second factor is enrolled",
        "the code is wrong",
        "the code has been used",
        "password authentication failed",
        "it is not this identity's",
    ] {
        assert!(reasons.contains(why), "{why}: {reasons}");
    }
    let records = proxy.records();
    assert!(!records.contains(secret) && !records.contains(&token));
    assert!(!fs::read_to_string(&file).unwrap().contains(secret));

    // Whoever has that factor no longer has no session by it, nor has who acts for them by it;
    // who came by the password stays.
    fs::write(&file, policy(&scram, "")).unwrap();
    let end = tokens::told(&mut all);
    assert!(end.contains("C28000"), "{end}");
    assert_eq!(refusal(&lesser.run(email, By::Simple)), None);
    let end = tokens::told(&mut agent);
    assert!(
        end.contains("the password or second factor that this"),
        "{end}"
    );
    assert_eq!(by_token(&proxy, "jo", &token).err().unwrap(), "28P01");

    // Another password is another, whatever it is.
    fs::write(&file, policy(&verifier(), "")).unwrap();
    let end = tokens::told(&mut lesser);
    assert!(end.contains("C28000") && end.contains("as it did"), "{end}");
}
