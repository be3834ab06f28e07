//! Masks: SQL expressions that never raise, never widen, and keep the type.
//!
//! Knows nothing about who asks. What each expression must hold, for every raw
//! value of every type it serves:
//! - **total**: it never raises (an error's text, or its mere absence, would
//!   tell of the raw value), the extremes of its type and 1 GB texts included;
//! - **deterministic**, and independent of settings that a caller may change:
//!   no text form of a date or float, no time zone but UTC, no collation but
//!   the one written;
//! - **closed**: functions `pg_catalog.`-qualified, operators
//!   `OPERATOR(pg_catalog.…)`, constants typed, so that no `search_path` and no
//!   object that a caller creates changes what it means;
//! - NULL stays NULL.
//!
//! A mask that cannot hold this for a type says so, and the column is blocked.

mod address;
mod constant;
mod custom;
mod hash;
mod number;
mod redact;
mod text;
mod time;

use std::sync::Arc;

use super::expression::Expression;
use crate::catalog::{Column, TypeClass};

pub(super) use constant::fits;
pub use hash::{KEY_INNER, KEY_OUTER, key_settings};
pub use number::Step;
pub use time::DatePart;

/// The masks' names, as policy writes them.
pub const NAMES: &[&str] = &[
    "null", "constant", "partial", "email", "hash", "date", "number", "ip", "redact", "sql",
];

/// A mask, as policy configures it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// NULL.
    Null,
    /// One value for every row.
    Constant {
        /// As Postgres reads it for the column's type.
        value: Arc<str>,
    },
    /// First and last characters of a text.
    Partial {
        /// Characters kept at the start.
        keep_first: u16,
        /// Characters kept at the end.
        keep_last: u16,
        /// What stands for the rest, once.
        with: Arc<str>,
    },
    /// An address's first letter and domain.
    Email,
    /// A keyed pseudonym of the column's own type.
    Hash,
    /// A date or time cut down.
    Date {
        /// What is kept.
        to: DatePart,
    },
    /// A multiple instead of a number.
    Number {
        /// Of what.
        step: Step,
        /// The nearest one; otherwise the next one towards zero.
        nearest: bool,
    },
    /// A network instead of an address.
    Ip {
        /// Bits kept of an IPv4 address, at most 32.
        prefix: u8,
        /// Bits kept of an IPv6 address, at most 128.
        prefix6: u8,
    },
    /// A text without the addresses and long numbers in it.
    Redact,
    /// A checked expression over `{column}`.
    Sql {
        /// With [`super::expression::COLUMN`] as its only column.
        expression: Arc<Expression>,
    },
}

impl Mask {
    /// As in policy and record: `email`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Constant { .. } => "constant",
            Self::Partial { .. } => "partial",
            Self::Email => "email",
            Self::Hash => "hash",
            Self::Date { .. } => "date",
            Self::Number { .. } => "number",
            Self::Ip { .. } => "ip",
            Self::Redact => "redact",
            Self::Sql { .. } => "sql",
        }
    }

    /// The expression over a column, to be cast to the column's type by the
    /// scan; `reference` is the quoted column as it is to be written. `None`:
    /// this mask cannot serve a column of this type, which is then blocked.
    pub fn expression(&self, reference: &str, column: &Column) -> Option<String> {
        match self {
            Self::Null => Some(null(reference, column)),
            Self::Constant { value } => constant::expression(reference, column, value),
            Self::Partial {
                keep_first,
                keep_last,
                with,
            } => text::partial(reference, column, *keep_first, *keep_last, with),
            Self::Email => text::email(reference, column),
            Self::Hash => hash::expression(reference, column),
            Self::Date { to } => time::expression(reference, column, *to),
            Self::Number { step, nearest } => number::expression(reference, column, step, *nearest),
            Self::Ip { prefix, prefix6 } => {
                address::expression(reference, column, *prefix, *prefix6)
            }
            Self::Redact => redact::expression(reference, column),
            Self::Sql { expression } => custom::expression(reference, column, expression),
        }
    }

    /// Whether this mask's image can be computed from the other's, for every
    /// value: then it reveals no more.
    pub(super) fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (one, two) if one == two => true,
            (Self::Null, _) => true,
            // NULL stays NULL in both images, and tells nothing else (an expression
            // of policy's own may make other values NULL).
            (Self::Constant { .. }, two) => {
                !matches!(two, Self::Null | Self::Constant { .. } | Self::Sql { .. })
            }
            (Self::Date { to }, Self::Date { to: finer }) => to < finer,
            (
                Self::Ip { prefix, prefix6 },
                Self::Ip {
                    prefix: finer,
                    prefix6: finer6,
                },
            ) => prefix <= finer && prefix6 <= finer6,
            _ => false,
        }
    }
}

/// `CAST(NULL AS …)` of a domain that is NOT NULL would raise, and CASE resolves
/// to the type under a domain; but an array of it keeps it, and an element of no
/// array is NULL, unchecked.
fn null(reference: &str, column: &Column) -> String {
    match column.class {
        TypeClass::Domain => format!("(CASE WHEN false THEN ARRAY[{reference}] END)[1]"),
        _ => format!("CAST(NULL AS {})", column.type_sql),
    }
}

/// A text column (of any length and collation) as `text`, compared and searched
/// by its bytes: a nondeterministic collation refuses patterns, and a
/// locale's idea of letters is not ours to depend on.
fn bytewise(reference: &str) -> String {
    format!("(CAST({reference} AS pg_catalog.text) COLLATE pg_catalog.\"C\")")
}

/// With the column's own collation again, which comparisons outside depend on.
fn collated(expression: &str, column: &Column) -> String {
    let collation = match &column.collation {
        Some(collation) => collation,
        None if &*column.type_sql == "name" => "pg_catalog.\"C\"",
        None => "pg_catalog.\"default\"",
    };
    format!("(({expression}) COLLATE {collation})")
}

/// Beyond this many bytes a text is not searched: Postgres's regular
/// expressions take four bytes a character and fail at 1 GB.
const SEARCHABLE: &str = "CAST(16777216 AS pg_catalog.int4)";

/// A constant of a type. Backslashes are written so that they mean the same
/// whatever `standard_conforming_strings` says.
fn constant(value: &str, type_name: &str) -> String {
    format!(
        "CAST({} AS pg_catalog.{type_name})",
        super::expression::literal(value)
    )
}

fn is_text(class: TypeClass) -> bool {
    matches!(class, TypeClass::Text | TypeClass::Char)
}
