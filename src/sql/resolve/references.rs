//! References: which columns a name means.
//!
//! Invariant: where a name could mean either of two columns, both count; where it
//! could not be told at all, the reading is uncertain.

use std::ops::ControlFlow;

use sqlparser::ast::Ident;

use super::{Flow, Reader, stop};

/// Columns that every table has and no scan lists by itself.
const SYSTEM: &[&str] = &["ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"];

/// What a dotted reference means.
struct Dotted {
    /// The relation's first byte, if it is one
    site: Option<usize>,
    means: Means,
}

#[derive(Clone, Copy)]
enum Means {
    /// Certainly a column
    Column,
    /// Certainly none: a function, or a type to cast to
    Attribute,
    /// It cannot be told.
    Either,
}

impl Reader<'_> {
    pub(super) fn reference(&mut self, parts: &[Ident]) -> Flow {
        let Some(start) = parts.first().and_then(|first| self.places.start(first)) else {
            return stop("a name without a place");
        };
        self.found.columns.insert(start);
        if self.outputs.contains(&start) {
            return ControlFlow::Continue(());
        }
        self.bind(start, parts);
        match parts {
            [name] => self.bare(&name.value),
            [refname, column] => match self.dotted(None, &refname.value, &column.value) {
                Some(dotted) => self.meant(start, &dotted),
                None => self.bare(&refname.value),
            },
            [schema, refname, column] => {
                match self.dotted(Some(&schema.value), &refname.value, &column.value) {
                    Some(dotted) => {
                        self.meant(start, &dotted);
                        let Some(site) = dotted.site else {
                            return stop("a name without a place");
                        };
                        self.found.long.push((start, site));
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

    /// Notes what a dotted reference turned out to mean: what no column of an item has
    /// as its name is a function, or a type to cast to.
    fn meant(&mut self, start: usize, dotted: &Dotted) {
        match dotted.means {
            Means::Column => {
                self.found.certain.insert(start);
            }
            Means::Attribute => {
                self.found.attributes.insert(start);
            }
            Means::Either => {}
        }
    }

    /// A bare name: the innermost scope that has such a column; else a whole row.
    ///
    /// A subquery in FROM does not see its siblings unless it is LATERAL, so what
    /// an outer scope seems to mean may be hidden from it: then what is further out
    /// counts as well.
    fn bare(&mut self, name: &str) {
        let found = &mut self.found;
        let (mut hit, mut open) = (false, false);
        for (level, scope) in self.scopes.iter().rev().enumerate() {
            let (mut here, mut unknown) = (false, false);
            for item in scope.items.iter().filter(|item| !item.aside) {
                here |= found.touch(&item.row, name);
                unknown |= item.row.open;
            }
            if here && level == 0 {
                return;
            }
            hit |= here;
            open |= unknown && !hit;
        }
        found.vague |= open;
        for scope in self.scopes.iter().rev() {
            if let Some(item) = scope.items.iter().find(|item| *item.refname == *name) {
                found.touch_all(&item.row);
                hit = true;
                break;
            }
        }
        found.uncertain |= !(hit || open || SYSTEM.contains(&name));
    }

    /// `refname.column` or `refname.*`.
    fn dotted(&mut self, schema: Option<&str>, refname: &str, column: &str) -> Option<Dotted> {
        let found = &mut self.found;
        let mut outer = None;
        for (level, scope) in self.scopes.iter().rev().enumerate() {
            let Some(item) = scope.items.iter().find(|item| {
                *item.refname == *refname && (schema.is_none() || item.schema.as_deref() == schema)
            }) else {
                continue;
            };
            let certain = if column == "*" {
                found.touch_all(&item.row);
                true
            } else {
                let certain = found.touch(&item.row, column);
                // A relation's scan has it, where it is named.
                let is_ctid = column == "ctid" && item.site.is_some();
                if !certain && !item.row.open && !is_ctid {
                    // Attribute notation: a function of the whole row.
                    found.touch_all(&item.row);
                }
                certain
            };
            let is_none = !item.row.open && column != "*" && !item.row.has(column);
            let means = match level {
                0 if certain => Means::Column,
                _ if is_none && !SYSTEM.contains(&column) => Means::Attribute,
                _ => Means::Either,
            };
            let dotted = Dotted {
                site: item.site,
                means,
            };
            if level == 0 {
                return Some(dotted);
            }
            outer.get_or_insert(dotted);
        }
        outer
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
        let mut holders = scope
            .items
            .iter()
            .filter(|item| match refname {
                Some(refname) => *item.refname == **refname,
                None => !item.aside,
            })
            .filter(|item| item.row.open || item.row.has(column));
        let (Some(item), None) = (holders.next(), holders.next()) else {
            return;
        };
        let mut columns = item.row.columns.iter();
        let is_it = |name: &str| *name == **column;
        let held = columns.find(|held| held.name.as_deref().is_some_and(is_it));
        if let Some((site, stored)) = held.and_then(|held| held.of.as_ref())
            && item.site == Some(*site)
        {
            self.found.bound.insert(start, (*site, stored.to_string()));
        }
    }

    /// Notes a bare name that is an output column's: of ORDER BY and DISTINCT ON
    /// (`first`) before FROM is asked, of GROUP BY where FROM has none of that name.
    pub(super) fn output(&mut self, name: &Ident, first: bool) {
        let Some(scope) = self.scopes.last() else {
            return;
        };
        let in_from = || {
            let mut items = scope.items.iter().filter(|item| !item.aside);
            items.any(|item| item.row.open || item.row.has(&name.value))
        };
        let named = scope.outputs.iter().any(|output| **output == *name.value);
        if named
            && (first || !in_from())
            && let Some(start) = self.places.start(name)
        {
            self.outputs.insert(start);
        }
    }
}
