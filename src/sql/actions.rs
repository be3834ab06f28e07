//! What grants give by relation beyond reading it: EXPLAIN, and the write that locks
//! of rows take.
//!
//! Knows nothing about the statement. Invariant: the action is granted on every
//! relation that a statement reaches, beneath views too; Postgres's own and temporary
//! tables are nobody's to grant.

use std::sync::Arc;

use crate::catalog::{Oid, Relation};
use crate::policy::Action;

use super::{Context, Denial, Reason};

/// Whether an action may be done with all of these relations.
pub(super) fn allow(
    action: Action,
    relations: impl Iterator<Item = Oid>,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let catalog = context.catalog;
    let mut found = relations.filter_map(|oid| catalog.relations.get(&oid));
    found.try_for_each(|relation| allow_one(action, relation, context))
}

/// Whether it may be done with whatever a statement reads that is not known here.
pub(super) fn allow_any(action: Action, context: &Context<'_>) -> Result<(), Denial> {
    let refused = |relation: &&Arc<Relation>| {
        let access = context.rights.access(relation, context.catalog);
        let reads = access.actions.contains(&Action::Read);
        reads && allow_one(action, relation, context).is_err()
    };
    // Always the same one, whatever else there is.
    let first = context.catalog.relations.values().filter(refused);
    match first.min_by_key(|relation| relation.oid) {
        Some(relation) => allow_one(action, relation, context),
        None => Ok(()),
    }
}

fn allow_one(action: Action, relation: &Relation, context: &Context<'_>) -> Result<(), Denial> {
    if relation.is_system() {
        return Ok(());
    }
    let access = context.rights.access(relation, context.catalog);
    match access.actions.contains(&action) {
        true => Ok(()),
        false => {
            let (name, label) = (action.as_str(), relation.label());
            Err(Denial::new(
                Reason::Policy,
                format!("no {name} of {label}: {}", access.rule),
            )
            .hint(format!("ask for a grant with the action `{name}` on it")))
        }
    }
}
