//! Which stored column each output of a query is, as Postgres says it in a
//! RowDescription.
//!
//! A mask is an expression, and an expression has no table. What the caller asked
//! for is a column all the same, and drivers look up by its table and number what
//! they show of it. Nothing rests on this but what they show: it is told apart from
//! what a result holds, after that has been checked.
//!
//! Postgres's rules (`markTargetListOrigin`): a column of a relation or a view is
//! its own; one of a subquery or a common table expression is what that outputs;
//! the merged column of USING is that of the left, or of a right join's right; of
//! everything else nothing is said. Here nothing is said in some more cases: where
//! a name could mean a column that is not known.

use std::cell::Cell;
use std::sync::Arc;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use super::canonical::ONLY_MARK;
use super::depth::Ground;
use super::pushdown::types;
use crate::catalog::{Column, Oid};

/// A relation's OID and a column's number there.
pub type Origin = (Oid, i16);

/// The columns of a relation that this caller can name, and its OID, by the byte
/// of its name; none where they are not known.
pub(super) type Source<'s> = &'s dyn Fn(usize) -> Option<(Oid, Vec<&'s Column>)>;

/// How deep queries may nest in each other before nothing is said.
const DEPTH: usize = 32;
/// How many columns may be looked at: `*` of a join of what is `*` of a join has any
/// number of them in a line each.
const COLUMNS: usize = 1 << 18;

/// Those of a result's columns, in order; none where nothing is said.
pub type Origins = [Option<Origin>];

/// The origins of a query's outputs; `None` where it cannot be told how many there
/// are.
pub(super) fn of(query: Node<'_>, source: Source<'_>) -> Option<Vec<Option<Origin>>> {
    let reader = Reader {
        source,
        left: Cell::new(COLUMNS),
        ground: Ground::here(),
    };
    let outputs = reader.query(query, &Scope::default())?;
    let origins = outputs.into_iter().map(|output| output.stored);
    Some(origins.map(|stored| stored.map(|it| it.origin)).collect())
}

/// A column that can be named or selected.
#[derive(Clone, Debug)]
struct Output {
    /// None where Postgres would make one up.
    name: Option<Arc<str>>,
    stored: Option<Stored>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Stored {
    origin: Origin,
    kind: (Oid, i32),
}

/// Common table expressions that can be seen, the innermost last.
#[derive(Clone, Default)]
struct Scope {
    tables: Vec<(String, Option<Vec<Output>>)>,
    depth: usize,
}

/// An item of FROM, or all of them.
#[derive(Clone, Default)]
struct Item {
    /// What a bare name can mean and `*` stands for; `None`: that is not known.
    columns: Option<Vec<Output>>,
    /// What can be named with a name in front.
    ranges: Vec<Range>,
}

#[derive(Clone)]
struct Range {
    schema: Option<String>,
    name: String,
    columns: Option<Vec<Output>>,
}

struct Reader<'s> {
    source: Source<'s>,
    /// Columns that may still be looked at.
    left: Cell<usize>,
    ground: Ground,
}

impl Reader<'_> {
    /// Whether so many more columns may be looked at.
    fn spend(&self, columns: usize) -> Option<()> {
        self.left.set(self.left.get().checked_sub(columns)?);
        Some(())
    }

    fn query(&self, query: Node<'_>, scope: &Scope) -> Option<Vec<Output>> {
        let Node::SelectStmt(select) = query else {
            return None;
        };
        if scope.depth == DEPTH {
            return None;
        }
        let seen =
            |(_, outputs): &(String, Option<Vec<Output>>)| 1 + outputs.as_ref().map_or(0, Vec::len);
        self.spend(scope.tables.iter().map(seen).sum())?;
        let mut scope = scope.clone();
        scope.depth += 1;
        if let Some(with) = select.with_clause() {
            self.declare(with, &mut scope);
        }
        self.select(select, &scope)
    }

    fn declare(&self, with: &nodes::WithClause, scope: &mut Scope) {
        let name = |cte: &nodes::CommonTableExpr| cte.ctename().unwrap_or_default().to_owned();
        if with.recursive {
            // Itself, or one further down.
            scope
                .tables
                .extend(with.ctes().iter().map(|cte| (name(cte), None)));
        }
        for cte in with.ctes() {
            let outputs = self.query(cte.ctequery(), scope);
            let outputs = outputs.map(|outputs| renamed(outputs, cte.aliascolnames()));
            scope.tables.push((name(cte), outputs));
        }
    }

    fn select(&self, select: &nodes::SelectStmt, scope: &Scope) -> Option<Vec<Output>> {
        if select.op != nodes::SetOperation::SETOP_NONE {
            // The names of the first, and no origins.
            let mut outputs = self.query(Node::SelectStmt(select.larg()?), scope)?;
            outputs.iter_mut().for_each(|output| output.stored = None);
            return Some(outputs);
        }
        if let Some(Node::NodeList(row)) = select.values_lists().iter().next() {
            let output = |at| Output {
                name: Some(format!("column{at}").into()),
                stored: None,
            };
            return Some((1..=row.len()).map(output).collect());
        }
        let from = select
            .from_clause()
            .iter()
            .map(|item| self.item(item, scope))
            .reduce(beside)
            .unwrap_or_else(|| Item {
                columns: Some(Vec::new()),
                ranges: Vec::new(),
            });
        let all = |columns: &Option<Vec<Output>>| 1 + columns.as_ref().map_or(0, Vec::len);
        let ranges = from.ranges.iter().map(|range| all(&range.columns));
        let named = ranges.sum::<usize>() + all(&from.columns);
        let mut outputs = Vec::new();
        for target in select.target_list() {
            self.spend(named)?;
            match target.val() {
                Node::ColumnRef(reference) => {
                    let parts: Vec<Node<'_>> = reference.fields().iter().collect();
                    match parts.split_last()? {
                        (Node::A_Star(_), []) => outputs.extend(from.columns.clone()?),
                        (Node::A_Star(_), name) => {
                            outputs.extend(range(&from, name)?.columns.clone()?);
                        }
                        (last, name) => outputs.push(Output {
                            name: target.name().or(last.as_str()).map(Arc::from),
                            stored: column(&from, name, last.as_str()?),
                        }),
                    }
                }
                Node::A_Indirection(path)
                    if path
                        .indirection()
                        .iter()
                        .any(|it| matches!(it, Node::A_Star(_))) =>
                {
                    return None;
                }
                // To its own type, which is no cast.
                Node::TypeCast(cast) if let Node::ColumnRef(reference) = cast.arg() => {
                    let parts: Vec<Node<'_>> = reference.fields().iter().collect();
                    let stored = parts
                        .split_last()
                        .and_then(|(last, name)| column(&from, name, last.as_str()?));
                    let to = types::named(cast.type_name()).filter(|to| to.plain);
                    outputs.push(Output {
                        name: target.name().map(Arc::from),
                        stored: stored.filter(|it| to.map(|to| (to.oid(), -1)) == Some(it.kind)),
                    });
                }
                _ => outputs.push(Output {
                    name: target.name().map(Arc::from),
                    stored: None,
                }),
            }
        }
        Some(outputs)
    }

    fn item(&self, item: Node<'_>, scope: &Scope) -> Item {
        if self.ground.check().is_err() {
            return Item::default();
        }
        match item {
            Node::RangeVar(relation) => self.relation(relation, scope),
            Node::RangeTableSample(sample) => self.item(sample.relation(), scope),
            Node::RangeSubselect(subquery) => {
                let outputs = self.query(subquery.subquery(), scope);
                aliased(outputs, subquery.alias())
            }
            Node::JoinExpr(join) => self.join(join, scope),
            Node::RangeFunction(function) => aliased(None, function.alias()),
            Node::RangeTableFunc(function) => aliased(None, function.alias()),
            Node::JsonTable(table) => aliased(None, table.alias()),
            // Whatever it is, it can have any column.
            _ => Item::default(),
        }
    }

    fn relation(&self, relation: &nodes::RangeVar, scope: &Scope) -> Item {
        let name = relation.relname().unwrap_or_default();
        let mut tables = scope.tables.iter().rev();
        let columns = match relation.schemaname() {
            None if let Some((_, outputs)) = tables.find(|(known, _)| known == name) => {
                outputs.clone()
            }
            _ => usize::try_from(relation.location)
                .ok()
                .and_then(|site| (self.source)(site))
                .map(|(oid, columns)| {
                    let output = |column: &&Column| Output {
                        name: Some(column.name.clone()),
                        stored: Some(Stored {
                            origin: (oid, column.attnum),
                            kind: (column.type_oid, column.typmod),
                        }),
                    };
                    columns.iter().map(output).collect()
                }),
        };
        let count = columns.as_ref().map_or(0, Vec::len);
        let columns = columns.filter(|_| self.spend(count).is_some());
        let mut item = aliased(columns, relation.alias());
        if relation.alias().is_none() {
            let schema = relation
                .schemaname()
                .map(|schema| schema.strip_prefix(ONLY_MARK).unwrap_or(schema).to_owned());
            item.ranges = vec![Range {
                schema,
                name: name.to_owned(),
                columns: item.columns.clone(),
            }];
        }
        item
    }

    fn join(&self, join: &nodes::JoinExpr, scope: &Scope) -> Item {
        let left = self.item(join.larg(), scope);
        let right = self.item(join.rarg(), scope);
        let mut ranges = left.ranges;
        ranges.extend(right.ranges);
        let columns = match (left.columns, right.columns) {
            (Some(left), Some(right)) => {
                let names = match join.is_natural {
                    true => left.len().min(right.len()),
                    false => join.using_clause().iter().count(),
                };
                self.spend((left.len() + right.len()).saturating_mul(1 + names))
                    .and_then(|()| merged(join, left, right))
            }
            _ => None,
        };
        let using = join.join_using_alias().map(|alias| Range {
            schema: None,
            name: alias.aliasname().unwrap_or_default().to_owned(),
            columns: columns.as_ref().map(|all| {
                let merged = join.using_clause().iter().count();
                all.iter().take(merged).cloned().collect()
            }),
        });
        ranges.extend(using);
        match join.alias() {
            Some(_) => aliased(columns, join.alias()),
            None => Item { columns, ranges },
        }
    }
}

/// The columns of a join: those of USING or NATURAL once and in front.
fn merged(join: &nodes::JoinExpr, left: Vec<Output>, right: Vec<Output>) -> Option<Vec<Output>> {
    let names: Vec<Arc<str>> = match join.is_natural {
        false => join
            .using_clause()
            .iter()
            .map(|name| name.sval().map(Arc::from))
            .collect::<Option<_>>()?,
        // Which names are in common is known only where all of them are.
        true => {
            let all = |side: &[Output]| -> Option<Vec<Arc<str>>> {
                side.iter().map(|output| output.name.clone()).collect()
            };
            let others = all(&right)?;
            let mut names = all(&left)?;
            names.retain(|name| others.contains(name));
            names
        }
    };
    let named = |side: &[Output], name: &str| {
        let mut found = side
            .iter()
            .filter(|output| output.name.as_deref() == Some(name));
        found.next().and_then(|output| output.stored)
    };
    let mut columns = Vec::new();
    for name in &names {
        let (one, other) = unconverted(named(&left, name), named(&right, name));
        let stored = match join.jointype {
            nodes::JoinType::JOIN_INNER => one.or(other),
            nodes::JoinType::JOIN_LEFT => one,
            nodes::JoinType::JOIN_RIGHT => other,
            _ => None,
        };
        columns.push(Output {
            name: Some(name.clone()),
            stored,
        });
    }
    let rest = left.into_iter().chain(right).filter(|output| {
        !output
            .name
            .as_ref()
            .is_some_and(|name| names.contains(name))
    });
    columns.extend(rest);
    Some(columns)
}

/// Those of two compared columns that are of the type that USING finds for both.
fn unconverted(one: Option<Stored>, other: Option<Stored>) -> (Option<Stored>, Option<Stored>) {
    let (Some(left), Some(right)) = (one, other) else {
        return (None, None);
    };
    // Of integers, the wider.
    let width = |stored: Stored| match stored.kind {
        (21, -1) => Some(2),
        (23, -1) => Some(4),
        (20, -1) => Some(8),
        _ => None,
    };
    match (width(left), width(right)) {
        _ if left.kind == right.kind => (one, other),
        (Some(less), Some(more)) if less < more => (None, other),
        (Some(_), Some(_)) => (one, None),
        _ => (None, None),
    }
}

fn beside(left: Item, right: Item) -> Item {
    let mut ranges = left.ranges;
    ranges.extend(right.ranges);
    let columns = match (left.columns, right.columns) {
        (Some(mut left), Some(right)) => {
            left.extend(right);
            Some(left)
        }
        _ => None,
    };
    Item { columns, ranges }
}

/// What an alias leaves to be named: the item, under that name.
fn aliased(columns: Option<Vec<Output>>, alias: Option<&nodes::Alias>) -> Item {
    let Some(alias) = alias else {
        return Item {
            columns,
            ranges: Vec::new(),
        };
    };
    let columns = columns.map(|columns| renamed(columns, alias.colnames()));
    Item {
        ranges: vec![Range {
            schema: None,
            name: alias.aliasname().unwrap_or_default().to_owned(),
            columns: columns.clone(),
        }],
        columns,
    }
}

fn renamed(mut columns: Vec<Output>, names: &NodeList) -> Vec<Output> {
    for (column, name) in columns.iter_mut().zip(names) {
        column.name = name.as_str().map(Arc::from);
    }
    columns
}

fn range<'i>(from: &'i Item, name: &[Node<'_>]) -> Option<&'i Range> {
    let (schema, name) = match name {
        [name] => (None, name.as_str()?),
        [schema, name] => (Some(schema.as_str()?), name.as_str()?),
        _ => return None,
    };
    let mut found = from.ranges.iter().filter(|range| {
        range.name == name && (schema.is_none() || range.schema.as_deref() == schema)
    });
    match (found.next(), found.next()) {
        (Some(range), None) => Some(range),
        _ => None,
    }
}

/// What a name certainly means.
fn column(from: &Item, qualifier: &[Node<'_>], name: &str) -> Option<Stored> {
    let columns = match qualifier {
        [] => from.columns.as_ref()?,
        qualifier => range(from, qualifier)?.columns.as_ref()?,
    };
    let mut found = columns
        .iter()
        .filter(|output| output.name.as_deref() == Some(name));
    match (found.next(), found.next()) {
        (Some(output), None) => output.stored,
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::TypeClass;

    fn origins(text: &str) -> Option<Vec<Option<Origin>>> {
        let columns: Vec<Column> = (1..=20)
            .map(|attnum| Column {
                name: format!("c{attnum}").into(),
                attnum,
                type_oid: 23,
                typmod: -1,
                type_sql: "".into(),
                class: TypeClass::Other,
                collation: None,
                generated: false,
                made_of: Vec::new(),
                computed: false,
                base: TypeClass::Other,
            })
            .collect();
        let parsed = pg_raw_parse::parse(text).unwrap();
        let statement = parsed.iter().next().unwrap();
        of(statement.stmt(), &|_| Some((7, columns.iter().collect())))
    }

    #[test]
    fn what_doubles_in_each_line_has_an_end() {
        let doubled = |lines: usize| {
            let mut text = String::from("WITH w0 AS (SELECT * FROM t)");
            for line in 1..=lines {
                let last = line - 1;
                text += &format!(", w{line} AS (SELECT a.*, b.* FROM w{last} a, w{last} b)");
            }
            origins(&format!("{text} SELECT * FROM w{lines}"))
        };
        assert_eq!(doubled(4).map(|all| all.len()), Some(20 << 4));
        assert_eq!(doubled(60), None);
        let natural = format!("SELECT * FROM t{}", " NATURAL JOIN t".repeat(400));
        assert_eq!(origins(&natural), None);
    }
}
