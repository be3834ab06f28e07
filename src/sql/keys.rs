//! Foreign keys as oracles, and as hands.
//!
//! Whether a write that sets a referencing column succeeds tells whether the row is
//! there that it refers to; whether a row can go, or get another key, tells whether
//! others refer to it; and CASCADE, SET NULL and SET DEFAULT write what the statement
//! does not name. Invariant: a write that a foreign key checks is refused unless its
//! caller sees the key's other side whole, and one that a key carries on to another
//! relation unless the caller may write that.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{ForeignKey, Oid, OnChange, Relation, RelationKind};
use crate::policy::{Action, RelationAccess};

use super::names::lookup;
use super::survey::{Columns, Survey, Written};
use super::{Context, Denial, Reason, temporary, updatable};

/// Whether no foreign key tells anything of a statement's writes.
pub(super) fn allow(found: &Survey, context: &Context<'_>) -> Result<(), Denial> {
    for written in &found.written {
        let mut sites = found.relations.iter();
        let Some(site) = sites.find(|site| site.start == written.start) else {
            continue;
        };
        let (_, schema) = site.qualifier();
        if temporary::lookup(context, schema, &site.name).is_some() {
            continue;
        }
        let path = &context.scope.search_path;
        if let Some(relation) = lookup(context.catalog, path, schema, &site.name) {
            write(relation, written, context)?;
        }
    }
    Ok(())
}

/// The same of one relation that is written.
pub(super) fn write(
    relation: &Relation,
    written: &Written,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let mut spread = Spread {
        context,
        seen: BTreeSet::new(),
    };
    if relation.kind != RelationKind::View {
        return spread.write(relation, written);
    }
    let carried = updatable::carried(written);
    let beneath = updatable::allow(relation, context)?;
    beneath
        .iter()
        .try_for_each(|one| spread.write(one, &carried))
}

/// A write, and what foreign keys carry on from it.
struct Spread<'c> {
    context: &'c Context<'c>,
    /// Relations and what is done to them, so far as it is followed already.
    seen: BTreeSet<(Oid, bool, Vec<Arc<str>>)>,
}

impl Spread<'_> {
    fn write(&mut self, relation: &Relation, written: &Written) -> Result<(), Denial> {
        let family = family(relation, self.context);
        for one in &family {
            for key in self.context.catalog.keys.of(one.oid) {
                let inserts = key.by_default && !matches!(written.inserts, Columns::None);
                let sets = written.inserts.any_of(&key.columns)
                    || written.updates.any_of(&key.columns)
                    || inserts;
                if sets && !family.iter().any(|own| own.oid == key.to) {
                    self.sees(relation, key, key.to, &key.to_columns)?;
                }
            }
            for key in self.context.catalog.keys.to(one.oid) {
                if written.deletes {
                    self.changed(relation, key, key.on_delete, true, &family)?;
                }
                if written.updates.any_of(&key.to_columns) {
                    self.changed(relation, key, key.on_update, false, &family)?;
                }
            }
        }
        Ok(())
    }

    /// What becomes of the rows that refer to one that goes or changes.
    fn changed(
        &mut self,
        relation: &Relation,
        key: &ForeignKey,
        then: OnChange,
        deletes: bool,
        family: &[Arc<Relation>],
    ) -> Result<(), Denial> {
        let own = family.iter().any(|own| own.oid == key.of);
        if then == OnChange::Fail {
            return match own {
                true => Ok(()),
                false => self.sees(relation, key, key.of, &key.columns),
            };
        }
        let Some(of) = self.context.catalog.relations.get(&key.of) else {
            return Ok(());
        };
        let access = self.context.rights.access(of, self.context.catalog);
        if !access.actions.contains(&Action::Write) || !access.is_clear() {
            let (label, other) = (relation.label(), of.label());
            return Err(Denial::new(
                Reason::Policy,
                format!(
                    "no such write of {label}: its foreign key would write {other}: {}",
                    access.rule
                ),
            )
            .hint(format!(
                "write through an identity that may write {other} and sees all of it"
            )));
        }
        let goes = deletes && then == OnChange::Cascade;
        let step = (key.of, goes, key.columns.clone());
        if !self.seen.insert(step) {
            return Ok(());
        }
        let columns = key.columns.iter().map(|column| column.to_string());
        let written = Written {
            start: 0,
            inserts: Columns::None,
            updates: match goes {
                true => Columns::None,
                false => Columns::Some(columns.collect()),
            },
            deletes: goes,
        };
        self.write(&of.clone(), &written)
    }

    /// Whether the caller sees every row of a relation, and these columns in clear.
    fn sees(
        &self,
        relation: &Relation,
        key: &ForeignKey,
        other: Oid,
        columns: &[Arc<str>],
    ) -> Result<(), Denial> {
        let Some(other) = self.context.catalog.relations.get(&other) else {
            return Ok(());
        };
        let access = self.context.rights.access(other, self.context.catalog);
        if is_seen(other, &access, columns) {
            return Ok(());
        }
        let (label, other_label) = (relation.label(), other.label());
        let rule = match &access.filter {
            Some(filter) => &filter.rule,
            None => &access.rule,
        };
        let (what, hint) = match key.to == other.oid {
            true => (
                format!("which rows of {other_label} there are"),
                format!("leave {} out", key.columns.join(", ")),
            ),
            false => (
                format!("which rows of {other_label} refer to it"),
                "leave the row and its key as they are".to_owned(),
            ),
        };
        Err(Denial::new(
            Reason::Policy,
            format!("no such write of {label}: it would tell {what}, and not all of that is seen: {rule}"),
        )
        .hint(format!("{hint}, or write through an identity that sees {other_label} whole")))
    }
}

fn is_seen(relation: &Relation, access: &RelationAccess, columns: &[Arc<str>]) -> bool {
    let clear = |name: &Arc<str>| {
        let mut columns = relation.columns.iter().zip(&access.columns);
        columns.any(|(column, access)| column.name == *name && access.treatment.is_clear())
    };
    access.actions.contains(&Action::Read) && access.filter.is_none() && columns.iter().all(clear)
}

/// A relation with all that is read and written as part of it.
fn family(relation: &Relation, context: &Context<'_>) -> Vec<Arc<Relation>> {
    let all = &context.catalog.relations;
    let mut family: Vec<Arc<Relation>> = all.get(&relation.oid).into_iter().cloned().collect();
    let mut waiting = vec![relation.oid];
    while let Some(parent) = waiting.pop().filter(|_| relation.has_children) {
        for child in all.values().filter(|one| one.parents.contains(&parent)) {
            if !family.iter().any(|known| known.oid == child.oid) {
                waiting.push(child.oid);
                family.push(child.clone());
            }
        }
    }
    // What is told of them does not hang on how they are kept.
    family.sort_by_key(|one| one.oid);
    family
}
