//! The columns that a query returns, as far as they can be told without types.
//!
//! Invariant: a column whose name may differ from the one that Postgres would give
//! has no name.

use std::rc::Rc;
use std::sync::Arc;

use sqlparser::ast::{
    Expr, OutputClause, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr,
    Statement,
};

use super::scope::{Column, Row, Scope};
use super::{Reader, Unread};

impl Reader<'_> {
    /// The columns that a query returns.
    pub(super) fn query_row(&mut self, query: &Query) -> Result<Rc<Row>, Unread> {
        let address = std::ptr::from_ref(query).addr();
        if let Some(row) = self.rows.get(&address) {
            return Ok(row.clone());
        }
        self.scopes.push(Scope::default());
        let declared = query
            .with
            .as_ref()
            .map_or(Ok(()), |with| self.declare(with));
        let row = declared.and_then(|()| self.body_row(&query.body));
        self.scopes.pop();
        let row = Rc::new(row?);
        self.rows.insert(address, row.clone());
        Ok(row)
    }

    /// Set operations take their names from the leftmost.
    pub(super) fn body_row(&mut self, body: &SetExpr) -> Result<Row, Unread> {
        let mut body = body;
        while let SetExpr::SetOperation { left, .. } = body {
            body = left;
        }
        match body {
            SetExpr::Select(select) => self.select_row(select),
            SetExpr::Query(query) => Ok(Row::clone(&*self.query_row(query)?)),
            SetExpr::Values(values) => {
                let width = values.rows.first().map_or(0, |row| row.content.len());
                Ok(Row::computed(
                    (1..=width).map(|at| format!("column{at}").into()),
                ))
            }
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => Ok(returned(statement)),
            SetExpr::SetOperation { .. } | SetExpr::Table(_) => Ok(Row::unknown()),
        }
    }

    fn select_row(&mut self, select: &Select) -> Result<Row, Unread> {
        let mut row = Row::default();
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { .. } | SelectItem::UnnamedExpr(_) => {
                    let name = named(item);
                    row.open |= name.is_none();
                    row.columns.push(Column::computed(name));
                }
                SelectItem::Wildcard(_) => {
                    for table in &select.from {
                        let all = self.table_row(table)?;
                        row.open |= all.open;
                        let names = all.columns.into_iter().map(|column| column.name);
                        row.columns.extend(names.map(Column::computed));
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let last = name.0.last().and_then(|part| part.as_ident());
                    let items = self.items(&select.from)?;
                    let mut items = items.iter();
                    match items.find(|item| last.is_some_and(|last| *item.refname == *last.value)) {
                        Some(item) => {
                            row.open |= item.row.open;
                            let names = item.row.columns.iter().map(|column| column.name.clone());
                            row.columns.extend(names.map(Column::computed));
                        }
                        None => row.open = true,
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _)
                | SelectItem::ExprWithAliases { .. } => row.open = true,
            }
        }
        Ok(row)
    }
}

/// What RETURNING returns; of a star, nothing is told.
fn returned(statement: &Statement) -> Row {
    let items = match statement {
        Statement::Insert(insert) => insert.returning.as_deref(),
        Statement::Update(update) => update.returning.as_deref(),
        Statement::Delete(delete) => delete.returning.as_deref(),
        Statement::Merge(merge) => match &merge.output {
            Some(OutputClause::Returning { select_items, .. }) => Some(select_items.as_slice()),
            _ => None,
        },
        _ => return Row::unknown(),
    };
    let columns: Vec<Column> = items
        .unwrap_or_default()
        .iter()
        .map(|item| Column::computed(named(item)))
        .collect();
    Row {
        open: columns.iter().any(|column| column.name.is_none()),
        columns,
    }
}

/// The name of one output column, if it is one and can be told.
pub(super) fn named(item: &SelectItem) -> Option<Arc<str>> {
    match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.as_str().into()),
        SelectItem::UnnamedExpr(expr) => figure(expr).map(Arc::from),
        SelectItem::Wildcard(_)
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::ExprWithAliases { .. } => None,
    }
}

/// The name Postgres gives an output column without an alias (`FigureColname`),
/// where that is plain from sqlparser's tree.
fn figure(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Identifier(name) => Some(&name.value),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.as_str()),
        Expr::Function(function) => {
            let last = function.name.0.last()?.as_ident()?;
            Some(&last.value)
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) => figure(expr),
        _ => None,
    }
}
