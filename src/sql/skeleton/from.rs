//! FROM in a skeleton: items keep their names, columns and joins.
//!
//! Invariant: an item whose columns are not all known says so.

use pg_raw_parse::{Node, nodes};

use super::write::{Writer, strings};
use super::{MORE, USING_ALIAS, figure};
use crate::sql::survey::{Unknown, unknown};

impl Writer {
    pub(super) fn item(&mut self, node: Node<'_>) -> Result<(), Unknown> {
        self.ground()?;
        match node {
            Node::RangeVar(relation) => self.relation(relation),
            // Its arguments are constants, or the statement is refused.
            Node::RangeTableSample(sample) => self.item(sample.relation()),
            Node::RangeSubselect(subselect) => {
                if subselect.lateral {
                    self.text.push_str("LATERAL ");
                }
                self.text.push('(');
                self.statement(subselect.subquery())?;
                self.text.push(')');
                self.alias(subselect.alias());
                Ok(())
            }
            Node::RangeFunction(function) => self.function(node, function),
            Node::RangeTableFunc(table) => {
                self.call(node)?;
                let columns = table.columns().iter().filter_map(|column| column.colname());
                let columns = columns.map(str::to_owned).collect();
                self.columns(table.alias(), "xmltable", columns, true);
                Ok(())
            }
            Node::JsonTable(table) => {
                self.call(node)?;
                let mut columns = Vec::new();
                for column in table.columns() {
                    json_column(column, &mut columns)?;
                }
                self.columns(table.alias(), "json_table", columns, true);
                Ok(())
            }
            Node::JoinExpr(join) if join.alias().is_some() => {
                self.text.push('(');
                self.join(join)?;
                self.text.push(')');
                self.alias(join.alias());
                Ok(())
            }
            Node::JoinExpr(join) => self.join(join),
            other => Err(unknown(other)),
        }
    }

    pub(super) fn relation(&mut self, relation: &nodes::RangeVar) -> Result<(), Unknown> {
        self.place(relation.location)?;
        let parts = [relation.catalogname(), relation.schemaname()];
        for part in parts.into_iter().flatten() {
            self.quoted(part);
            self.text.push('.');
        }
        self.quoted(relation.relname().unwrap_or_default());
        self.alias(relation.alias());
        Ok(())
    }

    fn alias(&mut self, alias: Option<&nodes::Alias>) {
        let Some(alias) = alias else { return };
        self.text.push_str(" AS ");
        self.quoted(alias.aliasname().unwrap_or_default());
        self.list(strings(alias.colnames()));
    }

    fn join(&mut self, join: &nodes::JoinExpr) -> Result<(), Unknown> {
        let bare = |node: Node<'_>| matches!(node, Node::JoinExpr(join) if join.alias().is_none());
        self.item(join.larg())?;
        let using: Vec<&str> = join
            .using_clause()
            .iter()
            .filter_map(|name| name.sval())
            .collect();
        self.text.push_str(match join.quals() {
            _ if join.is_natural => " NATURAL JOIN ",
            Node::None if using.is_empty() => " CROSS JOIN ",
            _ => " JOIN ",
        });
        let nested = bare(join.rarg());
        if nested {
            self.text.push('(');
        }
        self.item(join.rarg())?;
        if nested {
            self.text.push(')');
        }
        if !using.is_empty() {
            let alias = join.join_using_alias().and_then(|alias| alias.aliasname());
            let alias = alias.map(|alias| format!("{USING_ALIAS}{alias}"));
            self.text.push_str(" USING");
            self.list(using.into_iter().chain(alias.as_deref()));
        } else if !matches!(join.quals(), Node::None) {
            self.text.push_str(" ON ");
            self.expression(join.quals())?;
        }
        Ok(())
    }

    fn function(&mut self, node: Node<'_>, function: &nodes::RangeFunction) -> Result<(), Unknown> {
        self.call(node)?;
        // Each is a list: the call, and the columns that it is said to return.
        let first = function.functions().iter().find_map(|one| match one {
            Node::NodeList(pair) => pair.get(0),
            _ => None,
        });
        let name = first.map_or("", figure::name);
        let declared: Vec<String> = function
            .coldeflist()
            .iter()
            .filter_map(|column| column.colname().map(str::to_owned))
            .collect();
        let known = !declared.is_empty() && !function.ordinality;
        let mut columns = declared;
        if columns.is_empty() && !function.is_rowsfrom {
            // Of a function that returns one value, the column is called so.
            let alias = function.alias().and_then(|alias| alias.aliasname());
            columns.push(alias.unwrap_or(name).to_owned());
        }
        self.columns(function.alias(), name, columns, known);
        Ok(())
    }

    /// The alias of something that is not a relation, with the columns it has.
    fn columns(
        &mut self,
        alias: Option<&nodes::Alias>,
        name: &str,
        mut columns: Vec<String>,
        known: bool,
    ) {
        let renamed = alias
            .into_iter()
            .flat_map(|alias| strings(alias.colnames()));
        for (at, renamed) in renamed.enumerate() {
            match columns.get_mut(at) {
                Some(column) => renamed.clone_into(column),
                None => columns.push(renamed.to_owned()),
            }
        }
        self.text.push_str(" AS ");
        self.quoted(alias.and_then(|alias| alias.aliasname()).unwrap_or(name));
        let more = (!known).then_some(MORE);
        self.list(columns.iter().map(String::as_str).chain(more));
    }
}

/// Nested columns stand where their parent does.
fn json_column(column: &nodes::JsonTableColumn, found: &mut Vec<String>) -> Result<(), Unknown> {
    if column.coltype != nodes::JsonTableColumnType::JTC_NESTED {
        found.extend(column.name().map(str::to_owned));
    }
    for nested in column.columns() {
        match nested {
            Node::JsonTableColumn(nested) => json_column(nested, found)?,
            other => return Err(unknown(other)),
        }
    }
    Ok(())
}
