//! What the files say, checked: the form in which decisions read it.
//!
//! Everything here is made by `load` and never changes. A `place` is
//! `file:line`, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::answerable::Answerable;
use super::expression::Expression;
use super::file::Unclassified;
use super::pattern::{Name, Pattern};
use super::window::Window;
use super::{Action, Limits, Treatment};
use crate::identity::totp::Sealed;
use crate::identity::verifier::Verifier;
use crate::identity::{Kind, certificate};

/// What the columns of a dataset hold.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) unclassified: Unclassified,
    pub(super) isolated: bool,
    pub(super) agents: Option<Answerable>,
    pub(super) tables: BTreeMap<Name, Table>,
    pub(super) functions: Vec<Pattern>,
    pub(super) place: Arc<str>,
}

impl Dataset {
    /// Every tag that some column carries.
    pub(super) fn tags(&self) -> BTreeSet<&Arc<str>> {
        self.tables
            .values()
            .flat_map(|table| table.columns.values().map(|tag| &tag.name))
            .collect()
    }
}

/// What the columns of a relation hold.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) columns: BTreeMap<Arc<str>, Tag>,
}

/// What a column holds, and where that is said.
#[derive(Clone, Debug)]
pub(super) struct Tag {
    pub(super) name: Arc<str>,
    pub(super) place: Arc<str>,
}

/// A grant of a role.
#[derive(Debug)]
pub(super) struct Grant {
    pub(super) role: Arc<str>,
    pub(super) place: Arc<str>,
    pub(super) dataset: Arc<str>,
    pub(super) tables: Vec<Pattern>,
    pub(super) actions: BTreeSet<Action>,
    pub(super) tags: BTreeMap<Arc<str>, TagTreatment>,
    /// `"*"`
    pub(super) other_tags: Option<TagTreatment>,
    pub(super) rows: Vec<Rows>,
    pub(super) limits: Limits,
    pub(super) from: Option<jiff::Timestamp>,
    pub(super) until: Option<jiff::Timestamp>,
    /// Empty: at any hour.
    pub(super) hours: Vec<Window>,
    /// `None`: in any.
    pub(super) environments: Option<BTreeSet<Arc<str>>>,
    pub(super) factor: Option<Factor>,
    /// Of every dataset, where this one is isolated: it gives nothing here.
    pub(super) apart: bool,
}

/// A second factor that is wanted.
#[derive(Clone, Copy, Debug)]
pub(super) struct Factor {
    /// How long ago at most it was proved.
    pub(super) max_age: Option<jiff::SignedDuration>,
}

impl Factor {
    /// Until when one that was proved then will do; `None`: as long as the session lasts.
    pub(super) fn lasts(self, proved: jiff::Timestamp) -> Option<jiff::Timestamp> {
        let max_age = self.max_age?;
        // Before the end of time, at any rate.
        Some(proved.checked_add(max_age).unwrap_or(proved))
    }
}

impl Grant {
    /// Whether it names one of a relation's names.
    pub(super) fn names(&self, names: &[Name]) -> bool {
        self.tables
            .iter()
            .any(|pattern| names.iter().any(|n| pattern.matches(&n.schema, &n.name)))
    }

    /// What it says of a tag; `None`: nothing.
    pub(super) fn of(&self, tag: &str) -> Option<&TagTreatment> {
        self.tags.get(tag).or(self.other_tags.as_ref())
    }

    /// Whether it is for datasets of that environment.
    pub(super) fn is_for(&self, environment: Option<&str>) -> bool {
        let environments = self.environments.as_ref();
        environments.is_none_or(|all| environment.is_some_and(|one| all.contains(one)))
    }

    /// Why it is not in force then and there, if it is not; and when that changes next.
    pub(super) fn dormant(
        &self,
        now: jiff::Timestamp,
        environment: Option<&str>,
    ) -> (Option<String>, Option<jiff::Timestamp>) {
        if let Some(environments) = &self.environments
            && !self.is_for(environment)
        {
            let all: Vec<&str> = environments.iter().map(|one| &**one).collect();
            return (Some(format!("in force in {} alone", all.join(", "))), None);
        }
        let turns = self.from.into_iter().chain(self.until);
        let mut next = turns.filter(|turn| *turn > now).min();
        let mut open = self.hours.is_empty();
        for window in &self.hours {
            let (is_open, turn) = window.at(now);
            open |= is_open;
            next = next.into_iter().chain(turn).min();
        }
        let why = if self.from.is_some_and(|from| now < from) {
            Some("not in force yet".to_owned())
        } else if let Some(until) = self.until.filter(|until| now >= *until) {
            Some(format!("not in force (until {until})"))
        } else if open {
            None
        } else {
            let hours: Vec<String> = self.hours.iter().map(ToString::to_string).collect();
            Some(format!("not in force now (in force {})", hours.join(", ")))
        };
        (why, next)
    }

    /// `role training (roles.yaml:24)`
    pub(super) fn rule(&self) -> String {
        format!("role {} ({})", self.role, self.place)
    }
}

/// How a grant treats a tag, and where it says so.
#[derive(Clone, Debug)]
pub(super) struct TagTreatment {
    pub(super) treatment: Treatment,
    pub(super) place: Arc<str>,
}

/// A grant's condition on the rows of some relations.
#[derive(Clone, Debug)]
pub(super) struct Rows {
    pub(super) tables: Pattern,
    pub(super) condition: Arc<Expression>,
    pub(super) place: Arc<str>,
}

/// Somebody or something that may connect.
#[derive(Clone, Debug)]
pub(super) struct Identity {
    pub(super) kind: Kind,
    pub(super) roles: Vec<Arc<str>>,
    pub(super) owner: Option<Arc<str>>,
    pub(super) verifier: Option<Verifier>,
    pub(super) tokens: bool,
    pub(super) totp: Option<Sealed>,
    /// `None`: any.
    pub(super) may_act: Option<BTreeSet<Arc<str>>>,
    pub(super) certificate: Option<certificate::Name>,
    pub(super) clientcert: Option<certificate::Template>,
    pub(super) disabled: bool,
}

/// What those are whom certificates name and policy lists nowhere.
#[derive(Clone, Debug)]
pub(super) struct Certified {
    pub(super) names: certificate::Pattern,
    pub(super) kind: Kind,
    pub(super) roles: Vec<Arc<str>>,
    pub(super) owner: Option<Arc<str>>,
}

/// A value with the digest of all it says, places included (they are part of
/// what a record shows).
#[derive(Debug)]
pub(super) struct Digested<T> {
    pub(super) value: T,
    pub(super) digest: [u8; 32],
}

impl<T: std::fmt::Debug> Digested<T> {
    /// The types above hold ordered collections alone, so their debug form is one
    /// and the same for equal values.
    pub(super) fn new(value: T) -> Arc<Self> {
        let digest = ring::digest::digest(&ring::digest::SHA256, format!("{value:?}").as_bytes());
        let mut bytes = [0; 32];
        bytes
            .iter_mut()
            .zip(digest.as_ref())
            .for_each(|(to, from)| *to = *from);
        Arc::new(Self {
            value,
            digest: bytes,
        })
    }
}

impl<T> std::ops::Deref for Digested<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}
