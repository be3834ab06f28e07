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
//!
//! What a condition says of a column it says of one that is equal to it, too: by a
//! conjunct `a.x = b.y` of WHERE, or of the same ON, or by USING. `a` is then looked
//! up by what is known of `b.y`. That is all that a join's key can do behind the
//! fence: to look rows up by what another relation turns out to hold, the scan would
//! have to be LATERAL, which leaves Postgres nothing but a nested loop, however many
//! rows there are on the other side.

mod parameters;
mod reach;
pub(super) mod types;
mod value;

use std::collections::{BTreeMap, HashMap, HashSet};

use pg_raw_parse::{Node, nodes};

use crate::catalog::{Column, Oid};

use super::names::quote;
use super::step::{Step, wrong};
use super::{canonical, depth};
use parameters::Parameters;
use reach::{Condition, From, Reach, WHERE};

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

/// How many equalities of a SELECT are followed.
const EQUALS: usize = 64;

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
    let mut seen = HashSet::new();
    let mut add = |site: usize, text: String| {
        if let Some(less) = left.checked_sub(text.len())
            && seen.insert((site, text.clone()))
            && canonical::printed(&format!("SELECT WHERE {text}")).is_ok()
        {
            left = less;
            found.entry(site).or_default().push(text);
        }
    };
    let visit = |node: Node<'_>| {
        if let Node::SelectStmt(select) = node {
            let from = From::of(select);
            let equal = Equal::all(&from, known);
            for condition in &from.conditions {
                let Some(form) = Form::of(condition.node) else {
                    continue;
                };
                for (site, column) in targets(condition, &form, &from, &equal, known) {
                    if (known.open)(site, &column.name)
                        && let Some(text) = form.of_column(column, &parameters)
                    {
                        add(site, text);
                    }
                }
            }
        }
    };
    // The statement has been walked before, and was not too deep.
    let _ = depth::walk(query, visit);
    found
}

/// The columns that a condition is about: its own, and those that are equal to it
/// wherever it matters.
fn targets<'k>(
    condition: &Condition<'_>,
    form: &Form<'_>,
    from: &From<'_>,
    equal: &[Equal<'_, 'k>],
    known: &Known<'k>,
) -> Vec<(usize, &'k Column)> {
    let strict = !matches!(form.says, Says::IsNull);
    let Some((site, column)) = known.column(form.about) else {
        return match strict {
            true => merged(form.about, condition, from, known),
            false => Vec::new(),
        };
    };
    if !condition.reach.goes(site, strict) {
        return Vec::new();
    }
    let mut all = vec![(site, column)];
    // IS NOT NULL says nothing of what is equal that `=` does not say itself.
    if let Says::Compared { .. } = form.says {
        let about = equal
            .iter()
            .filter(|equal| condition.scope == WHERE || condition.scope == equal.scope);
        all.extend(about.filter_map(|equal| equal.other(site, &column.name)));
    }
    all
}

/// The columns that USING has merged under a bare name, where they are all of one
/// type and known on both sides.
fn merged<'k>(
    node: Node<'_>,
    condition: &Condition<'_>,
    from: &From<'_>,
    known: &Known<'k>,
) -> Vec<(usize, &'k Column)> {
    let Node::ColumnRef(reference) = node else {
        return Vec::new();
    };
    let mut parts = reference.fields().iter().map(Node::as_str);
    let (Some(Some(name)), None) = (parts.next(), parts.next()) else {
        return Vec::new();
    };
    let mut all: Vec<(usize, &Column)> = Vec::new();
    for merge in from.merges.iter().filter(|merge| merge.has(name)) {
        let sides = [&merge.left, &merge.right].map(|sites| named(sites, name, known));
        if sides.iter().any(Vec::is_empty) {
            return Vec::new();
        }
        all.extend(sides.into_iter().flatten());
    }
    let first = all.first().map(|(_, column)| *column);
    let alike = |(_, column): &(usize, &Column)| first.is_some_and(|first| alike(first, column));
    if !all.iter().all(alike) {
        return Vec::new();
    }
    all.retain(|(site, _)| condition.reach.goes(*site, true));
    all
}

fn named<'k>(sites: &[usize], name: &str, known: &Known<'k>) -> Vec<(usize, &'k Column)> {
    let column = |site: &usize| Some((*site, (known.column)(*site, name)?));
    sites.iter().filter_map(column).collect()
}

/// Whether columns that are equal stand for each other in any comparison.
fn alike(one: &Column, other: &Column) -> bool {
    one.type_oid == other.type_oid && one.collation == other.collation && types::comparable(one)
}

/// Two columns that are equal in every row that a condition lets through.
struct Equal<'f, 'k> {
    sides: [(usize, &'k Column); 2],
    reach: &'f Reach,
    scope: usize,
}

impl<'f, 'k> Equal<'f, 'k> {
    /// Those that a SELECT says: by `=`, and by USING.
    fn all(from: &'f From<'_>, known: &Known<'k>) -> Vec<Self> {
        let mut all = Vec::new();
        let mut add = |one: (usize, &'k Column), other: (usize, &'k Column), reach, scope| {
            if all.len() < EQUALS && alike(one.1, other.1) {
                all.push(Self {
                    sides: [one, other],
                    reach,
                    scope,
                });
            }
        };
        for condition in &from.conditions {
            if let Node::A_Expr(expression) = condition.node
                && expression.kind == nodes::A_Expr_Kind::AEXPR_OP
                && operator(expression) == Some("=")
                && let Some(one) = known.column(expression.lexpr())
                && let Some(other) = known.column(expression.rexpr())
            {
                add(one, other, &condition.reach, condition.scope);
            }
        }
        for merge in &from.merges {
            for name in &merge.names {
                let (left, right) = (
                    named(&merge.left, name, known),
                    named(&merge.right, name, known),
                );
                if let ([one], [other]) = (left.as_slice(), right.as_slice()) {
                    add(*one, *other, &merge.reach, merge.scope);
                }
            }
        }
        all
    }

    /// What is equal to that column, if what is said of it may go there.
    fn other(&self, site: usize, name: &str) -> Option<(usize, &'k Column)> {
        let [one, other] = self.sides;
        let is = |(at, column): (usize, &Column)| at == site && *column.name == *name;
        let found = match (is(one), is(other)) {
            (true, false) => other,
            (false, true) => one,
            _ => return None,
        };
        self.reach.goes(found.0, true).then_some(found)
    }
}

/// A condition on one column.
struct Form<'a> {
    about: Node<'a>,
    says: Says<'a>,
}

enum Says<'a> {
    IsNull,
    IsNotNull,
    /// With the column on the left.
    Compared {
        operator: &'a str,
        kind: nodes::A_Expr_Kind::Type,
        with: Node<'a>,
    },
}

impl<'a> Form<'a> {
    fn of(condition: Node<'a>) -> Option<Self> {
        match condition {
            Node::NullTest(test) => Some(Self {
                about: test.arg(),
                says: match test.nulltesttype {
                    nodes::NullTestType::IS_NULL => Says::IsNull,
                    _ => Says::IsNotNull,
                },
            }),
            Node::A_Expr(expression) => {
                let operator = operator(expression)?;
                let (left, right) = (expression.lexpr(), expression.rexpr());
                let kind = expression.kind;
                let flipped = match operator {
                    _ if matches!(left, Node::ColumnRef(_)) => None,
                    _ if kind != nodes::A_Expr_Kind::AEXPR_OP => return None,
                    "<" => Some(">"),
                    ">" => Some("<"),
                    "<=" => Some(">="),
                    ">=" => Some("<="),
                    "=" => Some("="),
                    _ => return None,
                };
                Some(match flipped {
                    None => Self {
                        about: left,
                        says: Says::Compared {
                            operator,
                            kind,
                            with: right,
                        },
                    },
                    Some(operator) => Self {
                        about: right,
                        says: Says::Compared {
                            operator,
                            kind,
                            with: left,
                        },
                    },
                })
            }
            _ => None,
        }
    }

    /// The same of a column by its stored name, if that is harmless.
    fn of_column(&self, column: &Column, parameters: &Parameters) -> Option<String> {
        match self.says {
            Says::IsNull => Some(format!("{} IS NULL", quote(&column.name))),
            Says::IsNotNull => Some(format!("{} IS NOT NULL", quote(&column.name))),
            Says::Compared {
                operator,
                kind,
                with,
            } => compared(column, operator, kind, with, parameters),
        }
    }
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
    if wrong(Step::Inside) {
        return format!(
            "1 OPERATOR(pg_catalog./) {} {operator} {value}",
            quote(&column.name)
        );
    }
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
