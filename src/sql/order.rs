//! In which order the rows of a scan may come.
//!
//! Postgres reads rows in the order of an index where that is cheap: an index that holds
//! a column which the caller does not see in clear ranks all rows by its raw values,
//! whatever a mask shows of them. So no scan may be read by such an index as it is
//! ordered:
//!
//! - By an index alone, without the table, Postgres reads what needs no column beside
//!   the index's. [`GUARD`] needs one that no index has.
//! - By an index for a condition or an order on one of its keys: where the statement or
//!   the row filter can have either, the scan's own rows are put into the order in which
//!   the table has them ([`HEAP`]).
//!
//! A bitmap gives rows in the table's order anyway, which is not a secret. An index on a
//! blocked column alone, the common case, costs a scan no more than the guard.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::catalog::{Catalog, Index, Relation};
use crate::policy::RelationAccess;

/// A condition that is always true, of a column that no index has. The cast hides that
/// from the planner: a condition that it finds always true it drops.
pub(super) const GUARD: &str = "CAST(tableoid AS pg_catalog.int8) IS NOT NULL";
/// The order in which the table has its rows.
pub(super) const HEAP: [&str; 2] = ["tableoid", "ctid"];

/// What a scan must do about the order of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Nothing.
    Any,
    /// Keep Postgres from reading an index alone.
    Guarded,
    /// Put them into the table's order.
    Heap,
}

/// What a scan must do, where `used` says which of the caller's clear columns a
/// condition or an order can be about.
pub(super) fn order(
    relation: &Relation,
    access: &RelationAccess,
    catalog: &Catalog,
    used: impl Fn(&str) -> bool,
) -> Order {
    let accesses = || relation.columns.iter().zip(&access.columns);
    let secrets: BTreeSet<&Arc<str>> = accesses()
        .filter(|(_, access)| !access.treatment.is_clear())
        .map(|(column, _)| &column.name)
        .collect();
    // A child's own columns are not the relation's, and nobody's.
    let is_clear = |key: &Arc<str>| relation.column(key).is_some() && !secrets.contains(key);
    // An expression may be of any columns.
    let is_secret = |key: &Option<Arc<str>>| match key {
        Some(name) => !is_clear(name),
        None => !secrets.is_empty(),
    };
    let in_filter = |key: &Option<Arc<str>>| match (&access.filter, key) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(filter), Some(name)) => filter.sql.contains(&**name),
    };
    let in_statement = |key: &Option<Arc<str>>| match key {
        Some(name) => is_clear(name) && used(name),
        None => false,
    };
    let of = |index: &Index| {
        let keys = &index.keys;
        match keys.iter().any(is_secret) {
            false => Order::Any,
            true if keys.iter().any(|key| in_filter(key) || in_statement(key)) => Order::Heap,
            true => Order::Guarded,
        }
    };
    let indexes = catalog.indexes.of(relation.oid).iter();
    indexes.map(of).max().unwrap_or(Order::Any)
}
