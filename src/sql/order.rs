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
//! - By an index on some of the rows, without any condition on its keys, where the
//!   statement or the row filter implies which rows these are; and by one on an
//!   expression, which may be a mask's own. Both are kept from by the same order where the
//!   statement uses, masked or not, or the filter names a column that they are of.
//! - By whatever index the other server of a foreign table likes, which has no table's
//!   order either: these rows are shuffled.
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
/// An order that nothing stored decides, and that no other server can be asked for.
pub(super) const SHUFFLE: &str = "pg_catalog.random()";

/// What a scan must do about the order of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Order {
    /// Nothing.
    Any,
    /// Keep Postgres from reading an index alone.
    Guarded,
    /// Put them into the table's order.
    Heap,
    /// Put them into none.
    Shuffled,
}

/// What a scan must do, where `used` says which columns a condition or an order of the
/// caller's can be about.
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
    let in_filter = |name: &str| {
        let filter = access.filter.as_ref();
        filter.is_some_and(|filter| {
            filter.sql.contains(name) || filter.sql.contains(&name.replace('"', "\"\""))
        })
    };
    let is_unclear = |one: &Option<Arc<str>>| one.as_ref().is_none_or(|name| !is_clear(name));
    let of = |index: &Index| {
        let (keys, of) = match index {
            Index::Remote if access.is_clear() => return Order::Any,
            Index::Remote => return Order::Shuffled,
            Index::Local { keys, of } => (keys, of),
        };
        let is_secret = |key: &Option<Arc<str>>| match (key, of) {
            (Some(name), _) => !is_clear(name),
            // Of a whole row, perhaps.
            (None, Some(of)) if !of.is_empty() => of.iter().any(is_unclear),
            (None, _) => !secrets.is_empty(),
        };
        if !keys.iter().any(is_secret) {
            return Order::Any;
        }
        let by_key = |key: &Option<Arc<str>>| match key {
            Some(name) => in_filter(name) || (is_clear(name) && used(name)),
            None => access.filter.is_some(),
        };
        let by_column = |one: &Option<Arc<str>>| match one {
            Some(name) => in_filter(name) || used(name),
            None => true,
        };
        let beside = of
            .as_ref()
            .is_some_and(|of| of.is_empty() || of.iter().any(by_column));
        match beside || keys.iter().any(by_key) {
            true => Order::Heap,
            false => Order::Guarded,
        }
    };
    let indexes = catalog.indexes.of(relation.oid).iter();
    indexes.map(of).max().unwrap_or(Order::Any)
}
