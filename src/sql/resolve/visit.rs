//! The way through sqlparser's tree: opens and closes scopes, and hands names on.
//!
//! Invariant: a statement or a clause that Postgres does not have stops the
//! reading.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Delete, Expr, FromTable, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    OrderBy, OrderByKind, OutputClause, Query, Select, SelectItem, SelectItemQualifiedWildcardKind,
    Statement, TableFactor, TableObject, UpdateTableFromKind, Visitor,
};

use super::scope::Scope;
use super::{Flow, Reader, Unread, stop};

impl Visitor for Reader<'_> {
    type Break = Unread;

    fn pre_visit_statement(&mut self, statement: &Statement) -> Flow {
        let mut scope = Scope::default();
        let items = match statement {
            Statement::Query(_) => return ControlFlow::Continue(()),
            Statement::Insert(insert) => {
                let TableObject::TableName(name) = &insert.table else {
                    return stop("INSERT into a function");
                };
                let alias = insert.table_alias.as_ref().map(|alias| alias.alias.clone());
                self.relation_item(name, None).map(|mut item| {
                    if let Some(alias) = alias {
                        item.refname = alias.value;
                    }
                    vec![item]
                })
            }
            Statement::Update(update) => {
                let mut from = vec![update.table.clone()];
                match &update.from {
                    Some(
                        UpdateTableFromKind::BeforeSet(tables)
                        | UpdateTableFromKind::AfterSet(tables),
                    ) => {
                        from.extend(tables.iter().cloned());
                    }
                    None => {}
                }
                self.items(&from, 0)
            }
            Statement::Delete(Delete { from, using, .. }) => {
                let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = from;
                let mut all = tables.clone();
                all.extend(using.iter().flatten().cloned());
                self.items(&all, 0)
            }
            Statement::Merge(merge) => {
                let mut items = Vec::new();
                self.factor(&merge.table, 0, &mut items)
                    .and_then(|()| self.factor(&merge.source, 0, &mut items))
                    .map(|()| items)
            }
            _ => return stop("a statement that is not a query"),
        };
        match items {
            Ok(items) => scope.items = items,
            Err(unread) => return ControlFlow::Break(unread),
        }
        let written = scope.items.clone();
        self.scopes.push(scope);
        // What is written to is touched as a whole: its row passes by.
        if let Some(target) = written.first() {
            self.touch_all(target);
        }
        let returning = match statement {
            Statement::Insert(insert) => &insert.returning,
            Statement::Update(update) => &update.returning,
            Statement::Delete(delete) => &delete.returning,
            Statement::Merge(merge) => {
                let Some(OutputClause::Returning { select_items, .. }) = &merge.output else {
                    return ControlFlow::Continue(());
                };
                return self.wildcards(select_items);
            }
            _ => &None,
        };
        self.wildcards(returning.as_deref().unwrap_or_default())
    }

    fn post_visit_statement(&mut self, statement: &Statement) -> Flow {
        if !matches!(statement, Statement::Query(_)) {
            self.scopes.pop();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_query(&mut self, query: &Query) -> Flow {
        if !query.pipe_operators.is_empty()
            || query.for_clause.is_some()
            || query.settings.is_some()
        {
            return stop("a clause that Postgres does not have");
        }
        self.enter_body(query, 0);
        self.scopes.push(Scope::default());
        if let Some(with) = &query.with {
            self.declare(with);
        }
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        self.scopes.pop();
        self.enter_body(query, 1);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let items = match self.items(&select.from, 0) {
            Ok(items) => items,
            Err(unread) => return ControlFlow::Break(unread),
        };
        let outputs = select
            .projection
            .iter()
            .filter_map(|item| match item {
                SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.clone()),
                _ => None,
            })
            .collect();
        if let Some(scope) = self.scopes.last_mut() {
            scope.items = items;
            scope.outputs = outputs;
        }
        self.joins(&select.from)?;
        self.wildcards(&select.projection)
    }

    /// Of a query: within OVER or an aggregate, a name is never an output's.
    fn pre_visit_order_by(&mut self, order: &OrderBy) -> Flow {
        let OrderByKind::Expressions(all) = &order.kind else {
            return stop("ORDER BY ALL");
        };
        for order in all {
            if let Expr::Identifier(name) = &order.expr
                && self
                    .scopes
                    .last()
                    .is_some_and(|scope| scope.outputs.contains(&name.value))
                && let Some(start) = self.start(name)
            {
                self.output_names.insert(start);
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> Flow {
        if let TableFactor::Table {
            name,
            args: Some(arguments),
            ..
        } = factor
        {
            self.arguments(&arguments.args)?;
            let first = name.0.first().and_then(|part| part.as_ident());
            self.function = first.and_then(|first| self.start(first));
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Flow {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let (Some(first), Some(last)) = (idents.first(), idents.last()) else {
            return stop("a relation without a name");
        };
        let (Some(start), Some(end)) = (self.start(first), self.end(last)) else {
            return stop("a name without a place");
        };
        if self.function == Some(start) {
            self.function = None;
            return ControlFlow::Continue(());
        }
        let cte = idents.len() == 1 && self.cte(&first.value).is_some();
        self.found.relations.insert((start, end, cte));
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> Flow {
        match expr {
            Expr::Identifier(name) => self.reference(std::slice::from_ref(name)),
            Expr::CompoundIdentifier(parts) => self.reference(parts),
            Expr::QualifiedWildcard(name, _) => self.whole_row(name),
            Expr::Function(function) => match &function.args {
                FunctionArguments::List(list) => self.arguments(&list.args),
                FunctionArguments::None | FunctionArguments::Subquery(_) => {
                    ControlFlow::Continue(())
                }
            },
            _ => ControlFlow::Continue(()),
        }
    }
}

impl Reader<'_> {
    fn wildcards(&mut self, items: &[SelectItem]) -> Flow {
        for item in items {
            match item {
                SelectItem::Wildcard(options) => {
                    let token = self.lines.byte(options.wildcard_token.0.span.start);
                    let Some(start) = token else {
                        return stop("a star without a place");
                    };
                    self.found.columns.insert(start);
                    let all = self
                        .scopes
                        .last()
                        .map_or_else(Vec::new, |scope| scope.items.clone());
                    for item in &all {
                        self.touch_all(item);
                    }
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    self.whole_row(name)?;
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _) => {}
                SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. } => {}
                SelectItem::ExprWithAliases { .. } => {
                    return stop("several aliases for one expression");
                }
            }
        }
        ControlFlow::Continue(())
    }

    /// `name.*`, in a target list or anywhere else.
    fn whole_row(&mut self, name: &ObjectName) -> Flow {
        let idents = name.0.iter().filter_map(|part| part.as_ident().cloned());
        let parts: Vec<Ident> = idents.chain([Ident::new("*")]).collect();
        self.reference(&parts)
    }

    /// A star among a function's arguments is no expression of its own.
    fn arguments(&mut self, all: &[FunctionArg]) -> Flow {
        for argument in all {
            let (FunctionArg::Named { arg, .. }
            | FunctionArg::ExprNamed { arg, .. }
            | FunctionArg::Unnamed(arg)) = argument;
            if let FunctionArgExpr::QualifiedWildcard(name) = arg {
                self.whole_row(name)?;
            }
        }
        ControlFlow::Continue(())
    }
}
