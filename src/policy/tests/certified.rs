//! Whose a certificate is, and who needs one beside.

use jiff::Timestamp;

use super::{policy, refused};
use crate::identity::certificate::tests::issue::Authority;
use crate::identity::certificate::tests::{Files, presented};
use crate::identity::certificate::{Certificate, CertificateError, Trust};
use crate::identity::{Kind, Method};
use crate::policy::Policy;

const SCRAM: &str = "scram: 'SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA='";

fn text() -> String {
    format!(
        "identities:
  analyst: {{ kind: human, roles: [reads], {SCRAM} }}
  ann@corp.example: {{ kind: human, roles: [secret], {SCRAM} }}
  bob: {{ kind: human, roles: [reads], {SCRAM}, clientcert: 'email:{{name}}@corp.example' }}
  trainer: {{ kind: agent, roles: [reads], owner: analyst, certificate: 'spiffe://corp/agent/trainer' }}
  etl: {{ kind: service, roles: [reads], certificate: 'dns:ETL.corp' }}
  gone: {{ kind: agent, certificate: 'spiffe://corp/agent/gone', disabled: true }}
  job: {{ kind: agent, roles: [reads, secret], tokens: true }}
roles:
  reads: {{}}
  secret: {{ clientcert: 'email:{{name}}' }}
certificates:
  'spiffe://corp/agent/*': {{ kind: agent, roles: [reads], owner: analyst }}
  'dns:*.jobs.corp': {{ kind: service, roles: [reads] }}
"
    )
}

struct World {
    policy: Policy,
    trust: Trust,
    authority: Authority,
}

impl World {
    fn new() -> Self {
        let authority = Authority::new("corp");
        Self {
            policy: policy(&text()),
            trust: Files::new().trust(&[&authority], &[]).unwrap(),
            authority,
        }
    }

    fn shown(&self, names: &[&str]) -> Certificate {
        let issued = self.authority.issue(names);
        let now = Timestamp::now();
        self.trust.verify(&presented(&issued), now).unwrap()
    }

    /// Who connects by that name with a certificate of those.
    fn who(&self, name: &str, names: &[&str]) -> Result<String, CertificateError> {
        let principal = self.policy.certified(name, &self.shown(names))?;
        assert_eq!(principal.method, Method::Certificate);
        let certificate = principal.certificate.as_ref().unwrap();
        Ok(format!(
            "{} by {}",
            principal.label(),
            certificate.name.as_ref().unwrap()
        ))
    }
}

#[test]
fn a_certificate_is_one_identitys() {
    let world = World::new();
    let check = |name: &str, names: &[&str], expected: Result<&str, CertificateError>| {
        assert_eq!(
            world.who(name, names),
            expected.map(str::to_owned),
            "{name} {names:?}"
        );
    };
    let trainer = "spiffe://corp/agent/trainer";
    let other = "spiffe://corp/agent/nightly-7";
    check(
        "trainer",
        &[trainer],
        Ok("agent:trainer by spiffe://corp/agent/trainer"),
    );
    check("etl", &["dns:etl.corp"], Ok("service:etl by dns:etl.corp"));
    check(
        other,
        &[other],
        Ok("agent:spiffe://corp/agent/nightly-7 by spiffe://corp/agent/nightly-7"),
    );
    // Another's, or nobody's.
    check("etl", &[trainer], Err(CertificateError::Subject));
    check("analyst", &[trainer], Err(CertificateError::Subject));
    check("trainer", &[other], Err(CertificateError::Subject));
    check("nobody", &[other], Err(CertificateError::Subject));
    // A listed name is not connected by: its identity's is.
    check(trainer, &[trainer], Err(CertificateError::Subject));
    let elsewhere = "spiffe://other/agent/nightly-7";
    check(elsewhere, &[elsewhere], Err(CertificateError::Unknown));
    let deeper = "spiffe://corp/agent/a/b";
    check(deeper, &[deeper], Err(CertificateError::Unknown));
    check("cn:x", &["cn:x"], Err(CertificateError::Unknown));
    // Who is disabled is not somebody else by a rule, nor by another of their names.
    let gone = "spiffe://corp/agent/gone";
    check(gone, &[gone], Err(CertificateError::Subject));
    check("gone", &[gone], Err(CertificateError::Disabled));
    let names = ["dns:etl.corp", "dns:a.jobs.corp"];
    check("dns:a.jobs.corp", &names, Err(CertificateError::Subject));
    check("etl", &names, Ok("service:etl by dns:etl.corp"));
}

#[test]
fn of_several_identities_it_is_nobodys() {
    let text = text().replace("'spiffe://corp/agent/gone'", "'dns:other.corp'");
    let world = World {
        policy: policy(&text),
        ..World::new()
    };
    let two = ["dns:etl.corp", "dns:other.corp"];
    assert_eq!(world.who("etl", &two), Err(CertificateError::Ambiguous));
}

#[test]
fn who_is_not_listed_is_what_the_rule_says() {
    let world = World::new();
    let name = "spiffe://corp/agent/nightly-7";
    let shown = world.shown(&[name]);
    let principal = world.policy.certified(name, &shown).unwrap();
    assert_eq!((&*principal.name, principal.kind), (name, Kind::Agent));
    assert_eq!(principal.owner.as_deref(), Some("analyst"));
    assert_eq!(principal.roles.len(), 1);
    assert!(principal.mfa.is_none());
}

#[test]
fn a_certificate_may_be_needed_beside() {
    let world = World::new();
    let bound = |name: &str, names: Option<&[&str]>| {
        let principal = world.policy.principal(name, Method::Scram).unwrap();
        let shown = names.map(|names| world.shown(names));
        let lacks = world.policy.lacks(name, shown.as_ref());
        let bound = world.policy.bound(principal, shown.as_ref());
        // What is asked before a password is proved is what is asked after.
        if name != "job" {
            assert_eq!(lacks, bound.as_ref().err().cloned());
        }
        bound.map(|principal| {
            let certificate = principal.certificate.as_ref();
            certificate.and_then(|one| one.name.as_deref().map(str::to_owned))
        })
    };
    // Not needed: not looked at.
    assert_eq!(bound("analyst", None), Ok(None));
    assert_eq!(bound("analyst", Some(&["email:x@corp.example"])), Ok(None));
    for (name, own) in [
        ("bob", "email:bob@corp.example"),
        ("ann@corp.example", "email:ann@corp.example"),
    ] {
        assert_eq!(bound(name, Some(&[own])), Ok(Some(own.to_owned())));
        assert_eq!(bound(name, None), Err(CertificateError::Missing));
        let other = ["email:eve@corp.example"];
        assert_eq!(bound(name, Some(&other)), Err(CertificateError::Subject));
    }
    // A role's, whose name is none that a certificate could have.
    assert_eq!(bound("job", None), Err(CertificateError::Missing));
    assert_eq!(
        bound("job", Some(&["email:job@corp.example"])),
        Err(CertificateError::Subject)
    );
    // Who connects by a certificate has shown it.
    let shown = world.shown(&["dns:etl.corp"]);
    let etl = world.policy.certified("etl", &shown).unwrap();
    assert!(world.policy.bound(etl, None).is_ok());
}

#[test]
fn what_is_lacking_is_told_of_certificates_alone() {
    let world = World::new();
    let lacks = |name: &str| world.policy.lacks(name, None);
    assert_eq!(lacks("trainer"), Some(CertificateError::Missing));
    assert_eq!(
        lacks("spiffe://corp/agent/x"),
        Some(CertificateError::Missing)
    );
    assert_eq!(lacks("nobody"), None);
    assert_eq!(lacks("analyst"), None);
    // Tokens are looked at first: they may use fewer roles.
    assert_eq!(lacks("job"), None);
    let names: Vec<&str> = world
        .policy
        .certificate_identities()
        .map(|name| &**name)
        .collect();
    assert_eq!(names, ["ann@corp.example", "bob", "etl", "job", "trainer"]);
}

#[test]
fn refuses_what_leaves_open_who_is_who() {
    let check = |lines: &str, expected: &str| {
        let error = refused(lines);
        assert!(error.contains(expected), "{lines}: {error}");
    };
    check(
        "identities:\n  a: { kind: agent, certificate: 'CN=a' }",
        "p.yaml:2: `CN=a` does not say its kind: write spiffe://…, dns:…, email:… or cn:…",
    );
    check(
        "identities:\n  a: { kind: agent, certificate: 'spiffe://corp/agent/*' }",
        "p.yaml:2: `spiffe://corp/agent/*` is no name of its kind",
    );
    check(
        "identities:\n  a: { kind: agent, certificate: 'dns:A.corp' }\n  b: { kind: agent, certificate: 'dns:a.corp' }",
        "p.yaml:3: `dns:a.corp` is the certificate of `a` already",
    );
    check(
        "identities:\n  a: { kind: agent, certificate: 'cn:a', tokens: true }",
        "p.yaml:2: an identity connects by a certificate alone, or not by one",
    );
    check(
        "identities:\n  a: { kind: agent, certificate: 'cn:a', clientcert: 'cn:a' }",
        "p.yaml:2: `clientcert` is for what is shown beside a password or a token",
    );
    check(
        "identities:\n  'spiffe://corp/agent/a': { kind: agent, tokens: true }",
        "p.yaml:2: `spiffe://corp/agent/a` is a name of certificates",
    );
    check(
        "roles:\n  a: { clientcert: 'cn:all' }",
        "p.yaml:2: `cn:all` would be one certificate for all",
    );
    check(
        "certificates:\n  'spiffe://c/agent/*': { kind: agent }\n  'spiffe://c/*/etl': { kind: service }",
        "p.yaml:3: a name may be of `spiffe://c/*/etl` and of `spiffe://c/agent/*`",
    );
    check(
        "certificates:\n  'spiffe://*/agent': { kind: agent }",
        "p.yaml:2: `spiffe://*/agent`: whose names they are",
    );
    check(
        "certificates:\n  'spiffe://c/*': { kind: agent, owner: a }\nidentities:\n  b: { kind: human }",
        "p.yaml:2: no identity `a`",
    );
    check(
        "certificates:\n  'spiffe://c/*': { kind: agent, roles: [reeds] }\nroles:\n  reads: {}",
        "p.yaml:2: no role `reeds`; did you mean `reads`?",
    );
}
