//! Against OpenBao, which speaks Vault's API, where `PGVEIL_TEST_BAO` or PATH has it; and
//! against answers that no such server gives.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::thread;

use super::*;
use crate::config::{AppRole, Kubernetes, VaultDatabase, VaultKv};
use crate::session::tests::postgres::Postgres;
use crate::upstream::connect::{Target, connect};

/// A server of the tests' own, unsealed, that keeps nothing.
struct Bao {
    address: String,
    _keeper: Child,
    directory: PathBuf,
}

/// Keeps it for as long as the tests' process holds the other end of its input.
const KEEPER: &str = r#"
    trap '' INT TERM HUP
    HOME="$2" "$1" server -dev -dev-root-token-id=root -dev-no-store-token \
        -dev-listen-address="$3" >"$2/log" 2>&1 </dev/null &
    server=$!
    read -r _
    kill "$server" 2>/dev/null
    wait "$server"
    rm -rf "$2"
"#;

fn program() -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let given = std::env::var_os("PGVEIL_TEST_BAO").filter(|given| !given.is_empty());
    let found = std::env::split_paths(&path).map(|place| place.join("bao"));
    let found = given
        .map(PathBuf::from)
        .or_else(|| found.into_iter().find(|bao| bao.exists()));
    if found.is_none() {
        eprintln!("skipped: no OpenBao (tests/bao.sh fetches it)");
    }
    found
}

/// One for all, if there is any.
fn bao() -> Option<&'static Bao> {
    static BAO: OnceLock<Option<Bao>> = OnceLock::new();
    BAO.get_or_init(|| program().map(|program| Bao::start(&program)))
        .as_ref()
}

impl Bao {
    fn start(program: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap().keep();
        let free = TcpListener::bind("127.0.0.1:0")
            .unwrap()
            .local_addr()
            .unwrap();
        let keeper = Command::new("/bin/sh")
            .args(["-c", KEEPER, "keeper"])
            .arg(program)
            .arg(&directory)
            .arg(free.to_string())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let bao = Self {
            address: format!("http://{free}"),
            _keeper: keeper,
            directory,
        };
        let end = Instant::now() + Duration::from_secs(60);
        while bao.root().get(&Secret::new("root"), "sys/health").is_err() {
            let log = std::fs::read_to_string(bao.directory.join("log")).unwrap_or_default();
            assert!(Instant::now() < end, "{log}");
            thread::sleep(Duration::from_millis(50));
        }
        bao.write("sys/auth/approle", json!({ "type": "approle" }));
        bao.write("sys/mounts/database", json!({ "type": "database" }));
        let policy = r#"path "secret/data/open/*" { capabilities = ["read"] }
                        path "database/creds/*" { capabilities = ["read"] }"#;
        bao.write("sys/policies/acl/pgveil", json!({ "policy": policy }));
        bao
    }

    fn root(&self) -> Desk {
        Desk::of(&config(&self.address, token("root"))).unwrap()
    }

    fn write(&self, path: &str, body: Value) -> Option<Object> {
        match self
            .root()
            .post(Some(&Secret::new("root")), path, Object(body))
        {
            Ok(said) => Some(said),
            // Most of what is written is answered by nothing.
            Err(fault) => {
                let why = fault.why();
                assert!(why.contains("answers 204"), "{path}: {why}");
                None
            }
        }
    }

    fn put(&self, path: &str, password: &str) {
        let data = json!({ "data": { "password": password, "number": 7 } });
        self.write(&format!("secret/data/{path}"), data);
    }

    /// What a role's holders are to say: its id and a secret id.
    fn role(&self, name: &str, more: Value) -> (String, String) {
        let mut body = json!({ "token_policies": "pgveil" });
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let role = format!("auth/approle/role/{name}");
        self.write(&role, body);
        let id = self
            .root()
            .get(&Secret::new("root"), &format!("{role}/role-id"));
        let id = text(
            &id.unwrap_or_else(|fault| panic!("{}", fault.why())),
            "data.role_id",
        );
        let secret = self.write(&format!("{role}/secret-id"), json!({})).unwrap();
        (id, text(&secret, "data.secret_id"))
    }
}

fn text(said: &Object, path: &str) -> String {
    let found = said.field(path).and_then(Value::as_str);
    found.unwrap_or_else(|| panic!("no {path}")).to_owned()
}

/// Where a test's own secrets are.
fn file(content: &str) -> (tempfile::NamedTempFile, Box<SecretRef>) {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), content).unwrap();
    let place = SecretRef::File(file.path().to_owned());
    (file, Box::new(place))
}

/// By a token whose file is gone once it has been made: for what reads none.
fn token(text: &str) -> VaultAuth {
    VaultAuth::Token(file(text).1)
}

fn config(address: &str, auth: VaultAuth) -> config::Vault {
    config::Vault {
        address: address.into(),
        ca: None,
        namespace: None,
        auth,
        kv: None,
        database: None,
    }
}

fn kv(address: &str, auth: VaultAuth, path: &str, field: &str) -> config::Vault {
    config::Vault {
        kv: Some(VaultKv {
            mount: "secret".into(),
            path: path.into(),
            field: field.into(),
            refresh: Duration::from_secs(60),
        }),
        ..config(address, auth)
    }
}

fn by_role((role_id, secret_id): (String, Box<SecretRef>)) -> VaultAuth {
    VaultAuth::AppRole(AppRole {
        role_id,
        secret_id,
        mount: "approle".into(),
    })
}

async fn said(vault: &Arc<Vault>) -> String {
    let given = vault.ask(false).await.unwrap();
    given.secret.expose_str().unwrap().to_owned()
}

async fn fails(config: &config::Vault) -> String {
    let error = Vault::new(config).ask(false).await.err().unwrap();
    error.to_string()
}

#[tokio::test]
async fn a_field_of_what_is_kept_there() {
    let Some(bao) = bao() else { return };
    bao.put("open/kept here", "hunter2");
    let (_file, place) = file("root\n");
    let auth = || VaultAuth::Token(place.clone());
    let own = kv(&bao.address, auth(), "open/kept here", "password");
    let source = crate::secret::Source::of(&SecretRef::Vault(own.clone()));
    let one = source.get().await.unwrap();
    assert_eq!(one.expose(), b"hunter2");
    // What is refused is read again.
    bao.put("open/kept here", "hunter3");
    assert_eq!(source.get().await.unwrap(), one);
    assert_eq!(source.instead(&one).await.unwrap().expose(), b"hunter3");
    let shown = format!("{source:?}");
    assert!(
        !shown.contains("hunter") && !shown.contains("root"),
        "{shown}"
    );

    for (path, field, expected) in [
        ("open/kept here", "nothing", "it has no text `nothing`"),
        ("open/kept here", "number", "it has no text `number`"),
        ("open/none", "password", "answers 404"),
    ] {
        let why = fails(&kv(&bao.address, auth(), path, field)).await;
        assert!(why.contains(expected), "{why}");
        assert!(!why.contains("hunter"), "{why}");
    }
}

#[tokio::test]
async fn who_logs_in_by_a_role_may_what_the_role_may() {
    let Some(bao) = bao() else { return };
    bao.put("open/role", "hunter2");
    bao.put("closed", "hunter2");
    let (id, secret) = bao.role("reads", json!({ "token_ttl": "1h" }));
    let (held, place) = file(&secret);
    let auth = by_role((id, place));
    let vault = Vault::new(&kv(&bao.address, auth.clone(), "open/role", "password"));
    assert_eq!(said(&vault).await, "hunter2");
    // A token that has been taken back is no end of it.
    bao.write("sys/leases/revoke-prefix/auth/approle/login", json!({}));
    assert_eq!(said(&vault).await, "hunter2");

    let why = fails(&kv(&bao.address, auth.clone(), "closed", "password")).await;
    assert!(why.contains("answers 403"), "{why}");
    assert!(!why.contains(&secret), "{why}");
    std::fs::write(held.path(), "a wrong one").unwrap();
    let why = fails(&kv(&bao.address, auth, "open/role", "password")).await;
    assert!(why.contains("answers 400"), "{why}");
    assert!(!why.contains("a wrong one"), "{why}");
}

#[tokio::test]
async fn a_token_of_a_file_is_renewed_and_replaced() {
    let Some(bao) = bao() else { return };
    bao.put("open/token", "hunter2");
    let make = |ttl: &str| {
        let body = json!({ "policies": ["pgveil"], "ttl": ttl, "explicit_max_ttl": "1h" });
        text(
            &bao.write("auth/token/create", body).unwrap(),
            "auth.client_token",
        )
    };
    let (held, place) = file(&make("2s"));
    let auth = VaultAuth::Token(place);
    let vault = Vault::new(&kv(&bao.address, auth, "open/token", "password"));
    let end = Instant::now() + Duration::from_millis(3_500);
    while Instant::now() < end {
        assert_eq!(said(&vault).await, "hunter2");
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    std::fs::write(held.path(), "s.nobody").unwrap();
    assert!(vault.ask(false).await.is_err());
    std::fs::write(held.path(), make("1h")).unwrap();
    assert_eq!(said(&vault).await, "hunter2");
}

#[tokio::test]
async fn users_of_a_database_last_as_long_as_they_may() {
    let Some(bao) = bao() else { return };
    let server = tokio::task::spawn_blocking(Postgres::start).await.unwrap();
    server.psql("CREATE ROLE vault LOGIN SUPERUSER PASSWORD 'x'; CREATE TABLE goods ()");
    let url = format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
        server.port
    );
    bao.write(
        "database/config/shop",
        json!({
            "plugin_name": "postgresql-database-plugin", "allowed_roles": ["*"],
            "connection_url": url, "username": "vault", "password": "x"
        }),
    );
    let role = |name: &str, ttl: &str, longest: &str| {
        let made = "CREATE ROLE \"{{name}}\" LOGIN PASSWORD '{{password}}'; \
                    GRANT SELECT ON goods TO \"{{name}}\"";
        bao.write(
            &format!("database/roles/{name}"),
            json!({
                "db_name": "shop", "creation_statements": [made],
                "default_ttl": ttl, "max_ttl": longest
            }),
        );
    };
    role("brief", "4s", "6s");
    role("long", "1h", "2h");
    let (id, secret) = bao.role("makes", json!({ "token_ttl": "1h" }));
    let (_held, place) = file(&secret);
    let of = |role: &str| config::Vault {
        database: Some(VaultDatabase {
            mount: "database".into(),
            role: role.into(),
        }),
        ..config(&bao.address, by_role((id.clone(), place.clone())))
    };

    // Renewed while that helps,
    let vault = Vault::new(&of("long"));
    let ask = async |vault: &Arc<Vault>| {
        let given = vault.ask(false).await.unwrap();
        assert!(given.secret.user().is_some());
        (given.secret, given.lasts)
    };
    let (first, lasts) = ask(&vault).await;
    assert!(lasts <= Duration::from_secs(3_600), "{lasts:?}");
    assert_eq!(ask(&vault).await.0, first);
    // and then replaced by another.
    let vault = Vault::new(&of("brief"));
    let (first, lasts) = ask(&vault).await;
    assert!(lasts <= Duration::from_secs(4), "{lasts:?}");
    let end = Instant::now() + Duration::from_secs(30);
    while ask(&vault).await.0 == first {
        assert!(Instant::now() < end, "it is not replaced");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }

    // Postgres takes them, under their own name.
    let source = crate::secret::Source::of(&SecretRef::Vault(of("long")));
    let target = Target {
        password: Some(Arc::new(source)),
        ..server.tcp("nobody", "")
    };
    let upstream = connect(&target, &[]).await.unwrap();
    let user = |upstream: &crate::upstream::connect::Upstream| {
        let user = upstream.parameter("session_authorization").unwrap();
        user.to_owned()
    };
    let one = user(&upstream);
    assert!(one.starts_with("v-"), "{one}");
    assert_eq!(user(&connect(&target, &[]).await.unwrap()), one);
    // One that Postgres does not know any more is replaced by another.
    drop(upstream);
    server.psql(&format!("DROP OWNED BY \"{one}\"; DROP ROLE \"{one}\""));
    let two = user(&connect(&target, &[]).await.unwrap());
    assert!(two.starts_with("v-") && two != one, "{two}");
}

/// Answers each request by the next of these, and gives what was asked.
fn answering(answers: Vec<String>) -> (String, thread::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let serving = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in answers {
            let (stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(&stream);
            let (mut head, mut length) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                if line.trim().is_empty() {
                    break;
                }
                let lower = line.to_lowercase();
                if let Some(value) = lower.strip_prefix("content-length:") {
                    length = value.trim().parse().unwrap();
                }
                head.push_str(&line);
            }
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            asked.push(head + &String::from_utf8(body).unwrap());
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    (address, serving)
}

fn answer(status: &str, body: &str) -> String {
    format!(
        "HTTP/1.1 {status}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_pod_shows_its_token() {
    let login = r#"{"auth": {"client_token": "s.given", "lease_duration": 60, "renewable": true}}"#;
    let kept = r#"{"data": {"data": {"password": "hunter2"}}}"#;
    let (address, asked) = answering(vec![answer("200 OK", login), answer("200 OK", kept)]);
    let (held, _) = file("a.pod.token\n");
    let auth = VaultAuth::Kubernetes(Kubernetes {
        role: "pgveil".into(),
        jwt: held.path().to_owned(),
        mount: "kubernetes".into(),
    });
    let own = config::Vault {
        namespace: Some("team".into()),
        ..kv(&format!("{address}/"), auth, "a b/c?d", "password")
    };
    assert_eq!(said(&Vault::new(&own)).await, "hunter2");
    let asked = asked.join().unwrap();
    assert!(
        asked[0].starts_with("POST /v1/auth/kubernetes/login HTTP/1.1"),
        "{}",
        asked[0]
    );
    assert!(
        asked[0].ends_with(r#"{"jwt":"a.pod.token","role":"pgveil"}"#),
        "{}",
        asked[0]
    );
    assert!(
        asked[1].starts_with("GET /v1/secret/data/a%20b/c%3Fd HTTP/1.1"),
        "{}",
        asked[1]
    );
    let lower = asked[1].to_lowercase();
    for header in [
        "x-vault-token: s.given",
        "x-vault-namespace: team",
        "x-vault-request: true",
    ] {
        assert!(lower.contains(header), "{lower}");
    }
    assert!(
        !asked[0].to_lowercase().contains("x-vault-token"),
        "{}",
        asked[0]
    );
}

/// The record and the log name whom Postgres's own log names.
#[tokio::test]
async fn whose_the_password_is_has_a_name() {
    let login = r#"{"auth": {"client_token": "s.given", "lease_duration": 60}}"#;
    let made = r#"{"lease_id": "l", "lease_duration": 60,
                   "data": {"username": "v-made", "password": "hunter2"}}"#;
    let (address, asked) = answering(vec![answer("200 OK", login), answer("200 OK", made)]);
    let (_held, place) = file("id");
    let own = config::Vault {
        database: Some(VaultDatabase {
            mount: "database".into(),
            role: "reader".into(),
        }),
        ..config(&address, by_role(("id".into(), place)))
    };
    let target = Target {
        dataset: "shop".into(),
        host: "127.0.0.1".into(),
        port: 1,
        dbname: "shop".into(),
        user: "placeholder".into(),
        password: Some(Arc::new(crate::secret::Source::of(&SecretRef::Vault(own)))),
        tls: crate::upstream::connect::TlsMode::Disable,
        ca: None,
        allow_superuser: false,
        timeout: TIMEOUT,
    };
    assert_eq!(&*target.login().await, "v-made");
    let error = connect(&target, &[]).await.err().unwrap().to_string();
    assert!(error.contains("as `v-made`"), "{error}");
    asked.join().unwrap();
}

/// A login may be the last that a secret id is good for.
#[tokio::test]
async fn a_token_that_is_not_renewed_once_is_no_reason_to_log_in() {
    let login = r#"{"auth": {"client_token": "s.given", "lease_duration": 3, "renewable": true}}"#;
    let kept = answer("200 OK", r#"{"data": {"data": {"password": "hunter2"}}}"#);
    let (address, asked) = answering(vec![
        answer("200 OK", login),
        kept.clone(),
        answer("503 Service Unavailable", ""),
        kept,
    ]);
    let (_held, place) = file("id");
    let auth = by_role(("role".into(), place));
    let vault = Vault::new(&kv(&address, auth, "a", "password"));
    assert_eq!(said(&vault).await, "hunter2");
    tokio::time::sleep(Duration::from_millis(1_600)).await;
    assert_eq!(said(&vault).await, "hunter2");
    let asked = asked.join().unwrap();
    assert!(asked[2].contains("/auth/token/renew-self"), "{}", asked[2]);
    assert!(
        asked[3].starts_with("GET /v1/secret/data/a"),
        "{}",
        asked[3]
    );
}

#[tokio::test]
async fn answers_that_make_no_sense_give_nothing() {
    let login = |auth: &str| answer("200 OK", &format!(r#"{{"auth": {auth}}}"#));
    let good = r#"{"client_token": "s.given", "lease_duration": 60, "renewable": true}"#;
    let lease = |more: &str| {
        let data = r#""data": {"username": "u", "password": "hunter2"}"#;
        answer("200 OK", &format!(r#"{{"lease_id": "l", {more}, {data}}}"#))
    };
    for (first, then, expected) in [
        (answer("200 OK", "hunter2"), None, "answers no JSON"),
        (answer("200 OK", ""), None, "answers no JSON"),
        (login("null"), None, "no token at login"),
        (login(r#"{"client_token": 7}"#), None, "no token at login"),
        (
            answer(
                "503 Service Unavailable",
                r#"{"errors": ["Vault is sealed\u001b[31m"]}"#,
            ),
            None,
            "answers 503 Vault is sealed[31m",
        ),
        (answer("500 Oops", "hunter2"), None, "answers 500"),
        (
            answer(
                "307 Temporary Redirect\r\nLocation: http://127.0.0.1:1/",
                "",
            ),
            None,
            "is not followed",
        ),
        (
            login(r#"{"client_token": "two\nlines", "lease_duration": 60}"#),
            None,
            "no text of one line",
        ),
        (
            login(good),
            Some(lease(r#""lease_duration": 0"#)),
            "no `lease_duration`",
        ),
        (
            login(good),
            Some(lease(r#""lease_duration": -5"#)),
            "no `lease_duration`",
        ),
        (
            login(good),
            Some(lease(r#""lease_duration": "1h""#)),
            "no `lease_duration`",
        ),
        (
            login(good),
            Some(answer(
                "200 OK",
                r#"{"lease_id": "l", "lease_duration": 5, "data": {}}"#,
            )),
            "no `data.password`",
        ),
        (login(good), Some(answer("200 OK", "[]")), "no `lease_id`"),
    ] {
        let (address, asked) = answering([first].into_iter().chain(then).collect());
        let (_held, place) = file("hunter-id");
        let own = config::Vault {
            database: Some(VaultDatabase {
                mount: "database".into(),
                role: "reader".into(),
            }),
            ..config(&address, by_role(("id".into(), place)))
        };
        let why = fails(&own).await;
        assert!(why.contains(expected), "{expected}: {why}");
        assert!(!why.contains("hunter"), "{why}");
        asked.join().unwrap();
    }
    // What is said to last for ever lasts for a year, or as long as the token.
    let huge = lease(&format!(r#""lease_duration": {}"#, u64::MAX));
    let (address, asked) = answering(vec![login(good), huge]);
    let (_held, place) = file("id");
    let own = config::Vault {
        database: Some(VaultDatabase {
            mount: "database".into(),
            role: "reader".into(),
        }),
        ..config(&address, by_role(("id".into(), place)))
    };
    let given = Vault::new(&own).ask(false).await.unwrap();
    assert!(given.lasts <= Duration::from_secs(60), "{:?}", given.lasts);
    asked.join().unwrap();
}
