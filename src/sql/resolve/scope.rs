//! Scopes: what names can mean at a place, by Postgres's rules.
//!
//! Knows nothing about how references are followed. Rules: the documentation's
//! "WITH Queries" and "Table Expressions".

use std::rc::Rc;
use std::sync::Arc;

use sqlparser::ast::{Query, TableAlias, With};

use super::{Reader, Unread};
use crate::sql::skeleton::{MORE, OWN};

/// A column as names see it.
#[derive(Clone, Debug)]
pub(in crate::sql) struct Column {
    /// Its visible name; none where that cannot be told.
    pub(in crate::sql) name: Option<Arc<str>>,
    /// The relation's first byte and the stored column; none where it is computed,
    /// or was counted where it was read.
    pub(in crate::sql) of: Option<(usize, Arc<str>)>,
}

impl Column {
    pub(super) fn computed(name: Option<Arc<str>>) -> Self {
        Self { name, of: None }
    }
}

/// What an item of FROM, or a query, has for columns, in order.
#[derive(Clone, Debug, Default)]
pub(in crate::sql) struct Row {
    pub(in crate::sql) columns: Vec<Column>,
    /// There may be more, or some under other names.
    pub(in crate::sql) open: bool,
}

impl Row {
    pub(super) fn unknown() -> Self {
        Self {
            columns: Vec::new(),
            open: true,
        }
    }

    /// Columns that are computed, of these names.
    pub(super) fn computed(names: impl IntoIterator<Item = Arc<str>>) -> Self {
        Self {
            columns: names
                .into_iter()
                .map(|name| Column::computed(Some(name)))
                .collect(),
            open: false,
        }
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.names().any(|known| **known == *name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.columns
            .iter()
            .filter_map(|column| column.name.as_ref())
    }

    /// `x AS t(a, b)` renames the first columns.
    fn rename(&mut self, names: Vec<Arc<str>>) {
        for (at, name) in names.into_iter().enumerate() {
            match self.columns.get_mut(at) {
                Some(column) => column.name = Some(name),
                None => self.columns.push(Column::computed(Some(name))),
            }
        }
        self.open |= self.columns.iter().any(|column| column.name.is_none());
    }
}

/// An item of a FROM clause, as names see it.
#[derive(Debug)]
pub(super) struct Item {
    pub(super) refname: Arc<str>,
    pub(super) schema: Option<String>,
    /// The first byte of the relation's name; none for subqueries, functions and
    /// common table expressions.
    pub(super) site: Option<usize>,
    pub(super) row: Rc<Row>,
    /// Its columns are named with it only, and `*` does not show it.
    pub(super) aside: bool,
}

impl Item {
    /// Something that is not a relation, under its alias.
    pub(super) fn derived(alias: Option<&TableAlias>, name: &str, row: Rc<Row>) -> Self {
        Self {
            refname: alias.map_or(name, |alias| &alias.name.value).into(),
            schema: None,
            site: None,
            row: renamed(alias, row),
            aside: false,
        }
    }

    /// Columns that can be named with `refname` only.
    pub(super) fn aside(refname: &str, row: Row) -> Self {
        Self {
            refname: refname.into(),
            schema: None,
            site: None,
            row: Rc::new(row),
            aside: true,
        }
    }
}

/// A row under an alias.
pub(super) fn renamed(alias: Option<&TableAlias>, row: Rc<Row>) -> Rc<Row> {
    match alias {
        Some(alias) if !alias.columns.is_empty() => {
            let mut renamed = Row::clone(&row);
            renamed.rename(alias_columns(alias));
            Rc::new(renamed)
        }
        _ => row,
    }
}

pub(super) fn alias_columns(alias: &TableAlias) -> Vec<Arc<str>> {
    let columns = alias.columns.iter();
    columns
        .map(|column| column.name.value.as_str().into())
        .collect()
}

/// A common table expression, as names see it.
pub(super) struct Cte {
    name: String,
    /// The address of its body in the tree, to know when it is visited.
    body: usize,
    row: Rc<Row>,
}

#[derive(Default)]
pub(super) struct Scope {
    ctes: Vec<Cte>,
    recursive: bool,
    /// Without RECURSIVE, how many common table expressions can be seen yet.
    visible: usize,
    pub(super) items: Vec<Item>,
    /// Names of output columns, as far as ORDER BY and its kin may mean them.
    pub(super) outputs: Vec<Arc<str>>,
    /// Of UNION and its kin: ORDER BY names output columns only.
    pub(super) set: bool,
}

impl Scope {
    pub(super) fn of(items: Vec<Item>) -> Self {
        Self {
            items,
            ..Self::default()
        }
    }
}

impl Reader<'_> {
    /// The columns of the common table expression that a bare name means here.
    pub(super) fn cte(&self, name: &str) -> Option<Rc<Row>> {
        self.scopes.iter().rev().find_map(|scope| {
            let visible = if scope.recursive {
                scope.ctes.len()
            } else {
                scope.visible
            };
            let seen = scope.ctes.get(..visible)?;
            let cte = seen.iter().rfind(|cte| cte.name == name)?;
            Some(cte.row.clone())
        })
    }

    /// Notes that the body of a common table expression begins (`past` 0: it sees
    /// those before it) or has ended (`past` 1: it can be seen itself).
    pub(super) fn enter_body(&mut self, query: &Query, past: usize) {
        let address = std::ptr::from_ref(query).addr();
        if let Some(scope) = self.scopes.last_mut()
            && let Some(at) = scope.ctes.iter().position(|cte| cte.body == address)
        {
            scope.visible = scope.visible.max(at + past);
        }
    }

    /// Adds the common table expressions of a WITH to the innermost scope.
    pub(super) fn declare(&mut self, with: &With) -> Result<(), Unread> {
        let declared = with.cte_tables.iter().map(|cte| Cte {
            name: cte.alias.name.value.clone(),
            body: std::ptr::from_ref::<Query>(&cte.query).addr(),
            row: Rc::new(Row::unknown()),
        });
        if let Some(scope) = self.scopes.last_mut() {
            scope.ctes = declared.collect();
            scope.recursive = with.recursive;
        }
        for (at, cte) in with.cte_tables.iter().enumerate() {
            let mut names = alias_columns(&cte.alias);
            let own = self.places.marked() && names.first().is_some_and(|name| **name == *OWN);
            let row = match names.is_empty() || own {
                false => Rc::new(Row::computed(names)),
                true => {
                    let row = self.query_row(&cte.query)?;
                    names = names.split_off(usize::from(own));
                    let mut row = Row::clone(&row);
                    let added = names.into_iter().map(|name| Column::computed(Some(name)));
                    row.columns.extend(added);
                    Rc::new(row)
                }
            };
            if let Some(scope) = self.scopes.last_mut() {
                scope.visible = at + 1;
                if let Some(cte) = scope.ctes.get_mut(at) {
                    cte.row = row;
                }
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.visible = 0;
        }
        Ok(())
    }

    /// The columns that the alias of something opaque tells.
    pub(super) fn told(&self, alias: Option<&TableAlias>, name: &str) -> Row {
        let Some(alias) = alias.filter(|alias| !alias.columns.is_empty()) else {
            // What a function returns is called like it, unless it is a row.
            let name = alias.map_or(name, |alias| &alias.name.value);
            return Row {
                open: true,
                ..Row::computed([name.into()])
            };
        };
        let mut names = alias_columns(alias);
        let more = names.last().is_some_and(|name| **name == *MORE);
        let typed = alias
            .columns
            .iter()
            .all(|column| column.data_type.is_some());
        if more {
            names.pop();
        }
        Row {
            open: match self.places.marked() {
                true => more,
                false => !typed,
            },
            ..Row::computed(names)
        }
    }
}
