//! Answers one question: what may this principal do with this relation and its
//! columns, and by which rule?
//!
//! Knows nothing about SQL statements, sessions or sockets. A [`Policy`] is an
//! immutable snapshot of one directory with an epoch; [`Rights`] is what one
//! principal may do in one dataset by that snapshot, and it is all that a plan
//! depends on: two principals with equal rights have equal [`Rights::digest`].

mod answerable;
mod bearer;
mod certified;
pub mod decide;
pub mod expression;
mod file;
pub mod load;
pub mod mask;
mod model;
mod pattern;
#[cfg(test)]
mod tests;
mod window;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use decide::{Rights, RolesHere};
pub use file::schema;
pub use load::{Policy, PolicyError};
pub use mask::Mask;

/// What a grant allows to be done with a relation.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Serialize,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// SELECT, COPY TO, cursors.
    Read,
    /// INSERT, UPDATE, DELETE, MERGE, COPY FROM, TRUNCATE, LOCK.
    Write,
    /// EXPLAIN: plans carry estimates of raw data and the masks' text.
    Explain,
    /// Temporary tables.
    Temp,
    /// LISTEN, NOTIFY, UNLISTEN.
    Notify,
    /// CREATE, ALTER, DROP … of lasting objects; only where all is clear.
    Ddl,
}

impl Action {
    /// As written in policy.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Explain => "explain",
            Self::Temp => "temp",
            Self::Notify => "notify",
            Self::Ddl => "ddl",
        }
    }
}

/// How a column is treated for a caller.
#[derive(Clone, Debug)]
pub enum Treatment {
    /// As stored.
    Clear,
    /// Replaced by what the mask's expression makes of it.
    Mask(Arc<Mask>),
    /// A reference to it is refused.
    Block,
    /// It does not exist for this caller.
    Hide,
}

impl Treatment {
    /// As written in policy and record: `clear`, `mask:email`, `block`, `hide`.
    pub fn label(&self) -> String {
        match self {
            Self::Clear => "clear".into(),
            Self::Mask(mask) => format!("mask:{}", mask.name()),
            Self::Block => "block".into(),
            Self::Hide => "hide".into(),
        }
    }

    /// Whether the caller sees the raw value.
    pub fn is_clear(&self) -> bool {
        matches!(self, Self::Clear)
    }
}

/// A column's treatment and the rule that decided it.
#[derive(Clone, Debug)]
pub struct ColumnAccess {
    /// How it is treated.
    pub treatment: Treatment,
    /// What the column holds, if policy classifies it.
    pub tag: Option<Arc<str>>,
    /// For people: `role analyst, tag national_id (roles.yaml:9)`.
    pub rule: Arc<str>,
}

/// A condition on rows, evaluated on raw values behind a fence.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RowFilter {
    /// A boolean SQL expression over the relation's own columns, validated when
    /// the policy was loaded: no subquery, only functions that never raise.
    pub sql: Arc<str>,
    /// For people: `role training (roles.yaml:24)`.
    pub rule: Arc<str>,
}

/// What a caller may do with one relation.
#[derive(Clone, Debug)]
pub struct RelationAccess {
    /// The actions that grants allow; without `read`, reading is refused.
    pub actions: BTreeSet<Action>,
    /// Parallel to [`crate::catalog::Relation::columns`].
    pub columns: Vec<ColumnAccess>,
    /// The row filter, if any (several grants' filters are already combined).
    pub filter: Option<RowFilter>,
    /// The rule that granted, or, where `actions` is empty, why there is none:
    /// `no grant of role analyst names public.secrets`.
    pub rule: Arc<str>,
}

impl RelationAccess {
    /// Whether the caller reads the relation as it is stored, every row and
    /// every column.
    pub fn is_clear(&self) -> bool {
        self.filter.is_none()
            && self
                .columns
                .iter()
                .all(|column| column.treatment.is_clear())
    }
}

/// Bounds on what one statement or session may take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Limits {
    /// Rows that one statement may return.
    pub rows_per_query: Option<u64>,
    /// Milliseconds that one statement may run upstream.
    pub statement_timeout_ms: Option<u64>,
}
