//! Indexes: orders that a relation's rows can come in.
//!
//! Knows nothing about who may see what.

use std::collections::HashMap;
use std::sync::Arc;

use super::{Oid, Relation};

/// An order that rows can come in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Index {
    /// Of an index that Postgres can read row by row.
    Local {
        /// Its key columns by name; none for an expression
        keys: Vec<Option<Arc<str>>>,
        /// Of one on an expression, or on some of the rows: the columns that its keys
        /// and its condition are of; none for one that is not known
        of: Option<Vec<Option<Arc<str>>>>,
    },
    /// Of whatever holds the rows of a foreign table.
    Remote,
}

/// All of them, by relation.
#[derive(Clone, Debug, Default)]
pub struct Indexes {
    of: HashMap<Oid, Vec<Index>>,
}

impl Indexes {
    /// Adds one.
    pub fn insert(&mut self, relation: Oid, index: Index) {
        let all = self.of.entry(relation).or_default();
        if !all.contains(&index) {
            all.push(index);
        }
    }

    /// Adds those of children to each of their ancestors, which are read by them too.
    pub(super) fn inherit(&mut self, relations: &HashMap<Oid, Arc<Relation>>) {
        for (child, indexes) in self.of.clone() {
            let mut above = vec![child];
            let mut seen = Vec::new();
            while let Some(one) = above.pop() {
                let parents = relations.get(&one).map(|relation| relation.parents.clone());
                for parent in parents.into_iter().flatten() {
                    if !seen.contains(&parent) {
                        seen.push(parent);
                        above.push(parent);
                        indexes
                            .iter()
                            .for_each(|index| self.insert(parent, index.clone()));
                    }
                }
            }
        }
    }

    /// Those that a relation's rows, its children's included, can be read by.
    pub fn of(&self, relation: Oid) -> &[Index] {
        self.of.get(&relation).map_or(&[], Vec::as_slice)
    }
}
