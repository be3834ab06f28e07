//! Conditions that may run inside a row filter's fence.
//!
//! The fence keeps the client's expressions off hidden rows, and the index with
//! them. A condition that can neither raise nor call anything of the client's
//! tells nothing of a row: a copy of it goes inside, where Postgres can use the
//! index. The original stays where it was.
//!
//! What is copied, of a conjunct of WHERE or of JOIN … ON (`column` is one that the
//! caller sees in clear, of a relation named in the same SELECT):
//!
//! | the client's | the copy |
//! |---|---|
//! | `column < value`, `value > column`; `=`, `<`, `>`, `<=`, `>=` | `column OPERATOR(pg_catalog.<) (value)` |
//! | `column BETWEEN value AND value` | both comparisons, joined by AND |
//! | `column IN (value, …)` | `column OPERATOR(pg_catalog.=) ANY (ARRAY[value, …])`, or equalities joined by OR |
//! | `column = ANY (array)` | `column OPERATOR(pg_catalog.=) ANY (array)` |
//! | `column IS NULL`, `column IS NOT NULL` | the same |
//!
//! [`value`] says what a value and an array can be, and why comparing them with
//! the column cannot raise. Every operator is named with its schema: one of the
//! client's choosing is never run.
//!
//! Invariant: a copy takes no row away that the statement would have shown. WHERE
//! is asked after all joins, so a condition that NULL does not meet may go to any
//! relation of its FROM: rows that are gone from the nullable side of a join leave
//! NULLs in their place, which the original rejects. `IS NULL` is met by NULL, and
//! goes only where no join puts NULLs ([`reach`]). The condition of an inner join
//! is to what it joins as WHERE is to FROM; that of an outer join only chooses
//! among the rows of its nullable side, and goes only there.

mod parameters;
mod reach;
pub(super) mod types;
mod value;

use std::collections::{BTreeMap, HashMap};

use pg_raw_parse::{Node, nodes};

use crate::catalog::{Column, Oid};

use super::names::quote;
use super::{canonical, depth};
use parameters::Parameters;
use reach::Reach;

/// A column reference that certainly means a column of a relation named in the
/// same SELECT: by the reference's byte, the relation's byte and the column.
pub(super) type Bound = BTreeMap<usize, (usize, String)>;

/// What is known of a statement's columns and parameters.
#[derive(Clone, Copy)]
pub(super) struct Known<'k> {
    pub(super) bound: &'k Bound,
    /// The column of that name, of the relation named at that byte.
    pub(super) column: &'k dyn Fn(usize, &str) -> Option<&'k Column>,
    /// Whether its caller sees it in clear and its relation stands behind a fence.
    pub(super) open: &'k dyn Fn(usize, &str) -> bool,
    /// The types that the client gave its parameters; 0 leaves one to Postgres.
    pub(super) parameters: &'k [Oid],
    /// `server_version_num`
    pub(super) version: u32,
}

impl<'k> Known<'k> {
    /// The relation's byte and the column that a node refers to.
    fn column(&self, node: Node<'_>) -> Option<(usize, &'k Column)> {
        let Node::ColumnRef(reference) = node else {
            return None;
        };
        let (site, name) = self.bound.get(&usize::try_from(reference.location).ok()?)?;
        Some((*site, (self.column)(*site, name)?))
    }
}

/// How many bytes of copies a statement may have: a list can be long, and a scan
/// that is too long is refused.
const COPIES: usize = 256 << 10;

/// The copies that may go inside, by the relation's byte. What the grammar would
/// print as something else is left out, for a scan with it would be refused.
pub(super) fn conditions(
    statement: Node<'_>,
    query: Node<'_>,
    known: &Known<'_>,
) -> HashMap<usize, Vec<String>> {
    let parameters = Parameters::of(statement, query, known);
    let mut found: HashMap<usize, Vec<String>> = HashMap::new();
    let mut left = COPIES;
    let visit = |node: Node<'_>| {
        if let Node::SelectStmt(select) = node {
            reach::conjuncts(select, &mut |condition, reach| {
                if let Some((site, text)) = copy(condition, reach, known, &parameters)
                    && let Some(less) = left.checked_sub(text.len())
                    && canonical::printed(&format!("SELECT WHERE {text}")).is_ok()
                {
                    left = less;
                    found.entry(site).or_default().push(text);
                }
            });
        }
    };
    // The statement has been walked before, and was not too deep.
    let _ = depth::walk(query, visit);
    found
}

fn copy(
    condition: Node<'_>,
    reach: &Reach,
    known: &Known<'_>,
    parameters: &Parameters,
) -> Option<(usize, String)> {
    let open = |node: Node<'_>, strict: bool| {
        let (site, column) = known.column(node)?;
        let goes = reach.goes(site, strict) && (known.open)(site, &column.name);
        goes.then_some((site, column))
    };
    if let Node::NullTest(test) = condition {
        let is_null = test.nulltesttype == nodes::NullTestType::IS_NULL;
        let (site, column) = open(test.arg(), !is_null)?;
        let is = if is_null { "IS NULL" } else { "IS NOT NULL" };
        return Some((site, format!("{} {is}", quote(&column.name))));
    }
    let Node::A_Expr(expression) = condition else {
        return None;
    };
    let operator = operator(expression)?;
    let (left, right) = (expression.lexpr(), expression.rexpr());
    if let Some((site, column)) = open(left, true) {
        return Some((
            site,
            compared(column, operator, expression.kind, right, parameters)?,
        ));
    }
    // The other way round.
    let (site, column) = open(right, true)?;
    let operator = match operator {
        "<" => ">",
        ">" => "<",
        "<=" => ">=",
        ">=" => "<=",
        "=" => "=",
        _ => return None,
    };
    let plain = expression.kind == nodes::A_Expr_Kind::AEXPR_OP;
    let value = plain.then(|| value::scalar(left, column, parameters))??;
    Some((site, comparison(column, operator, &value)))
}

fn compared(
    column: &Column,
    operator: &str,
    kind: nodes::A_Expr_Kind::Type,
    right: Node<'_>,
    parameters: &Parameters,
) -> Option<String> {
    let scalar = |node| value::scalar(node, column, parameters);
    match (kind, operator, right) {
        (nodes::A_Expr_Kind::AEXPR_OP, "BETWEEN", _) => None,
        (nodes::A_Expr_Kind::AEXPR_OP, _, value) => {
            Some(comparison(column, operator, &scalar(value)?))
        }
        (nodes::A_Expr_Kind::AEXPR_BETWEEN, "BETWEEN", Node::NodeList(bounds)) => {
            let (low, high) = (scalar(bounds.get(0)?)?, scalar(bounds.get(1)?)?);
            Some(format!(
                "{} AND {}",
                comparison(column, ">=", &low),
                comparison(column, "<=", &high)
            ))
        }
        (nodes::A_Expr_Kind::AEXPR_IN, "=", Node::NodeList(values)) => {
            if let Some(array) = value::array_of(values, column) {
                return Some(any(column, &array));
            }
            let equals = value::list(values, column, parameters)?
                .iter()
                .map(|value| comparison(column, "=", value))
                .collect::<Vec<_>>();
            Some(equals.join(" OR "))
        }
        (nodes::A_Expr_Kind::AEXPR_OP_ANY, "=", array) => {
            Some(any(column, &value::array(array, column, parameters)?))
        }
        _ => None,
    }
}

fn comparison(column: &Column, operator: &str, value: &str) -> String {
    format!(
        "{} OPERATOR(pg_catalog.{operator}) ({value})",
        quote(&column.name)
    )
}

fn any(column: &Column, array: &str) -> String {
    format!(
        "{} OPERATOR(pg_catalog.=) ANY ({array})",
        quote(&column.name)
    )
}

/// The name of a built-in comparison, as the grammar has it.
fn operator(expression: &nodes::A_Expr) -> Option<&str> {
    let mut name = expression.name().iter().filter_map(Node::as_str);
    match (name.next()?, name.next()) {
        (operator @ ("=" | "<" | ">" | "<=" | ">=" | "BETWEEN"), None) => Some(operator),
        _ => None,
    }
}
