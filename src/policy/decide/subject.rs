//! A relation as policy sees it: its names, and what its columns hold.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Catalog, Oid, Relation, RelationKind};
use crate::policy::model::{Dataset, Table, Tag};
use crate::policy::pattern::Name;

/// The relation that is asked about.
pub(super) struct Subject<'a> {
    pub(super) relation: &'a Relation,
    pub(super) dataset: &'a Dataset,
    /// Its own name and its ancestors'.
    pub(super) names: Vec<Name>,
    /// Names of tables that are gone, and which this one may be.
    pub(super) former: Vec<Name>,
    /// Parallel to the relation's columns: the tags each carries.
    pub(super) tags: Vec<Vec<Tag>>,
    /// Classified columns that the relation does not have.
    pub(super) gone: Vec<Gone>,
    /// Whether an entry names it or an ancestor.
    pub(super) classified: bool,
}

/// A column that the classification names and the relation lacks.
pub(super) struct Gone {
    pub(super) column: String,
    pub(super) tag: Tag,
}

impl<'a> Subject<'a> {
    pub(super) fn new(
        relation: &'a Relation,
        catalog: &Catalog,
        dataset: &'a Dataset,
    ) -> Result<Self, String> {
        let names = lineage(relation, catalog)?;
        let mut entries: Vec<(&Name, &Table)> = names
            .iter()
            .filter_map(|name| dataset.tables.get_key_value(name))
            .collect();
        let classified = !entries.is_empty();
        let mut former = Vec::new();
        if !classified {
            let renamed = formerly(relation, catalog, dataset);
            former = renamed.iter().map(|(name, _)| (*name).clone()).collect();
            entries = renamed;
        }
        let tags = relation
            .columns
            .iter()
            .map(|column| {
                let tags = entries.iter();
                tags.filter_map(|(_, table)| table.columns.get(&column.name).cloned())
                    .collect()
            })
            .collect();
        let mut gone = Vec::new();
        for (name, table) in &entries {
            for (column, tag) in &table.columns {
                if relation.column(column).is_none() {
                    gone.push(Gone {
                        column: format!("{name}.{column}"),
                        tag: tag.clone(),
                    });
                }
            }
        }
        Ok(Self {
            relation,
            dataset,
            names,
            former,
            tags,
            gone,
            classified,
        })
    }

    /// Every name by which row filters may reach it.
    pub(super) fn names_for_rows(&self) -> impl Iterator<Item = &Name> {
        self.names.iter().chain(&self.former)
    }
}

/// The relation's name and those of all ancestors. A parent that the catalog
/// does not hold has a policy that cannot be known.
fn lineage(relation: &Relation, catalog: &Catalog) -> Result<Vec<Name>, String> {
    let of = |relation: &Relation| Name {
        schema: relation.schema.clone(),
        name: relation.name.clone(),
    };
    let mut names = vec![of(relation)];
    let mut seen = BTreeSet::from([relation.oid]);
    let mut waiting: Vec<Oid> = relation.parents.clone();
    while let Some(oid) = waiting.pop() {
        if !seen.insert(oid) {
            continue;
        }
        let Some(parent) = catalog.relations.get(&oid) else {
            return Err(format!(
                "a parent of {} is not in the catalog",
                relation.label()
            ));
        };
        names.push(of(parent));
        waiting.extend(&parent.parents);
    }
    Ok(names)
}

/// Entries of tables that are gone, of which this table has a column.
fn formerly<'a>(
    relation: &Relation,
    catalog: &Catalog,
    dataset: &'a Dataset,
) -> Vec<(&'a Name, &'a Table)> {
    if !matches!(
        relation.kind,
        RelationKind::Table | RelationKind::PartitionedTable
    ) {
        return Vec::new();
    }
    let has = |column: &Arc<str>| relation.column(column).is_some();
    dataset
        .tables
        .iter()
        .filter(|(name, table)| {
            table.columns.keys().any(has) && catalog.relation(&name.schema, &name.name).is_none()
        })
        .collect()
}
