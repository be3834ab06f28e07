//! As whom a caller goes upstream: the first user that fits all of their roles, by one that
//! is in force.
//!
//! Knows nothing about what those users may do. Each has a [`Dataset`] of its own, with the
//! catalog as it sees it, so that nothing is decided by what another may use. Invariants: a
//! caller goes as nobody but whom the configuration says for all of their roles, or as the
//! dataset's own user: leaving a role out, or a second factor, makes nobody more; an agent
//! goes as nobody but whom each of the two would go as. Users need not be ordered by power
//! for that: one may do what the next may not.

use std::collections::BTreeSet;
use std::iter::once;
use std::sync::Arc;

use super::Dataset;
use crate::error::{SqlState, Told};
use crate::policy::{Rights, RolesHere};

/// A user of the upstream's beside the dataset's own.
pub struct User {
    /// For callers who have one of these roles,
    pub roles: BTreeSet<String>,
    /// and no other but these; `*` is any.
    pub beside: BTreeSet<String>,
    /// The dataset, as that user.
    pub dataset: Arc<Dataset>,
}

/// Where a user stands: 0 is the dataset's own, who is the least powerful.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Rank(usize);

impl Rank {
    /// The dataset's own user's.
    pub(super) const LEAST: Self = Self(0);
}

impl User {
    fn fits(&self, roles: &RolesHere<'_>) -> bool {
        let beside = |role: &str| self.beside.contains(role) || self.beside.contains("*");
        roles.used.iter().any(|role| self.roles.contains(*role))
            && roles
                .all
                .iter()
                .all(|role| self.roles.contains(*role) || beside(role))
    }
}

impl Dataset {
    /// As whom somebody of these rights goes: the first of the users that fits the roles
    /// that they have here, or else the dataset's own; which is also where an agent and whom
    /// it acts for, each by itself, would not go as the same.
    pub(super) fn rank(&self, rights: &Rights) -> Rank {
        let one = |roles: RolesHere<'_>| {
            let fitting = self.users.iter().position(|user| user.fits(&roles));
            fitting.map_or(Rank::LEAST, |at| Rank(at + 1))
        };
        let agreed = rights
            .roles()
            .map(one)
            .reduce(|one, two| if one == two { one } else { Rank::LEAST });
        agreed.unwrap_or(Rank::LEAST)
    }

    /// The dataset as that user.
    pub(super) fn at(self: &Arc<Self>, rank: Rank) -> &Arc<Self> {
        let user = rank.0.checked_sub(1).and_then(|at| self.users.get(at));
        user.map_or(self, |user| &user.dataset)
    }

    /// The dataset as each of its users, the least powerful first.
    pub fn all(self: &Arc<Self>) -> impl Iterator<Item = &Arc<Self>> {
        once(self).chain(self.users.iter().map(|user| &user.dataset))
    }
}

/// To whom goes as somebody that they would not go as any more.
pub(super) fn another(dataset: &str) -> Told {
    Told::fatal(
        SqlState::INVALID_AUTHORIZATION,
        format!("not the same of your roles count in `{dataset}` as when this session began"),
    )
    .hint("connect again")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Catalog;
    use crate::identity::token::Token;
    use crate::identity::{Method, Principal};
    use crate::policy::Policy;
    use crate::session::Settings;
    use crate::upstream::connect::{Target, TlsMode};

    const POLICY: &str = "datasets: { shop: {}, other: {} }
identities:
  reader: { kind: human, roles: [reads], tokens: true }
  writer: { kind: human, roles: [writes], tokens: true }
  both: { kind: human, roles: [reads, writes], tokens: true }
  admin: { kind: human, roles: [changes], tokens: true }
  admin_too: { kind: human, roles: [reads, changes, writes], tokens: true }
  stranger: { kind: human, roles: [writes, unlisted], tokens: true }
  elsewhere: { kind: human, roles: [writes, else], tokens: true }
  late: { kind: human, roles: [reads, over], tokens: true }
  factor: { kind: human, roles: [reads, second], tokens: true }
  narrowed: { kind: human, roles: [writes, unlisted], tokens: true }
  unproved: { kind: human, roles: [writes, second], tokens: true }
  early: { kind: human, roles: [writes, over], tokens: true }
  staged: { kind: human, roles: [writes, staging], tokens: true }
  other: { kind: human, roles: [fills], tokens: true }
  nobody: { kind: human, roles: [], tokens: true }
roles:
  reads: { grants: [{ dataset: shop, tables: ['*'] }] }
  writes: { grants: [{ dataset: shop, tables: ['*'], actions: [read, write] }] }
  changes: { grants: [{ dataset: shop, tables: ['*'], actions: [read, ddl] }] }
  unlisted: { grants: [{ dataset: shop, tables: [a.b] }] }
  else: { grants: [{ dataset: other, tables: ['*'] }] }
  over: { grants: [{ dataset: shop, tables: ['*'], until: 2020-01-01T00:00:00Z }] }
  staging: { grants: [{ dataset: shop, tables: ['*'], environments: [staging] }] }
  fills: { grants: [{ dataset: shop, tables: ['*'], actions: [read, write] }] }
  second: { grants: [{ dataset: shop, tables: ['*'], require: { mfa: true } }] }
";

    fn dataset(user: &str) -> Dataset {
        let target = Target {
            dataset: "shop".into(),
            host: "localhost".into(),
            port: 5432,
            dbname: "shop".into(),
            user: user.into(),
            password: None,
            tls: TlsMode::Disable,
            ca: None,
            allow_superuser: false,
            timeout: std::time::Duration::from_secs(1),
        };
        Dataset::new(
            "shop".into(),
            Arc::new(target),
            Settings::default(),
            Catalog::default(),
        )
    }

    /// As whom each of the names goes, who act for each other from left to right.
    fn goes(names: &[&str]) -> String {
        let policy = Policy::from_files(&[("p.yaml".into(), POLICY.into())], 1).unwrap();
        let set = |names: &[&str]| names.iter().map(|&name| name.into()).collect();
        let user = |roles: &[&str], beside: &[&str], name: &str| User {
            roles: set(roles),
            beside: set(beside),
            dataset: Arc::new(dataset(name)),
        };
        let mut home = dataset("own");
        home.users = vec![
            user(&["writes"], &["reads"], "rw"),
            user(&["over", "second"], &["reads"], "never"),
            user(&["changes"], &["*"], "ddl"),
            user(&["fills"], &[], "fills"),
        ];
        let home = Arc::new(home);
        let principal = names.iter().rev().fold(None, |human, name| {
            let principal = policy.principal(name, Method::Token).unwrap();
            let token = (*name == "narrowed").then(|| {
                Arc::new(Token {
                    id: "t".into(),
                    expires: jiff::Timestamp::MAX,
                    purpose: None,
                    run: None,
                    issuer: None,
                    amr: BTreeSet::new(),
                    second_factor: None,
                    credential: None,
                    issued: jiff::Timestamp::MIN,
                    key: "k".into(),
                    roles: Some(["writes".into()].into()),
                    dataset: None,
                    groups: BTreeSet::new(),
                })
            });
            Some(Box::new(Principal {
                on_behalf_of: human,
                token,
                ..principal
            }))
        });
        let now = jiff::Timestamp::now();
        let rights = policy.rights(&principal.unwrap(), "shop", now);
        home.at(home.rank(&rights)).target.user.clone()
    }

    #[test]
    fn the_least_powerful_that_fits() {
        for (name, user) in [
            ("reader", "own"),
            ("writer", "rw"),
            ("both", "rw"),
            ("admin", "ddl"),
            ("admin_too", "ddl"),
            // A role that nobody has listed beside makes nobody more.
            ("stranger", "own"),
            // One that gives nothing here does not count,
            ("elsewhere", "rw"),
            // nor one whose time is over, or whose second factor is missing.
            ("late", "own"),
            ("factor", "own"),
            // Nor is anybody more for leaving out a role that is not listed beside, by a
            // token, without its second factor or outside its time,
            ("narrowed", "own"),
            ("unproved", "own"),
            ("early", "own"),
            // but one for another environment is none here.
            ("staged", "rw"),
            ("other", "fills"),
            ("nobody", "own"),
        ] {
            assert_eq!(goes(&[name]), user, "{name}");
        }
    }

    #[test]
    fn an_agent_goes_as_whom_both_would() {
        for (agent, human, user) in [
            ("writer", "reader", "own"),
            ("reader", "writer", "own"),
            ("writer", "both", "rw"),
            // Whom one of the two would not go as is nobody for both.
            ("admin", "writer", "own"),
            ("writer", "admin", "own"),
            ("writer", "other", "own"),
            ("other", "writer", "own"),
            ("admin", "admin_too", "ddl"),
            ("admin", "nobody", "own"),
        ] {
            assert_eq!(goes(&[agent, human]), user, "{agent} for {human}");
        }
    }
}
