//! References: which columns a name means.
//!
//! Invariant: where a name could mean either of two columns, both count; where it
//! could not be told at all, the reading is uncertain.

use std::ops::ControlFlow;

use sqlparser::ast::Ident;

use super::scope::{Item, Scope};
use super::{Flow, Reader, stop};

/// Columns that every table has and no scan lists by itself.
const SYSTEM: &[&str] = &["ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"];

impl Reader<'_> {
    pub(super) fn reference(&mut self, parts: &[Ident]) -> Flow {
        let Some(start) = parts.first().and_then(|first| self.start(first)) else {
            return stop("a name without a place");
        };
        if self.output_names.contains(&start) {
            self.found.columns.insert(start);
            return ControlFlow::Continue(());
        }
        self.found.columns.insert(start);
        self.bind(start, parts);
        match parts {
            [name] => self.bare(&name.value),
            [refname, column] => match self.dotted(None, &refname.value, &column.value) {
                Some((_, true)) => {
                    self.found.certain.insert(start);
                }
                Some((_, false)) => {}
                None => self.bare(&refname.value),
            },
            [schema, refname, column] => {
                match self.dotted(Some(&schema.value), &refname.value, &column.value) {
                    Some((item, certain)) => {
                        if certain {
                            self.found.certain.insert(start);
                        }
                        let (Some(site), Some(after)) = (item.site, self.start(refname)) else {
                            return stop("a name without a place");
                        };
                        self.found.long.push((start, after, site));
                    }
                    None => {
                        self.dotted(None, &schema.value, &refname.value);
                    }
                }
            }
            _ => return stop("a reference of more than three parts"),
        }
        ControlFlow::Continue(())
    }

    /// A bare name: the innermost scope that has such a column; else a whole row.
    ///
    /// A subquery in FROM does not see its siblings unless it is LATERAL, so what
    /// an outer scope seems to mean may be hidden from it: then what is further out
    /// counts as well.
    fn bare(&mut self, name: &str) {
        let mut found = false;
        for level in (0..self.scopes.len()).rev() {
            let innermost = level + 1 == self.scopes.len();
            let items = self
                .scopes
                .get(level)
                .map_or_else(Vec::new, |scope| scope.items.clone());
            let mut hit = false;
            for item in &items {
                hit |= self.touch(item, name);
            }
            if !hit && let Some(item) = items.iter().find(|item| item.refname == name) {
                self.touch_all(item);
                hit = true;
            }
            if hit && innermost {
                return;
            }
            found |= hit;
        }
        if found || SYSTEM.contains(&name) {
            return;
        }
        let output = |scope: &Scope| scope.outputs.iter().any(|output| output == name);
        self.found.uncertain |= !self.scopes.last().is_some_and(output);
    }

    /// `refname.column` or `refname.*`; whether the column is certainly one.
    fn dotted(
        &mut self,
        schema: Option<&str>,
        refname: &str,
        column: &str,
    ) -> Option<(Item, bool)> {
        let named = |item: &&Item| {
            item.refname == refname && (schema.is_none() || item.schema.as_deref() == schema)
        };
        let mut found = None;
        for level in (0..self.scopes.len()).rev() {
            let innermost = level + 1 == self.scopes.len();
            let scope = self.scopes.get(level)?;
            let Some(item) = scope.items.iter().find(named).cloned() else {
                continue;
            };
            let certain = if column == "*" {
                self.touch_all(&item);
                true
            } else {
                let certain = self.touch(&item, column);
                if !certain && item.columns.is_some() {
                    // Attribute notation: a function of the whole row.
                    self.touch_all(&item);
                }
                certain
            };
            if innermost {
                return Some((item, certain));
            }
            found.get_or_insert((item, false));
        }
        found
    }

    /// Notes what a reference is bound to, if the innermost scope leaves no doubt.
    fn bind(&mut self, start: usize, parts: &[Ident]) {
        let Some(scope) = self.scopes.last() else {
            return;
        };
        let (refname, column) = match parts {
            [column] => (None, &column.value),
            [refname, column] => (Some(&refname.value), &column.value),
            _ => return,
        };
        let mut items = scope
            .items
            .iter()
            .filter(|item| refname.is_none_or(|refname| item.refname == *refname));
        let holds = |item: &Item| {
            item.columns
                .as_ref()
                .is_none_or(|all| all.iter().any(|(name, _)| name == column))
        };
        let (Some(item), None) = (
            items.by_ref().find(|item| holds(item)),
            items.find(|item| holds(item)),
        ) else {
            return;
        };
        let stored = item
            .columns
            .iter()
            .flatten()
            .find(|(name, _)| name == column);
        if let (Some(site), Some((_, stored))) = (item.site, stored) {
            self.found.bound.insert(start, (site, stored.clone()));
        }
    }

    pub(super) fn touch(&mut self, item: &Item, visible: &str) -> bool {
        let stored = item
            .columns
            .iter()
            .flatten()
            .find(|(name, _)| name == visible)
            .map(|(_, stored)| stored.clone());
        if let (Some(stored), Some(site)) = (&stored, item.site) {
            self.found
                .uses
                .entry(site)
                .or_default()
                .insert(stored.clone());
        }
        stored.is_some()
    }

    pub(super) fn touch_all(&mut self, item: &Item) {
        if let Some(site) = item.site {
            let stored = item
                .columns
                .iter()
                .flatten()
                .map(|(_, stored)| stored.clone());
            self.found.uses.entry(site).or_default().extend(stored);
        }
    }
}
