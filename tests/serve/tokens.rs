//! Tokens in place of passwords: minted, given to psql, expired, taken back.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use serde_json::json;

use super::support::client::{By, Client, refusal, show};
use super::support::proxy::{DATASET, PASSWORD, Proxy, Setup};
use super::{proxy, server};

pub(super) const MORE: &str = "identities:
  trainer: { kind: agent, roles: [training, idle], owner: analyst, tokens: true }
  other: { kind: service, roles: [training], tokens: true }
roles:
  training:
    grants:
      - dataset: shop
        tables: [public.customers]
        tags: { key: clear, email: clear, national_id: { mask: partial, keep_last: 4 } }
  idle: {}
";

/// `pgveil token`, in a proxy's own directory: what it prints.
fn token(proxy: &Proxy, arguments: &str) -> Result<String, String> {
    let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .current_dir(proxy.home())
        .arg("token")
        .args(arguments.split_whitespace())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().trim_end().to_owned();
    match output.status.success() {
        true => Ok(text(output.stdout)),
        false => Err(text(output.stderr)),
    }
}

pub(super) fn key() -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    let output = command.args(["token", "key"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// A proxy with two keys, and identities that connect by tokens.
fn start() -> Proxy {
    proxy(&Setup {
        more: "tokens: { keys: [new.key, old.key], lifetime: 1h }".into(),
        files: vec![
            ("new.key", key()),
            ("old.key", key()),
            ("policies/more.yaml", MORE.into()),
        ],
        ..Setup::default()
    })
}

fn psql(proxy: &Proxy, user: &str, password: &str, sql: &str) -> Output {
    let (host, port) = (proxy.address.ip(), proxy.address.port());
    Command::new("psql")
        .args(["-X", "-w", "-A", "-t", "-c", sql])
        .arg(format!(
            "postgresql://{user}:{password}@{host}:{port}/{DATASET}"
        ))
        .env("PGAPPNAME", "job")
        .output()
        .unwrap()
}

pub(super) fn log_in(proxy: &Proxy, user: &str, token: &str) -> Result<Client, String> {
    let parameters = [("user", user), ("database", DATASET)];
    Client::with(proxy.address, &parameters, token)
}

/// What comes by itself, some seconds at most from now.
pub(super) fn told(client: &mut Client) -> String {
    client.patience(Duration::from_secs(8));
    show(&client.answer())
}

#[test]
fn psql_logs_in_by_a_token() {
    let proxy = start();
    let minted = token(
        &proxy,
        "mint trainer --role training --dataset shop --purpose nightly --run 42 --lifetime 10m",
    )
    .unwrap();
    let sql = "SELECT id, email, ssn FROM customers";
    let output = psql(&proxy, "trainer", &minted, sql);
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(out.trim_end(), "1|one@example.com|***6789", "{output:?}");
    let connect = &proxy.events("connect")[0];
    assert_eq!(connect["method"], "token");
    let record = &proxy.events("statement")[0];
    let principal = &record["principal"];
    assert_eq!(principal["name"], "trainer");
    assert_eq!(principal["roles"], serde_json::json!(["training"]));
    let stamp = &principal["token"];
    assert_eq!(
        (&stamp["purpose"], &stamp["run"]),
        (&"nightly".into(), &"42".into())
    );
    assert_eq!(stamp["id"].as_str().unwrap().len(), 36);
    assert!(stamp["expires"].as_str().unwrap().ends_with('Z'));
    assert!(!proxy.records().contains(&minted));
    // Who logs in by a password still does.
    let mut analyst = proxy.client("analyst");
    let answer = show(&analyst.run("SELECT email FROM customers", By::Simple));
    assert!(answer.contains("o***@example.com"), "{answer}");
}

#[test]
fn what_is_wrong_with_a_token_is_for_the_record_alone() {
    let proxy = start();
    let good = token(&proxy, "mint trainer").unwrap();
    let short = token(&proxy, "mint trainer --lifetime 1s").unwrap();
    let service = token(&proxy, "mint other").unwrap();
    let revoked = token(&proxy, "mint trainer").unwrap();
    token(&proxy, &format!("revoke {revoked}")).unwrap();
    let mut parts: Vec<String> = good.split('.').map(str::to_owned).collect();
    parts[2] = service.rsplit('.').next().unwrap().to_owned();
    let forged = parts.join(".");
    proxy.events_soon("tokens_load", 2);
    std::thread::sleep(Duration::from_millis(1100));
    let mut heard = Vec::new();
    for (user, token, why) in [
        ("trainer", "secret", "it is no token"),
        ("trainer", PASSWORD, "it is no token"),
        ("trainer", short.as_str(), "it expired at"),
        ("trainer", &service, "it is not this identity's"),
        ("trainer", &revoked, "it is revoked"),
        ("trainer", &forged, "its signature is wrong"),
        ("other", &good, "it is not this identity's"),
    ] {
        let output = psql(&proxy, user, &token.replace(' ', "%20"), "SELECT 1");
        assert!(!output.status.success(), "{why}");
        let error = String::from_utf8(output.stderr).unwrap();
        heard.push(error.replace(user, "?"));
        let failures = proxy.events("authentication_failure");
        let reason = failures.last().unwrap()["reason"].as_str().unwrap();
        assert!(reason.contains(why), "{reason}");
        assert!(!reason.contains(token), "{reason}");
        assert_eq!(log_in(&proxy, user, token).err().unwrap(), "28P01");
    }
    assert!(heard[0].contains("password authentication failed for user \"?\""));
    assert!(heard.iter().all(|one| *one == heard[0]), "{heard:?}");
    // A token is for one dataset, or for all.
    let elsewhere = token(&proxy, "mint trainer --dataset warehouse").unwrap_err();
    assert!(
        elsewhere.contains("no dataset is called `warehouse`"),
        "{elsewhere}"
    );
    assert!(log_in(&proxy, "trainer", &good).is_ok());
}

#[test]
fn a_session_ends_when_its_token_does() {
    let proxy = start();
    let minted = token(&proxy, "mint trainer --lifetime 5s").unwrap();
    let mut idle = log_in(&proxy, "trainer", &minted).unwrap();
    let mut busy = log_in(&proxy, "trainer", &minted).unwrap();
    let began = Instant::now();
    busy.ask("SELECT 'slow' FROM pg_sleep(7)", By::Simple);
    let end = told(&mut idle);
    assert!(
        end.contains("C28000") && end.contains("the token of this session expired at"),
        "{end}"
    );
    assert!(began.elapsed() < Duration::from_secs(7));
    // What runs may run on for a moment; nothing follows it.
    let finished = show(&busy.answer());
    assert!(finished.contains("slow"), "{finished}");
    assert!(told(&mut busy).contains("C28000"));
    assert_eq!(log_in(&proxy, "trainer", &minted).err().unwrap(), "28P01");
}

#[test]
fn what_is_taken_back_ends_sessions_also_while_the_policy_does_not_load() {
    let mut proxy = start();
    let one = token(&proxy, "mint trainer").unwrap();
    let (mut first, mut second) = (
        log_in(&proxy, "trainer", &one).unwrap(),
        log_in(&proxy, "trainer", &token(&proxy, "mint trainer").unwrap()).unwrap(),
    );
    let mut other = log_in(&proxy, "other", &token(&proxy, "mint other").unwrap()).unwrap();
    fs::write(proxy.home().join("policies/broken.yaml"), "roles: [").unwrap();
    let said = token(&proxy, &format!("revoke {one}")).unwrap();
    assert!(said.starts_with("revoked: token "), "{said}");
    let end = told(&mut first);
    assert!(
        end.contains("C28000") && end.contains("has been revoked"),
        "{end}"
    );
    let answer = second.run("SELECT 1", By::Simple);
    assert_eq!(refusal(&answer), None);
    let loads = proxy.events_soon("tokens_load", 2);
    assert_eq!(loads[1]["revoked"], 1);
    let id = said.strip_prefix("revoked: token ").unwrap().to_owned();
    assert_eq!(loads[1]["newly_revoked"], json!([format!("token {id}")]));
    token(&proxy, "revoke --all-of trainer").unwrap();
    assert!(told(&mut second).contains("has been revoked"));
    assert_eq!(refusal(&other.run("SELECT 1", By::Simple)), None);

    // A file that is gone is no pardon.
    fs::remove_file(proxy.home().join("revoked.jsonl")).unwrap();
    let loads = proxy.events_soon("tokens_load", 4);
    assert!(loads[3]["error"].as_str().unwrap().contains("are gone"));
    assert_eq!(log_in(&proxy, "trainer", &one).err().unwrap(), "28P01");
    // A proxy that starts without it cannot know what was in it: it says so.
    fs::remove_file(proxy.home().join("policies/broken.yaml")).unwrap();
    let count = proxy.events("tokens_load").len();
    proxy.again();
    let load = &proxy.events_soon("tokens_load", count + 1)[count];
    let said = load["unrevoked"].as_str().unwrap();
    assert!(said.contains("no token is revoked"), "{said}");
    assert!(load["error"].is_null());
    token(&proxy, &format!("revoke --id {id}")).unwrap();
    let load = &proxy.events_soon("tokens_load", count + 2)[count + 1];
    assert_eq!(load["newly_revoked"], json!([format!("token {id}")]));
    proxy.again();
    let load = &proxy.events_soon("tokens_load", count + 3)[count + 2];
    assert!(load["unrevoked"].is_null());
    assert_eq!(load["revoked"], 1);
}

#[test]
fn a_key_that_cannot_be_read_keeps_nothing_from_being_taken_back() {
    let proxy = start();
    let one = token(&proxy, "mint trainer").unwrap();
    let mut client = log_in(&proxy, "trainer", &one).unwrap();
    let (key, aside) = (proxy.home().join("old.key"), proxy.home().join("aside"));
    fs::rename(&key, &aside).unwrap();
    let loads = proxy.events_soon("tokens_load", 2);
    assert!(loads[1]["error"].as_str().unwrap().contains("old.key"));
    assert!(log_in(&proxy, "trainer", &one).is_ok());
    token(&proxy, "revoke --all-of trainer").unwrap();
    assert!(told(&mut client).contains("has been revoked"));
    assert_eq!(log_in(&proxy, "trainer", &one).err().unwrap(), "28P01");
    // Said once, and tried until it can be read.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(proxy.events("tokens_load").len(), 3);
    fs::rename(&aside, &key).unwrap();
    let loads = proxy.events_soon("tokens_load", 4);
    assert!(loads[3]["error"].is_null());
    assert_eq!(loads[3]["revoked"], 1);
}

#[test]
fn a_policy_that_changes_all_the_time_keeps_nothing_from_being_taken_back() {
    let proxy = start();
    let one = token(&proxy, "mint trainer").unwrap();
    let mut client = log_in(&proxy, "trainer", &one).unwrap();
    let path = proxy.home().join("policies/busy.yaml");
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let writer = std::thread::spawn(move || {
        let pause = Duration::from_millis(50);
        while stopped.recv_timeout(pause) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            fs::write(&path, "roles: {}\n").unwrap();
        }
    });
    std::thread::sleep(Duration::from_millis(600));
    token(&proxy, &format!("revoke {one}")).unwrap();
    let end = told(&mut client);
    drop(stop);
    writer.join().unwrap();
    assert!(end.contains("has been revoked"), "{end}");
}

#[test]
fn keys_rotate_without_a_restart() {
    let proxy = start();
    let minted = token(&proxy, "mint trainer").unwrap();
    let mut client = log_in(&proxy, "trainer", &minted).unwrap();
    let rotate = || {
        let path = |name| proxy.home().join(name);
        fs::write(path("next.key"), key()).unwrap();
        fs::rename(path("new.key"), path("old.key")).unwrap();
        fs::rename(path("next.key"), path("new.key")).unwrap();
    };
    rotate();
    proxy.events_soon("tokens_load", 2);
    assert_eq!(refusal(&client.run("SELECT 1", By::Simple)), None);
    assert!(log_in(&proxy, "trainer", &minted).is_ok());
    let newer = token(&proxy, "mint trainer").unwrap();
    assert!(log_in(&proxy, "trainer", &newer).is_ok());
    rotate();
    let end = told(&mut client);
    assert!(end.contains("token is used no longer"), "{end}");
    assert_eq!(log_in(&proxy, "trainer", &minted).err().unwrap(), "28P01");
    assert!(log_in(&proxy, "trainer", &newer).is_ok());
}

#[test]
fn an_agent_on_behalf_of_a_human_is_both_to_all_who_look() {
    let proxy = start();
    let alone = token(&proxy, "mint trainer").unwrap();
    let both = token(&proxy, "mint trainer --on-behalf-of analyst").unwrap();
    let sees = |token: &str, sql: &str| {
        let output = psql(&proxy, "trainer", token, sql);
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8(text).unwrap()
    };
    assert_eq!(
        sees(&alone, "SELECT email FROM customers"),
        "one@example.com\n"
    );
    assert_eq!(
        sees(&both, "SELECT email FROM customers"),
        "o***@example.com\n"
    );
    assert_eq!(sees(&alone, "SELECT ssn FROM customers"), "***6789\n");
    let refused = sees(&both, "SELECT ssn FROM customers");
    assert!(refused.contains("blocked: role analyst"), "{refused}");
    let record = proxy.events("statement")[1].clone();
    assert_eq!(record["principal"]["name"], "trainer");
    assert_eq!(record["principal"]["on_behalf_of"]["name"], "analyst");
    let denial = &proxy.events("denial")[0];
    assert_eq!(denial["principal"]["on_behalf_of"]["kind"], "human");

    let mut client = log_in(&proxy, "trainer", &both).unwrap();
    client.run("SELECT 'seen from below' FROM customers", By::Simple);
    let seen = server().psql(
        "SELECT application_name || ' ' || query FROM pg_stat_activity
         WHERE query LIKE '%seen from below%' AND usename = 'proxy'",
    );
    assert!(seen.starts_with("agent:trainer/human:analyst"), "{seen}");
    assert!(
        seen.contains("pgveil_on_behalf_of='human%3Aanalyst'"),
        "{seen}"
    );
    assert!(
        seen.contains("pgveil_principal='agent%3Atrainer'"),
        "{seen}"
    );

    // Where policy wants somebody to answer for it, alone it gets no further.
    let mut lone = log_in(&proxy, "trainer", &alone).unwrap();
    let more = MORE.replace(
        "  training:\n",
        "  training:\n    agents: { require: delegation }\n",
    );
    std::fs::write(proxy.home().join("policies/more.yaml"), more).unwrap();
    let end = told(&mut lone);
    assert!(
        end.contains("C28000") && end.contains("must act on behalf of somebody: role training"),
        "{end}"
    );
    assert_eq!(log_in(&proxy, "trainer", &alone).err().unwrap(), "28000");
    let denial = proxy.events("denial").pop().unwrap();
    let message = denial["message"].as_str().unwrap();
    assert!(
        message.contains("must act on behalf of somebody"),
        "{message}"
    );
    assert_eq!(refusal(&client.run("SELECT 1", By::Simple)), None);

    // Whoever goes takes those with them who act for them.
    token(&proxy, "revoke --all-of analyst").unwrap();
    assert!(told(&mut client).contains("has been revoked"));
}

/// An identity provider's key, the set that it publishes, and a token by it.
fn issued(kid: &str, email: &str, lifetime: i64) -> (String, String) {
    issued_by("https://login.corp.example", kid, email, lifetime)
}

pub(super) fn issued_by(iss: &str, kid: &str, email: &str, lifetime: i64) -> (String, String) {
    let random = ring::rand::SystemRandom::new();
    let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).unwrap();
    let key = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap();
    let encoded = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let x = encoded(key.public_key().as_ref());
    let set = json!({ "keys": [{ "kty": "OKP", "crv": "Ed25519", "kid": kid, "x": x }] });
    let now = jiff::Timestamp::now().as_second();
    let header = json!({ "alg": "EdDSA", "kid": kid, "typ": "JWT" });
    let claims = json!({
        "iss": iss, "aud": "pgveil", "sub": "8f1b", "email": email,
        "groups": ["data"], "iat": now, "exp": now + lifetime,
    });
    let text = [header, claims]
        .map(|part| encoded(part.to_string().as_bytes()))
        .join(".");
    let signature = key.sign(text.as_bytes());
    (
        set.to_string(),
        format!("{text}.{}", encoded(signature.as_ref())),
    )
}

#[test]
fn an_identity_provider_s_token_has_the_roles_of_its_groups() {
    let jo = "jo@corp.example";
    let (set, token) = issued("first", jo, 600);
    let proxy = proxy(&Setup {
        more: "issuers: { corp: { issuer: 'https://login.corp.example', audience: pgveil, \
               jwks: corp.json, names: ['*@corp.example'], name: email, groups: groups, skew: 0s } }"
            .into(),
        files: vec![
            ("corp.json", set),
            ("policies/more.yaml", format!("{MORE}groups: {{ data: [training] }}\n")),
        ],
        ..Setup::default()
    });
    let sql = "SELECT id, email, ssn FROM customers";
    let output = psql(&proxy, "jo%40corp.example", &token, sql);
    let out = String::from_utf8_lossy(&output.stdout);
    assert_eq!(out.trim_end(), "1|one@example.com|***6789", "{output:?}");
    let principal = &proxy.events("statement")[0]["principal"];
    assert_eq!(
        (&principal["name"], &principal["kind"]),
        (&json!(jo), &json!("human"))
    );
    assert_eq!(principal["roles"], json!(["training"]));
    assert_eq!(principal["token"]["issuer"], "corp");
    assert!(!proxy.records().contains(&token));

    // Somebody else's, and one that nobody has signed, in the same words.
    for (user, token) in [
        ("an@corp.example", token.as_str()),
        (jo, "a.b.c"),
        (jo, PASSWORD),
    ] {
        assert_eq!(log_in(&proxy, user, token).err().unwrap(), "28P01");
    }
    let reason = proxy.events("authentication_failure")[0]["reason"].clone();
    assert!(
        reason
            .as_str()
            .unwrap()
            .contains("it is not this identity's"),
        "{reason}"
    );

    // One of theirs is taken back by its text, which other users of the machine need not read.
    let (_, other) = issued("first", "an@corp.example", 600);
    for text in [other.as_str(), "-"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_pgveil"))
            .current_dir(proxy.home())
            .args(["token", "revoke", text])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        let _ = writeln!(child.stdin.take().unwrap(), "{other}");
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        assert!(output.stdout.starts_with(b"revoked: token "));
    }
    let load = &proxy.events_soon("tokens_load", 2)[1];
    assert_eq!(load["issuers"], json!({ "corp": ["first"] }));

    // Its keys are read again, and a group's roles with policy.
    let mut client = log_in(&proxy, jo, &token).unwrap();
    let path = proxy.home().join("policies/more.yaml");
    fs::write(&path, format!("{MORE}groups: {{ data: [idle] }}\n")).unwrap();
    proxy.events_soon("policy_load", 2);
    assert_eq!(refusal(&client.run(sql, By::Simple)).unwrap(), "42501");
    let (set, short) = issued("second", jo, 8);
    fs::write(proxy.home().join("corp.json"), set).unwrap();
    assert!(told(&mut client).contains("token is used no longer"));
    fs::write(&path, format!("{MORE}groups: {{ data: [training] }}\n")).unwrap();
    proxy.events_soon("policy_load", 3);
    let mut client = log_in(&proxy, jo, &short).unwrap();
    client.patience(Duration::from_secs(15));
    let end = show(&client.answer());
    assert!(
        end.contains("the token of this session expired at"),
        "{end}"
    );
    assert_eq!(log_in(&proxy, jo, &short).err().unwrap(), "28P01");
}

#[test]
fn what_would_not_be_taken_is_not_minted() {
    let proxy = start();
    for (arguments, why) in [
        ("mint nobody", "policy names no identity `nobody`"),
        ("mint analyst", "`analyst` does not connect by tokens"),
        (
            "mint trainer --lifetime 2h",
            "`tokens.lifetime` is 3600 seconds",
        ),
        ("mint trainer --lifetime soon", "write it as 30s"),
        (
            "mint trainer --role analyst",
            "a role that the identity does not have",
        ),
        (
            "mint trainer --on-behalf-of other",
            "no human of the policy's",
        ),
        (
            "mint trainer --on-behalf-of nobody",
            "policy names no identity `nobody`",
        ),
        ("revoke a.b.c", "this is no token of ours"),
        ("revoke", "required"),
    ] {
        let error = token(&proxy, arguments).unwrap_err();
        assert!(error.contains(why), "{arguments}: {error}");
    }
    // Whoever is named wrongly is revoked all the same, and that is said.
    for (name, warned) in [("trianer", true), ("trainer", false)] {
        let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
            .current_dir(proxy.home())
            .args(["token", "revoke", "--all-of", name])
            .output()
            .unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.success(), "{said}");
        assert_eq!(said.contains("policy has no identity"), warned, "{said}");
    }
    let without = super::proxy(&Setup::default());
    let error = token(&without, "mint trainer").unwrap_err();
    assert!(
        error.contains("the configuration names no `tokens.keys`"),
        "{error}"
    );
}
