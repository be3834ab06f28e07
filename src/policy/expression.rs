//! SQL expressions that policy writes: row filters and `sql` masks.
//!
//! Knows nothing about roles or relations. Postgres's own grammar reads the text;
//! what it read is taken over node by node into `Expr`, where only what is
//! listed exists: columns, constants, comparisons, CASE, and functions that
//! return for every value. What is printed from there holds, whatever the raw
//! values: it never raises, it reads no setting that a caller may change, and
//! every function and operator in it is named with its schema.

mod functions;
mod kind;
mod parse;
mod pattern;

use std::collections::BTreeSet;
use std::sync::Arc;

pub use kind::Kind;

use functions::Function;

/// The column that a mask's expression is over.
pub const COLUMN: &str = "{column}";

/// Why an expression is refused, for the person who wrote it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct ExpressionError(pub String);

/// A checked expression.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Expression {
    root: Expr,
}

/// All that an expression may hold.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Expr {
    Column(Arc<str>),
    Null,
    Bool(bool),
    /// Decimal digits, perhaps with a sign and a point.
    Number(String),
    /// A string whose type its neighbour decides.
    Literal(String),
    /// A constant of a named type.
    Typed(String, &'static functions::ConstantType),
    /// A cast to text.
    Text(Box<Expr>),
    Call(&'static Function, Vec<Expr>),
    Concat(Box<Expr>, Box<Expr>),
    Compare(&'static str, Box<Expr>, Box<Expr>),
    /// LIKE, ILIKE and regular expressions, by their operators, against a
    /// constant pattern.
    Match(&'static str, Box<Expr>, String),
    And(Vec<Expr>),
    Or(Vec<Expr>),
    Not(Box<Expr>),
    /// `IS NULL`, `IS NOT TRUE`, …
    Is(&'static str, Box<Expr>),
    Case(Vec<(Expr, Expr)>, Box<Expr>),
    Coalesce(Vec<Expr>),
}

impl Expression {
    /// An expression over `{column}`.
    ///
    /// # Errors
    /// With what is not served in it.
    pub fn mask(text: &str) -> Result<Self, ExpressionError> {
        let root = parse::parse(&text.replace(COLUMN, "\"{column}\""))?;
        let expression = Self { root };
        match expression.columns().iter().find(|name| &***name != COLUMN) {
            Some(other) => Err(ExpressionError(format!(
                "`{other}`: a mask's expression is over {COLUMN} alone"
            ))),
            None if text.contains("\"{column}\"") || expression.holds_placeholder() => {
                Err(ExpressionError(format!("{COLUMN} stands without quotes")))
            }
            None => Ok(expression),
        }
    }

    /// A condition over a relation's own columns.
    ///
    /// # Errors
    /// With what is not served in it.
    pub fn condition(text: &str) -> Result<Self, ExpressionError> {
        let root = parse::parse(text)?;
        match root {
            Expr::Column(_)
            | Expr::Bool(_)
            | Expr::Compare(..)
            | Expr::Match(..)
            | Expr::And(_)
            | Expr::Or(_)
            | Expr::Not(_)
            | Expr::Is(..)
            | Expr::Case(..)
            | Expr::Coalesce(_) => Ok(Self { root }),
            _ => Err(ExpressionError(
                "a row filter is a condition, such as region = 'EU'".into(),
            )),
        }
    }

    /// The columns it reads.
    pub fn columns(&self) -> BTreeSet<Arc<str>> {
        let mut columns = BTreeSet::new();
        self.root.each(&mut |expr| {
            if let Expr::Column(name) = expr {
                columns.insert(name.clone());
            }
        });
        columns
    }

    fn holds_placeholder(&self) -> bool {
        let mut found = false;
        self.root.each(&mut |expr| {
            if let Expr::Literal(text) | Expr::Typed(text, _) | Expr::Match(_, _, text) = expr {
                found |= text.contains(COLUMN);
            }
        });
        found
    }

    /// As canonical SQL, each column written as the closure writes it.
    pub fn sql(&self, column: &dyn Fn(&str) -> String) -> String {
        self.root.sql(column)
    }

    /// As canonical SQL with quoted column names.
    pub fn canonical(&self) -> String {
        self.sql(&identifier)
    }

    /// Whether every value it can result in is the column itself, NULL, or a
    /// whole number within bounds.
    pub fn results_within(&self, low: i64, high: i64) -> bool {
        self.root.results_within(low, high)
    }
}

impl Expr {
    fn each(&self, visit: &mut impl FnMut(&Self)) {
        visit(self);
        match self {
            Self::Column(_)
            | Self::Null
            | Self::Bool(_)
            | Self::Number(_)
            | Self::Literal(_)
            | Self::Typed(..) => {}
            Self::Text(one) | Self::Not(one) | Self::Is(_, one) | Self::Match(_, one, _) => {
                one.each(visit);
            }
            Self::Concat(one, two) | Self::Compare(_, one, two) => {
                one.each(visit);
                two.each(visit);
            }
            Self::Call(_, all) | Self::And(all) | Self::Or(all) | Self::Coalesce(all) => {
                all.iter().for_each(|one| one.each(visit));
            }
            Self::Case(whens, default) => {
                for (condition, result) in whens {
                    condition.each(visit);
                    result.each(visit);
                }
                default.each(visit);
            }
        }
    }

    fn sql(&self, column: &dyn Fn(&str) -> String) -> String {
        let joined = |all: &[Self], by: &str| {
            let parts: Vec<String> = all.iter().map(|one| one.sql(column)).collect();
            format!("({})", parts.join(by))
        };
        match self {
            Self::Column(name) => column(name),
            Self::Null => "NULL".into(),
            Self::Bool(value) => value.to_string(),
            Self::Number(digits) if digits.starts_with('-') => format!("({digits})"),
            Self::Number(digits) => digits.clone(),
            Self::Literal(text) => literal(text),
            Self::Typed(text, of) => format!("CAST({} AS pg_catalog.{})", literal(text), of.name),
            Self::Text(one) => one.text(column, "\"default\""),
            Self::Call(function, args) => function.sql(args, column),
            Self::Concat(one, two) => default_collation(&format!(
                "({} OPERATOR(pg_catalog.||) {})",
                one.text(column, "\"default\""),
                two.text(column, "\"default\"")
            )),
            Self::Compare(operator, one, two) => format!(
                "({} OPERATOR(pg_catalog.{operator}) {})",
                one.sql(column),
                two.sql(column)
            ),
            Self::Match(operator, one, pattern) => format!(
                "({} OPERATOR(pg_catalog.{operator}) CAST({} AS pg_catalog.text))",
                one.text(column, "\"C\""),
                literal(pattern)
            ),
            Self::And(all) => joined(all, " AND "),
            Self::Or(all) => joined(all, " OR "),
            Self::Not(one) => format!("(NOT {})", one.sql(column)),
            Self::Is(what, one) => format!("({} IS {what})", one.sql(column)),
            Self::Case(whens, default) => {
                let whens: String = whens
                    .iter()
                    .map(|(condition, result)| {
                        format!(
                            " WHEN {} THEN {}",
                            condition.sql(column),
                            result.sql(column)
                        )
                    })
                    .collect();
                format!("(CASE{whens} ELSE {} END)", default.sql(column))
            }
            Self::Coalesce(all) => format!("COALESCE{}", joined(all, ", ")),
        }
    }

    /// As an operand of a text function. A raw value beyond 1 MB counts as NULL:
    /// so nothing made of it reaches the 1 GB at which Postgres raises.
    fn text(&self, column: &dyn Fn(&str) -> String, collation: &str) -> String {
        let text = format!("CAST({} AS pg_catalog.text)", self.sql(column));
        let text = match self {
            Self::Column(_) => format!(
                "CASE WHEN pg_catalog.octet_length({text}) OPERATOR(pg_catalog.>) 1048576 \
                 THEN NULL ELSE {text} END"
            ),
            _ => text,
        };
        format!("(({text}) COLLATE pg_catalog.{collation})")
    }

    fn results_within(&self, low: i64, high: i64) -> bool {
        match self {
            Self::Column(_) | Self::Null => true,
            Self::Number(digits) => digits
                .parse::<i64>()
                .is_ok_and(|number| (low..=high).contains(&number)),
            Self::Case(whens, default) => {
                whens
                    .iter()
                    .all(|(_, result)| result.results_within(low, high))
                    && default.results_within(low, high)
            }
            Self::Coalesce(all) => all.iter().all(|one| one.results_within(low, high)),
            _ => false,
        }
    }
}

/// Operands of one operator must not carry different collations, so whatever
/// was searched by its bytes gets the default one again.
fn default_collation(text: &str) -> String {
    format!("({text} COLLATE pg_catalog.\"default\")")
}

/// A string constant that means the same whatever `standard_conforming_strings`
/// says.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// A name, quoted.
pub(super) fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
