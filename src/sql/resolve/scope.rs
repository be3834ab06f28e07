//! Scopes: what names can mean at a place, by Postgres's rules.
//!
//! Knows nothing about how references are followed. Rules: the documentation's
//! "WITH Queries" and "Table Expressions".

use sqlparser::ast::{Query, TableAlias, With};

use super::Reader;

/// An item of a FROM clause, as names see it.
#[derive(Clone, Debug)]
pub(super) struct Item {
    pub(super) refname: String,
    pub(super) schema: Option<String>,
    /// The first byte of the relation's name; none for subqueries, functions and
    /// common table expressions.
    pub(super) site: Option<usize>,
    /// Visible name and stored name; none where they are not known.
    pub(super) columns: Option<Vec<(String, String)>>,
}

/// A common table expression, as names see it.
pub(super) struct Cte {
    pub(super) name: String,
    /// The address of its body in the tree, to know when it is visited.
    pub(super) body: usize,
    pub(super) outputs: Option<Vec<String>>,
}

#[derive(Default)]
pub(super) struct Scope {
    pub(super) ctes: Vec<Cte>,
    pub(super) recursive: bool,
    /// Without RECURSIVE, how many common table expressions can be seen yet.
    pub(super) visible: usize,
    pub(super) items: Vec<Item>,
    pub(super) outputs: Vec<String>,
}

impl Reader<'_> {
    /// The common table expression that a bare name means here, as its output
    /// names if they are known.
    pub(super) fn cte(&self, name: &str) -> Option<Option<Vec<String>>> {
        self.scopes.iter().rev().find_map(|scope| {
            let visible = if scope.recursive {
                scope.ctes.len()
            } else {
                scope.visible
            };
            let cte = scope
                .ctes
                .get(..visible)?
                .iter()
                .rfind(|cte| cte.name == name)?;
            Some(cte.outputs.clone())
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
    pub(super) fn declare(&mut self, with: &With) {
        for cte in &with.cte_tables {
            let outputs = match cte.alias.columns.is_empty() {
                false => Some(alias_columns(&cte.alias)),
                true => self.outputs(&cte.query, 0),
            };
            if let Some(scope) = self.scopes.last_mut() {
                scope.ctes.push(Cte {
                    name: cte.alias.name.value.clone(),
                    body: std::ptr::from_ref::<Query>(&cte.query).addr(),
                    outputs,
                });
                scope.visible = scope.ctes.len();
            }
        }
        if let Some(scope) = self.scopes.last_mut() {
            scope.recursive = with.recursive;
            scope.visible = 0;
        }
    }
}

pub(super) fn same(names: Vec<String>) -> Vec<(String, String)> {
    names.into_iter().map(|name| (name.clone(), name)).collect()
}

pub(super) fn alias_columns(alias: &TableAlias) -> Vec<String> {
    alias
        .columns
        .iter()
        .map(|column| column.name.value.clone())
        .collect()
}

/// An item whose columns are not known, unless the alias names them.
pub(super) fn opaque(alias: Option<&TableAlias>, name: &str) -> Item {
    renamed(alias, name, None, None, None)
}

/// An item under its alias: `x AS t(a, b)` renames the first columns.
pub(super) fn renamed(
    alias: Option<&TableAlias>,
    name: &str,
    schema: Option<String>,
    site: Option<usize>,
    columns: Option<Vec<(String, String)>>,
) -> Item {
    let mut columns = columns;
    if let (Some(alias), Some(columns)) = (alias, &mut columns) {
        for (column, renamed) in columns.iter_mut().zip(alias_columns(alias)) {
            column.0 = renamed;
        }
    }
    Item {
        refname: alias.map_or_else(|| name.to_owned(), |alias| alias.name.value.clone()),
        schema,
        site,
        columns,
    }
}
