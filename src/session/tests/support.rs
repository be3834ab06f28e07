//! A proxy without its door, a stand-in for policy, and a client that speaks
//! the protocol byte by byte.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::postgres::Postgres;
use crate::audit::record::PolicyStamp;
use crate::audit::{Durability, Log};
use crate::catalog::{Catalog, Oid, Relation};
use crate::error::{SqlState, Told};
use crate::identity::{Kind, Method, Principal};
use crate::policy::{Action, Limits, Policy, Rights};
use crate::session::{
    Authority, Caller, Cancels, Dataset, Decided, Planning, Shared, Sight, Standing, run,
};
use crate::sql::{Denial, Effect, Plan, Reason, Scope};
use crate::stage::Stage;
use crate::upstream::connect::Target;

pub(super) fn server() -> &'static Postgres {
    static SERVER: OnceLock<Postgres> = OnceLock::new();
    SERVER.get_or_init(|| {
        let server = Postgres::start();
        server.psql(
            "CREATE ROLE proxy LOGIN; GRANT ALL ON SCHEMA public TO proxy;
             CREATE TABLE customers (id int PRIMARY KEY, email text);
             INSERT INTO customers SELECT n, 'c' || n || '@example.com' FROM generate_series(1, 1000) n;
             CREATE TABLE sink (id int PRIMARY KEY, note text);
             CREATE TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED);
             GRANT ALL ON ALL TABLES IN SCHEMA public TO proxy;
             CREATE SCHEMA other AUTHORIZATION proxy;
             CREATE TABLE other.customers (id int);
             GRANT ALL ON ALL TABLES IN SCHEMA other TO proxy;",
        );
        server
    })
}

/// How long the stand-in takes to decide on what says so.
pub(super) const SLOW: Duration = Duration::from_secs(4);

/// What the stand-in decides by.
#[derive(Clone, Debug, Default)]
pub(super) struct Rules {
    pub(super) epoch: u64,
    pub(super) rights: u8,
    pub(super) limits: Limits,
    /// Words whose statements are refused.
    pub(super) denied: Vec<&'static str>,
    /// Words that are sent as something else.
    pub(super) replaced: Vec<(&'static str, &'static str)>,
    /// Attribute numbers of `customers` that trip the wire.
    pub(super) unseen: Vec<i16>,
    pub(super) gone: bool,
}

#[derive(Clone, Default)]
pub(super) struct Trial(Arc<Mutex<Rules>>, watch::Sender<Arc<Policy>>);

impl Trial {
    /// A new policy.
    pub(super) fn change(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.0.lock().unwrap();
        rules.epoch += 1;
        change(&mut rules);
        drop(rules);
        // All that is asked of it is when it changes.
        self.1.send_replace(Arc::default());
    }

    fn rules(&self) -> Rules {
        self.0.lock().unwrap().clone()
    }
}

impl Authority for Trial {
    fn epoch(&self) -> u64 {
        self.rules().epoch
    }

    fn policy(&self) -> watch::Receiver<Arc<Policy>> {
        self.1.subscribe()
    }

    fn admits(
        &self,
        _: &Principal,
        _: &str,
        _: jiff::Timestamp,
    ) -> Result<Option<jiff::Timestamp>, Told> {
        match self.rules().gone {
            true => Err(Told::fatal(SqlState::INVALID_AUTHORIZATION, "gone")),
            false => Ok(None),
        }
    }

    fn standing(
        &self,
        principal: &Principal,
        dataset: &str,
        now: jiff::Timestamp,
    ) -> Result<Standing, Told> {
        self.admits(principal, dataset, now)?;
        let rules = self.rules();
        Ok(Standing {
            principal: principal.clone(),
            rights: Arc::new(Rights::default()),
            digest: [rules.rights; 32],
            valid_until: None,
            limits: rules.limits,
            nothing: false,
            all_clear: false,
            writes: true,
            policy: PolicyStamp {
                epoch: rules.epoch,
                digest: "trial".into(),
            },
        })
    }

    fn settable(&self, _: &Standing, name: &str, _: &str) -> Result<(), Told> {
        match name {
            "datestyle" | "extra_float_digits" => Ok(()),
            _ => Err(Told::error(
                SqlState::INSUFFICIENT_PRIVILEGE,
                "no such setting",
            )),
        }
    }

    fn decide(
        &self,
        text: &Arc<str>,
        _: &[Oid],
        _: &Sight,
        scope: &Scope,
    ) -> Result<Arc<[Decided]>, Denial> {
        let rules = self.rules();
        let one = |source: Arc<str>| {
            let mut text = source.to_string();
            for (word, instead) in &rules.replaced {
                text = text.replace(word, instead);
            }
            // What names are looked up in is part of a decision.
            let text = text.replace("{path}", &format!("'{}'", scope.search_path.join(",")));
            if rules.denied.iter().any(|word| text.contains(word)) {
                return Err(denied());
            }
            if text.contains("/* slow */") {
                std::thread::sleep(SLOW);
            }
            let (kind, effect) = effect(&source);
            let mut plan = Plan::forged(&text, kind, effect);
            plan.action = match kind {
                "SELECT" | "COPY" | "EXECUTE" => Some(Action::Read),
                "INSERT" | "UPDATE" | "DELETE" => Some(Action::Write),
                _ => None,
            };
            plan.heading = text.contains("HEADER");
            Ok(Decided::from(Arc::new(plan)))
        };
        self.statements(text)?.into_iter().map(one).collect()
    }

    fn longest(&self) -> usize {
        16 << 20
    }

    fn statements(&self, text: &str) -> Result<Vec<Arc<str>>, Denial> {
        // Enough for these tests, and it takes what is not SQL, too.
        Ok(text
            .split(';')
            .map(str::trim)
            .filter(|one| !one.is_empty())
            .map(Arc::from)
            .collect())
    }

    fn unseen(&self, _: &Standing, relation: &Relation, _: &Catalog) -> Vec<i16> {
        match &*relation.name {
            "customers" => self.rules().unseen,
            _ => Vec::new(),
        }
    }
}

fn denied() -> Denial {
    Denial {
        reason: Reason::Policy,
        message: "column ssn is blocked".into(),
        position: None,
        hint: Some("select other columns".into()),
        touched: Vec::new(),
        normalized: Some("SELECT ssn".into()),
        kind: Some("SELECT"),
    }
}

/// What a statement does, as far as these tests use it.
fn effect(text: &str) -> (&'static str, Effect) {
    let words: Vec<&str> = text.split_whitespace().collect();
    let name = |at: usize| Arc::from(words[at].trim_matches(['\'', '"', '(', ')']));
    match words[0].to_ascii_uppercase().as_str() {
        "BEGIN" => ("BEGIN", Effect::Begin),
        "COMMIT" => ("COMMIT", Effect::Commit),
        "ROLLBACK" if words.get(1) == Some(&"TO") => ("ROLLBACK", Effect::RollbackTo(name(2))),
        "ROLLBACK" => ("ROLLBACK", Effect::Rollback),
        "SAVEPOINT" => ("SAVEPOINT", Effect::Savepoint(name(1))),
        "PREPARE" => ("PREPARE", Effect::Prepare(name(1))),
        "EXECUTE" => ("EXECUTE", Effect::Execute(name(1))),
        "DEALLOCATE" => ("DEALLOCATE", Effect::Deallocate(Some(name(1)))),
        "DECLARE" => ("DECLARE CURSOR", Effect::Declare(name(1))),
        "FETCH" => ("FETCH", Effect::Fetch(name(words.len() - 1))),
        "DISCARD" => ("DISCARD ALL", Effect::DiscardAll),
        "SET" if words[1] == "search_path" => {
            let path = Some(vec![name(3)]);
            ("SET", Effect::SearchPath { path, local: false })
        }
        "SET" if words[1..3] == ["LOCAL", "application_name"] => {
            let claim = Some(name(4));
            ("SET", Effect::ApplicationName { claim, local: true })
        }
        "SET" if words[1] == "LOCAL" => {
            let path = Some(vec![name(4)]);
            ("SET", Effect::SearchPath { path, local: true })
        }
        "SET" if words[1] == "application_name" => {
            let claim = Some(name(3));
            (
                "SET",
                Effect::ApplicationName {
                    claim,
                    local: false,
                },
            )
        }
        "SET" if words[1] == "TimeZone" => ("SET", Effect::None),
        "INSERT" => ("INSERT", Effect::None),
        "UPDATE" => ("UPDATE", Effect::None),
        "DELETE" => ("DELETE", Effect::None),
        "COPY" => ("COPY", Effect::None),
        "CREATE" | "DROP" => ("CREATE TABLE", Effect::Ddl),
        _ => ("SELECT", Effect::None),
    }
}

/// A proxy: sessions, but no authentication.
pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) trial: Trial,
    pub(super) stage: watch::Sender<Stage>,
    records: PathBuf,
    _directory: tempfile::TempDir,
}

impl Proxy {
    pub(super) async fn start() -> Self {
        Self::with(None).await
    }

    /// With its records in that file.
    pub(super) async fn with(records: Option<&str>) -> Self {
        let server = tokio::task::spawn_blocking(server).await.unwrap();
        Self::before(server.target("proxy"), records).await
    }

    /// With a way to the server that can be cut.
    pub(super) async fn through(way: &Way) -> Self {
        let target = Target {
            port: way.port,
            ..server().tcp("proxy", "")
        };
        Self::before(target, None).await
    }

    async fn before(target: Target, records: Option<&str>) -> Self {
        let target = Arc::new(target);
        let catalog = crate::catalog::load::load(&target, 1).await.unwrap();
        let dataset = Dataset::new(
            "shop".into(),
            target,
            crate::session::Settings::default(),
            catalog,
        );
        let directory = tempfile::tempdir().unwrap();
        let records = records.map_or_else(|| directory.path().join("records"), PathBuf::from);
        let trial = Trial::default();
        let shared = Arc::new(Shared {
            authority: Box::new(trial.clone()),
            datasets: BTreeMap::from([("shop".into(), Arc::new(dataset))]),
            log: Log::open(&records, Durability::Flush).unwrap(),
            cancels: Cancels::default(),
            planning: Planning::new(1 << 20),
        });
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = door.local_addr().unwrap();
        let (stage, watched) = watch::channel(Stage::Serving);
        tokio::spawn(async move {
            loop {
                let (stream, peer) = door.accept().await.unwrap();
                tokio::spawn(enter(stream, peer, shared.clone(), watched.clone()));
            }
        });
        Self {
            address,
            trial,
            stage,
            records,
            _directory: directory,
        }
    }

    pub(super) async fn raw(&self) -> Raw {
        self.raw_with(&[]).await
    }

    pub(super) async fn raw_with(&self, parameters: &[(&str, &str)]) -> Raw {
        let mut raw = self.open(parameters).await;
        let greeting = raw.answer().await;
        assert!(greeting.ends_with("Z:I"), "{greeting}");
        raw
    }

    /// Sends a startup packet, and no more.
    pub(super) async fn open(&self, parameters: &[(&str, &str)]) -> Raw {
        self.open_minor(0, parameters).await
    }

    /// The same, of protocol 3 and that minor version.
    pub(super) async fn open_minor(&self, minor: u32, parameters: &[(&str, &str)]) -> Raw {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let mut body = (196_608 + minor).to_be_bytes().to_vec();
        let own = [("user", "trainer"), ("database", "shop")];
        for (name, value) in own.iter().chain(parameters) {
            body.extend_from_slice(format!("{name}\0{value}\0").as_bytes());
        }
        body.push(0);
        let len = body.len() as u32 + 4;
        stream.write_all(&len.to_be_bytes()).await.unwrap();
        stream.write_all(&body).await.unwrap();
        Raw { stream }
    }

    pub(super) async fn client(&self) -> tokio_postgres::Client {
        let config = format!(
            "host=127.0.0.1 port={} user=trainer dbname=shop",
            self.address.port()
        );
        let (client, connection) = tokio_postgres::connect(&config, tokio_postgres::NoTls)
            .await
            .unwrap();
        tokio::spawn(connection);
        client
    }

    /// The records so far.
    pub(super) fn all_records(&self) -> Vec<serde_json::Value> {
        std::fs::read_to_string(&self.records)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
            .collect()
    }

    /// The records so far of that kind of event.
    pub(super) fn records(&self, event: &str) -> Vec<serde_json::Value> {
        let mut records = self.all_records();
        records.retain(|record| record["event"] == event);
        records
    }

    /// Waits until there are as many records of that kind of event.
    pub(super) async fn records_soon(&self, event: &str, count: usize) -> Vec<serde_json::Value> {
        for _ in 0..200 {
            let records = self.records(event);
            if records.len() >= count {
                return records;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("{count} records of {event}: {:?}", self.records(event))
    }
}

/// Waits until so many statements that hold a text are running upstream.
pub(super) async fn running(text: &'static str, count: &'static str) -> bool {
    let wait = move || {
        let running = format!(
            "SELECT count(*) FROM pg_stat_activity \
             WHERE query LIKE '%{text}%' AND state <> 'idle' AND usename = 'proxy'"
        );
        (0..100).any(|_| {
            std::thread::sleep(Duration::from_millis(50));
            server().psql(&running) == count
        })
    };
    tokio::task::spawn_blocking(wait).await.unwrap()
}

/// The superuser's own answer to a statement.
pub(super) async fn truly(sql: &'static str) -> String {
    tokio::task::spawn_blocking(|| server().psql(sql))
        .await
        .unwrap()
}

/// A way to the server that can be cut.
pub(super) struct Way {
    port: u16,
    open: Arc<AtomicBool>,
    cut: watch::Sender<bool>,
}

impl Way {
    pub(super) async fn start() -> Self {
        let server = tokio::task::spawn_blocking(server).await.unwrap();
        let door = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = door.local_addr().unwrap().port();
        let (cut, is_cut) = watch::channel(false);
        let open = Arc::new(AtomicBool::new(true));
        let way = Self {
            port,
            open: open.clone(),
            cut,
        };
        tokio::spawn(async move {
            loop {
                let (mut near, _) = door.accept().await.unwrap();
                if !open.load(Ordering::Acquire) {
                    continue;
                }
                let mut is_cut = is_cut.clone();
                tokio::spawn(async move {
                    let mut far = TcpStream::connect(("127.0.0.1", server.port))
                        .await
                        .unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        _ = is_cut.wait_for(|cut| *cut) => {}
                    }
                });
            }
        });
        way
    }

    /// Lets nobody new pass, or again.
    pub(super) fn set_open(&self, open: bool) {
        self.open.store(open, Ordering::Release);
    }

    /// Closes every connection.
    pub(super) fn cut(&self) {
        self.cut.send(true).unwrap();
    }
}

/// Startup without authentication, and cancel requests.
async fn enter(
    mut stream: TcpStream,
    peer: SocketAddr,
    shared: Arc<Shared>,
    stage: watch::Receiver<Stage>,
) {
    let len = stream.read_u32().await.unwrap() as usize;
    let mut body = vec![0; len - 4];
    stream.read_exact(&mut body).await.unwrap();
    let (code, rest) = body.split_at(4);
    if code == 80_877_102u32.to_be_bytes() {
        let pid = i32::from_be_bytes(rest[..4].try_into().unwrap());
        return shared.cancels.cancel(pid, &rest[4..]).await;
    }
    let text = String::from_utf8(rest.to_vec()).unwrap();
    let words: Vec<&str> = text.trim_end_matches('\0').split('\0').collect();
    let mut parameters: BTreeMap<String, String> = words
        .chunks(2)
        .map(|pair| (pair[0].into(), pair.get(1).copied().unwrap_or("").into()))
        .collect();
    stream.write_all(b"R\0\0\0\x08\0\0\0\0").await.unwrap();
    stream.set_nodelay(true).unwrap();
    let user = parameters.remove("user").unwrap();
    let caller = Caller {
        peer,
        tls: None,
        minor: u16::from_be_bytes([code[2], code[3]]),
        dataset: parameters.remove("database").unwrap(),
        parameters,
        principal: Principal {
            name: user.into(),
            kind: Kind::Agent,
            roles: vec!["training".into()],
            owner: None,
            on_behalf_of: None,
            method: Method::Scram,
            mfa: None,
            verifier: None,
            token: None,
            certificate: None,
        },
        stage,
    };
    run(&shared, caller, stream).await;
}

/// A client that speaks byte by byte.
pub(super) struct Raw {
    pub(super) stream: TcpStream,
}

impl Raw {
    pub(super) async fn send(&mut self, messages: &[Vec<u8>]) {
        self.stream.write_all(&messages.concat()).await.unwrap();
    }

    pub(super) async fn message(&mut self) -> Option<(u8, Vec<u8>)> {
        let tag = self.stream.read_u8().await.ok()?;
        let len = self.stream.read_u32().await.unwrap() as usize;
        let mut body = vec![0; len - 4];
        self.stream.read_exact(&mut body).await.unwrap();
        Some((tag, body))
    }

    /// What comes up to ReadyForQuery or the end, in short.
    pub(super) async fn answer(&mut self) -> String {
        self.until(b'Z').await
    }

    pub(super) async fn until(&mut self, last: u8) -> String {
        let mut text = String::new();
        let reading = async {
            while let Some((tag, body)) = self.message().await {
                if !matches!(tag, b'S' | b'K' | b'R') {
                    write!(text, " {}", short(tag, &body)).unwrap();
                }
                if tag == last {
                    return;
                }
            }
            text.push_str(" end");
        };
        if tokio::time::timeout(Duration::from_secs(20), reading)
            .await
            .is_err()
        {
            text.push_str(" silence");
        }
        text.trim().to_owned()
    }

    /// The ParameterStatus messages up to ReadyForQuery.
    pub(super) async fn parameters(&mut self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        while let Some((tag, body)) = self.message().await {
            if tag == b'S' {
                let text = String::from_utf8(body).unwrap();
                let mut words = text.split('\0').map(str::to_owned);
                all.push((words.next().unwrap(), words.next().unwrap()));
            } else if tag == b'Z' {
                break;
            }
        }
        all
    }

    pub(super) async fn ask(&mut self, messages: &[Vec<u8>]) -> String {
        self.send(messages).await;
        self.answer().await
    }
}

fn short(tag: u8, body: &[u8]) -> String {
    let text = |from: usize| {
        String::from_utf8_lossy(&body[from..])
            .trim_end_matches('\0')
            .to_owned()
    };
    match tag {
        b'C' => format!("C:{}", text(0).replace(' ', "_")),
        b'Z' => format!("Z:{}", text(0)),
        b'D' if body.len() < 500 && body[1] > 0 => format!("D:{}", text(6)),
        b'E' => {
            let field = |code| {
                text(0)
                    .split('\0')
                    .find_map(|field| field.strip_prefix(code).map(str::to_owned))
                    .unwrap_or_default()
            };
            format!("{}:{}", field('S'), field('C'))
        }
        tag => (tag as char).to_string(),
    }
}

fn frame(tag: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&body);
    out
}

pub(super) fn q(text: &str) -> Vec<u8> {
    frame(b'Q', &[text.as_bytes(), b"\0"])
}

pub(super) fn p(name: &str, text: &str) -> Vec<u8> {
    frame(b'P', &[name.as_bytes(), b"\0", text.as_bytes(), b"\0\0\0"])
}

pub(super) fn b(portal: &str, statement: &str) -> Vec<u8> {
    let names = [portal.as_bytes(), b"\0", statement.as_bytes(), b"\0"];
    frame(b'B', &[&names.concat(), &[0; 6]])
}

pub(super) fn d(kind: char, name: &str) -> Vec<u8> {
    frame(b'D', &[&[kind as u8], name.as_bytes(), b"\0"])
}

pub(super) fn c(kind: char, name: &str) -> Vec<u8> {
    frame(b'C', &[&[kind as u8], name.as_bytes(), b"\0"])
}

pub(super) fn e(portal: &str, rows: u32) -> Vec<u8> {
    frame(b'E', &[portal.as_bytes(), b"\0", &rows.to_be_bytes()])
}

pub(super) fn s() -> Vec<u8> {
    frame(b'S', &[])
}

pub(super) fn h() -> Vec<u8> {
    frame(b'H', &[])
}

pub(super) fn data(text: &str) -> Vec<u8> {
    frame(b'd', &[text.as_bytes()])
}

pub(super) fn copy_done() -> Vec<u8> {
    frame(b'c', &[])
}

pub(super) fn copy_fail() -> Vec<u8> {
    frame(b'f', &[b"no\0"])
}

pub(super) fn any(tag: u8, body: &[u8]) -> Vec<u8> {
    frame(tag, &[body])
}

/// Parse, Bind, Execute of the unnamed statement.
pub(super) fn pbe(text: &str) -> Vec<u8> {
    [p("", text), b("", ""), e("", 0)].concat()
}

/// Stops reading a pipe. A child of another test's has its end, too, from its fork to its
/// exec: then somebody would still read.
pub(super) async fn leave(reader: std::fs::File, pipe: &std::path::Path) {
    drop(reader);
    let is_read = || {
        let mut options = std::fs::OpenOptions::new();
        // O_NONBLOCK: where nobody reads, ENXIO.
        std::os::unix::fs::OpenOptionsExt::custom_flags(options.write(true), 0o4000);
        options.open(pipe).is_ok()
    };
    while is_read() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}
