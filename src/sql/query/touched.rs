//! What a statement touches, for the record.
//!
//! Knows nothing about the statement but what was read of it. Invariant: where it
//! could not be read, everything that exists for the caller counts.

use super::reach::Reached;
use crate::policy::Treatment;
use crate::sql::resolve::Reading;
use crate::sql::{ColumnUse, RelationUse, scan};

pub(super) fn touched(reached: &[Reached], reading: Option<&Reading>) -> Vec<RelationUse> {
    let mut all: Vec<RelationUse> = Vec::new();
    for one in reached {
        let used = reading.map(|reading| reading.uses.get(&one.site.start));
        let columns = one
            .relation
            .columns
            .iter()
            .zip(one.access.iter().flat_map(|access| &access.columns))
            .filter(|(column, access)| match used {
                Some(Some(names)) => names.contains(&*column.name),
                Some(None) => false,
                // Not read: whatever exists for the caller may have been used.
                None => !matches!(access.treatment, Treatment::Hide),
            })
            .map(|(column, access)| ColumnUse {
                column: column.name.clone(),
                treatment: scan::effective(column, access).label().into(),
                tag: access.tag.clone(),
                rule: access.rule.clone(),
            })
            .collect();
        let filter = one
            .access
            .as_ref()
            .and_then(|access| access.filter.as_ref());
        all.push(RelationUse {
            relation: one.relation.label().into(),
            columns,
            rule: one.access.as_ref().map(|access| access.rule.clone()),
            row_filter: filter.map(|filter| filter.rule.clone()),
            oid: one.relation.oid,
        });
        all.extend(one.beneath.iter().cloned());
    }
    merge(all)
}

/// One entry a relation.
fn merge(all: Vec<RelationUse>) -> Vec<RelationUse> {
    let mut merged: Vec<RelationUse> = Vec::new();
    for one in all {
        match merged
            .iter_mut()
            .find(|known| known.relation == one.relation)
        {
            None => merged.push(one),
            Some(known) => {
                for column in one.columns {
                    if !known.columns.contains(&column) {
                        known.columns.push(column);
                    }
                }
            }
        }
    }
    merged
}
