//! Blocked columns: a statement that refers to one is refused, and told what
//! would do.
//!
//! A courtesy, not a lock: a scan holds no value of a blocked column.

use super::reach::Reached;
use crate::policy::Treatment;
use crate::sql::{Context, Denial, Reason, RelationUse, scan, step_up};

/// Refuses a statement that refers to a blocked column, and says what would do.
pub(super) fn refuse(
    reached: &[Reached],
    touched: &[RelationUse],
    context: &Context<'_>,
) -> Result<(), Denial> {
    for one in reached {
        let Some(access) = &one.access else { continue };
        let Some(used) = touched.iter().find(|used| used.oid == one.relation.oid) else {
            continue;
        };
        let columns = || one.relation.columns.iter().zip(&access.columns);
        let is_blocked =
            |(column, access): &(&crate::catalog::Column, &crate::policy::ColumnAccess)| {
                matches!(scan::effective(column, access), Treatment::Block)
            };
        let Some((index, (column, access))) = columns()
            .enumerate()
            .filter(|(_, pair)| is_blocked(pair))
            .find(|(_, (column, _))| used.columns.iter().any(|used| used.column == column.name))
        else {
            continue;
        };
        let rest: Vec<String> = columns()
            .filter(|pair| !is_blocked(pair) && !matches!(pair.1.treatment, Treatment::Hide))
            .map(|(column, _)| column.name.to_string())
            .collect();
        let why = match &access.treatment {
            Treatment::Mask(mask) => format!(
                "its mask `{}` cannot serve the type {}, {}",
                mask.name(),
                column.type_sql,
                access.rule
            ),
            Treatment::Clear | Treatment::Block | Treatment::Hide => access.rule.to_string(),
        };
        return Err(Denial::new(
            Reason::Policy,
            format!(
                "column {} of {} is blocked: {why}",
                column.name,
                one.relation.label()
            ),
        )
        .hint(step_up::hint(
            &one.relation,
            Some(index),
            context,
            match rest.is_empty() {
                true => "no column of this relation is open to your roles".to_owned(),
                false => format!("select {} from {}", rest.join(", "), one.relation.label()),
            },
        ))
        .touching(touched.to_vec()));
    }
    Ok(())
}
