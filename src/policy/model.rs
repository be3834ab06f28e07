//! What the files say, checked: the form in which decisions read it.
//!
//! Everything here is made by `load` and never changes. A `place` is
//! `file:line`, for people.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::expression::Expression;
use super::file::Unclassified;
use super::pattern::{Name, Pattern};
use super::{Action, Limits, Treatment};
use crate::identity::Kind;
use crate::identity::verifier::Verifier;

/// What the columns of a dataset hold.
#[derive(Debug)]
pub(super) struct Dataset {
    pub(super) unclassified: Unclassified,
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
    pub(super) mfa: bool,
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
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) tables: Pattern,
    pub(super) condition: Arc<Expression>,
    pub(super) place: Arc<str>,
}

/// Somebody or something that may connect.
#[derive(Debug)]
pub(super) struct Identity {
    pub(super) kind: Kind,
    pub(super) roles: Vec<Arc<str>>,
    pub(super) owner: Option<Arc<str>>,
    pub(super) verifier: Option<Verifier>,
    pub(super) certificate: Option<Arc<str>>,
    pub(super) disabled: bool,
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
