//! The names of a query's output columns, as far as they can be told without
//! types.
//!
//! Invariant: a name that may differ from what Postgres would give is no name:
//! then the columns are not known.

use sqlparser::ast::{Expr, Query, Select, SelectItem, SetExpr};

use super::Reader;

impl Reader<'_> {
    /// The output names of a query, if they can be told without types.
    pub(super) fn outputs(&self, query: &Query, depth: usize) -> Option<Vec<String>> {
        self.set_outputs(&query.body, depth)
    }

    fn set_outputs(&self, body: &SetExpr, depth: usize) -> Option<Vec<String>> {
        if depth > 8 {
            return None;
        }
        match body {
            SetExpr::Select(select) => self.select_outputs(select, depth),
            SetExpr::Query(query) => self.outputs(query, depth + 1),
            SetExpr::SetOperation { left, .. } => self.set_outputs(left, depth + 1),
            SetExpr::Values(values) => {
                let width = values.rows.first()?.content.len();
                Some((1..=width).map(|at| format!("column{at}")).collect())
            }
            SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => None,
        }
    }

    fn select_outputs(&self, select: &Select, depth: usize) -> Option<Vec<String>> {
        let mut names = Vec::new();
        for item in &select.projection {
            match item {
                SelectItem::ExprWithAlias { alias, .. } => names.push(alias.value.clone()),
                SelectItem::UnnamedExpr(expr) => names.push(output_name(expr)?),
                SelectItem::Wildcard(_) => {
                    for item in self.items(&select.from, depth + 1).ok()? {
                        names.extend(item.columns?.into_iter().map(|(name, _)| name));
                    }
                }
                SelectItem::QualifiedWildcard(..) | SelectItem::ExprWithAliases { .. } => {
                    return None;
                }
            }
        }
        Some(names)
    }
}

/// The name Postgres gives an output column without an alias (FigureColname).
fn output_name(expr: &Expr) -> Option<String> {
    match expr {
        Expr::Identifier(name) => Some(name.value.clone()),
        Expr::CompoundIdentifier(parts) => parts.last().map(|part| part.value.clone()),
        Expr::Function(function) => {
            let last = function.name.0.last()?.as_ident()?;
            Some(last.value.clone())
        }
        Expr::Cast { expr, .. } | Expr::Nested(expr) => output_name(expr),
        _ => None,
    }
}
