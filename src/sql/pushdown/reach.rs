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
    /// Its alias renames its columns.
    renamed: bool,
}

impl Reach {
    /// Whether a condition may go to that relation; `strict`: NULL does not meet it.
    pub(super) fn goes(&self, site: usize, strict: bool) -> bool {
        let mut places = self.0.iter();
        places.any(|place| place.site == site && (strict || !place.nullable))
    }

    /// The relations whose columns have their own names.
    fn as_named(&self) -> Vec<usize> {
        let named = self.0.iter().filter(|place| !place.renamed);
        named.map(|place| place.site).collect()
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

/// With more joins by USING than this, none is looked at.
const MERGES: usize = 32;

/// The scope of WHERE; those of joins are counted from here.
pub(super) const WHERE: usize = 0;

/// A conjunct of WHERE or of a JOIN … ON.
pub(super) struct Condition<'a> {
    pub(super) node: Node<'a>,
    pub(super) reach: Reach,
    pub(super) scope: usize,
}

/// Columns that USING compares, and shows as one.
pub(super) struct Merge<'a> {
    pub(super) names: Vec<&'a str>,
    /// The relations on each side that have no columns renamed.
    pub(super) left: Vec<usize>,
    pub(super) right: Vec<usize>,
    /// Where the comparison may go, as that of an ON.
    pub(super) reach: Reach,
    pub(super) scope: usize,
}

impl Merge<'_> {
    pub(super) fn has(&self, name: &str) -> bool {
        self.names.contains(&name)
    }
}

/// What a SELECT joins and asks.
#[derive(Default)]
pub(super) struct From<'a> {
    pub(super) conditions: Vec<Condition<'a>>,
    pub(super) merges: Vec<Merge<'a>>,
    scopes: usize,
}

impl<'a> From<'a> {
    pub(super) fn of(select: &'a nodes::SelectStmt) -> Self {
        let mut from = Self::default();
        let mut all = Reach::default();
        for item in select.from_clause() {
            all = all.and(from.joined(item));
        }
        from.split(select.where_clause(), &all, WHERE);
        if from.merges.len() > MERGES {
            from.merges.clear();
        }
        from
    }

    /// The relations that an item of FROM joins. Subqueries, functions and what an
    /// alias over a join hides are nobody's to reach.
    fn joined(&mut self, item: Node<'a>) -> Reach {
        match item {
            Node::RangeVar(relation) => {
                let renamed = relation
                    .alias()
                    .is_some_and(|alias| !alias.colnames().is_empty());
                let site = usize::try_from(relation.location).ok();
                let place = site.map(|site| Place {
                    site,
                    nullable: false,
                    renamed,
                });
                Reach(place.into_iter().collect())
            }
            Node::JoinExpr(join) => self.join(join),
            _ => Reach::default(),
        }
    }

    fn join(&mut self, join: &'a nodes::JoinExpr) -> Reach {
        let left = self.joined(join.larg());
        let right = self.joined(join.rarg());
        self.scopes += 1;
        let scope = self.scopes;
        let names: Vec<&str> = join
            .using_clause()
            .iter()
            .filter_map(|name| name.sval())
            .collect();
        let merges = !names.is_empty() && self.merges.len() <= MERGES;
        let sides = merges.then(|| (left.as_named(), right.as_named()));
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
        self.split(join.quals(), &on, scope);
        if let Some((left, right)) = sides {
            self.merges.push(Merge {
                names,
                left,
                right,
                reach: on,
                scope,
            });
        }
        match join.alias() {
            None => all,
            Some(_) => Reach::default(),
        }
    }

    fn split(&mut self, condition: Node<'a>, reach: &Reach, scope: usize) {
        match condition {
            Node::BoolExpr(all) if all.boolop == nodes::BoolExprType::AND_EXPR => {
                for one in all.args() {
                    self.split(one, reach, scope);
                }
            }
            Node::None => {}
            node => self.conditions.push(Condition {
                node,
                reach: reach.clone(),
                scope,
            }),
        }
    }
}
