//! What grants give by relation beyond reading it: EXPLAIN, and the write that locks
//! of rows take.
//!
//! Knows nothing about the statement. Invariant: the action is granted on every
//! relation that a statement reaches, beneath views too; Postgres's own and temporary
//! tables are nobody's to grant.

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
