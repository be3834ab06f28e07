//! Callers of different roles go upstream as different users.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::support::client::{By, Client, refusal, show};
use super::support::postgres::{Postgres, psql};
use super::support::proxy::{DATASET, PASSWORD, Proxy, Setup};

/// One for all, with schemas and rows that only some of its users may use.
fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::start();
        server.psql(
            "CREATE ROLE reader LOGIN; CREATE ROLE writer LOGIN;
             CREATE ROLE bypasser LOGIN BYPASSRLS; CREATE ROLE boss LOGIN SUPERUSER;
             CREATE ROLE hidden LOGIN SUPERUSER; ALTER ROLE hidden SET role = reader;
             CREATE ROLE beneath LOGIN; GRANT postgres TO beneath;
             CREATE ROLE owner LOGIN; ALTER ROLE owner SET role = reader; GRANT reader TO owner;
             CREATE TABLE customers (id integer PRIMARY KEY, email text, ssn text);
             INSERT INTO customers VALUES (1, 'one@example.com', '123-45-6789');
             CREATE TABLE journal (id integer, what text);
             INSERT INTO journal VALUES (1, 'of the reader'), (2, 'of the writer');
             ALTER TABLE journal ENABLE ROW LEVEL SECURITY;
             CREATE POLICY own ON journal USING (what = 'of the ' || current_user);
             CREATE SCHEMA writer AUTHORIZATION writer;
             CREATE TABLE writer.customers (id integer, note text);
             INSERT INTO writer.customers VALUES (7, 'only for writer');
             GRANT ALL ON writer.customers TO writer;
             GRANT SELECT ON customers, journal TO reader, writer, bypasser;
             GRANT INSERT ON customers TO writer, bypasser;
             GRANT CREATE ON SCHEMA public TO writer;
             ALTER ROLE writer SET search_path = nowhere;
             ALTER ROLE writer SET client_min_messages = debug5;
             ALTER ROLE writer SET standard_conforming_strings = off;
             ALTER ROLE reader SET default_transaction_read_only = off;",
        );
        server
    })
}

fn policy() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/serve/users"))
}

/// Of that own user, and others in YAML's flow style.
fn upstream(own: &str, users: &str) -> Setup {
    let (host, port) = (server().directory.display(), server().port);
    let place = format!("host: \"{host}\", port: {port}, dbname: postgres");
    Setup {
        upstream: Some(format!("{{ {place}, user: {own}, users: [{users}] }}")),
        log: "{ level: warn }",
        ..Setup::default()
    }
}

fn start() -> Proxy {
    let writer = "{ roles: [editor], beside: [analyst], user: writer }";
    Proxy::with(server(), "reader", policy(), &upstream("reader", writer))
}

fn ask(client: &mut Client, sql: &str) -> String {
    show(&client.run(sql, By::Simple))
}

fn state(client: &mut Client, sql: &str) -> String {
    let answer = client.run(sql, By::Simple);
    refusal(&answer).unwrap_or_else(|| panic!("{sql}: {}", show(&answer)))
}

#[test]
fn each_goes_as_its_own_user_and_sees_what_that_one_may() {
    let proxy = start();
    let (mut analyst, mut editor) = (proxy.client("analyst"), proxy.client("editor"));
    for (client, user, schema) in [
        (&mut analyst, "reader", "public"),
        (&mut editor, "writer", "writer"),
    ] {
        assert!(ask(client, "SELECT current_user").contains(user));
        // Postgres's own row security is that of the user.
        let journal = ask(client, "SELECT what FROM journal");
        assert!(journal.contains(&format!("of the {user}")), "{journal}");
        assert_eq!(journal.matches("of the").count(), 1, "{journal}");
        // What a name means, too: `\"$user\"` is another schema for each.
        let path = ask(client, "SELECT current_schema()");
        assert!(path.contains(schema), "{path}");
        // ALTER ROLE … SET changes nothing that matters.
        for (setting, value) in [
            ("search_path", "public"),
            ("client_min_messages", "notice"),
            ("standard_conforming_strings", "on"),
        ] {
            let shown = ask(client, &format!("SHOW {setting}"));
            assert!(shown.contains(value), "{setting}: {shown}");
        }
    }
    // The same text, planned for one of them, is not the other's plan.
    let sql = "SELECT * FROM customers";
    let own = ask(&mut editor, sql);
    assert!(own.contains("only for writer"), "{own}");
    assert_eq!(state(&mut analyst, sql), "42501");
    let sql = "SELECT id FROM customers";
    assert!(ask(&mut editor, sql).contains('7'));
    let masked = ask(&mut analyst, "SELECT id, email FROM customers");
    assert!(masked.contains("o***@example.com"), "{masked}");

    let read_only = ask(&mut analyst, "SHOW default_transaction_read_only");
    assert!(read_only.contains("on"), "{read_only}");
    let begun = proxy.events("connect");
    let users: Vec<_> = begun
        .iter()
        .map(|one| one["upstream_user"].clone())
        .collect();
    assert_eq!(users, ["reader", "writer"]);
}

#[test]
fn what_one_changes_the_others_see() {
    let proxy = start();
    let (mut analyst, mut editor) = (proxy.client("analyst"), proxy.client("editor"));
    assert_eq!(state(&mut analyst, "SELECT n FROM public.made"), "42P01");
    ask(&mut editor, "CREATE TABLE public.made (n integer)");
    // It is known at once, and Postgres's to refuse to whom it is not granted.
    assert_eq!(state(&mut analyst, "SELECT n FROM public.made"), "42501");
    server().psql("GRANT SELECT ON public.made TO reader");
    let answer = analyst.run("SELECT n FROM public.made", By::Simple);
    assert_eq!(refusal(&answer), None, "{}", show(&answer));
    ask(&mut editor, "ALTER TABLE public.made ADD COLUMN more text");
    let answer = analyst.run("SELECT more FROM public.made", By::Simple);
    assert_eq!(refusal(&answer), None, "{}", show(&answer));
}

#[test]
fn a_statement_of_another_user_can_be_cancelled() {
    let proxy = start();
    let child = Command::new(psql())
        .args(["-X", "-w", "-c", "SELECT pg_sleep(30)"])
        .arg(format!("postgresql://editor@{}/{DATASET}", proxy.address))
        .env("PGPASSWORD", PASSWORD)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%sleep(30)%'
                  AND usename = 'writer' AND state = 'active'";
    while server().psql(sleeps) != "1" {
        std::thread::sleep(Duration::from_millis(50));
    }
    let interrupt = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status();
    assert!(interrupt.unwrap().success());
    let said = String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap();
    assert!(said.contains("canceling statement"), "{said}");
}

#[test]
fn who_loses_a_role_does_not_stay_as_the_greater_user() {
    let proxy = start();
    let (mut idle, mut analyst) = (proxy.client("editor"), proxy.client("analyst"));
    let path = proxy.home().join("policies/identities.yaml");
    let text = fs::read_to_string(&path).unwrap();
    let (lesser, greater) = ("roles: [analyst]", "roles: [editor]");
    let swapped = text.replace(lesser, "roles: [x]").replace(greater, lesser);
    fs::write(&path, swapped.replace("roles: [x]", greater)).unwrap();
    idle.patience(Duration::from_secs(8));
    let told = show(&idle.answer());
    assert!(
        told.contains("FATAL") && told.contains("not the same of your roles"),
        "{told}"
    );
    assert!(ask(&mut proxy.client("editor"), "SELECT current_user").contains("reader"));
    // Who gains one goes on as the lesser user, by the new rules, until the next session.
    assert!(ask(&mut analyst, "SELECT current_user").contains("reader"));
    assert!(ask(&mut analyst, "SELECT ssn FROM customers").contains("123-45-6789"));
    assert_eq!(state(&mut analyst, "DELETE FROM customers"), "25006");
    ask(&mut analyst, "SET default_transaction_read_only TO off");
    assert_eq!(state(&mut analyst, "DELETE FROM customers"), "42501");
    assert!(ask(&mut proxy.client("analyst"), "SELECT current_user").contains("writer"));
}

/// Users of which neither is less than the other: one is left for the other as well.
#[test]
fn who_changes_roles_does_not_stay_as_the_user_of_the_old_ones() {
    let users = "{ roles: [analyst], user: other }, { roles: [editor], user: writer }";
    server().psql("CREATE ROLE other LOGIN; GRANT INSERT ON customers TO other");
    let proxy = Proxy::with(server(), "reader", policy(), &upstream("reader", users));
    let mut idle = proxy.client("analyst");
    assert!(ask(&mut idle, "SELECT current_user").contains("other"));
    let path = proxy.home().join("policies/identities.yaml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.replace("roles: [analyst]", "roles: [editor]")).unwrap();
    idle.patience(Duration::from_secs(8));
    let told = show(&idle.answer());
    assert!(told.contains("not the same of your roles"), "{told}");
    assert!(ask(&mut proxy.client("analyst"), "SELECT current_user").contains("writer"));
}

/// What `pgveil serve` says instead of serving.
fn refuses(own: &str, users: &str) -> String {
    let home = tempfile::tempdir().unwrap();
    let setup = upstream(own, users);
    let text = format!(
        "listen: {{ address: \"127.0.0.1:0\" }}\npolicies: {}\ndatasets:\n  shop:\n    \
         upstream: {}\naudit: {{ file: records }}\n",
        policy().display(),
        setup.upstream.unwrap()
    );
    let config = home.path().join("pgveil.yaml");
    fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_pgveil"))
        .args(["serve", "--config"])
        .arg(config)
        .output()
        .unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn no_user_may_be_one_that_postgres_checks_nothing_for() {
    for (own, users, expected) in [
        ("boss", "", "superuser"),
        ("reader", "{ roles: [editor], user: boss }", "superuser"),
        ("bypasser", "", "NOBYPASSRLS"),
        // Nor one who is, or owns what a superuser owns, in a role that a setting gives it.
        ("hidden", "", "NOBYPASSRLS"),
        ("beneath", "", "NOBYPASSRLS"),
        (
            "reader",
            "{ roles: [editor], user: bypasser }",
            "NOBYPASSRLS",
        ),
        ("reader", "{ roles: [editor], user: nobody }", "28000"),
        (
            "writer",
            "{ roles: [analyst], user: reader }",
            "`writer` may write and `reader`, who stands after it, may not",
        ),
    ] {
        let said = refuses(own, users);
        assert!(said.contains(expected), "{own} {users}: {said}");
    }
}

#[test]
fn a_user_that_is_given_more_is_not_used_any_more() {
    server().psql("CREATE ROLE turning LOGIN; GRANT SELECT ON customers TO turning");
    let turning = "{ roles: [editor], user: turning }";
    let proxy = Proxy::with(server(), "reader", policy(), &upstream("reader", turning));
    let sql = "SELECT id FROM public.customers";
    let (mut analyst, mut editor) = (proxy.client("analyst"), proxy.client("editor"));
    assert_eq!(refusal(&editor.run(sql, By::Simple)), None);
    server().psql("ALTER ROLE turning BYPASSRLS");
    proxy.signal("HUP");
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while refusal(&editor.run(sql, By::Simple)).as_deref() != Some("57P03") {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(refusal(&analyst.run(sql, By::Simple)), None);
    // Whoever asks again and again has nobody log in upstream as often.
    let before = proxy.events("catalog_refresh").len();
    for _ in 0..40 {
        assert_eq!(state(&mut editor, sql), "57P03");
    }
    let read = proxy.events("catalog_refresh").len() - before;
    assert!(read <= 10, "{read}");
    server().psql("ALTER ROLE turning NOBYPASSRLS");
    while refusal(&editor.run(sql, By::Simple)).is_some() {
        assert!(std::time::Instant::now() < end);
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A role that a setting gives is what the catalog was read as, and stays.
#[test]
fn discarding_all_changes_no_user() {
    let proxy = Proxy::with(server(), "owner", policy(), &upstream("owner", ""));
    let mut analyst = proxy.client("analyst");
    assert!(ask(&mut analyst, "SELECT current_user").contains("reader"));
    assert_eq!(refusal(&analyst.run("DISCARD ALL", By::Simple)), None);
    assert!(ask(&mut analyst, "SELECT current_user").contains("reader"));
}

#[test]
fn who_owns_a_table_with_row_security_is_warned_of() {
    server().psql(
        "CREATE ROLE owns LOGIN; CREATE SCHEMA owned AUTHORIZATION owns;
         CREATE TABLE owned.open (id integer); CREATE TABLE owned.forced (id integer);
         ALTER TABLE owned.open OWNER TO owns; ALTER TABLE owned.forced OWNER TO owns;
         ALTER TABLE owned.open ENABLE ROW LEVEL SECURITY;
         ALTER TABLE owned.forced ENABLE ROW LEVEL SECURITY;
         ALTER TABLE owned.forced FORCE ROW LEVEL SECURITY;
         CREATE ROLE member LOGIN; GRANT owns TO member;",
    );
    for user in ["owns", "member"] {
        let users = format!("{{ roles: [editor], user: {user} }}");
        let proxy = Proxy::with(server(), "reader", policy(), &upstream("reader", &users));
        let log = proxy.log();
        assert!(log.contains("row security does not hold"), "{log}");
        assert!(
            log.contains("owned.open") && !log.contains("owned.forced"),
            "{log}"
        );
    }
}

/// An order that privileges by column break is one, too, and so is one that they break later.
#[test]
fn users_who_turn_out_to_be_in_another_order_are_warned_of() {
    server().psql(
        "CREATE ROLE fills LOGIN; GRANT UPDATE (email) ON customers TO fills;
         CREATE ROLE looks LOGIN",
    );
    let said = refuses("fills", "{ roles: [editor], user: looks }");
    assert!(said.contains("`fills` may write and `looks`"), "{said}");
    let mut setup = upstream("looks", "{ roles: [editor], user: reader }");
    setup.dataset = "    catalog_refresh: 100ms\n";
    let proxy = Proxy::with(server(), "looks", policy(), &setup);
    assert!(!proxy.log().contains("may write and"));
    server().psql("GRANT UPDATE (email) ON customers TO looks");
    let end = std::time::Instant::now() + Duration::from_secs(10);
    while !proxy.log().contains("`looks` may write and `reader`") {
        assert!(std::time::Instant::now() < end, "{}", proxy.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    server().psql("REVOKE UPDATE (email) ON customers FROM looks");
}

#[test]
fn a_role_that_the_policy_does_not_have_is_warned_of() {
    let writer = "{ roles: [editro], user: writer }";
    let proxy = Proxy::with(server(), "reader", policy(), &upstream("reader", writer));
    let log = proxy.log();
    assert!(log.contains("is for the role `editro`"), "{log}");
}
