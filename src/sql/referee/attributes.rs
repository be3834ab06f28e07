//! Attribute notation: `row.f` is `f(row)` where the row has no such column.
//!
//! Invariant: where a name behind a dot is that of a function which the caller may
//! not call, it certainly is a column's.

use pg_raw_parse::{Node, nodes};

use super::{Place, Referee, Verdict};
use crate::sql::attributes;
use crate::sql::depth;
use crate::sql::survey::Survey;

/// Subqueries inside subqueries that are looked into for a column, at most.
const DEPTH: usize = 8;

impl Referee<'_> {
    pub(super) fn attributes(&self, found: &Survey, query: Node<'_>, place: Place<'_>) -> Verdict {
        for site in &found.columns {
            let [.., row, name] = site.parts.as_slice() else {
                continue;
            };
            if let Err(objection) = self.attribute(name, found, place) {
                // Rare enough for another walk.
                if !self.is_column(query, row, name) {
                    return Err(objection);
                }
            }
        }
        self.fields(found, place)
    }

    /// `(row).name`
    pub(super) fn fields(&self, found: &Survey, place: Place<'_>) -> Verdict {
        let mut names = found.fields.iter();
        names.try_for_each(|name| self.attribute(name, found, place))
    }

    /// Which of that name would run is Postgres's to say: all must be allowed.
    fn attribute(&self, name: &str, found: &Survey, place: Place<'_>) -> Verdict {
        let is_field = attributes::may_be_field(name, found, place.context);
        attributes::allow(name, is_field, place.context).map_err(|denial| denial.message)
    }

    /// Whether everything in the query that goes by a name has that column.
    fn is_column(&self, query: Node<'_>, row: &str, name: &str) -> bool {
        let (mut seen, mut all) = (false, true);
        let visit = |node: Node<'_>| {
            let called = match node {
                Node::RangeVar(relation) => match relation.alias() {
                    Some(alias) => alias.aliasname(),
                    None => relation.relname(),
                },
                Node::RangeSubselect(subselect) => aliased(subselect.alias()),
                Node::RangeFunction(function) => match function.alias() {
                    Some(alias) => alias.aliasname(),
                    None => called(function).or(Some(row)),
                },
                Node::RangeTableFunc(table) => aliased(table.alias()).or(Some("xmltable")),
                Node::JsonTable(table) => aliased(table.alias()).or(Some("json_table")),
                Node::JoinExpr(join) => {
                    if aliased(join.join_using_alias()) == Some(row) {
                        all = false;
                    }
                    aliased(join.alias())
                }
                Node::ReturningClause(clause) => {
                    let renamed = clause.options().iter().any(|one| one.value() == Some(row));
                    (renamed || matches!(row, "old" | "new")).then_some(row)
                }
                Node::OnConflictClause(_) => Some("excluded"),
                _ => None,
            };
            if called == Some(row) {
                seen = true;
                all = all && self.offers(query, node, name, 0);
            }
        };
        depth::walk(query, visit).is_ok() && seen && all
    }

    /// Whether an item of FROM certainly has a column of that name.
    fn offers(&self, query: Node<'_>, item: Node<'_>, name: &str, depth: usize) -> bool {
        if depth > DEPTH {
            return false;
        }
        let renames = |alias: Option<&nodes::Alias>| {
            let names = alias
                .map(nodes::Alias::colnames)
                .filter(|names| !names.is_empty());
            names.map(|names| names.iter().any(|one| one.as_str() == Some(name)))
        };
        match item {
            Node::RangeVar(relation) => renames(relation.alias()).unwrap_or_else(|| {
                let own = relation.relname().unwrap_or_default();
                match relation.schemaname() {
                    Some(schema) => self
                        .context
                        .catalog
                        .relation(schema, own)
                        .is_some_and(|relation| relation.column(name).is_some()),
                    None => self.returns(query, own, name, depth),
                }
            }),
            Node::RangeSubselect(subselect) => renames(subselect.alias())
                .unwrap_or_else(|| self.outputs_offer(query, subselect.subquery(), name, depth)),
            _ => false,
        }
    }

    /// Whether every common table expression of that name returns that column.
    fn returns(&self, query: Node<'_>, cte: &str, name: &str, depth: usize) -> bool {
        let (mut seen, mut all) = (false, true);
        let visit = |node: Node<'_>| {
            if let Node::CommonTableExpr(one) = node
                && one.ctename() == Some(cte)
            {
                seen = true;
                let names = one.aliascolnames();
                all = all
                    && match names.is_empty() {
                        true => self.outputs_offer(query, one.ctequery(), name, depth + 1),
                        false => names.iter().any(|one| one.as_str() == Some(name)),
                    };
            }
        };
        depth::walk(query, visit).is_ok() && seen && all
    }

    fn outputs_offer(&self, query: Node<'_>, inner: Node<'_>, name: &str, depth: usize) -> bool {
        let Node::SelectStmt(mut select) = inner else {
            return false;
        };
        // The first of a set operation names the columns of all.
        while let Some(first) = select.larg() {
            select = first;
        }
        select
            .target_list()
            .iter()
            .any(|target| match target.name() {
                Some(own) => own == name,
                None => match target.val() {
                    Node::ColumnRef(column) => match column.fields().iter().next_back() {
                        Some(Node::String(last)) => last.sval() == Some(name),
                        // `*` of one item.
                        Some(Node::A_Star(_)) => {
                            let mut from = select.from_clause().iter();
                            let (one, more) = (from.next(), from.next());
                            more.is_none()
                                && one.is_some_and(|one| self.offers(query, one, name, depth + 1))
                        }
                        _ => false,
                    },
                    _ => false,
                },
            })
    }
}

/// The name of a function in FROM that has no alias.
fn called(function: &nodes::RangeFunction) -> Option<&str> {
    let Node::NodeList(first) = function.functions().first()? else {
        return None;
    };
    match first.first()? {
        Node::FuncCall(call) => call.funcname().iter().next_back()?.as_str(),
        _ => None,
    }
}

fn aliased(alias: Option<&nodes::Alias>) -> Option<&str> {
    alias.and_then(nodes::Alias::aliasname)
}
