//! Writes to views: what is beneath one is what they change.
//!
//! Postgres carries a write of a simple view on to the table beneath it, and hands that
//! of any other to the view's rules and triggers, which are the administrator's. Knows
//! nothing about the statement. Invariant: a view is written only by who may write each
//! table beneath it and sees all of them in clear.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{Oid, Relation, RelationKind};
use crate::policy::Action;

use super::canonical::{Canonical, query_of};
use super::survey::{self, Columns, Rest, Written};
use super::{Context, Denial, Reason};

/// Views inside views, at most.
const DEPTH: usize = 16;

/// The relations beneath a view, views among them, if it may be written.
pub(super) fn allow(view: &Relation, context: &Context<'_>) -> Result<Vec<Arc<Relation>>, Denial> {
    let mut found = BTreeMap::new();
    gather(view, context, 0, &mut found)?;
    for relation in found.values() {
        allow_one(view, relation, context)?;
    }
    Ok(found.into_values().collect())
}

/// What becomes of the tables beneath where a view is written: which of its columns are
/// theirs is not followed.
pub(super) fn carried(written: &Written) -> Written {
    let all = |columns: &Columns| match columns {
        Columns::None => Columns::None,
        Columns::Some(_) | Columns::All => Columns::All,
    };
    Written {
        start: written.start,
        inserts: all(&written.inserts),
        updates: all(&written.updates),
        deletes: written.deletes,
    }
}

fn allow_one(view: &Relation, relation: &Relation, context: &Context<'_>) -> Result<(), Denial> {
    let refused = |why: String| {
        let label = view.label();
        Err(Denial::new(
            Reason::Policy,
            format!("no write of {label}: beneath it is {why}"),
        )
        .hint("write to the table beneath it, or through an identity that may write and sees all of it"))
    };
    let label = relation.label();
    let is_written = matches!(
        relation.kind,
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::View
    );
    if relation.is_system() || !is_written {
        return refused(format!("{label}, which is not written"));
    }
    let access = context.rights.access(relation, context.catalog);
    match access.actions.contains(&Action::Write) {
        false => refused(format!("{label}: {}", access.rule)),
        true if access.is_clear() => Ok(()),
        true => refused(format!(
            "{label}, of which a column or row is masked for this role"
        )),
    }
}

/// By a walk of the definitions, which are loaded with every name qualified.
fn gather(
    view: &Relation,
    context: &Context<'_>,
    depth: usize,
    found: &mut BTreeMap<Oid, Arc<Relation>>,
) -> Result<(), Denial> {
    let unknown =
        |what: &str| Denial::new(Reason::Unsupported, format!("view {} {what}", view.label()));
    if depth >= DEPTH {
        return Err(unknown("nests too deeply"));
    }
    let definition = view.definition.as_ref();
    let definition = definition.ok_or_else(|| unknown("has no definition"))?;
    let canonical = Canonical::one(definition)?;
    let query = query_of(canonical.node()).ok_or_else(|| unknown("is no query"))?;
    let surveyed = survey::survey(query, &|_| Rest::All)?;
    for site in surveyed.relations.iter().filter(|site| !site.cte) {
        let relation = match site.qualifier().1 {
            Some(schema) => context.catalog.relation(schema, &site.name),
            None => context.catalog.relation("pg_catalog", &site.name),
        };
        let relation = relation.ok_or_else(|| unknown("reads what is not known"))?;
        if found.insert(relation.oid, relation.clone()).is_none()
            && relation.kind == RelationKind::View
        {
            gather(relation, context, depth + 1, found)?;
        }
    }
    Ok(())
}
