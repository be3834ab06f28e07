//! Foreign keys: what a write of one relation tells of another, or does to it.
//!
//! Knows nothing about who may see what.

use std::collections::HashMap;
use std::sync::Arc;

use super::Oid;

/// What happens to the rows that refer to one which is deleted or gets another key
/// (`pg_constraint.confdeltype`, `confupdtype`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnChange {
    /// NO ACTION, RESTRICT: the change fails.
    Fail,
    /// CASCADE: they go, or follow.
    Cascade,
    /// SET NULL, SET DEFAULT: their columns are set.
    Set,
}

/// A foreign key.
#[derive(Clone, Debug)]
pub struct ForeignKey {
    /// The relation whose rows refer
    pub of: Oid,
    /// Its columns, by name
    pub columns: Vec<Arc<str>>,
    /// Whether one of them gets a value where an INSERT gives none.
    pub by_default: bool,
    /// The relation that is referred to
    pub to: Oid,
    /// Its columns, by name
    pub to_columns: Vec<Arc<str>>,
    /// Where a row that is referred to is deleted
    pub on_delete: OnChange,
    /// Where it gets another key
    pub on_update: OnChange,
}

/// All foreign keys, from either side.
#[derive(Clone, Debug, Default)]
pub struct ForeignKeys {
    of: HashMap<Oid, Vec<Arc<ForeignKey>>>,
    to: HashMap<Oid, Vec<Arc<ForeignKey>>>,
}

impl ForeignKeys {
    /// Adds one.
    pub fn insert(&mut self, key: ForeignKey) {
        let key = Arc::new(key);
        self.of.entry(key.of).or_default().push(key.clone());
        self.to.entry(key.to).or_default().push(key);
    }

    /// Those whose rows are the relation's.
    pub fn of(&self, relation: Oid) -> &[Arc<ForeignKey>] {
        self.of.get(&relation).map_or(&[], Vec::as_slice)
    }

    /// Those that refer to the relation.
    pub fn to(&self, relation: Oid) -> &[Arc<ForeignKey>] {
        self.to.get(&relation).map_or(&[], Vec::as_slice)
    }
}
