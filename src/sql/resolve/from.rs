//! FROM: its items as names see them, and the columns that its joins compare.
//!
//! Invariant: an item that Postgres does not have stops the reading.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};

use super::scope::{Item, opaque, renamed, same};
use super::{Flow, Reader, Unread, stop};
use crate::sql::canonical::ONLY_MARK;

impl Reader<'_> {
    pub(super) fn items(&self, from: &[TableWithJoins], depth: usize) -> Result<Vec<Item>, Unread> {
        let mut items = Vec::new();
        for table in from {
            self.factor(&table.relation, depth, &mut items)?;
            for join in &table.joins {
                self.factor(&join.relation, depth, &mut items)?;
            }
        }
        Ok(items)
    }

    pub(super) fn factor(
        &self,
        factor: &TableFactor,
        depth: usize,
        items: &mut Vec<Item>,
    ) -> Result<(), Unread> {
        match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => {
                items.push(self.relation_item(name, alias.as_ref())?);
            }
            TableFactor::Table {
                name,
                alias,
                args: Some(_),
                ..
            }
            | TableFactor::Function { name, alias, .. } => {
                let last = name.0.last().and_then(|part| part.as_ident());
                items.push(opaque(
                    alias.as_ref(),
                    last.map_or("", |ident| &ident.value),
                ));
            }
            TableFactor::Derived {
                subquery, alias, ..
            } => {
                let names = if depth > 8 {
                    None
                } else {
                    self.outputs(subquery, depth + 1)
                };
                items.push(renamed(alias.as_ref(), "", None, None, names.map(same)));
            }
            TableFactor::UNNEST { alias, .. } => items.push(opaque(alias.as_ref(), "unnest")),
            TableFactor::TableFunction { alias, .. }
            | TableFactor::JsonTable { alias, .. }
            | TableFactor::XmlTable { alias, .. } => items.push(opaque(alias.as_ref(), "")),
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                items.extend(self.items(std::slice::from_ref(table_with_joins), depth + 1)?);
                if alias.is_some() {
                    items.push(opaque(alias.as_ref(), ""));
                }
            }
            TableFactor::OpenJsonTable { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::Unpivot { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::SemanticView { .. } => {
                return Err(Unread::Construct(
                    "an item in FROM that Postgres does not have",
                ));
            }
        }
        Ok(())
    }

    pub(super) fn relation_item(
        &self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
    ) -> Result<Item, Unread> {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let (Some(first), Some(last)) = (idents.first(), idents.last()) else {
            return Err(Unread::Construct("a relation without a name"));
        };
        if let [only] = idents.as_slice()
            && let Some(columns) = self.cte(&only.value)
        {
            return Ok(renamed(alias, &last.value, None, None, columns.map(same)));
        }
        let site = self
            .start(first)
            .ok_or(Unread::Construct("a name without a place"))?;
        let columns = self.known.get(&site).map(|columns| same(columns.to_vec()));
        let schema = match idents.as_slice() {
            [schema, _] if alias.is_none() => {
                let bare = schema.value.strip_prefix(ONLY_MARK);
                Some(bare.unwrap_or(&schema.value).to_owned())
            }
            _ => None,
        };
        Ok(renamed(alias, &last.value, schema, Some(site), columns))
    }

    pub(super) fn joins(&mut self, from: &[TableWithJoins]) -> Flow {
        for table in from {
            let mut left = Vec::new();
            if let Err(unread) = self.factor(&table.relation, 0, &mut left) {
                return ControlFlow::Break(unread);
            }
            self.nested(&table.relation)?;
            for join in &table.joins {
                self.nested(&join.relation)?;
                let mut right = Vec::new();
                if let Err(unread) = self.factor(&join.relation, 0, &mut right) {
                    return ControlFlow::Break(unread);
                }
                self.join(join, &left, &right)?;
                left.extend(right);
            }
        }
        ControlFlow::Continue(())
    }

    fn nested(&mut self, factor: &TableFactor) -> Flow {
        let TableFactor::NestedJoin {
            table_with_joins,
            alias,
        } = factor
        else {
            return ControlFlow::Continue(());
        };
        let inner = std::slice::from_ref(&**table_with_joins);
        if alias.is_some() {
            // Its columns are named through the alias, in an order of its own.
            match self.items(inner, 0) {
                Ok(items) => items.iter().for_each(|item| self.touch_all(item)),
                Err(unread) => return ControlFlow::Break(unread),
            }
        }
        self.joins(inner)
    }

    fn join(&mut self, join: &Join, left: &[Item], right: &[Item]) -> Flow {
        let constraint = match &join.join_operator {
            JoinOperator::Join(constraint)
            | JoinOperator::Inner(constraint)
            | JoinOperator::Left(constraint)
            | JoinOperator::LeftOuter(constraint)
            | JoinOperator::Right(constraint)
            | JoinOperator::RightOuter(constraint)
            | JoinOperator::FullOuter(constraint)
            | JoinOperator::CrossJoin(constraint) => constraint,
            _ => return stop("a join that Postgres does not have"),
        };
        let names: Vec<String> = match constraint {
            JoinConstraint::On(_) | JoinConstraint::None => Vec::new(),
            JoinConstraint::Using(columns) => columns
                .iter()
                .filter_map(|name| name.0.last()?.as_ident().map(|ident| ident.value.clone()))
                .collect(),
            JoinConstraint::Natural => {
                let named = |items: &[Item]| -> BTreeSet<String> {
                    let columns = items.iter().filter_map(|item| item.columns.as_ref());
                    columns.flatten().map(|(name, _)| name.clone()).collect()
                };
                named(left).intersection(&named(right)).cloned().collect()
            }
        };
        let all = || left.iter().chain(right);
        for name in &names {
            for item in all() {
                self.touch(item, name);
            }
        }
        if matches!(constraint, JoinConstraint::Natural) && all().any(|item| item.columns.is_none())
        {
            for item in all() {
                self.touch_all(item);
            }
        }
        ControlFlow::Continue(())
    }
}
