//! What loads, and what a mistake is answered with.

use std::path::Path;

use super::{policy, refused};
use crate::identity::{Kind, Method};
use crate::policy::{Policy, PolicyError};

const DATASETS: &str = "datasets: { shop: { tables: { public.customers: { email: email } } } }\n";

/// A grant of a role `r` with these further lines, each indented already.
fn grant(lines: &str) -> String {
    format!(
        "{DATASETS}roles:\n  r:\n    grants:\n      - dataset: shop\n        tables: [\"*\"]\n{lines}"
    )
}

fn tag(rule: &str) -> String {
    grant(&format!("        tags: {{ email: {rule} }}"))
}

#[test]
fn a_mistake_names_its_line_and_the_way_out() {
    let verifier =
        "roles: { r: {} }\nidentities:\n  bob: { kind: human, roles: [r], scram: SCRAM-SHA-256$x }";
    let cases: &[(String, &str)] = &[
        (
            "rolls: {}".into(),
            "p.yaml:1: unknown key `rolls`; did you mean `roles`?",
        ),
        (
            "roles: {}\nroles: {}".into(),
            "p.yaml:2: `roles` stands here twice",
        ),
        ("roles:\n  - x".into(), "p.yaml:2: "),
        ("roles: [".into(), "p.yaml:1: "),
        (
            "roles:\n  r:\n    grant: []".into(),
            "p.yaml:3: unknown key `grant`; did you mean `grants`?",
        ),
        (
            grant("        action: [read]"),
            "p.yaml:7: unknown key `action`; did you mean `actions`?",
        ),
        (
            grant("        actions: [raed]"),
            "p.yaml:7: unknown word `raed`; did you mean `read`?",
        ),
        (grant("        hours: []"), "p.yaml:5: `hours` names none"),
        (
            grant("        hours: [{ from: '8:00', until: '18:00' }]"),
            "p.yaml:7: `8:00` is no time of day: write 08:30",
        ),
        (
            grant("        hours: [{ days: [monday], from: '08:00', until: '18:00' }]"),
            "p.yaml:7: unknown word `monday`; one of mon, tue, wed",
        ),
        (
            grant("        hours: [{ from: '08:00', until: '18:00', zone: Nowhere/City }]"),
            "p.yaml:7: this machine knows no time zone `Nowhere/City`",
        ),
        (
            grant("        environments: []"),
            "p.yaml:5: `environments` names none",
        ),
        (
            grant("        actions: []"),
            "p.yaml:5: a grant names tables and actions",
        ),
        (
            grant("").replace("dataset: shop", "dataset: shpo"),
            "p.yaml:5: no classification names dataset `shpo`; did you mean `shop`?",
        ),
        (
            grant("").replace("\"*\"", "customers"),
            "p.yaml:6: `customers` lacks its schema: write public.customers",
        ),
        (
            grant("").replace("\"*\"", "\"public.*s\""),
            "p.yaml:6: `public.*s`: a star stands at the end of a name alone",
        ),
        (
            grant("").replace("\"*\"", "a.b.c"),
            "p.yaml:6: `a.b.c` is not of the form schema.name",
        ),
        (
            tag("blok"),
            "p.yaml:7: unknown word `blok`; did you mean `block`?",
        ),
        (
            tag("email"),
            "p.yaml:7: `email` is a mask: write { mask: email }",
        ),
        (
            tag("{ mask: emial }"),
            "p.yaml:7: unknown mask `emial`; did you mean `email`?",
        ),
        (
            tag("{ msk: email }"),
            "p.yaml:7: unknown key `msk`; did you mean `mask`?",
        ),
        (
            tag("{ mask: email, keep_last: 1 }"),
            "p.yaml:7: mask `email` takes no `keep_last`; it takes no parameter",
        ),
        (
            tag("{ mask: partial, keep_lst: 1 }"),
            "p.yaml:7: unknown key `keep_lst`; did you mean `keep_last`?",
        ),
        (
            tag("{ mask: partial }"),
            "p.yaml:7: mask `partial` wants `keep_first` or `keep_last`; a mask that keeps nothing is `constant`",
        ),
        (tag("{ mask: partial, keep_last: -1 }"), "p.yaml:7: "),
        (
            tag("{ mask: partial, keep_last: 1001 }"),
            "p.yaml:7: at most 1000 characters are kept",
        ),
        (
            tag("{ mask: constant }"),
            "p.yaml:7: mask `constant` wants `value`",
        ),
        (
            tag("{ mask: number, step: 0 }"),
            "p.yaml:7: a step is a number above zero, such as 1000 or 0.5",
        ),
        (
            tag("{ mask: number, step: -5 }"),
            "p.yaml:7: a step is a number above zero, such as 1000 or 0.5",
        ),
        (tag("{ mask: ip, prefix: 33 }"), "p.yaml:7: at most 32 bits"),
        (
            tag("{ mask: date, to: yaer }"),
            "p.yaml:7: unknown word `yaer`; did you mean `year`?",
        ),
        (
            tag("{ mask: sql, expression: \"{column}::int\" }"),
            "p.yaml:7: a cast to int4 could fail on some value; only constants are cast to other types than text",
        ),
        (
            grant("        rows: { public.customers: \"region = lwer('EU')\" }"),
            "p.yaml:7: row filter of public.customers: function `lwer` is not served here; did you mean `lower`?",
        ),
        (
            grant("        limits: { statement_timeout: 60 }"),
            "p.yaml:7: `60` is no duration; write 500ms, 60s, 5min or 1h",
        ),
        (
            grant("        limits: { statement_timeout: 0s }"),
            "p.yaml:7: `0s` is no duration; write 500ms, 60s, 5min or 1h",
        ),
        (
            grant("        until: tomorrow"),
            "p.yaml:7: `tomorrow` is no time; write 2027-01-31T00:00:00Z",
        ),
        (
            grant("        from: 2027-01-01T00:00:00Z\n        until: 2026-01-01T00:00:00Z"),
            "p.yaml:5: a grant that ends before it begins",
        ),
        (
            grant("        require: { mfs: true }"),
            "p.yaml:7: unknown key `mfs`; did you mean `mfa`?",
        ),
        (
            "roles: { analyst: {} }\nidentities:\n  bob: { kind: human, roles: [analist] }".into(),
            "p.yaml:3: no role `analist`; did you mean `analyst`?",
        ),
        (
            "identities:\n  bob: { kind: humen }".into(),
            "p.yaml:2: unknown word `humen`; did you mean `human`?",
        ),
        (
            "identities:\n  bob: { roles: [] }".into(),
            "p.yaml:2: `kind` is missing",
        ),
        (
            "identities:\n  bob: { kind: human }\n  bot: { kind: agent, owner: bbo }".into(),
            "p.yaml:3: no identity `bbo`; did you mean `bob`?",
        ),
        (
            "identities:\n  bot: { kind: agent, owner: bot }".into(),
            "p.yaml:2: `bot` is no human: an owner answers for it",
        ),
        (
            verifier.into(),
            "p.yaml:3: `scram` is no SCRAM-SHA-256 verifier: it is not `SCRAM",
        ),
        (
            "datasets:\n  shop:\n    unclassified: cler".into(),
            "p.yaml:3: unknown word `cler`; did you mean `clear`?",
        ),
        (
            "datasets:\n  shop:\n    tables:\n      public.*: {}".into(),
            "p.yaml:4: `public.*`: a classification names one table",
        ),
        (
            "datasets:\n  shop:\n    tables: { public.a: {}, '\"public\".a': {} }".into(),
            "p.yaml:3: `\"public\".a` stands here twice",
        ),
        (
            "datasets:\n  shop:\n    functions: [f]".into(),
            "p.yaml:3: `f` lacks its schema: write public.f",
        ),
    ];
    for (text, expected) in cases {
        let answer = refused(text);
        assert!(
            answer.starts_with(expected),
            "{answer}\nexpected: {expected}\n{text}"
        );
        assert!(!answer.contains('\n'), "{answer}");
    }
}

#[test]
fn a_verifier_never_stands_in_an_error() {
    let answer = refused("identities:\n  bob: { kind: human, scram: SCRAM-SHA-256$4096:c2VjcmV0 }");
    assert!(!answer.contains("c2VjcmV0"), "{answer}");
}

#[test]
fn names_stand_once_over_all_files() {
    let files = [
        ("b.yaml", "roles: { x: {} }"),
        ("a.yaml", "roles: { x: {} }"),
    ];
    let files = files.map(|(name, text)| (name.to_owned(), text.to_owned()));
    let error = Policy::from_files(&files, 1).unwrap_err();
    assert_eq!(
        error.to_string(),
        "b.yaml:1: role `x` stands in a.yaml:1 already"
    );
}

#[test]
fn every_mask_is_written_as_documented() {
    for rule in [
        "clear",
        "block",
        "hide",
        "{ mask: null }",
        "{ mask: \"null\" }",
        "{ mask: email }",
        "{ mask: hash }",
        "{ mask: redact }",
        "{ mask: constant, value: 0 }",
        "{ mask: constant, value: 0.10 }",
        "{ mask: partial, keep_first: 1, with: \"-\" }",
        "{ mask: date, to: month }",
        "{ mask: number, step: 0.50 }",
        "{ mask: number, bucket: 10 }",
        "{ mask: ip }",
        "{ mask: ip, prefix: 16, prefix6: 32 }",
        "{ mask: sql, expression: \"left({column}, 1) || '…'\" }",
    ] {
        policy(&tag(rule));
    }
}

#[test]
fn what_is_likely_a_mistake_is_a_warning() {
    let text = grant("        tags: { emial: block }");
    assert_eq!(
        policy(&text).warnings,
        ["p.yaml:7: no column of shop carries the tag `emial`; did you mean `email`?"]
    );
    let text = "identities:\n  bob: { kind: human }";
    assert_eq!(
        policy(text).warnings,
        ["p.yaml:2: `bob` has no credential, so nobody can connect as it"]
    );
}

#[test]
fn the_demo_says_who_is_who() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/demo");
    let policy = Policy::load(&directory, 7).unwrap();
    assert_eq!(policy.epoch, 7);
    let trainer = policy.principal("trainer", Method::Scram).unwrap();
    assert_eq!(trainer.kind, Kind::Agent);
    assert_eq!(trainer.owner.as_deref(), Some("analyst"));
    assert!(policy.principal("nobody", Method::Scram).is_none());
}

#[test]
fn every_example_loads_without_a_warning() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies");
    let mut count = 0;
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let policy = Policy::load(&path, 1).unwrap_or_else(|error| panic!("{error}"));
        let mut warnings = policy.warnings;
        warnings.retain(|warning| !warning.ends_with("so nobody can connect as it"));
        assert_eq!(warnings, Vec::<String>::new(), "{}", path.display());
        count += 1;
    }
    assert!(count >= 2);
}

#[test]
fn a_disabled_identity_is_nobody() {
    let policy = policy("identities:\n  bob: { kind: human, disabled: true }");
    assert!(policy.principal("bob", Method::Scram).is_none());
    assert!(policy.verifier("bob").is_none());
}

#[test]
fn a_directory_is_read_whole_or_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    assert!(matches!(
        Policy::load(path, 1),
        Err(PolicyError::Empty { .. })
    ));
    assert!(matches!(
        Policy::load(&path.join("missing"), 1),
        Err(PolicyError::Unreadable { .. })
    ));
    std::fs::write(path.join("a.yaml"), "").unwrap();
    std::fs::write(path.join(".a.yaml.swp"), "rubbish: [").unwrap();
    std::fs::write(path.join("notes.txt"), "rubbish: [").unwrap();
    Policy::load(path, 1).unwrap();
    std::fs::write(path.join("b.yml"), "").unwrap();
    let error = Policy::load(path, 1).unwrap_err().to_string();
    assert_eq!(
        error,
        "b.yml:1: this file would not be read; name it b.yaml"
    );
}

#[test]
fn the_digest_tells_files_apart() {
    let digest = |files: &[(&str, &str)]| {
        let files: Vec<_> = files
            .iter()
            .map(|(name, text)| (name.to_string(), text.to_string()))
            .collect();
        Policy::from_files(&files, 1).unwrap().digest
    };
    let one = digest(&[("a.yaml", "# x"), ("b.yaml", "# y")]);
    assert_eq!(one, digest(&[("b.yaml", "# y"), ("a.yaml", "# x")]));
    assert_ne!(one, digest(&[("a.yaml", "# y"), ("b.yaml", "# x")]));
    assert_eq!(one.len(), 64);
}

#[test]
fn the_schema_knows_every_mask_and_key() {
    let schema = crate::policy::schema().to_string();
    for name in crate::policy::mask::NAMES {
        assert!(schema.contains(&format!("\"const\":\"{name}\"")), "{name}");
    }
    for key in [
        "unclassified",
        "statement_timeout",
        "keep_first",
        "prefix6",
        "owner",
        "disabled",
    ] {
        assert!(schema.contains(&format!("\"{key}\"")), "{key}");
    }
    assert!(schema.contains("\"additionalProperties\":false"));
}
