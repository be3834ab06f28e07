//! What a column may be compared with inside the fence.
//!
//! A constant: whatever it is converted to, and whether it can be, is settled
//! while the statement is parsed and planned, before any row is read, and so the
//! same whatever the rows are. It must not have the column converted instead,
//! which [`super::types`] tells.
//!
//! A parameter: the same, if its type is known ([`super::parameters`]); a cast of
//! it happens as the statement runs, if there are rows to run on, and so must not
//! be able to raise.

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{ConstValue, Node, deparse, make, nodes};

use super::parameters::Parameters;
use super::types::{self, Named};
use crate::catalog::{Column, TypeClass};

/// A literal that is not NULL.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Literal {
    /// Without a type: Postgres gives it the column's.
    Text,
    Number,
    Truth,
}

fn literal(node: Node<'_>) -> Option<Literal> {
    let Node::A_Const(value) = node else {
        return None;
    };
    match value.val()? {
        _ if value.isnull => None,
        ConstValue::String(_) => Some(Literal::Text),
        ConstValue::Integer(_) | ConstValue::Float(_) => Some(Literal::Number),
        ConstValue::Boolean(_) => Some(Literal::Truth),
        // Bit strings, and what a later grammar adds.
        _ => None,
    }
}

/// Whether a literal is compared with a column by an operator of the column's
/// class.
fn fits(literal: Literal, column: &Column) -> bool {
    let numeric = matches!(
        column.class,
        TypeClass::Int2
            | TypeClass::Int4
            | TypeClass::Int8
            | TypeClass::Numeric
            | TypeClass::Float4
            | TypeClass::Float8
    );
    match literal {
        Literal::Text => types::comparable(column),
        Literal::Number => numeric,
        Literal::Truth => column.class == TypeClass::Bool,
    }
}

/// Whether a literal's cast to a built-in type is done before any row is read.
fn casts(literal: Literal, to: Named) -> bool {
    match literal {
        Literal::Text => true,
        Literal::Number => matches!(to.of.oid, 20 | 21 | 23 | 700 | 701 | 1700),
        Literal::Truth => to.of.oid == 16,
    }
}

/// The type of a literal with a cast, if the column can be compared with it.
fn typed(node: Node<'_>, column: &Column, parameters: &Parameters) -> Option<Named> {
    let Node::TypeCast(cast) = node else {
        return None;
    };
    let named = types::named(cast.type_name()).filter(|named| !named.array)?;
    let literal = literal(cast.arg())?;
    let harmless = casts(literal, named) && parameters.compares(column, named.of.oid);
    harmless.then_some(named)
}

fn is_constant(node: Node<'_>, column: &Column, parameters: &Parameters) -> bool {
    literal(node).is_some_and(|literal| fits(literal, column))
        || typed(node, column, parameters).is_some()
}

/// A number of a parameter, and the type that it is cast to.
fn parameter(node: Node<'_>) -> Option<(i32, Option<&nodes::TypeName>)> {
    match node {
        Node::ParamRef(parameter) => Some((parameter.number, None)),
        Node::TypeCast(cast) => match (cast.arg(), cast.type_name()) {
            (Node::ParamRef(parameter), Some(name)) => Some((parameter.number, Some(name))),
            _ => None,
        },
        _ => None,
    }
}

fn is_parameter(node: Node<'_>, column: &Column, parameters: &Parameters) -> bool {
    match parameter(node) {
        None => false,
        Some((number, None)) => parameters.scalar(number, None, column),
        Some((number, name)) => {
            types::named(name).is_some_and(|named| parameters.scalar(number, Some(named), column))
        }
    }
}

/// The text of a value that a column can be compared with.
pub(super) fn scalar(node: Node<'_>, column: &Column, parameters: &Parameters) -> Option<String> {
    let harmless = is_constant(node, column, parameters) || is_parameter(node, column, parameters);
    harmless.then(|| print(node))?
}

/// The values of IN (…), one by one.
///
/// IN finds one type for all that is in it. A literal without a type gets that
/// one, and by itself would get the column's: the same where all have none.
pub(super) fn list(
    values: &NodeList,
    column: &Column,
    parameters: &Parameters,
) -> Option<Vec<String>> {
    let text = |node| literal(node) == Some(Literal::Text);
    if values.iter().any(text) && !values.iter().all(text) {
        return None;
    }
    let each = values.iter().map(|node| scalar(node, column, parameters));
    each.collect()
}

/// The constants of IN (…) as an array of the type that IN would find.
pub(super) fn array_of(values: &NodeList, column: &Column) -> Option<String> {
    // Casts to these are not printed as what they are.
    let misprinted = |own: &types::BuiltIn| matches!(own.name, "bool" | "bpchar");
    let own = types::by_oid(column.type_oid).filter(|_| types::comparable(column))?;
    let each: Option<Vec<String>> = if values
        .iter()
        .all(|node| literal(node) == Some(Literal::Text))
        && !misprinted(&own)
    {
        let cast = |node| Some(format!("CAST({} AS pg_catalog.{})", print(node)?, own.name));
        values.iter().map(cast).collect()
    } else if alike(values, column) {
        values.iter().map(print).collect()
    } else {
        None
    };
    Some(format!("ARRAY[{}]", each?.join(", ")))
}

/// Literals with types of their own that an array finds one type for, as IN
/// does, without a double precision that a number might not fit.
fn alike(values: &NodeList, column: &Column) -> bool {
    let exact = matches!(
        column.class,
        TypeClass::Int2 | TypeClass::Int4 | TypeClass::Int8 | TypeClass::Numeric | TypeClass::Bool
    );
    exact
        && values.iter().all(|node| {
            literal(node).is_some_and(|literal| literal != Literal::Text && fits(literal, column))
        })
}

/// The text of an array that `= ANY` can compare a column with.
pub(super) fn array(node: Node<'_>, column: &Column, parameters: &Parameters) -> Option<String> {
    let harmless = match node {
        // Postgres gives it the type of an array of the column's.
        Node::A_Const(_) => literal(node) == Some(Literal::Text) && types::comparable(column),
        // ARRAY of literals without a type is one of text.
        Node::A_ArrayExpr(array) => {
            let texts = matches!(column.type_oid, 25 | 1043)
                && array
                    .elements()
                    .iter()
                    .all(|node| literal(node) == Some(Literal::Text));
            texts || alike(array.elements(), column) || same(array.elements(), column, parameters)
        }
        Node::ParamRef(parameter) => parameters.array(parameter.number, None, column),
        Node::TypeCast(cast) => {
            let named = types::named(cast.type_name()).filter(|named| named.array)?;
            match cast.arg() {
                Node::ParamRef(parameter) => {
                    parameters.array(parameter.number, Some(named), column)
                }
                // The cast is each element's.
                Node::A_ArrayExpr(array) => {
                    parameters.compares(column, named.of.oid)
                        && array
                            .elements()
                            .iter()
                            .all(|node| literal(node).is_some_and(|literal| casts(literal, named)))
                }
                arg => {
                    literal(arg) == Some(Literal::Text) && parameters.compares(column, named.of.oid)
                }
            }
        }
        _ => false,
    };
    harmless.then(|| print(node))?
}

/// Literals that are all cast to one type.
fn same(values: &NodeList, column: &Column, parameters: &Parameters) -> bool {
    let mut types = values
        .iter()
        .map(|node| typed(node, column, parameters).map(Named::oid));
    let first = types.next().flatten();
    first.is_some() && types.all(|one| one == first)
}

/// An expression as the grammar prints it.
fn print(node: Node<'_>) -> Option<String> {
    let statement = make::owned(|memory| {
        let value = memory.make_unique(node);
        let target = memory.make_res_target(None, memory.empty(), value);
        let mut select = memory.make_node::<nodes::SelectStmt>();
        select.as_mut().set_target_list(memory.make_list(&[target]));
        select
    });
    let printed = deparse(&*statement).ok()?;
    let text = printed.as_str().strip_prefix("SELECT ")?;
    Some(text.to_owned())
}
