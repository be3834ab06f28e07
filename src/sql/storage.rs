//! Functions about what one relation stores, which they name by a text: its size, and
//! the upkeep of its indexes.
//!
//! A size tells of every row and column. Invariant: it is told to who sees all of them,
//! and an index is that of its relation; upkeep is for who may write besides.

use crate::catalog::{Relation, RelationKind};
use crate::policy::Action;

use super::{Context, sequences};

/// Tell a size.
const SIZES: &[&str] = &[
    "pg_indexes_size",
    "pg_relation_size",
    "pg_table_size",
    "pg_total_relation_size",
];

/// Bring an index up to date with its table.
const UPKEEP: &[&str] = &[
    "brin_desummarize_range",
    "brin_summarize_new_values",
    "brin_summarize_range",
    "gin_clean_pending_list",
];

/// Whether a function of Postgres's own names a relation by a text.
pub(super) fn concerns(function: &str) -> bool {
    SIZES.contains(&function) || UPKEEP.contains(&function)
}

/// Whether such a function may be called on the relation of that name; none: it is not
/// a constant.
pub(super) fn allows(function: &str, relation: Option<&str>, context: &Context<'_>) -> bool {
    let named = relation.and_then(|text| sequences::named(text, context));
    named
        .and_then(|relation| of(relation, context))
        .is_some_and(|relation| {
            let access = context.rights.access(relation, context.catalog);
            let may = |action| access.actions.contains(&action);
            let is_clear = !relation.is_system() && may(Action::Read) && access.is_clear();
            is_clear && (SIZES.contains(&function) || may(Action::Write))
        })
}

/// The relation whose rows are stored there.
fn of<'c>(relation: &'c Relation, context: &Context<'c>) -> Option<&'c Relation> {
    match relation.kind {
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView => {
            Some(relation)
        }
        RelationKind::Index => {
            let owner = context.catalog.owners.get(&relation.oid)?;
            context.catalog.relations.get(owner).map(AsRef::as_ref)
        }
        RelationKind::View
        | RelationKind::ForeignTable
        | RelationKind::Sequence
        | RelationKind::Toast
        | RelationKind::CompositeType => None,
    }
}
