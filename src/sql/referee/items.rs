//! What a FROM clause offers to names: its items with their columns, as far as the
//! catalog tells.
//!
//! Knows nothing about treatments but which relation stands behind a scan.

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use super::Referee;
use crate::catalog::{Column, RelationKind};
use crate::sql::depth;

/// Queries inside queries that are looked into, at most.
const DEPTH: usize = 8;

/// A column's name, and the stored column that it certainly is.
type Named<'c> = (String, Option<&'c Column>);

/// An item of a FROM clause.
pub(super) struct Item<'c> {
    refname: String,
    /// None where they are not known.
    columns: Option<Vec<Named<'c>>>,
}

impl<'a> Referee<'a> {
    /// The items that a query's names mean first.
    pub(super) fn items(&self, query: Node<'_>, root: Node<'_>) -> Vec<Item<'a>> {
        self.items_within(query, root, 0)
    }

    fn items_within(&self, query: Node<'_>, root: Node<'_>, depth: usize) -> Vec<Item<'a>> {
        let mut found = Vec::new();
        let target = |relation: Option<&nodes::RangeVar>, found: &mut Vec<Item<'a>>| {
            found.extend(relation.map(|name| self.relation_item(name, root, depth)));
        };
        match query {
            Node::SelectStmt(select) => self.list(select.from_clause(), root, depth, &mut found),
            Node::InsertStmt(insert) => target(insert.relation(), &mut found),
            Node::UpdateStmt(update) => {
                target(update.relation(), &mut found);
                self.list(update.from_clause(), root, depth, &mut found);
            }
            Node::DeleteStmt(delete) => {
                target(delete.relation(), &mut found);
                self.list(delete.using_clause(), root, depth, &mut found);
            }
            Node::MergeStmt(merge) => {
                target(merge.relation(), &mut found);
                self.item(merge.source_relation(), root, depth, &mut found);
            }
            _ => {}
        }
        found
    }

    fn list(&self, from: &NodeList, root: Node<'_>, depth: usize, found: &mut Vec<Item<'a>>) {
        for item in from {
            self.item(item, root, depth, found);
        }
    }

    fn item(&self, item: Node<'_>, root: Node<'_>, depth: usize, found: &mut Vec<Item<'a>>) {
        match item {
            Node::RangeVar(name) => found.push(self.relation_item(name, root, depth)),
            Node::RangeTableSample(sample) => self.item(sample.relation(), root, depth, found),
            Node::RangeSubselect(subselect) => {
                let columns = self.outputs_of(subselect.subquery(), root, depth + 1);
                found.push(aliased(subselect.alias(), "", columns));
            }
            Node::JoinExpr(join) => {
                // An alias hides what is joined.
                if join.alias().is_none() {
                    self.item(join.larg(), root, depth, found);
                    self.item(join.rarg(), root, depth, found);
                }
                for alias in [join.alias(), join.join_using_alias()]
                    .into_iter()
                    .flatten()
                {
                    found.push(aliased(Some(alias), "", None));
                }
            }
            Node::RangeFunction(function) => found.push(aliased(function.alias(), "", None)),
            Node::RangeTableFunc(table) => found.push(aliased(table.alias(), "", None)),
            Node::JsonTable(table) => found.push(aliased(table.alias(), "", None)),
            _ => found.push(aliased(None, "", None)),
        }
    }

    fn relation_item(&self, name: &nodes::RangeVar, root: Node<'_>, depth: usize) -> Item<'a> {
        let own = name.relname().unwrap_or_default();
        let columns = match name.schemaname() {
            Some(schema) => self.context.catalog.relation(schema, own).map(|relation| {
                let columns = relation.columns.iter();
                columns
                    .map(|column| (column.name.to_string(), Some(column)))
                    .collect()
            }),
            None => self.returned(own, root, depth + 1),
        };
        aliased(name.alias(), own, columns)
    }

    /// What the one common table expression of that name returns.
    fn returned(&self, name: &str, root: Node<'_>, depth: usize) -> Option<Vec<Named<'a>>> {
        let mut found = Vec::new();
        let visit = |node: Node<'_>| {
            if let Node::CommonTableExpr(one) = node
                && one.ctename() == Some(name)
            {
                let columns = self.outputs_of(one.ctequery(), root, depth);
                found.push(renamed(columns, one.aliascolnames()));
            }
        };
        depth::walk(root, visit).ok()?;
        match found.pop() {
            Some(columns) if found.is_empty() => columns,
            _ => None,
        }
    }

    fn outputs_of(&self, query: Node<'_>, root: Node<'_>, depth: usize) -> Option<Vec<Named<'a>>> {
        let Node::SelectStmt(mut select) = query else {
            return None;
        };
        if depth > DEPTH {
            return None;
        }
        // The first of a set operation names the columns of all, and types none.
        let mut alone = true;
        while let Some(first) = select.larg() {
            (select, alone) = (first, false);
        }
        let behind = self.behind(select);
        let items = self.items_within(Node::SelectStmt(select), root, depth);
        let mut outputs = Vec::new();
        for target in select.target_list() {
            let value = target.val();
            let column = match &behind {
                Some(columns) => target_name(target)
                    .and_then(|name| columns.iter().find(|column| *column.name == *name)),
                None => column_of(value, &items),
            };
            match target_name(target) {
                Some(name) => outputs.push((name, column.filter(|_| alone))),
                None if is_star(value) => {
                    for item in &items {
                        outputs.extend(item.columns.as_ref()?.iter().cloned());
                    }
                }
                None => return None,
            }
        }
        Some(outputs)
    }

    /// The columns of the governed relation that a scan is of: if it is none after
    /// all, the statement is refused for the relation's name in it.
    fn behind(&self, select: &nodes::SelectStmt) -> Option<&'a [Column]> {
        let mut from = select.from_clause().iter();
        let (Some(one), None) = (from.next(), from.next()) else {
            return None;
        };
        let name = match one {
            Node::RangeVar(name) => name,
            Node::RangeTableSample(sample) => match sample.relation() {
                Node::RangeVar(name) => name,
                _ => return None,
            },
            // A view's alias is its name; of which schema, the outputs tell.
            Node::RangeSubselect(view) => {
                let name = view.alias()?.aliasname()?;
                let mut views = self.views(name).filter(|view| {
                    let visible = view
                        .columns
                        .iter()
                        .map(|column| Some(column.name.to_string()));
                    select.target_list().iter().map(target_name).eq(visible)
                });
                return match (views.next(), views.next()) {
                    (Some(view), None) => Some(&view.columns),
                    _ => None,
                };
            }
            _ => return None,
        };
        let catalog = self.context.catalog;
        let relation = catalog.relation(name.schemaname()?, name.relname()?)?;
        let governed = match relation.is_system() {
            true => self.catalog_filter(relation).is_some(),
            false => relation.kind != RelationKind::View && !self.access(relation).is_clear(),
        };
        governed.then_some(&*relation.columns)
    }
}

/// The stored column that a reference certainly means.
pub(super) fn column_of<'c>(node: Node<'_>, items: &[Item<'c>]) -> Option<&'c Column> {
    let Node::ColumnRef(reference) = node else {
        return None;
    };
    let parts: Vec<&str> = reference
        .fields()
        .iter()
        .map(Node::as_str)
        .collect::<Option<_>>()?;
    let (refname, name) = match parts.as_slice() {
        [name] => (None, *name),
        [refname, name] | [_, refname, name] => (Some(*refname), *name),
        _ => return None,
    };
    let mut holders = items
        .iter()
        .filter(|item| refname.is_none_or(|refname| item.refname == refname))
        .filter_map(|item| match &item.columns {
            None => Some(None),
            Some(columns) => columns
                .iter()
                .find(|(own, _)| own == name)
                .map(|(_, column)| *column),
        });
    match (holders.next(), holders.next()) {
        (Some(column), None) => column,
        _ => None,
    }
}

fn target_name(target: &nodes::ResTarget) -> Option<String> {
    match (target.name(), target.val()) {
        (Some(name), _) => Some(name.to_owned()),
        (None, Node::ColumnRef(column)) => match column.fields().iter().next_back() {
            Some(Node::String(last)) => last.sval().map(str::to_owned),
            _ => None,
        },
        (None, _) => None,
    }
}

fn is_star(node: Node<'_>) -> bool {
    match node {
        Node::ColumnRef(column) => {
            let mut parts = column.fields().iter();
            matches!((parts.next(), parts.next()), (Some(Node::A_Star(_)), None))
        }
        _ => false,
    }
}

fn aliased<'c>(
    alias: Option<&nodes::Alias>,
    name: &str,
    columns: Option<Vec<Named<'c>>>,
) -> Item<'c> {
    Item {
        refname: alias
            .and_then(nodes::Alias::aliasname)
            .unwrap_or(name)
            .to_owned(),
        columns: match alias {
            Some(alias) => renamed(columns, alias.colnames()),
            None => columns,
        },
    }
}

fn renamed<'c>(columns: Option<Vec<Named<'c>>>, names: &NodeList) -> Option<Vec<Named<'c>>> {
    let mut columns = columns?;
    for (column, name) in columns.iter_mut().zip(names) {
        column.0 = name.as_str()?.to_owned();
    }
    Some(columns)
}
