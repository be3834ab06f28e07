//! psql's session, three times over: on a server directly, whose answers psql gets;
//! on a second one directly, to see what differs from one moment to the next; and on
//! a third through the proxy.

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::answer::{Oids, comparable, error, shape};
use crate::backdoor::{Backdoor, Session};
use crate::statement::{Kind, copies_files};
use crate::support::client::{By, Client, Message, frame, receive};
use crate::support::proxy::{DATASET, PASSWORD};

/// The caller that is measured, and the one that has the catalog read anew.
pub const CALLER: &str = "analyst";
const OWNER: &str = "owner";
/// The longest that a statement may take.
const PATIENCE: Duration = Duration::from_secs(900);

/// What became of a statement, from the best to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Served, with the same answer
    Same,
    /// Served, with an answer of the same shape, where two direct sessions differ
    Varies,
    /// Names what was made past the proxy and this session alone can see: by the open
    /// transaction, or a temporary table or cursor of a kind that is not served
    Unseen,
    /// Served, with another answer
    Different,
    /// Refused by the proxy
    Refused,
}

/// A statement that psql has sent.
pub struct Entry {
    /// Which script it is of; `None`: psql's own, for `\d` and the like
    pub script: Option<String>,
    /// Its text
    pub text: String,
    /// What kind it is of
    pub kind: Kind,
    /// Whether it reads one of Postgres's own relations that the proxy governs: it is
    /// refused for it, or has been sent with a scan of the proxy's in its place
    pub governed: bool,
    /// Whether it is COPY with a file or a program of the server
    pub files: bool,
    /// What became of it
    pub outcome: Outcome,
    /// The proxy's error, or what differs
    pub detail: String,
}

/// Where the sessions go, and what has been found.
pub struct Tee {
    pub direct: SocketAddr,
    pub control: SocketAddr,
    pub proxy: SocketAddr,
    pub backdoor: Backdoor,
    owner: Mutex<Client>,
    /// As many sessions as the proxy has of its own, so that all servers count
    /// alike: the names of temporary schemas are numbered by session.
    _idle: [Client; 2],
    /// The catalog may have changed since the proxy read it.
    stale: Mutex<bool>,
    oids: Mutex<Oids>,
    pub entries: Mutex<Vec<Entry>>,
}

impl Tee {
    /// To a direct server, a second one, and one through a proxy.
    pub fn new(
        direct: SocketAddr,
        control: SocketAddr,
        proxy: SocketAddr,
        backdoor: Backdoor,
    ) -> Self {
        let owner = Client::connect(proxy, OWNER, PASSWORD, DATASET);
        backdoor.next();
        let idle = |server| {
            let parameters = [("user", "postgres"), ("database", "regression")];
            Client::with(server, &parameters, "").unwrap()
        };
        Self {
            _idle: [idle(direct), idle(control)],
            direct,
            control,
            proxy,
            backdoor,
            owner: Mutex::new(owner),
            stale: Mutex::new(false),
            oids: Mutex::default(),
            entries: Mutex::default(),
        }
    }

    /// Has the proxy read the catalog where it may have changed: something that an
    /// owner changes through the proxy, even if it changes nothing.
    fn refresh(&self) {
        if std::mem::take(&mut *self.stale.lock().unwrap()) {
            let mut owner = self.owner.lock().unwrap();
            owner.patience(PATIENCE);
            for statement in ["DROP TABLE IF EXISTS governed.nothing", "SELECT 1"] {
                let answer = owner.run(statement, By::Simple);
                assert!(error(&answer).is_none(), "{answer:?}");
            }
        }
    }

    /// Serves one connection of psql's.
    pub fn serve(&self, stream: TcpStream, script: &str, source: &str) {
        stream.set_nodelay(true).unwrap();
        let mut psql = BufReader::new(stream);
        let parameters = startup(&mut psql);
        let parameters: Vec<(&str, &str)> = parameters
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()))
            .collect();
        let direct = match Client::with(self.direct, &parameters, "") {
            Ok(direct) => direct,
            Err(state) => {
                let error = format!("SFATAL\0VFATAL\0C{state}\0Mno session\0\0");
                psql.get_mut()
                    .write_all(&frame(b'E', &[error.as_bytes()]))
                    .unwrap();
                return;
            }
        };
        let control = Client::with(self.control, &parameters, "").unwrap();
        // The proxy's connection for the catalog may not be gone yet.
        std::thread::sleep(Duration::from_millis(200));
        let (proxied, session) = self.proxied(&parameters);
        let mut greeting = frame(b'R', &[&[0; 4]]);
        for (tag, body) in &direct.greeting {
            if *tag == b'Z' {
                greeting.extend(frame(b'K', &[&[0; 8]]));
            }
            greeting.extend(frame(*tag, &[body]));
        }
        psql.get_mut().write_all(&greeting).unwrap();
        direct.patience(PATIENCE);
        control.patience(PATIENCE);
        let mut triple = Triple {
            tee: self,
            parameters: &parameters,
            script,
            source,
            psql,
            direct,
            control,
            proxied,
            session,
            uncommitted: false,
        };
        triple.run();
    }
}

impl Tee {
    /// The caller's session, as the role that psql has asked for.
    fn proxied(&self, parameters: &[(&str, &str)]) -> (Client, Arc<Session>) {
        let mut user = "";
        let own: Vec<(&str, &str)> = parameters
            .iter()
            .map(|&(name, value)| match name {
                "user" => {
                    user = value;
                    (name, CALLER)
                }
                "database" => (name, DATASET),
                _ => (name, value),
            })
            .collect();
        let proxied = Client::with(self.proxy, &own, PASSWORD).unwrap();
        proxied.patience(PATIENCE);
        let session = self.backdoor.next();
        if user != "postgres" {
            let set = format!("SET SESSION AUTHORIZATION \"{user}\"\0");
            session.run(&frame(b'Q', &[set.as_bytes()]), &[]);
        }
        (proxied, session)
    }
}

fn startup(psql: &mut impl Read) -> Vec<(String, String)> {
    let mut length = [0; 4];
    psql.read_exact(&mut length).unwrap();
    let mut packet = vec![0; u32::from_be_bytes(length) as usize - 4];
    psql.read_exact(&mut packet).unwrap();
    let words: Vec<String> = packet[4..]
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    words
        .chunks(2)
        .filter(|pair| !pair[0].is_empty())
        .map(|pair| (pair[0].clone(), pair[1].clone()))
        .collect()
}

struct Triple<'t> {
    tee: &'t Tee,
    parameters: &'t [(&'t str, &'t str)],
    script: &'t str,
    source: &'t str,
    psql: BufReader<TcpStream>,
    direct: Client,
    control: Client,
    proxied: Client,
    session: Arc<Session>,
    /// The open transaction has made something.
    uncommitted: bool,
}

impl Triple<'_> {
    fn run(&mut self) {
        let (mut batch, mut text) = (Vec::new(), String::new());
        while let Ok((tag, body)) = receive(&mut self.psql) {
            match tag {
                b'X' => break,
                b'Q' => text = until_nul(&body),
                b'P' => text = until_nul(body.splitn(2, |byte| *byte == 0).nth(1).unwrap()),
                b'F' => text = "-- function call".to_owned(),
                _ => {}
            }
            batch.extend(frame(tag, &[&body]));
            if matches!(tag, b'Q' | b'S' | b'F') {
                self.exchange(&std::mem::take(&mut batch), &text);
            }
        }
        for client in [&mut self.direct, &mut self.control, &mut self.proxied] {
            client.send(&frame(b'X', &[]));
        }
    }

    fn exchange(&mut self, messages: &[u8], text: &str) {
        let kind = Kind::of(text);
        if !self.session.in_transaction() {
            self.uncommitted = false;
            // Nothing that is counted hangs on what others may do.
            if kind != Kind::Other {
                self.tee.refresh();
            }
        }
        let began = self.session.count();
        // Data that psql is asked for go to all.
        let together = kind != Kind::Copy;
        self.direct.send(messages);
        if together {
            self.control.send(messages);
            self.proxied.send(messages);
        }
        let (direct, copies) = self.answer_of_direct();
        if !together {
            self.control.send(messages);
            self.proxied.send(messages);
        }
        let control = answer(&mut self.control, &copies);
        let proxied = answer(&mut self.proxied, &copies);
        let served = self.session.count() > began;
        let mut unseen = false;
        if !served && error(&proxied).is_some() && !ended(&proxied) {
            unseen = self.is_unseen(&proxied);
            let done = self.session.run(messages, &copies);
            if error(&done).is_some() != error(&direct).is_some() {
                eprintln!(
                    "{}: state differs after: {text}\n{:?}",
                    self.script,
                    error(&done)
                );
            }
        }
        let (outcome, detail) = self.outcome(&direct, &control, &proxied, served, unseen);
        let governed = self.is_governed(&detail, served);
        if kind == Kind::Other {
            *self.tee.stale.lock().unwrap() = true;
            self.uncommitted |= self.session.in_transaction();
        }
        let own = text.contains("pg_catalog.")
            && !self
                .source
                .contains(text.lines().next().unwrap_or_default());
        self.tee.entries.lock().unwrap().push(Entry {
            script: (!own).then(|| self.script.to_owned()),
            text: text.to_owned(),
            kind,
            files: copies_files(text),
            governed,
            outcome,
            detail,
        });
        if ended(&proxied) {
            (self.proxied, self.session) = self.tee.proxied(self.parameters);
        }
        let bytes: Vec<u8> = direct
            .iter()
            .filter(|(tag, _)| *tag != b'G')
            .flat_map(|(tag, body)| frame(*tag, &[body]))
            .collect();
        // psql may have been told to end.
        let _ = self.psql.get_mut().write_all(&bytes);
    }

    /// Reads up to ReadyForQuery, and asks psql for what COPY waits for.
    fn answer_of_direct(&mut self) -> (Vec<Message>, Vec<Vec<u8>>) {
        let (mut all, mut copies) = (Vec::new(), Vec::new());
        loop {
            let (tag, body) = self.direct.receive();
            if tag == b'G' {
                self.psql
                    .get_mut()
                    .write_all(&frame(tag, &[&body]))
                    .unwrap();
                let mut data = Vec::new();
                loop {
                    let (tag, body) = receive(&mut self.psql).unwrap();
                    data.extend(frame(tag, &[&body]));
                    if matches!(tag, b'c' | b'f') {
                        break;
                    }
                }
                self.direct.send(&data);
                copies.push(data);
            }
            all.push((tag, body));
            if tag == b'Z' {
                return (all, copies);
            }
        }
    }

    fn outcome(
        &self,
        direct: &[Message],
        control: &[Message],
        proxied: &[Message],
        served: bool,
        unseen: bool,
    ) -> (Outcome, String) {
        let refusal = (!served).then(|| error(proxied)).flatten();
        if let Some((state, message)) = &refusal {
            if error(direct).as_ref() == Some(&(state.clone(), message.clone())) {
                return (Outcome::Same, String::new());
            }
            let unknown = matches!(
                state.as_str(),
                "42P01" | "42883" | "42704" | "3F000" | "34000"
            );
            let uncommitted = self.uncommitted && unknown;
            let known = error(direct).is_none_or(|(other, _)| other != *state);
            let outcome = if (uncommitted || unseen) && known {
                Outcome::Unseen
            } else {
                Outcome::Refused
            };
            let instead = error(direct).map_or_else(String::new, |(state, message)| {
                format!(" [directly {state} {message}]")
            });
            return (outcome, format!("{state} {message}{instead}"));
        }
        let theirs = comparable(direct);
        let mut oids = self.tee.oids.lock().unwrap();
        let ours = oids.translated(comparable(proxied), &theirs);
        if ours == theirs {
            return (Outcome::Same, String::new());
        }
        if comparable(control) != theirs && shape(&ours) == shape(direct) {
            return (Outcome::Varies, String::new());
        }
        let at = ours.iter().zip(&theirs).position(|(a, b)| a != b);
        let at = at.unwrap_or(ours.len().min(theirs.len()));
        let show = |all: &[Message]| {
            all.get(at).map_or_else(
                || "nothing".to_owned(),
                |(tag, body)| format!("{} {}", *tag as char, body.escape_ascii()),
            )
        };
        let detail = format!(
            "{}\n  directly {}\n  sent {}",
            show(&ours),
            show(&theirs),
            self.session.last().trim_end_matches('\0')
        );
        (Outcome::Different, detail)
    }

    /// Whether a refusal is for a name that its own session knows, of a temporary
    /// relation or a cursor that was made past the proxy.
    fn is_unseen(&self, proxied: &[Message]) -> bool {
        let Some((state, message)) = error(proxied) else {
            return false;
        };
        let name = message.split('"').nth(1).unwrap_or_default();
        let name = name.replace('\'', "''");
        let question = match state.as_str() {
            "42P01" => format!(
                "SELECT 1 FROM pg_class WHERE oid = to_regclass('{name}') AND relpersistence = 't'\0"
            ),
            "34000" => format!("SELECT 1 FROM pg_cursors WHERE name = '{name}'\0"),
            _ => return false,
        };
        let answer = self.session.run(&frame(b'Q', &[question.as_bytes()]), &[]);
        answer.iter().any(|(tag, _)| *tag == b'D')
    }

    /// Whether the statement that has just been run reads one of Postgres's own
    /// relations that the proxy governs: see `src/sql/system.rs`.
    fn is_governed(&self, detail: &str, served: bool) -> bool {
        let sent = self.session.last();
        let blanked = ["prosrc", "reltuples", "attmissingval", "srvoptions"];
        detail.contains("is not readable through the proxy")
            || served
                && blanked
                    .iter()
                    .any(|name| sent.contains(&format!(" AS {name}")))
    }
}

fn answer(client: &mut Client, copies: &[Vec<u8>]) -> Vec<Message> {
    let mut copies = copies.iter();
    let mut all = Vec::new();
    loop {
        let (tag, body) = client.receive();
        if tag == b'G' {
            let none = frame(b'f', &[b"none\0"]);
            client.send(copies.next().unwrap_or(&none));
        }
        all.push((tag, body));
        if tag == b'Z' || ended(&all) {
            return all;
        }
    }
}

/// Whether the session has ended with it.
fn ended(answer: &[Message]) -> bool {
    let last = answer.last();
    last.is_some_and(|(tag, body)| *tag == b'E' && body.starts_with(b"SFATAL"))
}

fn until_nul(body: &[u8]) -> String {
    let end = body
        .iter()
        .position(|byte| *byte == 0)
        .unwrap_or(body.len());
    String::from_utf8_lossy(&body[..end]).into_owned()
}
