//! Which relations of a FROM clause a condition may go to.
//!
//! Knows nothing about what a condition says.

use pg_raw_parse::{Node, nodes};

/// The relations that a condition can be about, by the byte of their names.
#[derive(Clone, Debug, Default)]
pub(super) struct Reach(Vec<Place>);

#[derive(Clone, Copy, Debug)]
struct Place {
    site: usize,
    /// A join below the condition can put NULLs in place of its rows.
    nullable: bool,
}

impl Reach {
    /// Whether a condition may go to that relation; `strict`: NULL does not meet it.
    pub(super) fn goes(&self, site: usize, strict: bool) -> bool {
        let mut places = self.0.iter();
        places.any(|place| place.site == site && (strict || !place.nullable))
    }

    fn nullable(mut self) -> Self {
        for place in &mut self.0 {
            place.nullable = true;
        }
        self
    }

    fn and(mut self, other: Self) -> Self {
        self.0.extend(other.0);
        self
    }
}

/// Visits each conjunct of WHERE and of every JOIN … ON, with where it may go.
pub(super) fn conjuncts<'a>(
    select: &'a nodes::SelectStmt,
    visit: &mut dyn FnMut(Node<'a>, &Reach),
) {
    let mut all = Reach::default();
    for item in select.from_clause() {
        all = all.and(joined(item, visit));
    }
    split(select.where_clause(), &mut |condition| {
        visit(condition, &all)
    });
}

/// The relations that an item of FROM joins, once the conditions inside it have
/// been visited. Subqueries, functions and what an alias over a join hides are
/// nobody's to reach.
fn joined<'a>(item: Node<'a>, visit: &mut dyn FnMut(Node<'a>, &Reach)) -> Reach {
    match item {
        Node::RangeVar(relation) => Reach(
            usize::try_from(relation.location)
                .ok()
                .map(|site| Place {
                    site,
                    nullable: false,
                })
                .into_iter()
                .collect(),
        ),
        Node::JoinExpr(join) => {
            let left = joined(join.larg(), visit);
            let right = joined(join.rarg(), visit);
            let (on, all) = match join.jointype {
                nodes::JoinType::JOIN_INNER => {
                    let all = left.and(right);
                    (all.clone(), all)
                }
                nodes::JoinType::JOIN_LEFT => (right.clone(), left.and(right.nullable())),
                nodes::JoinType::JOIN_RIGHT => (left.clone(), left.nullable().and(right)),
                // JOIN_FULL, and what a later grammar adds.
                _ => (Reach::default(), left.and(right).nullable()),
            };
            split(join.quals(), &mut |condition| visit(condition, &on));
            match join.alias() {
                None => all,
                Some(_) => Reach::default(),
            }
        }
        _ => Reach::default(),
    }
}

fn split<'a>(condition: Node<'a>, visit: &mut dyn FnMut(Node<'a>)) {
    match condition {
        Node::BoolExpr(all) if all.boolop == nodes::BoolExprType::AND_EXPR => {
            for one in all.args() {
                split(one, visit);
            }
        }
        Node::None => {}
        one => visit(one),
    }
}
