//! What docker/compose.yaml runs is read by nothing else: its configuration and its
//! policy load as they are mounted, and say what the demo says.

#![allow(
    clippy::unwrap_used,
    reason = "a test's helpers are not within a test function, which is all clippy looks at"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use pgveil::config::{Config, SecretRef};
use pgveil::identity::Method;
use pgveil::policy::Policy;

fn docker() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docker")
}

/// Where the container has what: `- ./compose/pgveil.yaml:/etc/pgveil/pgveil.yaml:ro`.
fn mounted(compose: &str) -> BTreeMap<PathBuf, PathBuf> {
    compose
        .lines()
        .filter_map(|line| line.trim().strip_prefix("- "))
        .filter_map(|line| line.strip_suffix(":ro")?.split_once(':'))
        .map(|(from, to)| (PathBuf::from(to), docker().join(from)))
        .collect()
}

#[test]
fn the_compose_file_s_configuration_and_policy_load() {
    let compose = std::fs::read_to_string(docker().join("compose.yaml")).unwrap();
    let mounted = mounted(&compose);
    for file in mounted.values() {
        assert!(file.is_file(), "{} is mounted", file.display());
    }

    let file = Path::new("/etc/pgveil/pgveil.yaml");
    let text = std::fs::read_to_string(&mounted[file]).unwrap();
    let config = Config::parse(&text, file.parent().unwrap()).unwrap();
    for (name, dataset) in &config.datasets {
        let secrets = [&dataset.upstream.password, &dataset.mask_key];
        for secret in secrets.into_iter().flatten() {
            let SecretRef::Env(variable) = secret else {
                panic!("{name}: no file of a secret is mounted");
            };
            assert!(compose.contains(&format!("{variable}: ${{")), "{variable}");
        }
    }
    // The only place in the container that can be written.
    assert!(config.audit.file.starts_with("/var/lib/pgveil"));
    assert!(compose.contains("records:/var/lib/pgveil\n"));

    let policies = tempfile::tempdir().unwrap();
    for (to, from) in &mounted {
        if to.parent() == Some(&config.policies) {
            std::fs::copy(from, policies.path().join(to.file_name().unwrap())).unwrap();
        }
    }
    let policy = Policy::load(policies.path(), 1).unwrap();
    assert!(policy.warnings.is_empty(), "{:?}", policy.warnings);
    let demo = Policy::load(&docker().join("../policies/demo"), 1).unwrap();
    for name in ["analyst", "trainer", "auditor"] {
        let own = policy.principal(name, Method::Scram).unwrap();
        let other = demo.principal(name, Method::Scram).unwrap();
        assert_eq!(own.owner, other.owner, "{name}");
        let now = jiff::Timestamp::UNIX_EPOCH;
        let rights = policy.rights(&own, "shop", now);
        assert!(config.datasets.contains_key("shop"));
        let same = rights.digest() == demo.rights(&other, "shop", now).digest();
        assert!(same, "{name} may do something else than in the demo");
    }
}
