//! An identity provider of the tests' own, which says by HTTP what its keys are.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use serde_json::json;

use super::proxy;
use super::support::client::{By, Client, refusal};
use super::support::proxy::{Proxy, Setup};
use super::tokens::{MORE, issued_by, log_in, told};

/// What is at its paths, and how often each has been asked for.
#[derive(Clone, Default)]
struct Pages(Arc<Mutex<BTreeMap<String, (String, usize)>>>);

impl Pages {
    /// Serves for as long as the tests run.
    fn serve() -> (Self, SocketAddr) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let pages = Self::default();
        let own = pages.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let mut lines = BufReader::new(&stream).lines().map_while(Result::ok);
                let first = lines.next().unwrap_or_default();
                lines.take_while(|line| !line.is_empty()).for_each(drop);
                let path = first.split(' ').nth(1).unwrap_or_default();
                let mut pages = own.0.lock().unwrap();
                let (status, body) = match pages.get_mut(path) {
                    Some((body, asked)) => {
                        *asked += 1;
                        ("200 OK", body.clone())
                    }
                    None => ("503 Service Unavailable", String::new()),
                };
                let length = body.len();
                let _ = write!(
                    &stream,
                    "HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}"
                );
            }
        });
        (pages, address)
    }

    fn put(&self, path: &str, body: String) {
        let mut pages = self.0.lock().unwrap();
        let asked = pages.get(path).map_or(0, |(_, asked)| *asked);
        pages.insert(path.to_owned(), (body, asked));
    }

    fn take_away(&self, path: &str) {
        self.0.lock().unwrap().remove(path);
    }

    fn asked(&self, path: &str) -> usize {
        self.0
            .lock()
            .unwrap()
            .get(path)
            .map_or(0, |(_, asked)| *asked)
    }
}

fn soon(proxy: &Proxy, user: &str, token: &str) -> Client {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match log_in(proxy, user, token) {
            Ok(client) => return client,
            Err(state) => assert_eq!(state, "28P01"),
        }
        assert!(Instant::now() < end, "{}", proxy.records());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Whoever fails often is not put off for it.
const PATIENT: &str = "failures: { per_source: 100000, per_identity: 100000 }";
const DOCUMENT: &str = "/.well-known/openid-configuration";

#[test]
fn keys_are_fetched_where_the_issuer_says_and_again_for_one_that_is_not_known() {
    let jo = "jo@corp.example";
    let (pages, address) = Pages::serve();
    let issuer = format!("http://{address}");
    let issued = |kid: &str| issued_by(&issuer, kid, jo, 600);
    let document = |issuer: &str| {
        json!({ "issuer": issuer, "jwks_uri": format!("http://{address}/keys") }).to_string()
    };
    let (set, first) = issued("first");
    pages.put("/keys", set);
    pages.put(DOCUMENT, document(&issuer));
    let proxy = proxy(&Setup {
        listen: PATIENT.into(),
        more: format!(
            "issuers: {{ corp: {{ issuer: '{issuer}', audience: pgveil, names: ['*@corp.example'], \
             name: email, groups: groups, refresh: 1h }} }}"
        ),
        files: vec![(
            "policies/more.yaml",
            format!("{MORE}groups: {{ data: [training] }}\n"),
        )],
        ..Setup::default()
    });
    let mut client = log_in(&proxy, jo, &first).unwrap();
    let load = &proxy.events("tokens_load")[0];
    assert_eq!(load["issuers"], json!({ "corp": ["first"] }));

    // The issuer has another key: nobody says so but its token.
    let (set, second) = issued("second");
    pages.put("/keys", set);
    let mut next = soon(&proxy, jo, &second);
    let end = told(&mut client);
    assert!(end.contains("token is used no longer"), "{end}");
    assert_eq!(log_in(&proxy, jo, &first).err().unwrap(), "28P01");

    // Whoever sends unknown keys has it asked once in a while.
    let (before, began) = (pages.asked("/keys"), Instant::now());
    for _ in 0..50 {
        let _ = log_in(&proxy, jo, &first);
    }
    let whiles = began.elapsed().as_secs() as usize / 3;
    assert!(pages.asked("/keys") <= before + whiles + 1);

    // Where it cannot be asked, or says what is none, what was known stays, and that is said.
    let errors = || {
        let loads = proxy.events("tokens_load");
        let errors = loads.iter().filter_map(|load| load["error"].as_str());
        errors.map(str::to_owned).collect::<Vec<_>>()
    };
    let failing = |why: &str| {
        let end = Instant::now() + Duration::from_secs(20);
        while !errors().iter().any(|error| error.contains(why)) {
            let _ = log_in(&proxy, jo, &first);
            assert!(Instant::now() < end, "{why}: {:?}", errors());
            std::thread::sleep(Duration::from_millis(100));
        }
    };
    pages.put(DOCUMENT, document("http://127.0.0.1:1"));
    failing("it is that of another issuer");
    assert_eq!(refusal(&next.run("SELECT 1", By::Simple)), None);
    assert!(log_in(&proxy, jo, &second).is_ok());

    // A file that does not load keeps no key in force that its issuer has taken back.
    let revoked = proxy.home().join("revoked.jsonl");
    fs::write(&revoked, "{").unwrap();
    failing("the revocations in");
    let (set, third) = issued("third");
    pages.put("/keys", set);
    pages.put(DOCUMENT, document(&issuer));
    let mut last = soon(&proxy, jo, &third);
    let end = told(&mut next);
    assert!(end.contains("token is used no longer"), "{end}");
    assert_eq!(log_in(&proxy, jo, &second).err().unwrap(), "28P01");

    // An issuer that says that it has none has none.
    pages.put("/keys", json!({ "keys": [] }).to_string());
    let _ = log_in(&proxy, jo, &first);
    let end = told(&mut last);
    assert!(end.contains("token is used no longer"), "{end}");
    failing("it has no key to verify");

    // What it says of itself is not on record at any length.
    let long = format!("http://127.0.0.1:1/{}", "x".repeat(5_000));
    let far = json!({ "issuer": issuer, "jwks_uri": long });
    pages.put(DOCUMENT, far.to_string());
    failing("xxxxx");
    assert!(errors().iter().all(|error| error.len() < 400));
}

#[test]
fn an_issuer_that_is_away_is_no_reason_not_to_start_and_keys_grow_stale() {
    let jo = "jo@corp.example";
    let (pages, address) = Pages::serve();
    let issuer = "https://login.corp.example";
    let (set, token) = issued_by(issuer, "first", jo, 600);
    let proxy = proxy(&Setup {
        listen: PATIENT.into(),
        more: format!(
            "issuers: {{ corp: {{ issuer: '{issuer}', audience: pgveil, names: ['*@corp.example'], \
             jwks: 'http://{address}/keys', name: email, groups: groups, refresh: 1s, stale: 1s }} }}"
        ),
        files: vec![(
            "policies/more.yaml",
            format!("{MORE}groups: {{ data: [training] }}\n"),
        )],
        ..Setup::default()
    });
    assert_eq!(log_in(&proxy, jo, &token).err().unwrap(), "28P01");
    pages.put("/keys", set);
    let mut client = soon(&proxy, jo, &token);
    pages.take_away("/keys");
    let end = told(&mut client);
    assert!(end.contains("token is used no longer"), "{end}");
    assert_eq!(log_in(&proxy, jo, &token).err().unwrap(), "28P01");
}
