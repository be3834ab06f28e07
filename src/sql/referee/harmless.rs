//! Whether a condition of the client's may run on rows that a filter hides.
//!
//! Knows nothing about what put it there. A condition may if whatever it answers
//! is no news to its caller and it cannot raise: it compares a column that the
//! caller sees in clear, of a built-in type, with constants or parameters, by an
//! operator of Postgres's own, and no value of the column is converted to a type
//! that it may not fit ([`types`]).

use pg_raw_parse::{ConstValue, Node, nodes};

use crate::catalog::{Column, Oid, TypeClass};
use crate::sql::pushdown::types;

/// What a condition is judged by.
pub(super) struct Known<'k, 'c> {
    /// The column of that name, if the caller sees it in clear.
    pub(super) open: &'k dyn Fn(&str) -> Option<&'c Column>,
    /// The type of that parameter, if it is certain.
    pub(super) parameter: &'k dyn Fn(i32) -> Option<Oid>,
    /// `server_version_num`
    pub(super) version: u32,
}

/// Conditions inside conditions, at most.
const DEPTH: usize = 16;

/// Whether a condition is such.
pub(super) fn harmless(condition: Node<'_>, known: &Known<'_, '_>) -> bool {
    within(condition, known, DEPTH)
}

fn within(condition: Node<'_>, known: &Known<'_, '_>, depth: usize) -> bool {
    match condition {
        // Conditions that cannot raise stay so, joined.
        Node::BoolExpr(all) if all.boolop != nodes::BoolExprType::NOT_EXPR && depth > 0 => {
            all.args().iter().all(|one| within(one, known, depth - 1))
        }
        Node::NullTest(test) => open(test.arg(), known).is_some(),
        Node::A_Expr(expression) => comparison(expression, known),
        _ => false,
    }
}

fn open<'c>(node: Node<'_>, known: &Known<'_, 'c>) -> Option<&'c Column> {
    let Node::ColumnRef(column) = node else {
        return None;
    };
    let mut parts = column.fields().iter().map(Node::as_str);
    match (parts.next(), parts.next()) {
        (Some(Some(name)), None) => (known.open)(name),
        _ => None,
    }
}

fn comparison(expression: &nodes::A_Expr, known: &Known<'_, '_>) -> bool {
    let mut name = expression.name().iter().map(Node::as_str);
    let (Some(Some("pg_catalog")), Some(Some(operator)), None) =
        (name.next(), name.next(), name.next())
    else {
        return false;
    };
    let Some(column) = open(expression.lexpr(), known) else {
        return false;
    };
    let right = expression.rexpr();
    match expression.kind {
        nodes::A_Expr_Kind::AEXPR_OP => {
            matches!(operator, "=" | "<" | ">" | "<=" | ">=") && scalar(right, column, known)
        }
        nodes::A_Expr_Kind::AEXPR_OP_ANY => operator == "=" && array(right, column, known),
        _ => false,
    }
}

/// Whether the column meets values of a type as it is, or as one that holds them all.
fn meets(column: &Column, of: Oid, known: &Known<'_, '_>) -> bool {
    types::compares(column, of) && (known.version >= 130_000 || !types::crosses(column, of))
}

/// A literal takes the column's type, or a number's own, before any row is read.
fn literal(node: Node<'_>, column: &Column) -> bool {
    let is_number = matches!(
        column.class,
        TypeClass::Int2
            | TypeClass::Int4
            | TypeClass::Int8
            | TypeClass::Numeric
            | TypeClass::Float4
            | TypeClass::Float8
    );
    match value(node) {
        Some(ConstValue::String(_)) => types::comparable(column),
        Some(ConstValue::Integer(_) | ConstValue::Float(_)) => is_number,
        Some(ConstValue::Boolean(_)) => column.class == TypeClass::Bool,
        _ => false,
    }
}

fn value(node: Node<'_>) -> Option<ConstValue<'_>> {
    match node {
        Node::A_Const(value) => value.val(),
        _ => None,
    }
}

/// Whether a literal's cast to that type is settled before any row is read.
fn settles(node: Node<'_>, to: Oid) -> bool {
    match value(node) {
        Some(ConstValue::String(_)) => true,
        Some(ConstValue::Integer(_) | ConstValue::Float(_)) => {
            matches!(to, 20 | 21 | 23 | 700 | 701 | 1700)
        }
        Some(ConstValue::Boolean(_)) => to == 16,
        _ => false,
    }
}

fn scalar(node: Node<'_>, column: &Column, known: &Known<'_, '_>) -> bool {
    match node {
        Node::A_Const(_) => literal(node, column),
        Node::ParamRef(parameter) => {
            (known.parameter)(parameter.number).is_some_and(|of| meets(column, of, known))
        }
        Node::TypeCast(cast) => {
            let Some(to) = types::named(cast.type_name()).filter(|to| !to.array) else {
                return false;
            };
            meets(column, to.of.oid, known)
                && match cast.arg() {
                    // A cast of a parameter runs where there are rows.
                    Node::ParamRef(parameter) => (known.parameter)(parameter.number)
                        .is_some_and(|of| to.plain && types::widens(of, to.of.oid)),
                    literal => settles(literal, to.of.oid),
                }
        }
        _ => false,
    }
}

fn array(node: Node<'_>, column: &Column, known: &Known<'_, '_>) -> bool {
    match node {
        Node::A_Const(_) => {
            matches!(value(node), Some(ConstValue::String(_))) && types::comparable(column)
        }
        Node::ParamRef(parameter) => (known.parameter)(parameter.number)
            .and_then(types::element)
            .is_some_and(|of| meets(column, of.oid, known)),
        // Of constants alone: an array finds one type for all, which they take before
        // any row is read.
        Node::A_ArrayExpr(all) => all.elements().iter().all(|one| match one {
            Node::ParamRef(_) => false,
            Node::TypeCast(cast) if matches!(cast.arg(), Node::ParamRef(_)) => false,
            one => scalar(one, column, known),
        }),
        Node::TypeCast(cast) => {
            let Some(to) = types::named(cast.type_name()).filter(|to| to.array) else {
                return false;
            };
            meets(column, to.of.oid, known)
                && match cast.arg() {
                    Node::ParamRef(parameter) => {
                        to.plain && (known.parameter)(parameter.number) == Some(to.of.array)
                    }
                    Node::A_ArrayExpr(all) => {
                        all.elements().iter().all(|one| settles(one, to.of.oid))
                    }
                    text => matches!(value(text), Some(ConstValue::String(_))),
                }
        }
        _ => false,
    }
}
