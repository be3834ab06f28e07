//! FROM: its items as names see them, and the columns that its joins compare.
//!
//! Invariants: an item that Postgres does not have stops the reading; a column
//! that a join compares is used.

use std::rc::Rc;
use std::sync::Arc;

use sqlparser::ast::{
    Ident, Join, JoinConstraint, JoinOperator, ObjectName, TableAlias, TableFactor, TableWithJoins,
};

use super::scope::{Column, Item, Row, renamed};
use super::{Reader, Unread};
use crate::sql::canonical::ONLY_MARK;
use crate::sql::skeleton::USING_ALIAS;

impl Reader<'_> {
    /// What names can mean in the scope of a FROM.
    pub(super) fn items(&mut self, from: &[TableWithJoins]) -> Result<Vec<Item>, Unread> {
        let mut items = Vec::new();
        for table in from {
            self.table_items(table, &mut items)?;
        }
        Ok(items)
    }

    fn table_items(&mut self, table: &TableWithJoins, items: &mut Vec<Item>) -> Result<(), Unread> {
        self.factor_items(&table.relation, items)?;
        for join in &table.joins {
            self.factor_items(&join.relation, items)?;
            let (names, alias) = self.using(join)?;
            if let Some(alias) = alias {
                items.push(Item::aside(&alias, Row::computed(names)));
            }
        }
        Ok(())
    }

    fn factor_items(&mut self, factor: &TableFactor, items: &mut Vec<Item>) -> Result<(), Unread> {
        match factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => self.table_items(table_with_joins, items)?,
            other => items.push(self.item(other)?),
        }
        Ok(())
    }

    /// An item of FROM that has one name.
    pub(super) fn item(&mut self, factor: &TableFactor) -> Result<Item, Unread> {
        Ok(match factor {
            TableFactor::Table {
                name,
                alias,
                args: None,
                ..
            } => self.relation(name, alias.as_ref())?,
            TableFactor::Table { name, alias, .. } | TableFactor::Function { name, alias, .. } => {
                let last = name.0.last().and_then(|part| part.as_ident());
                self.opaque(alias.as_ref(), last.map_or("", |ident| &ident.value))
            }
            TableFactor::Derived {
                subquery, alias, ..
            } => {
                let row = self.query_row(subquery)?;
                Item::derived(alias.as_ref(), "", row)
            }
            TableFactor::UNNEST { alias, .. } => self.opaque(alias.as_ref(), "unnest"),
            TableFactor::TableFunction { alias, .. }
            | TableFactor::JsonTable { alias, .. }
            | TableFactor::XmlTable { alias, .. } => self.opaque(alias.as_ref(), ""),
            TableFactor::NestedJoin {
                table_with_joins,
                alias,
            } => {
                // Its columns are named through the alias alone.
                let row = self.table_row(table_with_joins)?;
                Item::derived(alias.as_ref(), "", Rc::new(row))
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
        })
    }

    fn opaque(&self, alias: Option<&TableAlias>, name: &str) -> Item {
        Item {
            refname: alias.map_or(name, |alias| &alias.name.value).into(),
            schema: None,
            site: None,
            row: Rc::new(self.told(alias, name)),
            aside: false,
        }
    }

    pub(super) fn relation(
        &self,
        name: &ObjectName,
        alias: Option<&TableAlias>,
    ) -> Result<Item, Unread> {
        let idents: Vec<&Ident> = name.0.iter().filter_map(|part| part.as_ident()).collect();
        let (Some(first), Some(last)) = (idents.first(), idents.last()) else {
            return Err(Unread::Construct("a relation without a name"));
        };
        if let [only] = idents.as_slice()
            && !self.is_target(name)
            && let Some(row) = self.cte(&only.value)
        {
            return Ok(Item::derived(alias, &last.value, row));
        }
        let site = self.places.start(first);
        let site = site.ok_or(Unread::Construct("a name without a place"))?;
        let row = self.known.get(&site).cloned();
        let schema = match idents.as_slice() {
            [schema, _] if alias.is_none() => {
                let bare = schema.value.strip_prefix(ONLY_MARK);
                Some(bare.unwrap_or(&schema.value).to_owned())
            }
            _ => None,
        };
        Ok(Item {
            refname: alias
                .map_or(&last.value, |alias| &alias.name.value)
                .as_str()
                .into(),
            schema,
            site: Some(site),
            row: renamed(alias, row.unwrap_or_else(|| Rc::new(Row::unknown()))),
            aside: false,
        })
    }

    pub(super) fn is_target(&self, name: &ObjectName) -> bool {
        self.targets.contains(&std::ptr::from_ref(name).addr())
    }

    /// The columns of one element of FROM, as `*` shows them. What its joins
    /// compare is touched.
    pub(super) fn table_row(&mut self, table: &TableWithJoins) -> Result<Row, Unread> {
        let mut row = self.factor_row(&table.relation)?;
        for join in &table.joins {
            let right = self.factor_row(&join.relation)?;
            row = self.joined(join, row, right)?;
        }
        Ok(row)
    }

    fn factor_row(&mut self, factor: &TableFactor) -> Result<Row, Unread> {
        match factor {
            TableFactor::NestedJoin {
                table_with_joins,
                alias: None,
            } => self.table_row(table_with_joins),
            other => Ok(Row::clone(&self.item(other)?.row)),
        }
    }

    /// USING and NATURAL merge columns, which come first.
    fn joined(&mut self, join: &Join, left: Row, right: Row) -> Result<Row, Unread> {
        let natural = matches!(constraint(join)?, JoinConstraint::Natural);
        let names: Vec<Arc<str>> = match natural {
            true => left
                .names()
                .filter(|name| right.has(name))
                .cloned()
                .collect(),
            false => self.using(join)?.0,
        };
        for name in &names {
            self.found.touch(&left, name);
            self.found.touch(&right, name);
        }
        if natural {
            // What is not known of one side may be any column of the other.
            for (one, other) in [(&left, &right), (&right, &left)] {
                if one.open {
                    self.found.touch_all(other);
                    self.found.uncertain = true;
                    self.found.vague = true;
                }
            }
        }
        let merged = |column: &Column| {
            let name = column.name.as_deref();
            name.is_some_and(|name| names.iter().any(|merged| **merged == *name))
        };
        let rest = left.columns.iter().chain(&right.columns);
        let rest = rest.filter(|column| !merged(column)).cloned();
        Ok(Row {
            open: left.open || right.open,
            columns: Row::computed(names.iter().cloned())
                .columns
                .into_iter()
                .chain(rest)
                .collect(),
        })
    }

    /// The columns of USING, and what the join calls them.
    fn using(&self, join: &Join) -> Result<(Vec<Arc<str>>, Option<String>), Unread> {
        let JoinConstraint::Using(columns) = constraint(join)? else {
            return Ok((Vec::new(), None));
        };
        let (mut names, mut alias) = (Vec::with_capacity(columns.len()), None);
        for column in columns {
            let last = column.0.last().and_then(|part| part.as_ident());
            let name = last.map_or("", |ident| &ident.value);
            match name
                .strip_prefix(USING_ALIAS)
                .filter(|_| self.places.marked())
            {
                Some(marked) => alias = Some(marked.to_owned()),
                None => names.push(name.into()),
            }
        }
        Ok((names, alias))
    }

    /// Touches what joins compare by name, anywhere in a FROM.
    pub(super) fn joins(&mut self, from: &[TableWithJoins]) -> Result<(), Unread> {
        for table in from {
            if merges(table)? {
                self.table_row(table)?;
            }
        }
        Ok(())
    }
}

/// Whether any join of an element of FROM compares columns by their names.
fn merges(table: &TableWithJoins) -> Result<bool, Unread> {
    let factors =
        std::iter::once(&table.relation).chain(table.joins.iter().map(|join| &join.relation));
    for factor in factors {
        if let TableFactor::NestedJoin {
            table_with_joins, ..
        } = factor
            && merges(table_with_joins)?
        {
            return Ok(true);
        }
    }
    for join in &table.joins {
        if let JoinConstraint::Using(_) | JoinConstraint::Natural = constraint(join)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn constraint(join: &Join) -> Result<&JoinConstraint, Unread> {
    match &join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::Left(constraint)
        | JoinOperator::LeftOuter(constraint)
        | JoinOperator::Right(constraint)
        | JoinOperator::RightOuter(constraint)
        | JoinOperator::FullOuter(constraint)
        | JoinOperator::CrossJoin(constraint) => Ok(constraint),
        _ => Err(Unread::Construct("a join that Postgres does not have")),
    }
}
