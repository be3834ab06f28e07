//! Who may still be in a session by what they have shown.

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::identity::certificate::Trust;
use crate::identity::certificate::tests::issue::Authority as Issuer;
use crate::identity::certificate::tests::{Files, presented};
use crate::identity::{Method, Principal};
use crate::policy::Policy;
use crate::session::{Authority as _, Governed};
use crate::sql::Bounds;

const TEXT: &str = "identities:
  analyst: { kind: human, roles: [reads], scram: 'SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' }
  trainer: { kind: agent, roles: [reads], certificate: 'dns:trainer.corp' }
roles:
  reads: { grants: [] }
";

fn policy(text: &str, trust: Option<&Arc<Trust>>) -> Arc<Policy> {
    let policy = Policy::from_files(&[("p.yaml".into(), text.into())], 1).unwrap();
    Arc::new(policy.certified_by(trust.cloned()))
}

struct World {
    policy: watch::Sender<Arc<Policy>>,
    governed: Governed,
    trust: Arc<Trust>,
    files: Files,
    issuer: Issuer,
}

impl World {
    fn new() -> Self {
        let (files, issuer) = (Files::new(), Issuer::new("corp"));
        let trust = Arc::new(files.trust(&[&issuer], &[issuer.list(&[], 60)]).unwrap());
        let policy = watch::Sender::new(policy(TEXT, Some(&trust)));
        Self {
            governed: Governed::new(policy.subscribe(), 1 << 20, Bounds::default()),
            policy,
            trust,
            files,
            issuer,
        }
    }

    fn trainer(&self) -> Principal {
        let issued = self.issuer.issue(&["dns:trainer.corp"]);
        let policy = self.policy.borrow().clone();
        let shown = policy.verify(&presented(&issued), Timestamp::now());
        policy.certified("trainer", &shown.unwrap()).unwrap()
    }

    /// What it hears, if it may not stay.
    fn hears(&self, principal: &Principal) -> Option<String> {
        let told = self
            .governed
            .admits(principal, "shop", Timestamp::now())
            .err()?;
        assert_eq!(told.state.0, "28000");
        Some(told.message.into_owned())
    }
}

#[test]
fn a_certificate_that_no_longer_holds_ends_its_session() {
    let world = World::new();
    let trainer = world.trainer();
    // Until the list of revocations is out of date, at the latest.
    let now = Timestamp::now();
    let until = world
        .governed
        .admits(&trainer, "shop", now)
        .unwrap()
        .unwrap();
    let left = now.duration_until(until).as_secs();
    assert!((50..=60).contains(&left), "{left}");
    let later = until + jiff::SignedDuration::from_secs(1);
    let told = world.governed.admits(&trainer, "shop", later).unwrap_err();
    assert!(told.message.contains("nothing in date says"), "{told:?}");

    let check = |text: &str, trust: Option<&Arc<Trust>>, expected: Option<&str>| {
        world.policy.send_replace(policy(text, trust));
        let heard = world.hears(&trainer);
        match expected {
            Some(expected) => assert!(heard.unwrap().contains(expected)),
            None => assert_eq!(heard, None),
        }
    };
    let trust = |lists: &[String]| Arc::new(world.files.trust(&[&world.issuer], lists).unwrap());
    check(TEXT, Some(&world.trust), None);
    check(TEXT, None, Some("is trusted no longer"));
    let other = Issuer::new("other");
    let other = Arc::new(world.files.trust(&[&other], &[]).unwrap());
    check(TEXT, Some(&other), Some("is trusted no longer"));
    let revoking = trust(&[world.issuer.list(&[7], 60)]);
    check(TEXT, Some(&revoking), Some("has been revoked"));
    for (was, is) in [
        ("trainer.corp", "other.corp"),
        ("kind: agent", "kind: service"),
        ("trainer.corp'", "trainer.corp', disabled: true"),
        ("certificate: 'dns:trainer.corp'", "tokens: true"),
    ] {
        let text = TEXT.replace(was, is);
        check(&text, Some(&world.trust), Some("policy no longer names"));
    }
    check(TEXT, Some(&world.trust), None);
    // Nor does an agent stay that nobody answers for, where its role or its dataset wants it.
    for text in [
        TEXT.replace("{ grants", "{ agents: { require: owner }, grants"),
        format!("{TEXT}datasets: {{ shop: {{ agents: {{ require: delegation }} }} }}\n"),
    ] {
        check(&text, Some(&world.trust), Some("the agent `trainer` must"));
    }
    let elsewhere = format!("{TEXT}datasets: {{ other: {{ agents: {{ require: owner }} }} }}\n");
    check(&elsewhere, Some(&world.trust), None);
}

#[test]
fn who_needs_a_certificate_from_now_on_and_has_shown_none_may_not_stay() {
    let world = World::new();
    let analyst = world
        .policy
        .borrow()
        .principal("analyst", Method::Scram)
        .unwrap();
    assert_eq!(world.hears(&analyst), None);
    assert_eq!(
        world.governed.admits(&analyst, "shop", Timestamp::now()),
        Ok(None)
    );
    // A password that has been taken away is no way to stay.
    let (start, end) = (TEXT.find("scram:").unwrap(), TEXT.find("=' }").unwrap());
    let by_certificate = TEXT.replace(&TEXT[start..end + 2], "certificate: 'dns:analyst.corp'");
    world
        .policy
        .send_replace(policy(&by_certificate, Some(&world.trust)));
    let heard = world.hears(&analyst).unwrap();
    assert!(heard.contains("policy no longer names"), "{heard}");
    let text = TEXT.replace(
        "{ grants",
        "{ clientcert: 'email:{name}@corp.example', grants",
    );
    world.policy.send_replace(policy(&text, Some(&world.trust)));
    let heard = world.hears(&analyst).unwrap();
    assert!(
        heard.contains("a client certificate is needed now"),
        "{heard}"
    );
    // Who connects by one has shown it; who has shown the right one beside may stay.
    assert_eq!(world.hears(&world.trainer()), None);
    let policy = world.policy.borrow().clone();
    let issued = world.issuer.issue(&["email:analyst@corp.example"]);
    let shown = policy.verify(&presented(&issued), Timestamp::now());
    let bound = policy.bound(analyst, shown.as_ref().ok()).unwrap();
    assert_eq!(world.hears(&bound), None);
    world.policy.send_replace(self::policy(&text, None));
    let heard = world.hears(&bound).unwrap();
    assert!(heard.contains("is trusted no longer"), "{heard}");
}
