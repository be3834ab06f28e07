//! The types of a statement's parameters.
//!
//! The client gives them in Parse or PREPARE, or leaves them to Postgres, which
//! takes the first use of a parameter for what it is. A copy comes before all
//! other uses, so it may be the first only where all of them say the same:
//! otherwise what the client is told of its parameters, and what it may send for
//! them, would not be what it is without the proxy.

use std::collections::HashMap;

use pg_raw_parse::{Node, nodes};

use super::types::{self, Named};
use super::{Known, operator};
use crate::catalog::{Column, Oid};
use crate::sql::depth;
use crate::sql::step::{Step, wrong};

/// What is known of all of them.
#[derive(Debug, Default)]
pub(super) struct Parameters {
    declared: Vec<Declared>,
    uses: HashMap<i32, Uses>,
    /// Comparisons of dates with timestamps do not raise.
    moments: bool,
}

/// How the client declares a parameter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Declared {
    /// Left to Postgres.
    Left,
    Of(Oid),
    /// By a name that is not a built-in type's.
    Other,
}

/// `unknown`, which leaves it to Postgres as well.
const UNKNOWN: Oid = 705;

#[derive(Debug, Default)]
struct Uses {
    all: usize,
    /// Those that tell a type.
    telling: usize,
    told: Option<Oid>,
    /// Two of them tell different ones.
    torn: bool,
}

impl Parameters {
    pub(super) fn of(statement: Node<'_>, query: Node<'_>, known: &Known<'_>) -> Self {
        let declared = match statement {
            Node::PrepareStmt(prepare) => prepare.argtypes().iter().map(by_name).collect(),
            _ => known.parameters.iter().map(|oid| by_oid(*oid)).collect(),
        };
        let mut parameters = Self {
            declared,
            uses: HashMap::new(),
            moments: known.version >= 130_000,
        };
        // The statement has been walked before, and was not too deep.
        let _ = depth::walk(query, |node| parameters.visit(node, known));
        parameters
    }

    fn visit(&mut self, node: Node<'_>, known: &Known<'_>) {
        match node {
            Node::ParamRef(parameter) => {
                self.uses.entry(parameter.number).or_default().all += 1;
            }
            Node::TypeCast(cast) => {
                let told = types::named(cast.type_name()).map(Named::oid);
                self.tell(cast.arg(), told);
            }
            Node::A_Expr(expression) => self.compare(expression, known),
            _ => {}
        }
    }

    /// What comparisons with a column tell.
    fn compare(&mut self, expression: &nodes::A_Expr, known: &Known<'_>) {
        let (left, right) = (expression.lexpr(), expression.rexpr());
        if operator(expression).is_none() {
            return;
        }
        let Some((_, column)) = known.column(left).or_else(|| known.column(right)) else {
            return;
        };
        match (expression.kind, right) {
            (nodes::A_Expr_Kind::AEXPR_OP, _) => {
                self.tell(left, inferred(column));
                self.tell(right, inferred(column));
            }
            (nodes::A_Expr_Kind::AEXPR_BETWEEN, Node::NodeList(bounds)) => {
                for bound in bounds {
                    self.tell(bound, inferred(column));
                }
            }
            (nodes::A_Expr_Kind::AEXPR_OP_ANY, array) => {
                let of = inferred(column).and_then(types::by_oid);
                self.tell(array, of.map(|of| of.array));
            }
            (nodes::A_Expr_Kind::AEXPR_IN, Node::NodeList(values)) => {
                let bare = |node| matches!(node, Node::ParamRef(_));
                // IN finds one type for all that is in it.
                let told = match values.len() {
                    1 => inferred(column),
                    _ if values.iter().all(bare) => Some(column.type_oid),
                    _ => None,
                };
                for value in values {
                    self.tell(value, told);
                }
            }
            _ => {}
        }
    }

    fn tell(&mut self, node: Node<'_>, told: Option<Oid>) {
        let Node::ParamRef(parameter) = node else {
            return;
        };
        let uses = self.uses.entry(parameter.number).or_default();
        uses.telling += 1;
        uses.torn |= told.is_none() || uses.told.is_some_and(|known| Some(known) != told);
        uses.told = uses.told.or(told);
    }

    fn declared(&self, number: i32) -> Declared {
        let at = usize::try_from(number)
            .ok()
            .and_then(|at| at.checked_sub(1));
        at.and_then(|at| self.declared.get(at))
            .copied()
            .unwrap_or(Declared::Left)
    }

    /// What Postgres will take a parameter for that is left to it.
    fn settled(&self, number: i32) -> Option<Oid> {
        let uses = self.uses.get(&number)?;
        uses.told.filter(|_| !uses.torn && uses.telling == uses.all)
    }

    /// Whether a column can be compared with a parameter, cast or not.
    pub(super) fn scalar(&self, number: i32, cast: Option<Named>, column: &Column) -> bool {
        if cast.is_some_and(|to| to.array || !to.plain || !self.compares(column, to.of.oid)) {
            return false;
        }
        match (self.declared(number), cast) {
            (Declared::Other, _) => false,
            (Declared::Left, None) => {
                self.settled(number).is_some() && self.settled(number) == inferred(column)
            }
            (Declared::Left, Some(to)) => self.settled(number) == Some(to.of.oid),
            (Declared::Of(own), None) => self.compares(column, own),
            (Declared::Of(own), Some(to)) => types::widens(own, to.of.oid),
        }
    }

    /// The same of an array of values.
    pub(super) fn array(&self, number: i32, cast: Option<Named>, column: &Column) -> bool {
        if cast.is_some_and(|to| !to.array || !to.plain || !self.compares(column, to.of.oid)) {
            return false;
        }
        match (self.declared(number), cast) {
            (Declared::Other, _) => false,
            (Declared::Left, None) => {
                let own = inferred(column).and_then(types::by_oid);
                own.is_some() && self.settled(number) == own.map(|own| own.array)
            }
            (Declared::Left, Some(to)) => self.settled(number) == Some(to.of.array),
            (Declared::Of(own), None) => {
                types::element(own).is_some_and(|of| self.compares(column, of.oid))
            }
            (Declared::Of(own), Some(to)) => own == to.of.array,
        }
    }

    /// Whether comparing a column with values of that type cannot raise.
    pub(super) fn compares(&self, column: &Column, with: Oid) -> bool {
        wrong(Step::Conversion)
            || types::compares(column, with) && (self.moments || !types::crosses(column, with))
    }
}

/// What Postgres takes a parameter for that is compared with a column: the type
/// of the operator that it finds for the column.
fn inferred(column: &Column) -> Option<Oid> {
    let own = types::by_oid(column.type_oid).filter(|_| types::comparable(column))?;
    Some(match own.name {
        "varchar" => 25,
        "cidr" => 869,
        _ => own.oid,
    })
}

fn by_oid(oid: Oid) -> Declared {
    match oid {
        0 | UNKNOWN => Declared::Left,
        oid => Declared::Of(oid),
    }
}

fn by_name(name: &nodes::TypeName) -> Declared {
    types::named(Some(name)).map_or(Declared::Other, |named| Declared::Of(named.oid()))
}
