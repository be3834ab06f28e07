//! What one principal may do in one dataset, by one policy.

use super::{Action, Limits, RelationAccess};
use crate::catalog::{Catalog, Relation};

/// A principal's effective rights in one dataset.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    digest: [u8; 32],
}

impl Rights {
    /// Of everything that decides: equal digests, equal answers.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Until when these rights hold without being computed anew (a grant that
    /// begins or ends).
    pub fn valid_until(&self) -> Option<jiff::Timestamp> {
        todo!()
    }

    /// Whether any grant names the dataset at all.
    pub fn is_empty(&self) -> bool {
        todo!()
    }

    /// What may be done with a relation of the dataset (not one of Postgres's own
    /// schemas: those are `sql`'s to govern).
    pub fn access(&self, _relation: &Relation, _catalog: &Catalog) -> RelationAccess {
        todo!()
    }

    /// The rule by which an action that concerns no relation (temp, notify, ddl,
    /// explain) or any relation at all (write) is allowed, if it is.
    pub fn allows(&self, _action: Action) -> Option<std::sync::Arc<str>> {
        todo!()
    }

    /// Whether policy names a function outside pg_catalog as safe to call.
    pub fn trusts_function(&self, _schema: &str, _name: &str) -> bool {
        todo!()
    }

    /// Whether every column of every relation is clear, without a row filter.
    pub fn all_clear(&self) -> bool {
        todo!()
    }

    /// Bounds: the tightest of the grants that apply.
    pub fn limits(&self) -> Limits {
        todo!()
    }
}
