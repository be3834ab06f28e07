//! A mask that policy writes in SQL. The expression was checked when policy was
//! loaded; here it meets a column's type.

use std::sync::Arc;

use super::super::expression::{COLUMN, Expression, Kind};
use super::{collated, is_text};
use crate::catalog::{Column, TypeClass};

/// Serves text, where every operand is text, and integers and `numeric`, where
/// every result is the column itself or a constant that the type holds.
pub(super) fn expression(
    reference: &str,
    column: &Column,
    expression: &Arc<Expression>,
) -> Option<String> {
    let class = |name: &str| (name == COLUMN).then_some(column.class);
    let kind = expression.kind(&class).ok()?;
    let sql = |with: &str| expression.sql(&|_| with.to_owned());
    match column.class {
        class if is_text(class) => {
            matches!(kind, Kind::Text | Kind::Literal | Kind::Null).then(|| {
                collated(
                    &format!(
                        "CASE WHEN {reference} IS NULL THEN NULL \
                         ELSE CAST({} AS pg_catalog.text) END",
                        sql(&format!("CAST({reference} AS pg_catalog.text)"))
                    ),
                    column,
                )
            })
        }
        TypeClass::Int2 | TypeClass::Int4 | TypeClass::Int8 | TypeClass::Numeric => {
            let (low, high) = match column.class {
                TypeClass::Int2 => (i16::MIN.into(), i16::MAX.into()),
                TypeClass::Int4 => (i32::MIN.into(), i32::MAX.into()),
                TypeClass::Int8 => (i64::MIN, i64::MAX),
                // What `numeric(p, s)` holds in whole numbers.
                _ => match super::number::precision_and_scale(column.typmod) {
                    None => (i64::MIN, i64::MAX),
                    Some((precision, scale)) => {
                        let digits = u32::try_from((precision - scale).clamp(0, 18)).ok()?;
                        let high = 10i64.checked_pow(digits)? - 1;
                        (-high, high)
                    }
                },
            };
            (matches!(kind, Kind::Number | Kind::Null) && expression.results_within(low, high))
                .then(|| {
                    format!(
                        "(CASE WHEN {reference} IS NULL THEN NULL ELSE {} END)",
                        sql(reference)
                    )
                })
        }
        _ => None,
    }
}
