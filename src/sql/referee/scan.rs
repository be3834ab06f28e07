//! Whether a subquery in FROM is a scan, by policy alone.
//!
//! Knows nothing about what the rewriter did. A scan is exactly this: one relation
//! under its full name (or a view's expansion), its columns in order, each as the
//! caller may have it, the row filter, and behind a filter the fence.

use std::collections::BTreeSet;
use std::sync::Arc;

use pg_raw_parse::list::CastNodeList;
use pg_raw_parse::{ConstValue, Node, nodes};

use super::expected::is_expression;
use super::harmless::{Known, harmless};
use super::same::same;
use super::{Referee, Root};
use crate::catalog::{Column, Relation, RelationKind, TypeClass};
use crate::policy::{Action, ColumnAccess, RelationAccess, Treatment};
use crate::sql::depth;
use crate::sql::names::quote;
use crate::sql::order::{GUARD, HEAP, Order, SHUFFLE, order};
use crate::sql::system;

/// A subquery that is a scan.
pub(super) struct Scan<'n> {
    /// Of what.
    pub(super) oid: crate::catalog::Oid,
    /// What the caller's statement could hold as well, and is judged like it: a
    /// view's expansion.
    pub(super) beneath: Option<Node<'n>>,
}

/// What may stand for a column.
enum Output<'r> {
    /// The column itself.
    Clear(&'r Column),
    /// The column's value, but nothing that Postgres could plan by: behind a fence it
    /// would run the client's operators on the statistics of hidden rows. Or NULL.
    Opaque(&'r Column),
    /// An expression of the proxy's own, under the column's name.
    Fixed(&'r Column, &'static str),
    /// The masked value, or NULL where nobody reads it.
    Masked(&'r Column, Option<String>),
}

impl<'r> Output<'r> {
    fn clear(column: &'r Column, fenced: bool) -> Self {
        match fenced {
            true => Self::Opaque(column),
            false => Self::Clear(column),
        }
    }
}

/// Where a scan reads from.
enum Source<'n> {
    Relation(&'n nodes::RangeVar),
    Sample(&'n nodes::RangeVar),
    View(&'n nodes::RangeSubselect),
}

impl<'a> Referee<'a> {
    /// The scan that a subquery is, if it is one.
    pub(super) fn scan<'n>(
        &self,
        subselect: &'n nodes::RangeSubselect,
        root: &Root<'_>,
    ) -> Option<Scan<'n>> {
        let Node::SelectStmt(select) = subselect.subquery() else {
            return None;
        };
        if !is_plain(select) {
            return None;
        }
        match source(select)? {
            Source::Relation(name) => self.table(select, name, false, root),
            Source::Sample(name) => self.table(select, name, true, root),
            Source::View(view) => self.view(select, view, root),
        }
    }

    fn table<'n>(
        &self,
        select: &'n nodes::SelectStmt,
        name: &nodes::RangeVar,
        sampled: bool,
        root: &Root<'_>,
    ) -> Option<Scan<'n>> {
        let (None, None, Some(schema), Some(own)) = (
            name.catalogname(),
            name.alias(),
            name.schemaname(),
            name.relname(),
        ) else {
            return None;
        };
        let relation = self.context.catalog.relation(schema, own)?;
        let scan = Scan {
            oid: relation.oid,
            beneath: None,
        };
        if relation.is_system() {
            self.values(relation).ok()?;
            let rule = self.catalog_filter(relation)?;
            let columns = relation.columns.iter();
            let outputs = columns.map(|column| match system::blanked(relation, column) {
                Some(with) => Output::Fixed(column, with),
                None => Output::clear(column, rule.is_some()),
            });
            let is = !sampled
                && outputs_are(select.target_list(), outputs, &["tableoid", "ctid"])
                && self.rows(select, rule.as_deref(), &|_| None, root) == Some(Order::Any);
            return is.then_some(scan);
        }
        let access = self.access(relation);
        let is_stored = match relation.kind {
            RelationKind::Table
            | RelationKind::PartitionedTable
            | RelationKind::ForeignTable
            | RelationKind::MaterializedView => true,
            RelationKind::View
            | RelationKind::Sequence
            | RelationKind::Toast
            | RelationKind::CompositeType
            | RelationKind::Index => false,
        };
        // Of what is clear, no scan is needed: its name is judged where it stands.
        let needed = !access.is_clear() || self.is_foreign_row(relation);
        let filter = access.filter.as_ref().map(|filter| &*filter.sql);
        let outputs = relation.columns.iter().zip(&access.columns);
        let is = is_stored
            && needed
            && access.actions.contains(&Action::Read)
            // Which rows are drawn depends on where they lie among the hidden.
            && !(sampled && filter.is_some())
            && outputs_are(
                select.target_list(),
                outputs.filter_map(|(column, own)| output(column, own, filter.is_some())),
                // It tells of the rows that a filter hides.
                if filter.is_some() { &[] } else { &["ctid"] },
            )
            && self
                .rows(select, filter, &|name| open(relation, &access, name), root)
                .is_some_and(|given| given >= self.order(select, relation, &access));
        is.then_some(scan)
    }

    /// A view whose own columns or rows are governed, over its expansion. Its alias
    /// says which view it may be.
    fn view<'n>(
        &self,
        select: &'n nodes::SelectStmt,
        expansion: &'n nodes::RangeSubselect,
        root: &Root<'_>,
    ) -> Option<Scan<'n>> {
        let name = expansion.alias()?.aliasname()?;
        let is = |view: &Relation| {
            let access = self.access(view);
            let filter = access.filter.as_ref().map(|filter| &*filter.sql);
            let outputs = view.columns.iter().zip(&access.columns);
            access.actions.contains(&Action::Read)
                && !expansion.lateral
                && expansion
                    .alias()
                    .is_some_and(|alias| alias.colnames().is_empty())
                && outputs_are(
                    select.target_list(),
                    outputs.filter_map(|(column, own)| output(column, own, filter.is_some())),
                    &[],
                )
                // A view's column is an expression, which a condition could have raise.
                && self.rows(select, filter, &|_| None, root) == Some(Order::Any)
                && self.is_expansion(view, expansion.subquery(), root)
        };
        let view = self.views(name).find(|view| is(view))?;
        Some(Scan {
            oid: view.oid,
            beneath: Some(expansion.subquery()),
        })
    }

    /// The governed views of that name, in any schema.
    pub(super) fn views(&self, name: &str) -> impl Iterator<Item = &'a Arc<Relation>> {
        let catalog = self.context.catalog;
        let named = catalog.names.values().filter_map(|names| names.get(name));
        named
            .filter_map(|oid| catalog.relations.get(oid))
            .filter(|view| {
                let is_view = view.kind == RelationKind::View && !view.is_system();
                is_view && !self.access(view).is_clear()
            })
    }

    /// What the scan does about its rows' order, if they are those of the filter, and no
    /// condition runs beside it that could tell of the others; behind a filter stands the
    /// fence.
    fn rows(
        &self,
        select: &nodes::SelectStmt,
        filter: Option<&str>,
        open: &dyn Fn(&str) -> Option<&'a Column>,
        root: &Root<'_>,
    ) -> Option<Order> {
        let given = sorted(select)?;
        let mut found = conjuncts(select.where_clause());
        let guarded = found.pop_if(|last| is_guard(*last)).is_some();
        let given = given.max(if guarded { Order::Guarded } else { Order::Any });
        let offset = select.limit_offset();
        let Some(filter) = filter else {
            let is_all = found.is_empty() && matches!(offset, Node::None);
            return is_all.then_some(given);
        };
        let is_fence = matches!(
            offset,
            Node::A_Const(count) if matches!(count.val(), Some(ConstValue::Integer(0)))
        );
        let known = Known {
            open,
            parameter: &|number| self.parameter(number, root),
            version: self.context.catalog.version,
        };
        let is = is_fence
            && is_expression(filter, |expected| {
                let expected = conjuncts(expected);
                let mut both = expected.iter().zip(&found);
                found.len() >= expected.len()
                    && both.all(|(one, other)| same(*one, *other))
                    && found
                        .iter()
                        .skip(expected.len())
                        .all(|one| harmless(*one, &known))
            });
        is.then_some(given)
    }

    /// What a scan must do about its rows' order at the least: the client's conditions
    /// are seen here where they are copied inside the fence, not where they stand around
    /// a scan that has none.
    fn order(
        &self,
        select: &nodes::SelectStmt,
        relation: &Relation,
        access: &RelationAccess,
    ) -> Order {
        let mut named = BTreeSet::new();
        // Too deep for a scan to have: everything, then.
        let all = access.filter.is_some()
            && depth::walk(select.where_clause(), |node| {
                if let Node::ColumnRef(column) = node {
                    named.extend(column.fields().iter().filter_map(Node::as_str));
                }
            })
            .is_err();
        order(relation, access, self.context.catalog, |name| {
            all || named.contains(name)
        })
    }
}

/// What order the rows are put into; none where into another.
fn sorted(select: &nodes::SelectStmt) -> Option<Order> {
    let mut given = select.sort_clause().iter();
    let is_plain = |sort: &nodes::SortBy| {
        sort.sortby_dir == nodes::SortByDir::SORTBY_DEFAULT
            && sort.sortby_nulls == nodes::SortByNulls::SORTBY_NULLS_DEFAULT
            && sort.use_op().is_empty()
    };
    let is_shuffle =
        |sort: &nodes::SortBy| is_expression(SHUFFLE, |expected| same(expected, sort.node()));
    match given.len() {
        0 => Some(Order::Any),
        1 => {
            let only = given.next()?;
            (is_plain(only) && is_shuffle(only)).then_some(Order::Shuffled)
        }
        len => {
            let mut both = given.zip(HEAP);
            let all = both.all(|(sort, name)| is_plain(sort) && is_column(sort.node(), name));
            (all && len == HEAP.len()).then_some(Order::Heap)
        }
    }
}

fn is_guard(condition: Node<'_>) -> bool {
    is_expression(GUARD, |expected| same(expected, condition))
}

/// Whether the targets are these outputs, in order, and after them at most the
/// system columns named.
fn outputs_are<'r>(
    targets: &CastNodeList<nodes::ResTarget>,
    outputs: impl Iterator<Item = Output<'r>>,
    system: &[&str],
) -> bool {
    let mut targets = targets.iter();
    for output in outputs {
        if !targets
            .next()
            .is_some_and(|target| is_output(target, &output))
        {
            return false;
        }
    }
    targets.all(|target| {
        target.name().is_none()
            && system.iter().any(|name| is_column(target.val(), name))
            && target.indirection().is_empty()
    })
}

/// `SELECT … FROM one [WHERE …] [OFFSET …]`, and nothing else.
fn is_plain(select: &nodes::SelectStmt) -> bool {
    select.op == nodes::SetOperation::SETOP_NONE
        && select.larg().is_none()
        && select.rarg().is_none()
        && select.with_clause().is_none()
        && select.into_clause().is_none()
        && select.distinct_clause().is_empty()
        && select.group_clause().is_empty()
        && !select.group_distinct
        && matches!(select.having_clause(), Node::None)
        && select.window_clause().is_empty()
        && select.values_lists().is_empty()
        && select.locking_clause().is_empty()
        && matches!(select.limit_count(), Node::None)
}

fn source(select: &nodes::SelectStmt) -> Option<Source<'_>> {
    let mut from = select.from_clause().iter();
    let (Some(one), None) = (from.next(), from.next()) else {
        return None;
    };
    match one {
        Node::RangeVar(name) => Some(Source::Relation(name)),
        Node::RangeSubselect(view) => Some(Source::View(view)),
        Node::RangeTableSample(sample) => {
            let constant = |node: Node<'_>| matches!(node, Node::A_Const(_) | Node::ParamRef(_));
            let mut method = sample.method().iter().map(Node::as_str);
            let repeatable = sample.repeatable();
            let is_known = matches!(
                (method.next(), method.next()),
                (
                    Some(Some("system" | "bernoulli" | "system_rows" | "system_time")),
                    None
                )
            ) && sample.args().iter().all(constant)
                && (matches!(repeatable, Node::None) || constant(repeatable));
            match sample.relation() {
                Node::RangeVar(name) if is_known => Some(Source::Sample(name)),
                _ => None,
            }
        }
        _ => None,
    }
}

/// A column that the caller sees in clear, and that reading cannot raise.
fn open<'r>(relation: &'r Relation, access: &RelationAccess, name: &str) -> Option<&'r Column> {
    let mut columns = relation.columns.iter().zip(&access.columns);
    columns
        .find(|(column, own)| &*column.name == name && own.treatment.is_clear())
        .map(|(column, _)| column)
        .filter(|column| !column.computed)
}

fn output<'r>(column: &'r Column, access: &ColumnAccess, fenced: bool) -> Option<Output<'r>> {
    match &access.treatment {
        Treatment::Clear => Some(Output::clear(column, fenced)),
        Treatment::Hide => None,
        Treatment::Block => Some(Output::Masked(column, None)),
        Treatment::Mask(mask) => {
            let masked = mask.expression(&quote(&column.name), column);
            Some(Output::Masked(column, masked))
        }
    }
}

fn is_output(target: &nodes::ResTarget, output: &Output<'_>) -> bool {
    let value = target.val();
    let named = |column: &Column| target.name() == Some(&*column.name);
    let is = |text: &str| is_expression(text, |expected| same(expected, value));
    target.indirection().is_empty()
        && match output {
            Output::Clear(column) => target.name().is_none() && is_column(value, &column.name),
            Output::Opaque(column) => {
                let own = quote(&column.name);
                let opaque =
                    format!("CASE WHEN pg_catalog.now() IS NULL THEN {own} ELSE {own} END");
                named(column) && (is_null(value, column) || is(&opaque))
            }
            Output::Fixed(column, with) => named(column) && is(with),
            Output::Masked(column, masked) => {
                let masks = || {
                    let masked = masked.as_ref()?;
                    let collate = column
                        .collation
                        .as_ref()
                        .map_or_else(String::new, |collation| format!(" COLLATE {collation}"));
                    Some(is(&format!(
                        "CAST({masked} AS {}){collate}",
                        column.type_sql
                    )))
                };
                named(column) && (is_null(value, column) || masks().unwrap_or(false))
            }
        }
}

fn is_column(node: Node<'_>, name: &str) -> bool {
    let Node::ColumnRef(column) = node else {
        return false;
    };
    let mut parts = column.fields().iter();
    matches!((parts.next(), parts.next()), (Some(Node::String(part)), None) if part.sval() == Some(name))
}

/// NULL of the column's type; what a database has made of a type could raise, so of
/// text there.
fn is_null(value: Node<'_>, column: &Column) -> bool {
    let Node::TypeCast(cast) = value else {
        return false;
    };
    let is_null = matches!(cast.arg(), Node::A_Const(constant) if constant.isnull);
    let of = |name: &str| is_expression(&format!("CAST(NULL AS {name})"), |null| same(null, value));
    let is_of_its_own = matches!(column.class, TypeClass::Domain | TypeClass::Other);
    is_null && (of(&column.type_sql) || is_of_its_own && of("pg_catalog.text"))
}

/// What AND joins, however it is grouped, in order.
fn conjuncts(condition: Node<'_>) -> Vec<Node<'_>> {
    let mut found = Vec::new();
    // Not by recursion: how deep it goes is not known yet.
    let mut waiting = vec![condition];
    while let Some(one) = waiting.pop() {
        match one {
            Node::None => {}
            Node::BoolExpr(all) if all.boolop == nodes::BoolExprType::AND_EXPR => {
                waiting.extend(all.args().iter().rev());
            }
            one => found.push(one),
        }
    }
    found
}
