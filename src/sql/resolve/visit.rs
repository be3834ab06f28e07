//! The way through sqlparser's tree: opens and closes scopes, and hands names on.
//!
//! Invariant: a statement or a clause that Postgres does not have stops the
//! reading.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Delete, Distinct, Expr, FromTable, FunctionArg, FunctionArgExpr, FunctionArguments,
    GroupByExpr, Ident, ObjectName, OrderBy, OrderByKind, OutputClause, Query, Select, SelectItem,
    SelectItemQualifiedWildcardKind, SetExpr, Statement, TableFactor, TableObject, TableWithJoins,
    UpdateTableFromKind, Visitor,
};

use super::outputs::named;
use super::scope::{Item, Row, Scope};
use super::{Flow, Reader, Unread, flow, stop};

impl Visitor for Reader<'_> {
    type Break = Unread;

    fn pre_visit_statement(&mut self, statement: &Statement) -> Flow {
        if let Some(name) = target(statement) {
            self.targets.push(std::ptr::from_ref(name).addr());
        }
        let items = match statement {
            Statement::Query(_) => return ControlFlow::Continue(()),
            Statement::Insert(insert) => {
                let TableObject::TableName(name) = &insert.table else {
                    return stop("INSERT into a function");
                };
                let alias = insert.table_alias.as_ref();
                self.relation(name, None).map(|mut item| {
                    if let Some(alias) = alias {
                        item.refname = alias.alias.value.as_str().into();
                    }
                    vec![item]
                })
            }
            Statement::Update(update) => {
                let from = match &update.from {
                    Some(
                        UpdateTableFromKind::BeforeSet(tables)
                        | UpdateTableFromKind::AfterSet(tables),
                    ) => tables.as_slice(),
                    None => &[],
                };
                self.target_and(std::slice::from_ref(&update.table), from)
            }
            Statement::Delete(Delete { from, using, .. }) => {
                let (FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables)) = from;
                self.target_and(tables, using.as_deref().unwrap_or_default())
            }
            Statement::Merge(merge) => self.item(&merge.table).and_then(|target| {
                let source = self.item(&merge.source)?;
                Ok(vec![target, source])
            }),
            _ => return stop("a statement that is not a query"),
        };
        let mut items = match items {
            Ok(items) => items,
            Err(unread) => return ControlFlow::Break(unread),
        };
        // What is written to is touched as a whole: its row passes by, also under
        // the names that ON CONFLICT and RETURNING have for it.
        if let Some(target) = items.first() {
            self.found.touch_all(&target.row);
            let row = || Row {
                open: target.row.open,
                ..Row::computed(target.row.names().cloned())
            };
            let by_turns = ["excluded", "old", "new"].map(|name| Item::aside(name, row()));
            items.extend(by_turns);
        }
        self.scopes.push(Scope::of(items));
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
        let mut scope = Scope::default();
        scope.set = matches!(*query.body, SetExpr::SetOperation { .. });
        self.scopes.push(scope);
        match &query.with {
            Some(with) => flow(self.declare(with)),
            None => ControlFlow::Continue(()),
        }
    }

    fn post_visit_query(&mut self, query: &Query) -> Flow {
        self.scopes.pop();
        self.enter_body(query, 1);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> Flow {
        let items = match self.items(&select.from) {
            Ok(items) => items,
            Err(unread) => return ControlFlow::Break(unread),
        };
        if let Some(scope) = self.scopes.last_mut() {
            scope.items = items;
            scope.outputs = select.projection.iter().filter_map(named).collect();
        }
        if let Some(Distinct::On(all)) = &select.distinct {
            all.iter().for_each(|expr| self.output_of(expr, true));
        }
        if let GroupByExpr::Expressions(all, _) = &select.group_by {
            all.iter().for_each(|expr| self.output_of(expr, false));
        }
        flow(self.joins(&select.from))?;
        self.wildcards(&select.projection)
    }

    /// Of a query: within OVER or an aggregate, a name is never an output's.
    fn pre_visit_order_by(&mut self, order: &OrderBy) -> Flow {
        let OrderByKind::Expressions(all) = &order.kind else {
            return stop("ORDER BY ALL");
        };
        let set = self.scopes.last().is_some_and(|scope| scope.set);
        for order in all {
            match &order.expr {
                // Of UNION and its kin, nothing else can be named.
                Expr::Identifier(name) if set => {
                    self.outputs.extend(self.places.start(name));
                }
                expr => self.output_of(expr, true),
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
            self.function = Some(std::ptr::from_ref(name).addr());
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_relation(&mut self, name: &ObjectName) -> Flow {
        if self.function == Some(std::ptr::from_ref(name).addr()) {
            self.function = None;
            return ControlFlow::Continue(());
        }
        let Some(first) = name.0.first().and_then(|part| part.as_ident()) else {
            return stop("a relation without a name");
        };
        let Some(start) = self.places.start(first) else {
            return stop("a name without a place");
        };
        let may_be = name.0.len() == 1 && !self.is_target(name);
        let cte = may_be && self.cte(&first.value).is_some();
        self.found.relations.insert((start, cte));
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
    /// The items that an UPDATE or a DELETE names, its target first.
    fn target_and(
        &mut self,
        target: &[TableWithJoins],
        others: &[TableWithJoins],
    ) -> Result<Vec<Item>, Unread> {
        let mut items = self.items(target)?;
        items.extend(self.items(others)?);
        self.joins(others)?;
        Ok(items)
    }

    fn output_of(&mut self, expr: &Expr, first: bool) {
        if let Expr::Identifier(name) = expr {
            self.output(name, first);
        }
    }

    fn wildcards(&mut self, items: &[SelectItem]) -> Flow {
        for item in items {
            match item {
                SelectItem::Wildcard(options) => {
                    let token = self.places.of(options.wildcard_token.0.span.start);
                    let Some(start) = token else {
                        return stop("a star without a place");
                    };
                    self.found.columns.insert(start);
                    let shown = self
                        .scopes
                        .last()
                        .into_iter()
                        .flat_map(|scope| &scope.items);
                    for item in shown.filter(|item| !item.aside) {
                        self.found.touch_all(&item.row);
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

/// The name of the relation that a statement writes to.
fn target(statement: &Statement) -> Option<&ObjectName> {
    let factor = match statement {
        Statement::Insert(insert) => match &insert.table {
            TableObject::TableName(name) => return Some(name),
            _ => return None,
        },
        Statement::Update(update) => &update.table.relation,
        Statement::Delete(Delete {
            from: FromTable::WithFromKeyword(tables) | FromTable::WithoutKeyword(tables),
            ..
        }) => &tables.first()?.relation,
        Statement::Merge(merge) => &merge.table,
        _ => return None,
    };
    match factor {
        TableFactor::Table { name, .. } => Some(name),
        _ => None,
    }
}
