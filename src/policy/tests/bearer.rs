//! What a token must have said for policy to take it, and what it makes of its bearer.

use super::decide::{CUSTOMERS, NOW, ask, shown};
use super::policy;
use crate::identity::token::issuer::tests::{home_and_delegated, home_and_token};
use crate::identity::token::tests::{Home, claims, now};
use crate::identity::token::{Actor, Claims, TokenError};
use crate::identity::{Kind, Method, Principal};
use crate::policy::Policy;

const TEXT: &str = "datasets:
  shop:
    unclassified: clear
    tables:
      public.customers: { email: email, ssn: ssn }
identities:
  analyst: { kind: human, roles: [reads], scram: 'SCRAM-SHA-256$4096:c2FsdHNhbHQ=$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=' }
  trainer: { kind: agent, roles: [hashes, sees], tokens: true }
  other: { kind: agent, roles: [sees], tokens: true }
  gone: { kind: agent, roles: [sees], tokens: true, disabled: true }
  bound: { kind: agent, roles: [sees, forbids], tokens: true }
roles:
  reads: { grants: [{ dataset: shop, tables: ['*'], tags: { email: { mask: email }, ssn: block }, rows: { public.customers: \"region = 'EU'\" } }] }
  hashes: { grants: [{ dataset: shop, tables: ['*'], tags: { email: { mask: hash }, ssn: hide } }] }
  sees: { grants: [{ dataset: shop, tables: ['*'], tags: { '*': clear } }] }
  forbids: { grants: [{ dataset: shop, tables: ['*'], tags: { ssn: block }, limits: { rows_per_query: 5 } }] }
";

struct World {
    home: Home,
    policy: Policy,
}

impl World {
    fn new(text: &str) -> Self {
        let home = Home::new(1);
        let policy = policy(text).trusting(home.tokens().into());
        Self { home, policy }
    }

    fn log_in(&self, name: &str, claims: &Claims) -> Result<Principal, TokenError> {
        let token = self.home.key(0).mint(claims);
        self.policy.bearer(name, "shop", &token, now())
    }

    fn sees(&self, principal: &Principal) -> String {
        shown(CUSTOMERS, &ask(&self.policy, principal, CUSTOMERS, NOW))
    }
}

fn acting(agent: &str, human: &str) -> Claims {
    Claims {
        kind: Kind::Human,
        act: Some(Actor {
            sub: agent.into(),
            kind: Kind::Agent,
        }),
        ..claims(human)
    }
}

#[test]
fn what_a_token_says_must_be_so() {
    let world = World::new(TEXT);
    let refused = |name: &str, claims: &Claims, why: TokenError| {
        assert_eq!(world.log_in(name, claims).unwrap_err(), why, "{claims:?}");
    };
    let trainer = || claims("trainer");
    assert!(world.log_in("trainer", &trainer()).is_ok());
    refused("other", &trainer(), TokenError::Subject);
    refused("nobody", &claims("nobody"), TokenError::Identity);
    refused("gone", &claims("gone"), TokenError::Identity);
    let human = Claims {
        kind: Kind::Human,
        ..claims("analyst")
    };
    refused("analyst", &human, TokenError::Identity);
    let service = Claims {
        kind: Kind::Service,
        ..trainer()
    };
    refused("trainer", &service, TokenError::Kind);
    let wider = Claims {
        roles: Some(["sees".into(), "reads".into()].into()),
        ..trainer()
    };
    refused("trainer", &wider, TokenError::Roles);
    let elsewhere = Claims {
        dataset: Some("vault".into()),
        ..trainer()
    };
    refused("trainer", &elsewhere, TokenError::Dataset);
    let here = Claims {
        dataset: Some("shop".into()),
        ..trainer()
    };
    assert!(world.log_in("trainer", &here).is_ok());

    assert!(
        world
            .log_in("trainer", &acting("trainer", "analyst"))
            .is_ok()
    );
    // By whom it acts for, nobody logs in.
    refused(
        "analyst",
        &acting("trainer", "analyst"),
        TokenError::Subject,
    );
    for human in ["nobody", "other", "gone", "trainer"] {
        refused("trainer", &acting("trainer", human), TokenError::Delegation);
    }
    let no_human = Claims {
        kind: Kind::Agent,
        ..acting("trainer", "analyst")
    };
    refused("trainer", &no_human, TokenError::Delegation);
}

#[test]
fn roles_that_a_token_leaves_out_grant_nothing_and_still_forbid() {
    let world = World::new(TEXT);
    let with = |name: &str, roles: &[&str]| {
        let roles = roles.iter().map(|role| (*role).into()).collect();
        let claims = Claims {
            roles: Some(roles),
            ..claims(name)
        };
        world.log_in(name, &claims).unwrap()
    };
    let all = world.log_in("trainer", &claims("trainer")).unwrap();
    assert_eq!(
        world.sees(&all),
        "read: id=clear email=clear ssn=hide region=clear"
    );
    let hashes = with("trainer", &["hashes"]);
    assert_eq!(hashes.roles, ["hashes".into()]);
    assert_eq!(
        world.sees(&hashes),
        "read: id=clear email=mask:hash ssn=hide region=clear"
    );
    // What `hashes` hides stays hidden.
    let sees = with("trainer", &["sees"]);
    assert_eq!(
        world.sees(&sees),
        "read: id=clear email=clear ssn=hide region=clear"
    );
    assert_eq!(
        world.sees(&with("trainer", &[])),
        "none: role hashes (p.yaml:14) grants public.customers, but the token leaves it out"
    );
    let bound = with("bound", &["sees"]);
    assert_eq!(
        world.sees(&bound),
        "read: id=clear email=clear ssn=block region=clear"
    );
    let limits = world
        .policy
        .rights(&bound, "shop", NOW.parse().unwrap())
        .limits();
    assert_eq!(limits.rows_per_query, Some(5));
}

#[test]
fn an_agent_on_behalf_of_a_human_gets_the_stricter_of_both() {
    let world = World::new(TEXT);
    let agent = world.log_in("other", &acting("other", "analyst")).unwrap();
    assert_eq!(
        agent.on_behalf_of.as_ref().unwrap().label(),
        "human:analyst"
    );
    assert_eq!(
        world.sees(&agent),
        "read: id=clear email=mask:email ssn=block region=clear where (\"region\" = 'EU')"
    );
    // Two masks neither of which is the stricter.
    let hashes = Claims {
        roles: Some(["hashes".into()].into()),
        ..acting("trainer", "analyst")
    };
    let agent = world.log_in("trainer", &hashes).unwrap();
    assert_eq!(
        world.sees(&agent),
        "read: id=clear email=block ssn=hide region=clear where (\"region\" = 'EU')"
    );
}

#[test]
fn whoever_came_by_a_token_stays_as_long_as_policy_says_so() {
    let world = World::new(TEXT);
    let principal = world.log_in("other", &acting("other", "analyst")).unwrap();
    let token = principal.token.clone().unwrap();
    let tokens = world.policy.tokens().clone();
    let still = |text: &str| {
        let policy = policy(text).trusting(tokens.clone());
        policy
            .still(&principal, &token, now())
            .map(|one| one.label())
    };
    assert_eq!(still(TEXT).unwrap(), "agent:other");
    assert_eq!(
        still(&TEXT.replace("roles: [sees], tokens: true }", "roles: [sees] }")),
        Err(TokenError::Identity)
    );
    assert_eq!(
        still(&TEXT.replace("  other:", "  another:")),
        Err(TokenError::Identity)
    );
    assert_eq!(
        still(&TEXT.replace("  analyst:", "  somebody:")),
        Err(TokenError::Delegation)
    );
    assert_eq!(
        still(&TEXT.replace("analyst: { kind: human", "analyst: { kind: agent")),
        Err(TokenError::Delegation)
    );
    let policy = policy(TEXT).trusting(tokens.clone());
    let late = policy.still(&principal, &token, token.expires);
    assert_eq!(late.unwrap_err(), TokenError::Expired(token.expires));
}

/// A sealed secret: which does not matter here.
fn sealed() -> String {
    use crate::identity::totp::{Sealer, Totp};
    let sealer = Sealer::new(b"a key").unwrap();
    let totp = Totp::generate().unwrap();
    sealer.seal("analyst", &totp).unwrap().encode()
}

#[test]
fn a_second_factor_is_its_subject_s_alone_and_lasts_as_long_as_policy_has_it() {
    let factor = format!("roles: [reads], totp: '{}',", sealed());
    let text = TEXT.replace("roles: [reads],", &factor);
    let world = World::new(&text);
    let human = Claims {
        kind: Kind::Human,
        ..claims("analyst")
    };
    // A token that says of no factor is still none for who has a password.
    assert_eq!(
        world.log_in("analyst", &human).unwrap_err(),
        TokenError::Identity
    );
    let proved = world.policy.principal("analyst", Method::Scram).unwrap();
    let credential = world.policy.credential(&proved).unwrap();
    let both = |claims: Claims| claims.by_two_factors(credential.clone());
    let stepped_up = world.log_in("analyst", &both(human.clone()));
    assert_eq!(stepped_up.unwrap().mfa, Some(now()));
    // By another password, or before there were others, it was somebody else's.
    let others = Claims {
        credential: None,
        ..both(human.clone())
    };
    for claims in [others, human.clone().by_two_factors("other".into())] {
        let refused = world.log_in("analyst", &claims).unwrap_err();
        assert_eq!(refused, TokenError::Credential);
    }
    // Whoever acts has proved nothing by it, nor gets in by it.
    let acting = |agent: &str| both(acting(agent, "analyst"));
    let agent = world.log_in("other", &acting("other")).unwrap();
    assert_eq!(agent.mfa, None);
    assert_eq!(agent.on_behalf_of.as_ref().unwrap().mfa, Some(now()));
    assert_eq!(
        world.log_in("analyst", &acting("analyst")).unwrap_err(),
        TokenError::Identity
    );
    let own = world.log_in("other", &both(claims("other")));
    assert_eq!(own.unwrap_err(), TokenError::Credential);
    // Whatever was got by what policy has no longer ends, whoever has it.
    let known = world.log_in("analyst", &both(human)).unwrap();
    let password = text.replace("c2FsdHNhbHQ=", "c2FsdHNhbHRz");
    let factor = TEXT.replace(
        "roles: [reads],",
        &format!("roles: [reads], totp: '{}',", sealed()),
    );
    for text in [TEXT, &password, &factor] {
        let later = policy(text).trusting(world.policy.tokens().clone());
        for known in [&agent, &known] {
            let token = known.token.clone().unwrap();
            let gone = later.still(known, &token, now()).unwrap_err();
            assert_eq!(gone, TokenError::Credential, "{text}");
        }
        assert_eq!(later.credential(&proved).is_some(), text == factor);
    }
    let same = policy(&text).trusting(world.policy.tokens().clone());
    let token = agent.token.clone().unwrap();
    assert!(same.still(&agent, &token, now()).is_ok());
}

#[test]
fn a_human_says_who_may_act_for_them() {
    let with = |agents: &str| {
        TEXT.replace(
            "roles: [reads],",
            &format!("roles: [reads], may_act: {agents},"),
        )
    };
    let world = World::new(&with("[other]"));
    let agent = world.log_in("other", &acting("other", "analyst")).unwrap();
    assert_eq!(
        world
            .log_in("trainer", &acting("trainer", "analyst"))
            .unwrap_err(),
        TokenError::MayAct
    );
    assert!(world.log_in("trainer", &claims("trainer")).is_ok());
    let token = agent.token.clone().unwrap();
    let later = policy(&with("[]")).trusting(world.policy.tokens().clone());
    let still = later.still(&agent, &token, now());
    assert_eq!(still.unwrap_err(), TokenError::MayAct);
    for (text, error) in [
        (
            with("[othr]"),
            "p.yaml:7: no identity `othr`; did you mean `other`?",
        ),
        (
            TEXT.replace(
                "other: { kind: agent,",
                "other: { kind: agent, may_act: [],",
            ),
            "p.yaml:9: `other` is no human: nobody acts on its behalf",
        ),
        (
            TEXT.replace(
                "roles: [reads], scram:",
                &format!("roles: [reads], totp: '{}', certificate:", sealed()),
            ),
            "p.yaml:7: `totp` is a second factor, beside the password that `scram` verifies",
        ),
        (
            TEXT.replace(
                "other: { kind: agent,",
                &format!("other: {{ kind: agent, totp: '{}',", sealed()),
            ),
            "p.yaml:9: `totp` is a second factor of humans: nobody else reads a code off",
        ),
    ] {
        assert_eq!(super::refused(&text), error);
    }
    let clear = TEXT.replace(
        "roles: [reads],",
        "roles: [reads], totp: GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ,",
    );
    let error = super::refused(&clear);
    assert!(
        error.contains("`totp` is no sealed secret") && !error.contains("GEZD"),
        "{error}"
    );
}

#[test]
fn an_agent_that_nobody_answers_for_is_refused_where_policy_wants_somebody() {
    let with = |dataset: &str, role: &str| {
        let text = TEXT
            .replace(
                "    unclassified: clear\n",
                &format!("    unclassified: clear\n{dataset}"),
            )
            .replace("  sees: {", &format!("  sees: {{{role}"))
            .replace("  other: {", "  other: { owner: analyst,");
        World::new(&text)
    };
    let refused = |world: &World, name: &str, claims: &Claims| {
        let principal = world.log_in(name, claims).unwrap();
        let told = world.policy.answers(&principal, Some("shop"));
        told.err().map(|told| {
            assert_eq!(told.state.0, "28000");
            told.message.to_string()
        })
    };
    let narrow = Claims {
        roles: Some(["hashes".into()].into()),
        ..claims("trainer")
    };
    let all = |world: &World| {
        [
            refused(world, "trainer", &claims("trainer")),
            refused(world, "trainer", &narrow),
            refused(world, "other", &claims("other")),
            refused(world, "other", &acting("other", "analyst")),
        ]
    };
    let none = || None::<String>;
    assert_eq!(all(&with("", "")), [none(), none(), none(), none()]);
    let (owner, delegation) = (
        "agents: { require: owner }",
        "agents: { require: delegation }",
    );
    let role = |name: &str, what: &str, line: u8| {
        Some(format!(
            "the agent `{name}` must {what}: role sees (p.yaml:{line})"
        ))
    };
    let (owned, acting) = ("have an owner", "act on behalf of somebody");
    assert_eq!(
        all(&with("", &format!(" {owner},"))),
        [role("trainer", owned, 15), none(), none(), none()]
    );
    assert_eq!(
        all(&with("", &format!(" {delegation},"))),
        [
            role("trainer", acting, 15),
            none(),
            role("other", acting, 15),
            none()
        ]
    );
    let dataset = |name: &str, what: &str| {
        Some(format!(
            "the agent `{name}` must {what}: dataset shop (p.yaml:2)"
        ))
    };
    assert_eq!(
        all(&with(&format!("    {owner}\n"), "")),
        [
            dataset("trainer", owned),
            dataset("trainer", owned),
            none(),
            none()
        ]
    );
    let world = with(&format!("    {delegation}\n"), "");
    assert_eq!(
        all(&world),
        [
            dataset("trainer", acting),
            dataset("trainer", acting),
            dataset("other", acting),
            none()
        ]
    );
    // Who is no agent answers for themselves; another dataset wants nothing.
    let human = world
        .policy
        .principal("analyst", crate::identity::Method::Scram);
    assert!(world.policy.answers(&human.unwrap(), Some("shop")).is_ok());
    let other = world.log_in("other", &claims("other")).unwrap();
    assert!(world.policy.answers(&other, None).is_ok());
}

#[test]
fn an_agent_acts_on_behalf_of_somebody_by_an_issuer_s_word() {
    let (home, token) = home_and_delegated();
    let tokens = std::sync::Arc::new(home.tokens());
    let with = |text: &str, groups: &str| {
        policy(&format!("{text}groups: {groups}\n")).trusting(tokens.clone())
    };
    let own = with(TEXT, "{ data: [reads] }");
    let log_in = |policy: &Policy, name: &str| policy.bearer(name, "shop", &token, now());
    let agent = log_in(&own, "other").unwrap();
    assert_eq!((agent.label(), agent.mfa), ("agent:other".into(), None));
    let human = agent.on_behalf_of.as_ref().unwrap();
    assert_eq!(human.label(), "human:jo@corp.example");
    let seen =
        |policy: &Policy, agent: &Principal| shown(CUSTOMERS, &ask(policy, agent, CUSTOMERS, NOW));
    // The stricter of what it has by policy and what they have by their groups.
    assert_eq!(
        seen(&own, &agent),
        "read: id=clear email=mask:email ssn=block region=clear where (\"region\" = 'EU')"
    );
    let none = with(TEXT, "{}");
    let nobody = log_in(&none, "other").unwrap();
    assert!(
        none.rights(&nobody, "shop", NOW.parse().unwrap())
            .is_empty()
    );
    // Neither the human by it, nor another, nor an agent that is none of policy's.
    for name in ["jo@corp.example", "trainer"] {
        assert_eq!(log_in(&own, name).unwrap_err(), TokenError::Subject);
    }
    let without = |from: &str, to: &str| with(&TEXT.replace(from, to), "{ data: [reads] }");
    let gone = without("  other: {", "  another: {");
    assert_eq!(log_in(&gone, "other").unwrap_err(), TokenError::Identity);
    let human = without("other: { kind: agent", "other: { kind: human");
    assert_eq!(log_in(&human, "other").unwrap_err(), TokenError::Delegation);
    let listed = without("  gone:", "  jo@corp.example:");
    assert_eq!(log_in(&listed, "other").unwrap_err(), TokenError::Identity);
    // What changes holds for who is there.
    let token = agent.token.clone().unwrap();
    let wider = with(TEXT, "{ data: [sees] }");
    let still = wider.still(&agent, &token, now()).unwrap();
    assert_eq!(still.on_behalf_of.as_ref().unwrap().roles, ["sees".into()]);
    assert_eq!(
        gone.still(&agent, &token, now()).unwrap_err(),
        TokenError::Identity
    );
}

#[test]
fn who_is_asked_for_a_token_is_told_by_policy_alone() {
    let policy = World::new(TEXT).policy;
    assert!(policy.by_token("trainer") && policy.by_token("other"));
    assert!(!policy.by_token("analyst"));
    // One in four logs in by a password, so about one in four unknown names is asked.
    let names = (0..400).map(|n| format!("nobody{n}"));
    let asked = names.filter(|name| !policy.by_token(name)).count();
    assert!((60..150).contains(&asked), "{asked} of 400");
}

#[test]
fn a_password_and_tokens_are_not_both() {
    let both = TEXT.replace(
        "roles: [reads], scram:",
        "roles: [reads], tokens: true, scram:",
    );
    let error = super::refused(&both);
    assert_eq!(
        error,
        "p.yaml:7: an identity connects by a password or by tokens, not by both"
    );
}

#[test]
fn whom_an_issuer_names_has_the_roles_of_their_groups() {
    let (home, token) = home_and_token();
    let tokens = std::sync::Arc::new(home.tokens());
    let with = |groups: &str| {
        let text = format!("{TEXT}groups: {groups}\n");
        policy(&text).trusting(tokens.clone())
    };
    let log_in = |policy: &Policy, name: &str| policy.bearer(name, "shop", &token, now());
    let jo = "jo@corp.example";
    let analysts = with("{ staff: [reads], nobody: [sees], data: [reads, hashes] }");
    let principal = log_in(&analysts, jo).unwrap();
    assert_eq!(principal.label(), "human:jo@corp.example");
    assert_eq!(principal.roles, ["reads".into(), "hashes".into()]);
    let seen = shown(CUSTOMERS, &ask(&analysts, &principal, CUSTOMERS, NOW));
    assert_eq!(seen, "read: id=clear email=mask:hash ssn=hide region=clear");
    assert_eq!(
        log_in(&analysts, "an@corp.example").unwrap_err(),
        TokenError::Subject
    );
    assert_eq!(
        log_in(&analysts, "trainer").unwrap_err(),
        TokenError::Subject
    );

    // Groups that nobody has given roles to.
    let none = with("{}");
    let nobody = log_in(&none, jo).unwrap();
    assert!(
        none.rights(&nobody, "shop", NOW.parse().unwrap())
            .is_empty()
    );
    // What changes in policy holds for who is there.
    let own = principal.token.clone().unwrap();
    let still = with("{ data: [sees] }")
        .still(&principal, &own, now())
        .unwrap();
    assert_eq!(still.roles, ["sees".into()]);
    // A name that policy lists is policy's.
    let listed = TEXT.replace("  gone:", "  jo@corp.example:");
    let listed = policy(&listed).trusting(tokens.clone());
    assert_eq!(log_in(&listed, jo).unwrap_err(), TokenError::Identity);
    // All such names are asked for a token, whoever has them.
    let text = TEXT
        .replace("  analyst:", "  an@corp.example:")
        .replace("owner: analyst", "owner: an@corp.example");
    let listed = policy(&text).trusting(tokens);
    for name in ["an@corp.example", jo, "nobody@corp.example"] {
        assert!(listed.by_token(name), "{name}");
    }
    // By which mechanism is theirs to say, and where tokens are to be had.
    let (mut home, _) = home_and_token();
    for oauth in [false, true] {
        home.issuers.get_mut("corp").unwrap().oauth = oauth;
        let policy = policy(TEXT).trusting(home.tokens().into());
        for name in [jo, "nobody@corp.example"] {
            assert_eq!(policy.by_oauth(name), oauth);
            let told = policy.tokens().discovery(name).unwrap();
            let document = "https://login.corp.example/.well-known/openid-configuration";
            assert_eq!((told.document.as_str(), &*told.scope), (document, "openid"));
        }
        for name in ["trainer", "nobody"] {
            assert!(!policy.by_oauth(name) && policy.tokens().discovery(name).is_none());
        }
    }
    assert_eq!(
        super::refused(&format!("{TEXT}groups: {{ data: [raeds] }}")),
        "p.yaml:17: no role `raeds`; did you mean `reads`?"
    );
}
