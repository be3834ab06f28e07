//! Whether a subquery is a view's expansion: its definition, with scans where it
//! names relations.
//!
//! What the expansion holds is judged like a statement of the caller's own. This is
//! about the masks above it alone, which may use what the caller may not: over
//! anything but the view itself they could be tried out.

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use super::expected::is_definition;
use super::same::{Judge, same_but};
use super::{Referee, Root};
use crate::catalog::{Relation, RelationKind};

impl Referee<'_> {
    pub(super) fn is_expansion(&self, view: &Relation, found: Node<'_>, root: &Root<'_>) -> bool {
        let expansion = Expansion {
            referee: self,
            root,
        };
        view.definition.as_ref().is_some_and(|definition| {
            is_definition(definition, |defined| same_but(defined, found, &expansion))
        })
    }

    /// Whether a view that has masks or a filter of its own stands there without them,
    /// under the name that its expansion goes by.
    pub(super) fn is_exposed(&self, found: &nodes::RangeSubselect, root: &Root<'_>) -> bool {
        let name = found.alias().and_then(nodes::Alias::aliasname);
        let mut views = name.into_iter().flat_map(|name| self.views(name));
        views.any(|view| self.is_expansion(view, found.subquery(), root))
    }

    /// Whether a scan, or an expansion, of the relation stands there.
    fn stands_for(
        &self,
        relation: &Relation,
        found: &nodes::RangeSubselect,
        root: &Root<'_>,
    ) -> bool {
        match self.scan(found, root) {
            Some(scan) => scan.oid == relation.oid,
            None => {
                relation.kind == RelationKind::View
                    && self.is_expansion(relation, found.subquery(), root)
            }
        }
    }
}

/// A definition beside what may be its expansion.
struct Expansion<'e> {
    referee: &'e Referee<'e>,
    root: &'e Root<'e>,
}

impl Judge for Expansion<'_> {
    /// A name in a definition, and what stands there in an expansion.
    fn relation(&self, defined: &nodes::RangeVar, found: Node<'_>) -> Option<bool> {
        let Node::RangeSubselect(found) = found else {
            return None;
        };
        let (Some(schema), Some(name)) = (defined.schemaname(), defined.relname()) else {
            return None;
        };
        let relation = self.referee.context.catalog.relation(schema, name)?;
        let alias = found.alias();
        let renamed = match defined.alias() {
            Some(own) => alias.is_some_and(|alias| {
                alias.aliasname() == own.aliasname()
                    && alias
                        .colnames()
                        .iter()
                        .map(Node::as_str)
                        .eq(own.colnames().iter().map(Node::as_str))
            }),
            None => alias.is_some_and(|alias| {
                alias.aliasname() == Some(name) && alias.colnames().is_empty()
            }),
        };
        Some(renamed && !found.lateral && self.referee.stands_for(relation, found, self.root))
    }

    /// Definitions are loaded so that what has no schema is Postgres's own.
    fn function(&self, defined: &NodeList, found: &NodeList) -> bool {
        let mut found = found.iter().map(Node::as_str);
        let schema = match defined.len() {
            1 => found.next() == Some(Some("pg_catalog")),
            _ => true,
        };
        schema && defined.iter().map(Node::as_str).eq(found)
    }
}
