//! What is recorded, by the real proxy: every field that a reviewer needs, and no
//! literal wherever a client may write one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test may fail by panicking"
)]

mod support;

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;
use support::client::{By, Client, refusal};
use support::postgres::Postgres;
use support::proxy::{Proxy, Setup};

const REWRITE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/rewrite");

fn start() -> (Postgres, Proxy) {
    let postgres = Postgres::start();
    postgres.psql(include_str!("rewrite/schema.sql"));
    postgres.psql("CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy");
    let proxy = Proxy::start(&postgres, "proxy", &Path::new(REWRITE).join("policy"));
    (postgres, proxy)
}

fn records(proxy: &Proxy) -> Vec<Value> {
    let text = proxy.records();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Statements that hold the word wherever one can be written, whether they are
/// served or not.
const SPOKEN: &[&str] = &[
    "SELECT 'zanzibar', email FROM customers WHERE phone = E'zanzibar' LIMIT 1",
    "SELECT email FROM customers WHERE email LIKE U&'zanzi\\0062ar'",
    "SELECT date 'zanzibar'",
    "SELECT xmlserialize(content '<a>zanzibar</a>' as text), email FROM customers",
    "SELECT ssn FROM customers WHERE phone = 'zanzibar'",
    "SELECT email FROM customers ORDER BY id USING 'zanzibar'",
    "SELECT 'zanzibar' 'zanzibar' FROM",
    "PREPARE p AS SELECT email FROM customers WHERE email = 'zanzibar'",
    "EXECUTE p2('zanzibar')",
    "DECLARE c CURSOR FOR SELECT 'zanzibar'",
    "CREATE TEMP TABLE zt AS SELECT 'zanzibar' AS word, email FROM customers",
    "COPY (SELECT 'zanzibar') TO STDOUT (DELIMITER ',', NULL 'zanzibar')",
    "COPY customers (email) FROM STDIN (NULL 'zanzibar')",
    "WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n FROM t WHERE n < 2) CYCLE n SET c TO 'zanzibar' DEFAULT 'no' USING p SELECT c, email FROM t, customers",
    "SET statement_timeout TO 'zanzibar'",
    "SET application_name TO 'harmless'",
    "SET client_min_messages TO 'zanzibar'",
    "SELECT current_setting('pgveil.zanzibar')",
    "SELECT set_config('zanzibar', 'zanzibar', true)",
    "NOTIFY channel, 'zanzibar'",
    "DO 'zanzibar'",
    "CREATE ROLE r PASSWORD 'zanzibar'",
    "CREATE TABLE made (a text DEFAULT 'zanzibar')",
    "COMMENT ON TABLE customers IS 'zanzibar'",
    "EXPLAIN SELECT 'zanzibar'",
    "INSERT INTO orders VALUES (1, 'zanzibar')",
    "SELECT interval 'zanzibar' year, bit 'zanzibar'",
    "SELECT 'zanzibar'::nothing.there",
    "SELECT nothing_there('zanzibar')",
    "LISTEN \"x\"; SELECT 'zanzibar'",
    "SET datestyle TO iso, zanzibar_search_path",
    "SET a.search_path TO zanzibar",
    "ALTER ROLE r SET application_name TO zanzibar",
    "ALTER DATABASE d SET application_name TO zanzibar",
    "ALTER SYSTEM SET application_name TO zanzibar",
    "CREATE FUNCTION f() RETURNS integer LANGUAGE sql SET application_name TO zanzibar AS 'SELECT 1'",
    "SELECT timestamptz(4111111111111) FROM customers",
    "SELECT bpchar(4111111), timetz(4111111), varbit(4111111) FROM orders",
    "SELECT id::varchar(4111111) FROM orders",
    "SELECT id::public.thing(4111111) FROM orders",
    "PREPARE pp(numeric(4111111, 2)) AS SELECT $1",
    "CREATE TEMP TABLE zt (a varchar(4111111))",
];

#[test]
fn no_literal_is_recorded() {
    let (_postgres, proxy) = start();
    for caller in ["analyst", "modeller", "auditor"] {
        for by in [By::Simple, By::Extended] {
            let mut client = proxy.client(caller);
            for statement in SPOKEN {
                client.run(statement, by);
                client.run("ROLLBACK", By::Simple);
                client.run("DISCARD ALL", By::Simple);
            }
        }
    }
    let all = records(&proxy);
    let spoken = all.iter().filter(|one| one["statement"].is_string());
    assert!(spoken.count() > 200, "statements are recorded");
    let leaked: Vec<String> = all
        .iter()
        .map(Value::to_string)
        .filter(|line| line.contains("zanzi") || line.contains("4111111"))
        .collect();
    assert!(leaked.is_empty(), "{}", leaked.join("\n"));
}

#[test]
fn a_statement_is_told_by_all_its_fields() {
    let (_postgres, proxy) = start();
    let mut trainer = proxy.client("trainer");
    trainer.run("SELECT email FROM customers WHERE id > 3", By::Extended);
    let mut analyst = proxy.client("analyst");
    let refused = analyst.run("SELECT ssn FROM customers WHERE id > 3", By::Simple);
    assert_eq!(refusal(&refused).as_deref(), Some("42501"));
    analyst.run("SET datestyle TO 'ISO'", By::Simple);
    analyst.run("BEGIN", By::Simple);
    analyst.run("SELECT count(*) FROM orders", By::Simple);
    drop(trainer);
    drop(analyst);
    let ended = |all: &[Value]| {
        all.iter()
            .filter(|one| one["event"] == "disconnect")
            .count()
    };
    let mut all = records(&proxy);
    for _ in 0..100 {
        if ended(&all) == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
        all = records(&proxy);
    }
    assert_eq!(ended(&all), 2, "{all:#?}");

    let find = |event: &str, name: &str, statement: &str| -> Value {
        let fits = |one: &&Value| {
            one["event"] == event
                && one["principal"]["name"] == name
                && one["statement"]
                    .as_str()
                    .unwrap_or_default()
                    .starts_with(statement)
        };
        all.iter()
            .find(fits)
            .unwrap_or_else(|| panic!("{event} of {name}: {all:#?}"))
            .clone()
    };
    let load = all
        .iter()
        .find(|one| one["event"] == "policy_load")
        .expect("a policy");
    assert_eq!(load["policy"]["digest"].as_str().unwrap().len(), 64);

    let read = find(
        "statement",
        "trainer",
        "SELECT email FROM customers WHERE id > $1",
    );
    assert_eq!(read["principal"]["kind"], "agent");
    assert_eq!(read["principal"]["roles"], serde_json::json!(["training"]));
    assert_eq!(read["dataset"], "shop");
    assert_eq!(read["environment"], "test");
    assert_eq!(read["kind"], "SELECT");
    assert_eq!(
        (&read["decision"], &read["sqlstate"]),
        (&"allow".into(), &"00000".into())
    );
    assert_eq!(read["fingerprint"].as_str().unwrap().len(), 16);
    assert_eq!(read["policy"], load["policy"]);
    assert!(read["rows"].as_u64().unwrap() > 0 && read["bytes"].as_u64().unwrap() > 0);
    assert!(read["duration_us"].is_u64() && read["client"].is_string());
    let customers = &read["relations"][0];
    assert_eq!(customers["relation"], "public.customers");
    assert!(
        customers["rule"].as_str().unwrap().contains("training"),
        "{customers}"
    );
    assert!(
        customers["row_filter"]
            .as_str()
            .unwrap()
            .contains("roles.yaml:"),
        "{customers}"
    );
    let email = customers["columns"].as_array().unwrap();
    let email = email
        .iter()
        .find(|column| column["column"] == "email")
        .unwrap();
    assert_eq!(
        (&email["treatment"], &email["tag"]),
        (&"mask:hash".into(), &"email".into())
    );
    assert!(
        email["rule"].as_str().unwrap().contains("training"),
        "{email}"
    );

    let denial = find("denial", "analyst", "SELECT ssn FROM customers");
    assert_eq!(
        (&denial["decision"], &denial["kind"]),
        (&"deny".into(), &"SELECT".into())
    );
    assert_eq!(
        (&denial["sqlstate"], &denial["reason"]),
        (&"42501".into(), &"policy".into())
    );
    assert_eq!(denial["fingerprint"].as_str().unwrap().len(), 16);
    assert!(
        denial["message"].as_str().unwrap().contains("ssn"),
        "{denial}"
    );
    assert_eq!(denial["session"], find("connect", "analyst", "")["session"]);

    let set = find("statement", "analyst", "SET datestyle");
    assert_eq!(
        (&set["kind"], &set["statement"]),
        (&"SET".into(), &"SET datestyle TO $1".into())
    );
    assert_ne!(
        set["fingerprint"],
        find("statement", "analyst", "BEGIN")["fingerprint"]
    );
    let counted = find("statement", "analyst", "SELECT count(*) FROM orders");
    assert!(counted["relations"][0]["rule"].is_string(), "{counted}");
}

#[test]
fn a_failed_authentication_is_told_too() {
    let (_postgres, proxy) = start();
    for user in ["analyst", "nobody"] {
        let long = "x".repeat(5000);
        let parameters = [
            ("user", user),
            ("database", "shop"),
            ("application_name", &long),
        ];
        let refused = Client::with(proxy.address, &parameters, "wrong");
        assert_eq!(refused.err().as_deref(), Some("28P01"));
    }
    let mut failures = Vec::new();
    for _ in 0..100 {
        failures = records(&proxy);
        failures.retain(|one| one["event"] == "authentication_failure");
        if failures.len() == 2 {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let users: Vec<&str> = failures
        .iter()
        .filter_map(|one| one["user"].as_str())
        .collect();
    assert_eq!(users, ["analyst", "nobody"]);
    for failure in &failures {
        assert!(
            failure["client"].is_string() && failure["reason"].is_string(),
            "{failure}"
        );
        assert!(!failure.to_string().contains("wrong"), "{failure}");
        assert_eq!(failure["dataset"], "shop");
        assert_eq!(failure["application"], "x".repeat(63));
        // Its connection was not encrypted.
        assert_eq!(failure.get("tls"), None);
    }
}

/// `pgveil audit` in a proxy's home.
fn audit(proxy: &Proxy, arguments: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pgveil"));
    command.current_dir(proxy.home()).arg("audit");
    // Words in quotes are one.
    for (at, part) in arguments.split('\'').enumerate() {
        match at % 2 {
            0 => command.args(part.split_whitespace()),
            _ => command.arg(part),
        };
    }
    command
}

fn asked(proxy: &Proxy, arguments: &str) -> String {
    let Output {
        status,
        stdout,
        stderr,
    } = audit(proxy, arguments).output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

/// How many decisions a query finds.
fn count(proxy: &Proxy, filters: &str) -> usize {
    let found = asked(proxy, &format!("query --format json {filters}"));
    for line in found.lines() {
        let record: Value = serde_json::from_str(line).unwrap();
        assert_ne!(record["event"], "intent", "{record}");
    }
    found.lines().count()
}

/// Somebody who is not who they say, on record.
fn fail_to_log_in(proxy: &Proxy) {
    let wrong = Client::with(
        proxy.address,
        &[("user", "nobody"), ("database", "shop")],
        "no",
    );
    assert!(wrong.is_err());
    proxy.events_soon("authentication_failure", 1);
}

#[test]
fn what_is_recorded_is_found() {
    let (_postgres, proxy) = start();
    let mut trainer = proxy.client("trainer");
    trainer.run("SELECT email FROM customers WHERE id > 3", By::Extended);
    trainer.run("SELECT relname FROM pg_class", By::Simple);
    let mut analyst = proxy.client("analyst");
    analyst.run("SELECT ssn FROM customers", By::Simple);
    analyst.run("SELECT count(*) FROM orders", By::Simple);
    fail_to_log_in(&proxy);
    for (filters, found) in [
        ("", 4),
        ("--all --event statement", 3),
        ("--principal trainer", 1),
        ("--principal trainer --all --event statement", 2),
        ("--principal nobody", 1),
        ("--kind agent", 1),
        ("--kind human --decision deny", 1),
        ("--dataset shop --session nothing", 0),
        ("--relation customers", 2),
        ("--relation orders --decision allow", 1),
        ("--column ssn", 1),
        ("--column customers.email --treatment mask", 1),
        ("--column customers.email --treatment clear", 0),
        ("--tag email", 1),
        ("--treatment block", 1),
        ("--statement 'count(*)'", 1),
        ("--rule roles.yaml --principal trainer", 1),
        ("--since 1h", 4),
        ("--until 1h", 0),
        ("--since 2000-01-01 --until 2001-01-01T00:00:00Z", 0),
        ("--event connect", 2),
    ] {
        assert_eq!(count(&proxy, filters), found, "{filters}");
    }
    let table = asked(&proxy, "query --column ssn");
    assert!(table.contains("human:analyst  deny  42501"), "{table}");
    assert!(table.contains("public.customers: ssn block"), "{table}");
    let csv = asked(&proxy, "query --format csv --column ssn");
    assert_eq!(csv.lines().count(), 2, "{csv}");
    for line in asked(&proxy, "query --format ocsf --all").lines() {
        let event: Value = serde_json::from_str(line).unwrap();
        assert_eq!(event["class_uid"], 6005, "{line}");
    }
    let ocsf = |filters: &str| -> Value {
        let text = asked(&proxy, &format!("query --format ocsf {filters}"));
        serde_json::from_str(text.trim()).unwrap()
    };
    let (masked, blocked) = (ocsf("--treatment mask"), ocsf("--treatment block"));
    assert_eq!(masked["action_id"], 4, "{masked}");
    assert_eq!(
        (&blocked["action_id"], &blocked["disposition_id"]),
        (&2.into(), &2.into())
    );
    let wrong = audit(&proxy, "query --since yesterday").output().unwrap();
    let said = String::from_utf8(wrong.stderr).unwrap();
    assert!(said.contains("not a moment such as"), "{said}");
}

#[test]
fn reports_are_summed_up_and_packed_with_what_proves_them() {
    let (_postgres, mut proxy) = start();
    let mut trainer = proxy.client("trainer");
    for _ in 0..3 {
        trainer.run("SELECT email FROM customers", By::Simple);
    }
    let mut analyst = proxy.client("analyst");
    let script = "<script>alert(1)</script>";
    analyst.run(
        &format!("SELECT ssn AS \"{script}\" FROM customers"),
        By::Simple,
    );
    analyst.run(
        &format!("SELECT email AS \"{script}\" FROM customers"),
        By::Simple,
    );
    drop((trainer, analyst));
    proxy.events_soon("disconnect", 2);
    let row = |about: &str, of: &str| {
        let text = asked(&proxy, &format!("report {about}"));
        let line = text.lines().find(|line| line.contains(of));
        let line = line.unwrap_or_else(|| panic!("{about}: {text}"));
        let fields: Vec<&str> = line.split_whitespace().collect();
        // But for when.
        fields[..fields.len() - 2].join(" ")
    };
    assert_eq!(
        row("column customers.ssn", "analyst"),
        "human:analyst public.customers.ssn block deny 1 0"
    );
    let email = row("identity trainer", "customers.email");
    assert!(
        email.starts_with("agent:trainer public.customers.email mask:hash allow 3 "),
        "{email}"
    );
    assert_eq!(
        row("denials", "analyst"),
        "human:analyst denial 42501 public.customers.ssn 1 0"
    );
    assert!(row("kinds", "agent").starts_with("agent shop allow 3 "));
    let never = asked(
        &proxy,
        "report outside-hours 00:00-00:01 --days mon --format csv",
    );
    assert_eq!(
        never.lines().next(),
        Some("who,dataset,day,statements,rows,first,last")
    );
    assert!(never.contains("agent:trainer,shop,"), "{never}");
    let wrong = audit(&proxy, "report outside-hours 8-18").output().unwrap();
    assert!(!wrong.status.success());

    proxy.signal("TERM");
    assert!(proxy.ended().success());
    asked(
        &proxy,
        "report column customers.email --since 1h --pack pack",
    );
    let pack = proxy.home().join("pack");
    let page = std::fs::read_to_string(pack.join("report.html")).unwrap();
    assert!(page.contains("&lt;script&gt;alert(1)"), "{page}");
    assert!(page.contains("who saw customers.email, from 20"), "{page}");
    assert!(!page.contains("<script"), "{page}");
    assert!(!page.contains("not signed yet"), "{page}");
    let sums = Command::new("sha256sum")
        .current_dir(&pack)
        .args(["--quiet", "--strict", "-c", "MANIFEST.sha256"])
        .output()
        .unwrap();
    assert!(sums.status.success(), "{sums:?}");
    let records = std::fs::read_to_string(pack.join("records.jsonl")).unwrap();
    let proofs: Vec<_> = std::fs::read_dir(pack.join("proofs")).unwrap().collect();
    // What was about to be, and what became of it.
    assert_eq!((records.lines().count(), proofs.len()), (8, 8));
    for proof in proofs {
        let proof = proof.unwrap().path();
        let proved = asked(
            &proxy,
            &format!("verify --key records.pub {}", proof.display()),
        );
        assert!(records.contains(proved.trim()), "{proved}");
    }
    // Nothing is written over.
    let again = audit(&proxy, "report denials --pack pack")
        .output()
        .unwrap();
    assert!(!again.status.success());
}

#[test]
fn a_log_is_followed_while_it_is_written() {
    let (_postgres, proxy) = start();
    let mut follower = audit(
        &proxy,
        "query --format json -f --principal analyst --relation orders",
    )
    .stdout(Stdio::piped())
    .spawn()
    .unwrap();
    let mut lines = BufReader::new(follower.stdout.take().unwrap()).lines();
    let mut analyst = proxy.client("analyst");
    for round in 0..3 {
        analyst.run("SELECT email FROM customers", By::Simple);
        analyst.run(
            &format!("SELECT count(*) AS n{round} FROM orders"),
            By::Simple,
        );
        let line = lines.next().unwrap().unwrap();
        assert!(line.contains(&format!("AS n{round}")), "{line}");
    }
    follower.kill().unwrap();
    follower.wait().unwrap();
}

/// What is wrong with a value by a JSON schema, as far as ours go.
fn faults(root: &Value, schema: &Value, value: &Value, found: &mut Vec<String>) {
    for (key, rule) in schema.as_object().unwrap() {
        match key.as_str() {
            "$ref" => {
                let name = rule.as_str().unwrap().strip_prefix('#').unwrap();
                faults(root, root.pointer(name).unwrap(), value, found);
            }
            "type" => {
                let kind = match value {
                    Value::Null => "null",
                    Value::Bool(_) => "boolean",
                    Value::Number(_) => "integer",
                    Value::String(_) => "string",
                    Value::Array(_) => "array",
                    Value::Object(_) => "object",
                };
                let fits =
                    rule == kind || rule.as_array().is_some_and(|it| it.contains(&kind.into()));
                if !fits {
                    found.push(format!("{value} is not {rule}"));
                }
            }
            "const" if rule != value => found.push(format!("{value} is not {rule}")),
            "enum" if !rule.as_array().unwrap().contains(value) => {
                found.push(format!("{value} is none of {rule}"));
            }
            "required" => {
                for name in rule.as_array().unwrap() {
                    if value.get(name.as_str().unwrap()).is_none() {
                        found.push(format!("no {name}"));
                    }
                }
            }
            "properties" => {
                for (name, rule) in rule.as_object().unwrap() {
                    if let Some(value) = value.get(name) {
                        faults(root, rule, value, found);
                    }
                }
            }
            "items" => {
                for value in value.as_array().into_iter().flatten() {
                    faults(root, rule, value, found);
                }
            }
            "oneOf" | "anyOf" => {
                let fits = rule.as_array().unwrap().iter().filter(|rule| {
                    let mut found = Vec::new();
                    faults(root, rule, value, &mut found);
                    found.is_empty()
                });
                let fits = fits.count();
                if fits == 0 || (key == "oneOf" && fits > 1) {
                    found.push(format!("{value} fits {fits} of {key}"));
                }
            }
            "$schema" | "$defs" | "title" | "description" | "format" | "minimum" | "maximum"
            | "const" | "enum" => {}
            other => panic!("{other} in the schema"),
        }
    }
}

/// Names of fields that a schema has for a value.
fn named<'a>(root: &'a Value, schema: &'a Value, value: &Value, names: &mut Vec<&'a str>) {
    if let Some(reference) = schema["$ref"].as_str() {
        named(root, root.pointer(&reference[1..]).unwrap(), value, names);
    }
    names.extend(
        schema["properties"]
            .as_object()
            .into_iter()
            .flat_map(|it| it.keys().map(String::as_str)),
    );
    for one in ["oneOf", "anyOf"] {
        for schema in schema[one].as_array().into_iter().flatten() {
            let mut found = Vec::new();
            faults(root, schema, value, &mut found);
            if found.is_empty() {
                named(root, schema, value, names);
            }
        }
    }
}

#[test]
fn every_record_is_one_of_the_published_schema() {
    let (postgres, _) = start();
    let setup = Setup {
        audit: "{ file: records.jsonl, checkpoint_every: 100ms }".into(),
        ..Setup::default()
    };
    let policy = Path::new(REWRITE).join("policy");
    let mut proxy = Proxy::with(&postgres, "proxy", &policy, &setup);
    let schema: Value = serde_json::from_str(&asked(&proxy, "schema")).unwrap();
    for caller in ["analyst", "trainer", "auditor"] {
        let mut client = proxy.client(caller);
        for statement in SPOKEN.iter().step_by(3) {
            client.run(statement, By::Simple);
            client.run("ROLLBACK", By::Simple);
        }
        client.run("SELECT 1; SELECT 1 / 0; SELECT 2", By::Simple);
        client.run("SELECT email FROM customers", By::Extended);
    }
    fail_to_log_in(&proxy);
    asked(&proxy, "query --column ssn --statement 'zanzibar'");
    asked(&proxy, "verify");
    let connected = &proxy.events("connect")[0]["id"];
    let proves = || {
        let mut prove = audit(&proxy, &format!("prove {}", connected.as_str().unwrap()));
        prove.output().unwrap().status.success()
    };
    // Once it is signed.
    assert!((0..200).any(|_| proves()));
    proxy.signal("TERM");
    assert!(proxy.ended().success());
    let all = records(&proxy);
    let mut events: Vec<&str> = Vec::new();
    for record in &all {
        let mut found = Vec::new();
        faults(&schema, &schema, record, &mut found);
        assert!(found.is_empty(), "{found:?} {record:#}");
        let mut names = Vec::new();
        named(&schema, &schema, record, &mut names);
        for key in record.as_object().unwrap().keys() {
            assert!(names.contains(&key.as_str()), "{key} of {record:#}");
        }
        events.push(record["event"].as_str().unwrap());
    }
    for event in [
        "log_opened",
        "policy_load",
        "connect",
        "intent",
        "statement",
        "not_run",
        "denial",
        "authentication_failure",
        "disconnect",
        "log_read",
        "log_verified",
        "log_exported",
        "log_closed",
    ] {
        assert!(events.contains(&event), "{event}");
    }
    // It does say what is wrong.
    for (key, value) in [
        ("event", "nothing".into()),
        ("rows", "many".into()),
        ("id", Value::Null),
    ] {
        let mut wrong = all
            .iter()
            .find(|it| it["event"] == "statement")
            .unwrap()
            .clone();
        wrong[key] = value;
        let mut found = Vec::new();
        faults(&schema, &schema, &wrong, &mut found);
        assert!(!found.is_empty(), "{key}");
    }
}
