//! The types of a statement's parameters, where they decide whether a condition may
//! stand behind a fence.
//!
//! The client declares them, or leaves one to Postgres, which takes it for what its
//! first use says. Which use is first depends on how Postgres goes through the
//! statement: so such a type is known only where every use says the same.

use std::collections::HashMap;
use std::ops::ControlFlow;

use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, nodes};

use super::Referee;
use super::items::{Item, column_of};
use crate::catalog::{Column, Oid};
use crate::sql::depth::{Ground, TooDeep};
use crate::sql::pushdown::types;

/// `unknown`, which leaves it to Postgres.
const UNKNOWN: Oid = 705;

/// How a parameter is declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Declared {
    /// Left to Postgres.
    Left,
    /// As that.
    Of(Oid),
    /// As a type that is not built in.
    Other,
}

impl Declared {
    pub(super) fn by_oid(oid: Oid) -> Self {
        match oid {
            0 | UNKNOWN => Self::Left,
            oid => Self::Of(oid),
        }
    }

    pub(super) fn by_name(name: &nodes::TypeName) -> Self {
        types::named(Some(name)).map_or(Self::Other, |named| Self::Of(named.oid()))
    }
}

/// What uses say: the type, or `None` where one says none or two differ.
pub(super) type Uses = HashMap<i32, Option<Oid>>;

impl Referee<'_> {
    /// What all uses of each parameter say.
    pub(super) fn uses(&self, root: Node<'_>) -> Option<Uses> {
        let mut walk = Walk {
            referee: self,
            root,
            ground: Ground::here(),
            said: HashMap::new(),
            all: HashMap::new(),
        };
        walk.query(root).ok()?;
        let silent = |number: &i32, said: &Said| walk.all.get(number) != Some(&said.times);
        let uses = walk.said.iter();
        Some(
            uses.map(|(number, said)| (*number, said.of.filter(|_| !silent(number, said))))
                .collect(),
        )
    }
}

#[derive(Default)]
struct Said {
    times: usize,
    of: Option<Oid>,
}

struct Walk<'w, 'r> {
    referee: &'w Referee<'r>,
    root: Node<'w>,
    ground: Ground,
    said: HashMap<i32, Said>,
    /// How often each parameter occurs.
    all: HashMap<i32, usize>,
}

impl Walk<'_, '_> {
    fn query(&mut self, query: Node<'_>) -> Result<(), TooDeep> {
        let items = self.referee.items(query, self.root);
        let stopped = walk_manual(query, |node| {
            if let Err(deep) = self.ground.check() {
                return ControlFlow::Break(deep);
            }
            match node {
                Node::SelectStmt(_)
                | Node::InsertStmt(_)
                | Node::UpdateStmt(_)
                | Node::DeleteStmt(_)
                | Node::MergeStmt(_) => match self.query(node) {
                    Ok(()) => Recurse::no(),
                    Err(deep) => ControlFlow::Break(deep),
                },
                Node::ParamRef(parameter) => {
                    *self.all.entry(parameter.number).or_default() += 1;
                    Recurse::yes()
                }
                Node::TypeCast(cast) => {
                    let named = types::named(cast.type_name());
                    self.say(cast.arg(), named.map(types::Named::oid));
                    Recurse::yes()
                }
                Node::A_Expr(expression) => {
                    self.compared(expression, &items);
                    Recurse::yes()
                }
                _ => Recurse::yes(),
            }
        });
        stopped.map_or(Ok(()), Err)
    }

    fn compared(&mut self, expression: &nodes::A_Expr, items: &[Item<'_>]) {
        use nodes::A_Expr_Kind as Is;
        let mut name = expression.name().iter().rev().map(Node::as_str);
        let is_comparison = matches!(
            name.next(),
            Some(Some("=" | "<" | ">" | "<=" | ">=" | "BETWEEN"))
        ) && matches!(name.next(), None | Some(Some("pg_catalog")));
        let (left, right) = (expression.lexpr(), expression.rexpr());
        let column = column_of(left, items).or_else(|| column_of(right, items));
        let Some(own) = column.filter(|_| is_comparison).and_then(taken_for) else {
            return;
        };
        let bare = |node| matches!(node, Node::ParamRef(_));
        match (expression.kind, right) {
            (Is::AEXPR_OP, _) => {
                self.say(left, Some(own));
                self.say(right, Some(own));
            }
            (Is::AEXPR_BETWEEN, Node::NodeList(bounds)) => {
                bounds.iter().for_each(|bound| self.say(bound, Some(own)));
            }
            (Is::AEXPR_OP_ANY, array) => {
                self.say(array, types::by_oid(own).map(|own| own.array));
            }
            // IN finds one type for all that is in it.
            (Is::AEXPR_IN, Node::NodeList(values)) => {
                let one = match values.len() {
                    1 => Some(own),
                    _ => column
                        .map(|column| column.type_oid)
                        .filter(|_| values.iter().all(bare)),
                };
                values.iter().for_each(|value| self.say(value, one));
            }
            _ => {}
        }
    }

    fn say(&mut self, node: Node<'_>, of: Option<Oid>) {
        let Node::ParamRef(parameter) = node else {
            return;
        };
        let first = Said { times: 0, of };
        let said = self.said.entry(parameter.number).or_insert(first);
        said.times += 1;
        said.of = said.of.filter(|known| Some(*known) == of);
    }
}

/// What Postgres takes for the other side of a comparison with a column: the type
/// of the operator that it finds.
fn taken_for(column: &Column) -> Option<Oid> {
    let own = types::by_oid(column.type_oid)?;
    Some(match own.name {
        "varchar" => 25,
        "cidr" => 869,
        _ => own.oid,
    })
}
