use super::*;
use crate::identity::Kind;

const MINIMAL: &str =
    "datasets: { shop: { upstream: { host: localhost, dbname: shop, user: pgveil } } }\n";

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("/etc/pgveil"))
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    let error = parse(text).unwrap_err().to_string();
    assert!(
        error.contains(expected),
        "expected {expected}\n     got {error}"
    );
    assert!(!error.contains('\n'), "{error}");
}

/// As [`refused`], for a text about one upstream.
#[track_caller]
fn refused_upstream(upstream: &str, expected: &str) {
    refused(
        &format!("datasets: {{ shop: {{ upstream: {{ {upstream} }} }} }}"),
        expected,
    );
}

#[test]
fn defaults_are_safe() {
    let config = parse(MINIMAL).unwrap();
    assert_eq!(config.listen.address, ["127.0.0.1:6432".parse().unwrap()]);
    assert_eq!(config.listen.plaintext, Plaintext::Loopback);
    assert_eq!(config.listen.max_connections.get(), 1000);
    assert_eq!(config.listen.handshake_timeout, Duration::from_secs(10));
    assert_eq!(config.policies, Path::new("/etc/pgveil/policies"));
    assert_eq!(
        config.audit.file,
        Path::new("/etc/pgveil/audit/records.jsonl")
    );
    assert_eq!(config.shutdown_timeout, Duration::from_secs(30));
    assert_eq!(config.limits.statement_size, 1 << 20);
    let shop = &config.datasets["shop"];
    assert!(!shop.allow_superuser);
    assert_eq!(shop.catalog_refresh, Duration::from_secs(300));
    assert_eq!(shop.catalog_pause, Duration::from_secs(1));
    assert_eq!(shop.upstream.port, 5432);
    assert_eq!(shop.upstream.tls_mode(), TlsMode::Prefer);
}

#[test]
fn reads_everything() {
    let config = parse(
        r#"
listen:
  address: ["0.0.0.0:6432", "[::1]:6432"]
  plaintext: never
  tls: { certificate: tls/server.crt, key: /run/server.key, client_ca: tls/clients.pem, client_crls: [a.crl] }
  handshake_timeout: 1m30s
  max_connections: 12
policies: ../policies
datasets:
  shop:
    upstream:
      host: db.example
      port: 5433
      dbname: shop
      user: pgveil
      password: { file: secrets/shop }
      tls: { mode: verify-full, ca: ca.pem }
    mask_key: { env: SHOP_KEY }
    environment: production
    allow_superuser: true
    catalog_refresh: 30s
  local: { upstream: { host: /run/postgresql, dbname: local, user: pgveil } }
audit: { file: /var/log/pgveil.jsonl }
limits: { statement_size: 4MB, statement_depth: 500 }
log: { format: json, level: debug }
shutdown_timeout: 5s
"#,
    )
    .unwrap();
    let tls = config.listen.tls.unwrap();
    assert_eq!(tls.certificate, Path::new("/etc/pgveil/tls/server.crt"));
    let clients = Path::new("/etc/pgveil/tls/clients.pem");
    assert_eq!(tls.client_ca.as_deref(), Some(clients));
    assert_eq!(tls.client_crls, [Path::new("/etc/pgveil/a.crl")]);
    assert_eq!(tls.key, Path::new("/run/server.key"));
    assert_eq!(config.listen.address.len(), 2);
    assert_eq!(config.listen.handshake_timeout, Duration::from_secs(90));
    let shop = &config.datasets["shop"];
    assert_eq!(
        shop.upstream.password,
        Some(SecretRef::File("/etc/pgveil/secrets/shop".into()))
    );
    assert_eq!(shop.mask_key, Some(SecretRef::Env("SHOP_KEY".into())));
    assert_eq!(shop.upstream.tls_mode(), TlsMode::VerifyFull);
    let ca = shop.upstream.tls.as_ref().unwrap().ca.as_deref();
    assert_eq!(ca, Some(Path::new("/etc/pgveil/ca.pem")));
    let local = &config.datasets["local"].upstream;
    assert_eq!(local.socket_dir(), Some(Path::new("/run/postgresql")));
    assert_eq!(local.tls_mode(), TlsMode::Disable);
    assert_eq!(config.log.format, LogFormat::Json);
    let (size, depth) = (4 << 20, 500);
    assert_eq!(config.limits.bounds(), Bounds { size, depth });
}

#[test]
fn unknown_words_are_refused_with_place_and_suggestion() {
    refused(
        &format!("{MINIMAL}listen:\n  adress: 127.0.0.1:1\n"),
        "3:3: unknown key `adress`",
    );
    refused(
        &format!("{MINIMAL}listen:\n  adress: 127.0.0.1:1\n"),
        "did you mean `address`?",
    );
    refused(
        &format!("{MINIMAL}polices: x\n"),
        "2:1: unknown key `polices`",
    );
    refused(
        &format!("{MINIMAL}log: {{ levle: info }}"),
        "did you mean `level`?",
    );
    refused(
        &format!("{MINIMAL}log: {{ level: verbose }}"),
        "unknown value `verbose`",
    );
    refused(
        &format!("{MINIMAL}listen:\n  plaintext: allways"),
        "3:14: unknown value `allways` (known here: loopback, anywhere, never)",
    );
    refused(
        &format!("{MINIMAL}listen:\n  plaintext: nevr"),
        "did you mean `never`?",
    );
    refused_upstream(
        "host: localhost, dbname: a, user: b, passwrd: { env: X }",
        "did you mean `password`?",
    );
    refused_upstream(
        "host: db, dbname: a, user: b, tls: { mode: verify_full }",
        "did you mean `verify-full`?",
    );
}

#[test]
fn mistakes_are_refused() {
    refused("", "1:1: it ends where more is expected");
    refused("datasets: {}", "`datasets` is empty");
    refused("policies: x", "`datasets` is missing");
    refused("- a", "1:1: expected keys with values");
    refused("datasets: [", "");
    refused(&format!("{MINIMAL}{MINIMAL}"), "`datasets` is there twice");
    refused_upstream("host: localhost, user: b", "`dbname` is missing");
    refused_upstream("host: '', dbname: a, user: b", "`upstream.host` is empty");
    refused_upstream("host: localhost, dbname: a, user: b, port: 0", "port");
    refused_upstream(
        "host: localhost, dbname: a, user: b, port: 70000",
        "a whole number from 0 to 65535",
    );
    refused_upstream(
        "host: db, dbname: a, user: b",
        "`datasets.shop` must say how `db` is reached",
    );
    refused_upstream("host: 10.0.0.1, dbname: a, user: b", "must say how");
    refused_upstream(
        "host: db, dbname: a, user: b, tls: { mode: verify-ca }",
        "`upstream.tls.ca` is missing",
    );
    refused_upstream(
        "host: /run, dbname: a, user: b, tls: { mode: require }",
        "not for Unix sockets",
    );
    let listen = |listen: &str, expected| refused(&format!("{MINIMAL}listen: {listen}"), expected);
    listen("{ plaintext: never }", "nobody could connect");
    listen("{ address: '10.0.0.1:6432' }", "need `listen.tls`");
    listen("{ address: [] }", "`listen.address` is empty");
    listen(
        "{ address: 'localhost:6432' }",
        "`localhost:6432` is not an IP address and port",
    );
    listen(
        "{ address: 6432 }",
        "expected an address and port, or a list",
    );
    listen("{ max_connections: 0 }", "nonzero");
    listen("{ max_connections: -1 }", "not negative");
    listen("{ handshake_timeout: 10 }", "`10` is not a duration");
    listen("{ handshake_timeout: 0s }", "more than 0s");
    listen(
        "{ handshake_timeout: soon }",
        "2:30: `soon` is not a duration such as",
    );
    listen("{ tls: { certificate: a } }", "`key` is missing");
    listen(
        "{ tls: { certificate: a, key: b, client_crls: [c] } }",
        "`client_ca` is missing",
    );
    listen("{ failures: { per_source: 0 } }", "let one login fail");
    listen("{ failures: { pause: 0s } }", "more than 0s");
    listen("{ failures: { longest: 500ms } }", "must be from `pause`");
    listen("{ failures: { longest: 48h } }", "to 1d");
}

#[test]
fn inline_secrets_are_refused_and_not_repeated() {
    for secret in [
        "hunter2",
        "'hunter2'",
        "12345678",
        "-12345678",
        "1.2345678",
        "true",
        "[hunter2]",
        "~",
    ] {
        let upstream = format!("host: localhost, dbname: a, user: b, password: {secret}");
        let text = format!("datasets: {{ shop: {{ upstream: {{ {upstream} }} }} }}");
        // Null is no password at all, as if left out.
        let Err(error) = parse(&text) else {
            assert_eq!(secret, "~");
            continue;
        };
        let error = error.to_string();
        assert!(error.contains("a secret is not written here"), "{error}");
        assert!(error.starts_with("1:"), "{error}");
        assert!(
            !error.contains("hunter2") && !error.contains("2345678"),
            "{error}"
        );
    }
    let upstream = "host: localhost, dbname: a, user: b, password:";
    refused_upstream(&format!("{upstream} {{ env: A, file: b }}"), "in one place");
    refused_upstream(&format!("{upstream} {{ evn: A }}"), "did you mean `env`?");
    refused_upstream(
        &format!("{upstream} {{ env: '' }}"),
        "not a name of an environment",
    );
    refused_upstream(
        &format!("{upstream} {{ env: 'A=B' }}"),
        "not a name of an environment",
    );
    refused_upstream(&format!("{upstream} {{}}"), "a secret is not written here");
}

#[test]
fn a_vault_is_asked_for_one_thing_and_proved_to_by_one() {
    let upstream = "host: localhost, dbname: a, user: b, password: { vault:";
    let token = "address: 'https://v', auth: { token: { file: t } }";
    for (vault, expected) in [
        (token.to_owned(), "wants `kv` or `database`"),
        (format!("{token}, kv: {{ path: a }}, database: {{ role: b }}"), "one of them"),
        (format!("{token}, kv: {{ path: a/../b }}"), "no path of Vault's"),
        (format!("{token}, kv: {{ path: /a }}"), "no path of Vault's"),
        (format!("{token}, kv: {{ path: a, refresh: 1s }}"), "5s or more"),
        (format!("{token}, kv: {{ path: a }}, namespace: 'a b'"), "no name of one"),
        (format!("{token}, kv: {{ path: a }}, tls: false"), "unknown key `tls`"),
        ("address: 'http://v', auth: { token: { file: t } }, kv: { path: a }".into(), "in clear"),
        ("address: 'https://v?a', auth: { token: { file: t } }, kv: { path: a }".into(), "a page"),
        ("address: 'https://v', auth: { token: hunter2 }, kv: { path: a }".into(), "not written"),
        (
            "address: 'https://v', auth: { token: { exec: { command: [/t], lifetime: 1m } } }, kv: { path: a }"
                .into(),
            "in a variable or a file",
        ),
        ("address: 'https://v', auth: { ldap: {} }, kv: { path: a }".into(), "`ldap`"),
        ("address: 'https://v', auth: {}, kv: { path: a }".into(), "`vault.auth` is one of"),
    ] {
        refused_upstream(&format!("{upstream} {{ {vault} }} }}"), expected);
    }
    let auth = "auth: { approle: { role_id: r, secret_id: { file: s } } }, ca: ca.pem";
    let vault = format!("{{ vault: {{ address: 'https://v', {auth}, database: {{ role: b }} }} }}");
    let text = format!(
        "datasets: {{ shop: {{ upstream: {{ host: localhost, dbname: a, user: b, password: {vault} }} }} }}"
    );
    let config = parse(&text).unwrap();
    let Some(SecretRef::Vault(vault)) = &config.datasets["shop"].upstream.password else {
        panic!("no vault")
    };
    assert!(vault.ca.as_ref().unwrap().is_absolute());
    assert_eq!(vault.to_string(), "the vault's `database/creds/b`");
}

#[test]
fn upstream_users_are_for_somebody_and_named_once() {
    let upstream = "host: localhost, dbname: a, user: b, users:";
    for (users, expected) in [
        ("[{ roles: [x] }]", "`user` is missing"),
        ("[{ user: c }]", "`roles` is missing"),
        (
            "[{ roles: [], user: c }]",
            "`upstream.users[0]` lists no `roles`",
        ),
        ("[{ roles: [x], user: '' }]", "that is empty"),
        (
            "[{ roles: [x], user: b }]",
            "`upstream.users[0]` is `b` once more",
        ),
        (
            "[{ roles: [x], user: c }, { roles: [y], user: c }]",
            "`upstream.users[1]` is `c` once more",
        ),
        (
            "[{ roles: [x], user: c, password: hunter2 }]",
            "not written here",
        ),
    ] {
        refused_upstream(&format!("{upstream} {users}"), expected);
    }
    let users = "[{ roles: [x], user: c, password: { file: d } }]";
    let text = format!("datasets: {{ shop: {{ upstream: {{ {upstream} {users} }} }} }}");
    let password = &parse(&text).unwrap().datasets["shop"].upstream.users[0].password;
    assert!(password.as_ref().unwrap().to_string().starts_with('/'));
}

#[test]
fn a_program_that_prints_a_secret_is_named_whole() {
    let upstream = "host: localhost, dbname: a, user: b, password: { exec:";
    for (exec, expected) in [
        ("{ command: [], lifetime: 1m }", "`command` is empty"),
        ("{ command: token, lifetime: 1m }", "expected"),
        ("{ command: [token], lifetime: 1m }", "by its absolute path"),
        (
            "{ command: ['token a'], lifetime: 1m }",
            "by its absolute path",
        ),
        ("{ command: [/token] }", "`lifetime`, or `json.expires`"),
        ("{ command: [/token], lifetime: 1s }", "5s or more"),
        (
            "{ command: [/token], lifetime: 1m, timeout: 6m }",
            "from 1s to 5m",
        ),
        (
            "{ command: [/token], lifetime: 1m, environment: ['A=B'] }",
            "lists names",
        ),
        (
            "{ command: [/token], lifetime: 1m, shell: true }",
            "unknown key `shell`",
        ),
        (
            "{ command: [/token], lifetime: 1m, json: { secret: a, expires: b } }",
            "not both",
        ),
        ("hunter2", "expected"),
    ] {
        refused_upstream(&format!("{upstream} {exec} }}"), expected);
    }
    let exec = "{ command: [/token, a b], json: { secret: a.b, expires: c } }";
    let text = format!("datasets: {{ shop: {{ upstream: {{ {upstream} {exec} }} }} }} }}");
    let config = parse(&text).unwrap();
    let password = config.datasets["shop"].upstream.password.as_ref();
    // Arguments are in no message.
    assert_eq!(password.unwrap().to_string(), "the program `/token`");
}

#[test]
fn files_are_named_in_errors_and_paths_start_from_them() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("pgveil.yaml");
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(error.contains("pgveil.yaml: cannot be read"), "{error}");
    std::fs::write(&path, "datsets: {}\n").unwrap();
    let error = Config::load(&path).unwrap_err().to_string();
    assert!(
        error.contains("pgveil.yaml:1:1: unknown key `datsets`"),
        "{error}"
    );
    std::fs::write(&path, MINIMAL).unwrap();
    let config = Config::load(&path).unwrap();
    assert_eq!(config.policies, folder.path().join("policies"));
}

#[test]
fn the_schema_describes_every_key() {
    let schema = serde_json::to_value(Config::schema()).unwrap();
    let mut stack = vec![&schema];
    let mut keys = 0;
    while let Some(value) = stack.pop() {
        if let Some(properties) = value.get("properties").and_then(|p| p.as_object()) {
            for (name, property) in properties {
                keys += 1;
                assert!(property.get("description").is_some(), "{name}: {property}");
            }
        }
        match value {
            serde_json::Value::Object(map) => stack.extend(map.values()),
            serde_json::Value::Array(items) => stack.extend(items),
            _ => {}
        }
    }
    assert!(keys > 25, "{keys}");
}

#[test]
fn the_nearest_word_is_near() {
    let words = ["address", "plaintext", "tls", "env", "file"];
    assert_eq!(nearest("adress", &words), Some("address"));
    assert_eq!(nearest("Plain-Text", &words), Some("plaintext"));
    assert_eq!(nearest("evn", &words), Some("env"));
    assert_eq!(nearest("zzz", &words), None);
    assert_eq!(nearest("a", &words), None);
    assert_eq!(nearest("", &words), None);
    assert_eq!(nearest("x", &[]), None);
}

#[test]
fn limits_are_within_what_planning_bears() {
    let limits = |limits: &str| format!("{MINIMAL}limits: {{ {limits} }}\n");
    assert!(parse(&limits("statement_size: 1kB, statement_depth: 10")).is_ok());
    assert!(parse(&limits("statement_size: 16MB, statement_depth: 12000")).is_ok());
    for size in ["0kB", "17MB"] {
        refused(
            &limits(&format!("statement_size: {size}")),
            "from 1kB to 16MB",
        );
    }
    refused(&limits("statement_size: 1000000"), "is not a size such as");
    for depth in ["9", "12001"] {
        refused(
            &limits(&format!("statement_depth: {depth}")),
            "from 10 to 12000",
        );
    }
    refused(
        &limits("statement_dept: 10"),
        "did you mean `statement_depth`?",
    );
}

#[test]
fn tokens_and_issuers_are_bounded() {
    let config = parse(MINIMAL).unwrap();
    assert!(config.tokens.keys.is_empty() && config.issuers.is_empty());
    assert_eq!(config.tokens.lifetime, Duration::from_secs(3600));
    assert_eq!(
        config.tokens.revoked,
        Path::new("/etc/pgveil/revoked.jsonl")
    );
    refused(
        &format!("{MINIMAL}tokens: {{ lifetime: 0s }}"),
        "`tokens.lifetime` must be more than 0s",
    );
    let issuers = |name: &str, more: &str| {
        format!(
            "{MINIMAL}issuers: {{ corp: {{ issuer: {name}, audience: a, jwks: keys.json, {more} }} }}"
        )
    };
    let config = parse(&issuers("i", "names: ['*@x']")).unwrap();
    let corp = &config.issuers["corp"];
    assert_eq!(corp.jwks, Jwks::File("/etc/pgveil/keys.json".into()));
    assert_eq!((corp.name.as_str(), corp.kind), ("sub", Kind::Human));
    assert_eq!(corp.algorithms.len(), 3);
    refused(&issuers("i", "names: []"), "`issuers.corp` must name");
    refused(
        &issuers("i", "names: [a], algorithms: []"),
        "`issuers.corp` must name",
    );
    refused(&issuers("i", "names: [a], algorithms: [HS256]"), "HS256");
    refused(&issuers("i", "names: ['*']"), "something beside it");
    refused(&issuers("i", "names: ['a*b*c']"), "one `*` at most");
    refused(&issuers("pgveil", "names: [a]"), "another's name already");
    refused(&issuers("''", "names: [a]"), "empty ones are nobody's");
    refused(&issuers("i", "names: [a], skew: 301s"), "at most 5m");
    refused(
        &issuers("i", "names: [a], group_names: ['a*b*']"),
        "one `*` at most",
    );
    let fetched = |issuer: &str, more: &str| {
        let more = format!("names: [a], {more}");
        format!("{MINIMAL}issuers: {{ corp: {{ issuer: '{issuer}', audience: a, {more} }} }}")
    };
    let config = parse(&fetched("https://corp/", "ca: ca.pem")).unwrap();
    let corp = &config.issuers["corp"];
    assert_eq!(corp.jwks, Jwks::Discovered);
    assert_eq!(
        corp.document(),
        "https://corp/.well-known/openid-configuration"
    );
    assert_eq!(corp.ca.as_deref(), Some(Path::new("/etc/pgveil/ca.pem")));
    let config = parse(&fetched("i", "jwks: 'http://127.0.0.1:8/keys'")).unwrap();
    let url = Jwks::Url("http://127.0.0.1:8/keys".into());
    assert_eq!(config.issuers["corp"].jwks, url);
    for (issuer, more, why) in [
        ("https://corp", "actors: ['*']", "something beside it"),
        (
            "https://corp",
            "actors: [a], kind: agent",
            "act on behalf of humans",
        ),
        (
            "i",
            "jwks: 'http://corp.example/keys'",
            "https is needed for another machine",
        ),
        (
            "i",
            "jwks: 'ftp://corp.example/keys'",
            "neither https nor http",
        ),
        (
            "i",
            "jwks: 'https://me:secret@corp.example/keys'",
            "a user or a password",
        ),
        (
            "http://corp.example",
            "",
            "https is needed for another machine",
        ),
        ("i", "", "is not a URL"),
        (
            "https://corp",
            "refresh: 500ms",
            "a `refresh` of 1s or more",
        ),
        (
            "https://corp",
            "refresh: 2h, stale: 1h",
            "a `stale` of no less",
        ),
    ] {
        refused(&fetched(issuer, more), why);
    }
    let keys = "tokens: { keys: [a.key], lifetime: 1h }\n";
    let login =
        |keys: &str, more: &str| format!("{MINIMAL}{keys}login: {{ key: {{ file: k }}, {more} }}");
    let config = parse(&login(keys, "lifetime: 1h")).unwrap();
    let used = config.login.unwrap().used;
    assert_eq!(used, Path::new("/etc/pgveil/logins.json"));
    refused(&login("", ""), "`login` wants `tokens.keys`");
    refused(&login(keys, "lifetime: 61m"), "at most `tokens.lifetime`");
    refused(&login(keys, "lifetime: 0s"), "more than 0s");
    let two = |one: &str, other: &str| {
        format!(
            "{MINIMAL}issuers: {{ a: {{ issuer: i, audience: a, jwks: a.json, {one} }}, \
             b: {{ issuer: j, audience: a, jwks: b.json, {other} }} }}"
        )
    };
    for (one, other) in [
        ("names: ['*@x']", "names: [a, jo@x]"),
        ("names: [jo]", "names: [jo]"),
        ("names: ['*@x']", "names: ['a*']"),
        ("names: ['*.x']", "names: ['*@a.x']"),
    ] {
        refused(&two(one, other), "have names in common");
    }
    let one = "names: ['*@x'], groups: g, group_names: ['x-*']";
    parse(&two(one, "names: ['*@y', x]")).unwrap();
    parse(&two(one, "names: ['*@y'], groups: g, group_names: []")).unwrap();
    refused(
        &two(one, "names: ['*@y'], groups: g"),
        "which groups are its to give",
    );
}

#[test]
fn sinks_are_one_thing_each_and_in_clear_on_this_machine_only() {
    let with = |audit: &str| parse(&format!("{MINIMAL}audit: {{ {audit} }}\n"));
    let audit = with(
        "retention: { age: 90d, size: 10GB }, sinks: { \
         a: { stdout: {}, format: ocsf }, \
         b: { webhook: { url: 'https://hook.example/x', secret: { file: s }, ca: ca.pem }, required: 5m }, \
         c: { syslog: { host: 127.0.0.1, port: 514 } }, \
         d: { postgres: { host: /run/postgresql, dbname: audit, user: sink, password: { file: p } } } }",
    );
    let audit = audit.unwrap().audit;
    assert_eq!(audit.sinks["a"].format, Format::Ocsf);
    let hook = &audit.sinks["b"];
    assert_eq!(hook.required, Some(Duration::from_secs(300)));
    let (hook, here) = (hook.webhook.as_ref().unwrap(), Path::new("/etc/pgveil"));
    assert_eq!(hook.ca.as_deref(), Some(here.join("ca.pem").as_path()));
    assert_eq!(hook.secret, SecretRef::File(here.join("s")));
    let postgres = audit.sinks["d"].postgres.as_ref().unwrap();
    assert_eq!(postgres.password, Some(SecretRef::File(here.join("p"))));
    let retention = audit.retention.unwrap();
    assert_eq!(retention.age, Some(Duration::from_secs(90 * 86_400)));
    for (audit, why) in [
        ("sinks: { a: {} }", "must be one of"),
        (
            "sinks: { a: { stdout: {}, syslog: { host: localhost } } }",
            "must be one of",
        ),
        ("sinks: { '../a': { stdout: {} } }", "letters, digits"),
        ("sinks: { a: { stdout: {}, required: 1s } }", "at least 5s"),
        (
            "sinks: { a: { syslog: { host: siem.example } } }",
            "`syslog.ca` is missing",
        ),
        (
            "sinks: { a: { webhook: { url: 'http://hook.example', secret: { env: S } } } }",
            "in clear",
        ),
        (
            "sinks: { a: { webhook: { url: 'https://hook.example', secret: word } } }",
            "a secret is not written here",
        ),
        (
            "sinks: { a: { postgres: { host: db.example, dbname: a, user: b } } }",
            "`audit.sinks.a` must say how `db.example` is reached: `postgres.tls",
        ),
        (
            "sinks: { a: { format: ocsf, postgres: { host: localhost, dbname: a, user: b } } }",
            "`format` is not for `postgres`",
        ),
        ("retention: { age: 90d }", "a place elsewhere"),
        ("checkpoints: x, retention: {}", "neither `age` nor `size`"),
    ] {
        let said = with(audit).unwrap_err().to_string();
        assert!(said.contains(why), "{audit}: {said}");
    }
}
