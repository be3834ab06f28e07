//! Client certificates and psql: taken, needed beside a password, refused, ended; and the
//! proxy's own, which changes while it serves.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use super::proxy;
use super::support::issue::{Authority, Issued, Unusual};
use super::support::postgres::{certificates, psql};
use super::support::proxy::{PASSWORD, Proxy, Setup};
use pgveil::identity::verifier::{DEFAULT_ITERATIONS, Verifier};

const TRAINER: &str = "spiffe://corp/agent/trainer";

fn rules() -> String {
    let verifier = Verifier::derive(PASSWORD, DEFAULT_ITERATIONS).unwrap();
    let scram = verifier.encode();
    format!(
        "identities:
  trainer: {{ kind: agent, roles: [analyst], owner: analyst, certificate: \"{TRAINER}\" }}
  both: {{ kind: human, roles: [analyst], scram: \"{scram}\", clientcert: \"email:{{name}}@corp.example\" }}
certificates:
  \"spiffe://corp/agent/*\": {{ kind: agent, roles: [analyst], owner: analyst }}
"
    )
}

/// A proxy, and who issues the certificates that it takes.
struct World {
    proxy: Proxy,
    authority: Authority,
}

impl World {
    fn start(revoked: &[u64]) -> Self {
        let own = tempfile::tempdir().unwrap();
        certificates(own.path());
        let text = |name: &str| fs::read_to_string(own.path().join(name)).unwrap();
        let authority = Authority::new("corp");
        let proxy = proxy(&Setup {
            listen: "tls: { certificate: server.crt, key: server.key, client_ca: clients.pem, \
                     client_crls: [clients.crl] }"
                .into(),
            files: vec![
                ("ca.pem", text("ca.pem")),
                ("server.crt", text("server.crt")),
                ("server.key", text("server.key")),
                ("clients.pem", authority.pem()),
                ("clients.crl", authority.list(revoked, 3600)),
                ("policies/certificates.yaml", rules()),
            ],
            ..Setup::default()
        });
        Self { proxy, authority }
    }

    /// psql as that user, with that certificate if any.
    fn psql(&self, user: &str, shown: Option<&Issued>) -> Command {
        let home = self.proxy.home();
        let port = self.proxy.address.port();
        let mut connection = format!(
            "host=localhost hostaddr=127.0.0.1 port={port} user={user} dbname=shop \
             sslmode=verify-full sslrootcert={}",
            home.join("ca.pem").display()
        );
        if let Some(issued) = shown {
            let (certificate, key) = (home.join("client.crt"), home.join("client.key"));
            private(&certificate, &issued.certificate);
            private(&key, &issued.key);
            let (certificate, key) = (certificate.display(), key.display());
            connection += &format!(" sslcert={certificate} sslkey={key}");
        }
        let mut command = Command::new(psql());
        command
            .args(["-X", "-w", "-A", "-t", "-d", &connection])
            .env("HOME", &home);
        command
    }

    fn run(&self, user: &str, shown: Option<&Issued>, password: Option<&str>) -> Output {
        let mut command = self.psql(user, shown);
        if let Some(password) = password {
            command.env("PGPASSWORD", password);
        }
        let command = command.args(["-c", "SELECT email FROM customers"]);
        command.output().unwrap()
    }

    #[track_caller]
    fn taken(&self, user: &str, shown: &Issued, password: Option<&str>) {
        let output = self.run(user, Some(shown), password);
        let out = String::from_utf8_lossy(&output.stdout);
        assert_eq!(out.trim_end(), "o***@example.com", "{output:?}");
    }

    /// What is heard, and what is on record.
    #[track_caller]
    fn refused(
        &self,
        user: &str,
        shown: Option<&Issued>,
        password: Option<&str>,
    ) -> (String, String) {
        // Of more than 20 in a second, the rest is only counted.
        std::thread::sleep(Duration::from_millis(80));
        let before = self.proxy.events("authentication_failure").len();
        let output = self.run(user, shown, password);
        assert!(!output.status.success(), "{output:?}");
        let heard = String::from_utf8(output.stderr).unwrap();
        let failures = self.proxy.events_soon("authentication_failure", before + 1);
        let last = failures.last().unwrap();
        let reason = last["reason"].as_str().unwrap();
        // Which one it was can be told.
        assert_eq!(last["certificate"].is_string(), shown.is_some());
        assert_eq!(last["serial"].is_string(), shown.is_some());
        let (_, said) = heard.split_once("FATAL:").expect("words");
        (said.trim().to_owned(), reason.to_owned())
    }

    /// A session that does nothing, once it has begun.
    fn idle(&self, user: &str, shown: &Issued) -> Idle {
        let before = self.proxy.events("connect").len();
        let mut child = self
            .psql(user, Some(shown))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.as_mut().unwrap();
        stdin.write_all(b"SELECT 1;\n").unwrap();
        self.proxy.events_soon("connect", before + 1);
        Idle(child)
    }

    /// Why the last of so many sessions has ended.
    fn ended(&self, count: usize) -> (String, String) {
        let ends = self.proxy.events_soon("disconnect", count);
        let end = &ends[count - 1];
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        (text(&end["principal"]["name"]), text(&end["reason"]))
    }
}

struct Idle(Child);

impl Idle {
    /// What psql says once it notices.
    fn hears(mut self) -> String {
        let mut stdin = self.0.stdin.take().unwrap();
        let _ = stdin.write_all(b"SELECT 2;\n");
        drop(stdin);
        let output = self.0.wait_with_output().unwrap();
        String::from_utf8(output.stderr).unwrap()
    }
}

fn private(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

#[test]
fn psql_logs_in_by_a_certificate() {
    let world = World::start(&[]);
    let issue = |names: &[&str]| world.authority.issue(names);
    world.taken("trainer", &issue(&[TRAINER]), None);
    let record = &world.proxy.events("connect")[0];
    assert_eq!(record["method"], "certificate");
    let shown = &record["principal"]["certificate"];
    assert_eq!(
        (&shown["name"], &shown["serial"]),
        (&TRAINER.into(), &"07".into())
    );
    assert_eq!(shown["fingerprint"].as_str().unwrap().len(), 64);
    assert!(shown["expires"].as_str().unwrap().ends_with('Z'));
    // By a rule, under the name in full.
    let job = "spiffe://corp/agent/nightly-7";
    world.taken(job, &issue(&[job]), None);
    let record = &world.proxy.events("connect")[1];
    let principal = &record["principal"];
    assert_eq!(
        (&principal["name"], &principal["kind"]),
        (&job.into(), &"agent".into())
    );
    // Beside a password; and where none is needed, it is not looked at.
    let bound = issue(&["email:both@corp.example"]);
    world.taken("both", &bound, Some(PASSWORD));
    let record = &world.proxy.events("connect")[2];
    assert_eq!(record["method"], "scram-plus");
    let name = &record["principal"]["certificate"]["name"];
    assert_eq!(name, "email:both@corp.example");
    world.taken("analyst", &bound, Some(PASSWORD));
    let record = &world.proxy.events("connect")[3];
    assert!(record["principal"]["certificate"].is_null());
}

#[test]
fn what_is_wrong_with_a_certificate_is_for_the_record() {
    let world = World::start(&[13]);
    let names = [TRAINER];
    let unusual = |unusual: Unusual| world.authority.unusual(&names, &unusual);
    let usual = Unusual::default;
    // What does not hold, whoever it is said to be.
    for (shown, why) in [
        (
            unusual(Unusual {
                until: -60,
                ..usual()
            }),
            "has expired",
        ),
        (
            unusual(Unusual {
                from: 60,
                ..usual()
            }),
            "not valid yet",
        ),
        (
            unusual(Unusual {
                serial: 13,
                ..usual()
            }),
            "is revoked",
        ),
        (
            unusual(Unusual {
                for_servers: true,
                ..usual()
            }),
            "not for clients",
        ),
        (
            Authority::new("corp").issue(&names),
            "no authority that is trusted",
        ),
        (
            world
                .authority
                .issue(&[TRAINER, "spiffe://corp/agent/other"]),
            "more than one URI",
        ),
        (
            world.authority.issue(&["uri:spiffe://Corp/x"]),
            "SPIFFE ID is malformed",
        ),
        (world.authority.issue(&["dns:a\0b"]), "alternative names"),
    ] {
        let mut all = Vec::new();
        for user in ["trainer", "analyst", "nobody"] {
            let (heard, reason) = world.refused(user, Some(&shown), Some(PASSWORD));
            assert!(reason.contains(why), "{reason}");
            all.push(heard);
        }
        assert!(all[0].starts_with("the client certificate is not taken\nHINT:"));
        assert!(all.iter().all(|one| *one == all[0]), "{all:?}");
    }
    // What holds, and is another's: as if there were no such identity.
    let other = world.authority.issue(&["spiffe://corp/agent/other"]);
    let nobody = world.authority.issue(&["dns:nobody.corp"]);
    let unlike = |heard: &str, user: &str| heard.replace(user, "?");
    let (unknown, _) = world.refused("nobody", Some(&other), Some(PASSWORD));
    for (user, shown, why) in [
        ("trainer", &other, "none of its names is this identity's"),
        ("trainer", &nobody, "policy has no identity and no rule"),
        (TRAINER, &other, "none of its names is this identity's"),
        ("both", &other, "none of its names is this identity's"),
    ] {
        let (heard, reason) = world.refused(user, Some(shown), Some(PASSWORD));
        assert!(reason.contains(why), "{reason}");
        assert_eq!(unlike(&heard, user), unlike(&unknown, "nobody"));
    }
    // None at all.
    let (unknown, reason) = world.refused("nobody", None, Some(PASSWORD));
    assert!(reason.contains("password authentication failed"));
    assert!(unknown.contains("HINT:  who connects by a client certificate"));
    for user in ["trainer", "both", TRAINER] {
        let (heard, reason) = world.refused(user, None, Some(PASSWORD));
        assert!(reason.contains("no certificate was shown"), "{reason}");
        assert_eq!(unlike(&heard, user), unlike(&unknown, "nobody"));
    }
    let (heard, _) = world.refused("analyst", None, Some("wrong"));
    assert_eq!(unlike(&heard, "analyst"), unlike(&unknown, "nobody"));
    assert!(world.proxy.events("connect").is_empty());
}

#[test]
fn a_session_ends_when_its_certificate_does() {
    let world = World::start(&[]);
    let home = world.proxy.home();
    let serial = |serial| Unusual {
        serial,
        ..Unusual::default()
    };
    let issue = |name: &str, unusual: Unusual| world.authority.unusual(&[name], &unusual);
    let short = Unusual {
        until: 3,
        ..serial(1)
    };
    let expiring = world.idle("trainer", &issue(TRAINER, short));
    let began = Instant::now();
    let revoked = world.idle("trainer", &issue(TRAINER, serial(2)));
    let by_rule = "spiffe://corp/agent/by-rule";
    let unmapped = world.idle(by_rule, &issue(by_rule, serial(3)));
    let last = world.idle("trainer", &issue(TRAINER, serial(4)));
    let hears = |idle: Idle, what: &str| {
        let heard = idle.hears();
        assert!(heard.contains("FATAL") && heard.contains(what), "{heard}");
    };

    let (who, why) = world.ended(1);
    assert_eq!(who, "trainer");
    assert!(
        why.starts_with("28000: the client certificate of this session has expired"),
        "{why}"
    );
    assert!(began.elapsed() < Duration::from_secs(8));
    hears(expiring, "has expired");

    fs::write(home.join("clients.crl"), world.authority.list(&[2], 3600)).unwrap();
    let (_, why) = world.ended(2);
    assert!(why.contains("has been revoked"), "{why}");
    hears(revoked, "has been revoked");
    let loads = world.proxy.events("certificates_load");
    assert_eq!(loads.len(), 2);
    assert_eq!(
        (&loads[1]["authorities"], &loads[1]["lists"]),
        (&1.into(), &1.into())
    );

    let rules = rules().replace("corp/agent/*", "corp/other/*");
    fs::write(home.join("policies/certificates.yaml"), rules).unwrap();
    let (who, why) = world.ended(3);
    assert_eq!(who, by_rule);
    assert!(why.contains("policy no longer names the identity"), "{why}");
    hears(unmapped, "policy no longer names");

    // What does not load changes nothing, and both files are one.
    fs::write(home.join("clients.pem"), "nobody").unwrap();
    let loads = world.proxy.events_soon("certificates_load", 3);
    let error = loads[2]["error"].as_str().unwrap();
    assert!(
        error.contains("clients.pem: no certificate in it"),
        "{error}"
    );
    world.taken("trainer", &issue(TRAINER, serial(5)), None);
    let other = Authority::new("other");
    fs::write(home.join("clients.crl"), other.list(&[], 3600)).unwrap();
    fs::write(home.join("clients.pem"), other.pem()).unwrap();
    // One of the four is the session of a moment ago.
    let (_, why) = world.ended(5);
    assert!(why.contains("is trusted no longer"), "{why}");
    hears(last, "is trusted no longer");
    world.taken("trainer", &other.issue(&[TRAINER]), None);
}

#[test]
fn the_proxys_own_certificate_changes_while_it_serves() {
    let world = World::start(&[]);
    let home = world.proxy.home();
    let log_in = || {
        let mut command = world.psql("analyst", None);
        command
            .env("PGPASSWORD", PASSWORD)
            .env("PGCHANNELBINDING", "require")
            .args(["-c", "SELECT 1"]);
        command.output().unwrap()
    };
    assert!(log_in().status.success());
    let next = tempfile::tempdir().unwrap();
    certificates(next.path());
    let copy = |name: &str| fs::copy(next.path().join(name), home.join(name)).unwrap();
    // Half of it is not taken.
    copy("server.crt");
    let loads = world.proxy.events_soon("certificates_load", 2);
    assert!(loads[1]["error"].as_str().unwrap().contains("server.crt"));
    assert_eq!(loads[1]["fingerprint"], loads[0]["fingerprint"]);
    assert!(log_in().status.success());
    // What is revoked meanwhile is, nonetheless.
    let session = |serial: u64| {
        let unusual = Unusual {
            serial,
            ..Unusual::default()
        };
        world.idle("trainer", &world.authority.unusual(&[TRAINER], &unusual))
    };
    let (stolen, lost) = (session(2), session(3));
    let revoke = |then: i64, serials: &[u64]| {
        let list = world.authority.list_of(then, serials, 3600);
        fs::write(home.join("clients.crl"), list).unwrap();
    };
    let ended = world.proxy.events("disconnect").len();
    revoke(-1800, &[2]);
    let (who, why) = world.ended(ended + 1);
    assert_eq!(who, "trainer");
    assert!(why.contains("has been revoked"), "{why}");
    assert!(stolen.hears().contains("has been revoked"));
    let loads = world.proxy.events_soon("certificates_load", 3);
    assert!(loads[2]["error"].as_str().unwrap().contains("server.crt"));
    assert_eq!(loads[2]["trusted"], loads[0]["trusted"]);
    assert_ne!(loads[2]["revocations"], loads[0]["revocations"]);
    // And though files do not rest.
    revoke(-900, &[2, 3]);
    let began = Instant::now();
    while world.proxy.events("certificates_load").len() < 4 {
        assert!(began.elapsed() < Duration::from_secs(20));
        copy("server.crt");
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(lost.hears().contains("has been revoked"));
    copy("server.key");
    let loads = world.proxy.events_soon("certificates_load", 5);
    assert!(loads[3]["error"].is_null(), "{:?}", loads[3]);
    assert_eq!(loads[3]["fingerprint"], loads[0]["fingerprint"]);
    let last = loads.last().unwrap();
    assert!(last["error"].is_null(), "{last}");
    assert_ne!(last["fingerprint"], loads[0]["fingerprint"]);
    // Clients that trust the old authority alone notice; those that trust the new one are
    // served, and bound to the new certificate.
    let error = String::from_utf8(log_in().stderr).unwrap();
    assert!(error.contains("SSL error"), "{error}");
    copy("ca.pem");
    let output = log_in();
    assert!(output.status.success(), "{output:?}");
    world.proxy.signal("HUP");
    world
        .proxy
        .events_soon("certificates_load", loads.len() + 1);
}
