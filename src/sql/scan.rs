//! The scan: the subquery that stands for a governed relation.
//!
//! Knows nothing about the client's statement. Invariants (DESIGN: scan rules):
//! all columns but hidden ones stay, in attribute order, each of its exact type,
//! typmod and collation; a row filter is fenced by `OFFSET 0`, because an
//! unfenced one is pulled up and the client's own expressions would run on
//! hidden rows first; and behind a fence no output is a plain column, because
//! Postgres plans by the statistics of one, hidden rows' included, and runs the
//! client's operators on them: `LIKE '%x\'` raises there for a value with an x.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Column, Relation, TypeClass};
use crate::policy::{ColumnAccess, RelationAccess, Treatment};

use super::canonical;
use super::names::{qualified, quote};
use super::order::{GUARD, HEAP, Order, SHUFFLE};
use super::step::{Step, wrong};
use super::{Denial, Reason};

/// What a statement asks of one scan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wants<'w> {
    /// `ONLY`: without children.
    pub(super) only: bool,
    /// The statement names `ctid`.
    pub(super) ctid: bool,
    /// `TABLESAMPLE …`, which can follow a relation's name only.
    pub(super) sample: Option<&'w str>,
    /// The order of its rows.
    pub(super) order: Order,
    /// Conditions of the client's that may run inside the fence.
    pub(super) inside: &'w [String],
    /// The columns that the statement uses, if that is certain; of the others only
    /// name and type matter, so their masks are left out.
    pub(super) used: Option<&'w BTreeSet<Arc<str>>>,
}

/// The canonical text of a scan: a SELECT, without parentheses.
pub(super) fn table(
    relation: &Relation,
    access: &RelationAccess,
    wants: Wants,
) -> Result<String, Denial> {
    let mut source = qualified(&relation.schema, &relation.name);
    if wants.only {
        source.insert_str(0, "ONLY ");
    }
    if let Some(sample) = wants.sample {
        source.push(' ');
        source.push_str(sample);
    }
    let filter = access.filter.as_ref().map(|filter| &*filter.sql);
    build(relation, access, &source, filter, wants)
}

/// A scan of a view's (already governed) expansion, under the view's own masks.
pub(super) fn view(
    relation: &Relation,
    access: &RelationAccess,
    expansion: &str,
    wants: Wants<'_>,
) -> Result<String, Denial> {
    let source = format!("({expansion}) AS {}", quote(&relation.name));
    let filter = access.filter.as_ref().map(|filter| &*filter.sql);
    build(relation, access, &source, filter, wants)
}

fn build(
    relation: &Relation,
    access: &RelationAccess,
    source: &str,
    filter: Option<&str>,
    wants: Wants<'_>,
) -> Result<String, Denial> {
    let mut outputs: Vec<String> = relation
        .columns
        .iter()
        .zip(&access.columns)
        .filter_map(|(column, access)| {
            let used = wants.used.is_none_or(|used| used.contains(&*column.name));
            output(column, access, used, filter.is_some())
        })
        .collect();
    if wants.ctid {
        outputs.push("ctid".to_owned());
    }
    if wrong(Step::System) {
        outputs.push("xmin".to_owned());
    }
    if wrong(Step::Order) {
        outputs.reverse();
    }
    let mut text = format!("SELECT {} FROM {source}", outputs.join(", "));
    let filter = filter.filter(|_| !wrong(Step::Filter));
    let mut conditions = Vec::new();
    if let Some(filter) = filter {
        conditions.push(filter);
        conditions.extend(wants.inside.iter().map(String::as_str));
    }
    if wants.order == Order::Guarded && !wrong(Step::Guard) {
        conditions.push(GUARD);
    }
    let mut before = " WHERE ";
    for condition in conditions {
        text.push_str(&format!("{before}({condition})"));
        before = " AND ";
    }
    let hidden = relation.columns.iter().zip(&access.columns);
    let mut hidden = hidden.filter(|(_, access)| !access.treatment.is_clear());
    if let Some((column, _)) = hidden.next().filter(|_| wrong(Step::Sort)) {
        text.push_str(&format!(" ORDER BY {}", quote(&column.name)));
    } else if wants.order == Order::Heap && !wrong(Step::Heap) {
        text.push_str(&format!(" ORDER BY {}", HEAP.join(", ")));
    } else if wants.order == Order::Shuffled && !wrong(Step::Heap) {
        text.push_str(&format!(" ORDER BY {SHUFFLE}"));
    }
    if filter.is_some() && !wrong(Step::Fence) {
        text.push_str(" OFFSET 0");
    }
    // What is sent is in the grammar's own form, whatever it is made of.
    canonical::printed(&text).map_err(|denial| {
        Denial::new(
            Reason::Referee,
            format!(
                "the scan of {} could not be built: {}",
                relation.label(),
                denial.message
            ),
        )
    })
}

/// A column's value by an expression that Postgres cannot see through. Planning
/// may not fold it: `now` is stable, and COALESCE of a column that is never NULL
/// is one that later versions may fold. Both branches are the column, so type,
/// typmod and collation stay.
pub(super) fn opaque(name: &str) -> String {
    format!("CASE WHEN pg_catalog.now() IS NULL THEN {name} ELSE {name} END")
}

/// How a column is really treated: a mask that cannot serve its type blocks it.
pub(super) fn effective(column: &Column, access: &ColumnAccess) -> Treatment {
    match &access.treatment {
        Treatment::Mask(mask) if mask.expression(&quote(&column.name), column).is_none() => {
            Treatment::Block
        }
        other => other.clone(),
    }
}

/// Whether a database made the type.
fn is_of_its_own(column: &Column) -> bool {
    matches!(column.class, TypeClass::Domain | TypeClass::Other)
}

fn output(column: &Column, access: &ColumnAccess, used: bool, fenced: bool) -> Option<String> {
    let name = quote(&column.name);
    let treatment = effective(column, access);
    match treatment {
        Treatment::Hide if wrong(Step::Hide) => Some(name),
        Treatment::Block if wrong(Step::Block) => Some(name),
        Treatment::Mask(mask) if wrong(Step::Mask(mask.name())) => Some(name),
        Treatment::Hide => None,
        Treatment::Clear if fenced && wrong(Step::Opaque) => Some(name),
        Treatment::Clear if !fenced => Some(name),
        Treatment::Clear if used => Some(format!("{} AS {name}", opaque(&name))),
        // Nobody reads it: a reference to a blocked column is refused before this
        // text is sent. That it holds no value even so is what makes the refusal
        // a courtesy and not a lock. A domain's constraint could raise on NULL.
        _ if !used && column.class == TypeClass::Domain => {
            Some(format!("CAST(NULL AS pg_catalog.text) AS {name}"))
        }
        // What its type is cast or checked by may be why it is blocked.
        Treatment::Block if is_of_its_own(column) => {
            Some(format!("CAST(NULL AS pg_catalog.text) AS {name}"))
        }
        Treatment::Clear | Treatment::Block => {
            Some(format!("CAST(NULL AS {}) AS {name}", column.type_sql))
        }
        Treatment::Mask(_) if !used => Some(format!("CAST(NULL AS {}) AS {name}", column.type_sql)),
        Treatment::Mask(mask) => {
            let of = if wrong(Step::Other) {
                "\"ssn\""
            } else {
                &*name
            };
            let masked = mask.expression(of, column)?;
            let collate = column
                .collation
                .as_ref()
                .map_or_else(String::new, |collation| format!(" COLLATE {collation}"));
            Some(format!(
                "CAST({masked} AS {}){collate} AS {name}",
                column.type_sql
            ))
        }
    }
}
