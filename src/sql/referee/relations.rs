//! Relations that a final text names outside of scans, and what it calls.
//!
//! Invariant: such a relation is named with its schema, and the caller reads it as
//! it is stored, every row and every column, or may write it; of a view the same
//! holds for everything beneath it.

use std::sync::Arc;

use pg_raw_parse::nodes;

use super::expected::is_definition;
use super::{Place, Referee, Verdict};
use crate::catalog::{Relation, RelationKind};
use crate::policy::Action;
use crate::sql::survey::{Role, Survey};
use crate::sql::{Context, Scope, functions, gate, system, temporary, types, updatable};

/// Views inside views, at most.
const DEPTH: usize = 16;

impl Referee<'_> {
    pub(super) fn names(&self, found: &Survey, place: Place<'_>) -> Verdict {
        for site in found.relations.iter().filter(|site| !site.cte) {
            if site.catalog.is_some() {
                return Err(format!("it names {} with a database", site.name));
            }
            let (schema, name) = (site.schema.as_deref(), Some(site.name.as_str()));
            match site.role {
                Role::Read => self.reads(schema, name, place)?,
                Role::Target if place.depth > 0 => {
                    return Err(format!("a view writes {}", site.name));
                }
                Role::Target => {
                    let relation = self.changes(schema, name, place)?;
                    if relation.is_some_and(|one| self.is_foreign_row(one)) && found.takes_row(site)
                    {
                        return Err(format!("it takes rows of the foreign type {}", site.name));
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether the caller reads that relation as it is stored.
    pub(super) fn reads(
        &self,
        schema: Option<&str>,
        name: Option<&str>,
        place: Place<'_>,
    ) -> Verdict {
        let Some(relation) = self.named(schema, name, place.context)? else {
            return Ok(());
        };
        let object = || {
            let label = relation.label();
            Err(format!("it names {label} outside a scan"))
        };
        if relation.is_system() {
            return match system::standing(relation, self.context) {
                Ok(system::Standing::Clear) => self.known(relation),
                Ok(system::Standing::Scan(_) | system::Standing::Expand) | Err(_) => object(),
            };
        }
        let access = self.access(relation);
        if !access.actions.contains(&Action::Read) || !access.is_clear() {
            return object();
        }
        self.judged.borrow_mut().insert(relation.oid);
        self.known(relation)?;
        match relation.kind {
            RelationKind::Table
            | RelationKind::PartitionedTable
            | RelationKind::ForeignTable
            | RelationKind::MaterializedView => Ok(()),
            RelationKind::View => self.beneath(relation, place),
            RelationKind::Sequence
            | RelationKind::Toast
            | RelationKind::CompositeType
            | RelationKind::Index => object(),
        }
    }

    /// Whether the caller may write to that relation by its name.
    pub(super) fn writes(&self, name: &nodes::RangeVar) -> Verdict {
        match name.catalogname() {
            None => {
                let changed = self.changes(name.schemaname(), name.relname(), self.here())?;
                match changed {
                    Some(view) if view.kind == RelationKind::View => {
                        Err(format!("it takes {} for a table", view.label()))
                    }
                    _ => Ok(()),
                }
            }
            Some(_) => Err("it names a relation with a database".into()),
        }
    }

    /// The relation that may be written; none for a temporary table.
    fn changes(
        &self,
        schema: Option<&str>,
        name: Option<&str>,
        place: Place<'_>,
    ) -> Result<Option<&Arc<Relation>>, String> {
        let Some(relation) = self.named(schema, name, self.context)? else {
            return Ok(None);
        };
        let access = self.access(relation);
        self.judged.borrow_mut().insert(relation.oid);
        let is_table = matches!(
            relation.kind,
            RelationKind::Table | RelationKind::PartitionedTable | RelationKind::View
        );
        let may = access.actions.contains(&Action::Write) && access.is_clear();
        match !relation.is_system() && is_table && may {
            true => {
                self.values(relation)?;
                if relation.kind == RelationKind::View {
                    self.through(schema, name, relation, place)?;
                }
                Ok(Some(relation))
            }
            false => Err(format!("it writes {}", relation.label())),
        }
    }

    /// Whether a view may be written: it is read as it is stored, and so is each table
    /// beneath it, which may be written.
    fn through(
        &self,
        schema: Option<&str>,
        name: Option<&str>,
        view: &Relation,
        place: Place<'_>,
    ) -> Verdict {
        self.reads(schema, name, place)?;
        let beneath = updatable::allow(view, self.context).map_err(|denial| denial.message)?;
        beneath.iter().try_for_each(|one| self.known(one))
    }

    /// The relation of a full name; none for a temporary table of the session's own.
    pub(super) fn named(
        &self,
        schema: Option<&str>,
        name: Option<&str>,
        context: &Context<'_>,
    ) -> Result<Option<&Arc<Relation>>, String> {
        let (Some(schema), Some(name)) = (schema, name) else {
            return Err(format!("it names {} without a schema", name.unwrap_or("?")));
        };
        if schema == temporary::SCHEMA {
            return match temporary::lookup(context, Some(schema), name) {
                Some(_) => Ok(None),
                None => Err(format!("it names {schema}.{name}")),
            };
        }
        match self.context.catalog.relation(schema, name) {
            Some(relation) => Ok(Some(relation)),
            None => Err(format!("it names {schema}.{name}")),
        }
    }

    /// Whether everything beneath a view is read as it is stored, by functions and
    /// operators that the caller may use.
    fn beneath(&self, view: &Relation, place: Place<'_>) -> Verdict {
        if place.depth >= DEPTH {
            return Err(format!("{} nests too deeply", view.label()));
        }
        // Definitions are loaded with every name qualified.
        let nowhere = Scope::default();
        let context = Context {
            scope: &nowhere,
            ..*self.context
        };
        let inside = Place {
            context: &context,
            depth: place.depth + 1,
        };
        let mut verdict = Err(format!("{} has no definition", view.label()));
        if let Some(definition) = &view.definition {
            is_definition(definition, |query| {
                verdict = self.query(query, inside);
                true
            });
        }
        verdict.map_err(|objection| format!("beneath {}, {objection}", view.label()))
    }

    /// Whether no value of the relation, and no row of it, is of a type that is cast
    /// or checked by a function which policy does not know.
    pub(super) fn known(&self, relation: &Relation) -> Verdict {
        match self.is_foreign_row(relation) {
            true => Err(format!(
                "rows of {} are of a foreign type",
                relation.label()
            )),
            false => self.values(relation),
        }
    }

    /// The same of its values alone.
    pub(super) fn values(&self, relation: &Relation) -> Verdict {
        types::values(relation, self.context).map_err(|denial| denial.message)
    }

    pub(super) fn is_foreign_row(&self, relation: &Relation) -> bool {
        types::row(relation, self.context).is_err()
    }

    /// Types, operators and syntax: as the gate lets them pass, and each type under its
    /// full name where the search_path could decide.
    pub(super) fn gate(&self, found: &Survey, place: Place<'_>) -> Verdict {
        match gate::pass(found, place.context, |_| false) {
            Ok(edits) if edits.is_empty() => Ok(()),
            Ok(_) => Err("a type is not qualified".into()),
            Err(denial) => Err(denial.message),
        }
    }

    /// FOR UPDATE and its kin lock rows: for those who may write, and not behind a
    /// scan.
    pub(super) fn locks(&self, found: &Survey, scanned: bool) -> Verdict {
        match found.locks {
            false => Ok(()),
            true if scanned => Err("it locks rows behind a scan".into()),
            true => self.may_all(Action::Write),
        }
    }

    pub(super) fn functions(&self, found: &Survey, place: Place<'_>) -> Verdict {
        for site in &found.functions {
            let open = functions::is_open(site, place.context);
            if site.schema.is_none() && !open && place.depth == 0 {
                return Err(format!("function {} is not qualified", site.name));
            }
            if place.depth == 0 && functions::is_unpinned(site) {
                return Err(format!("{} names a relation without its schema", site.name));
            }
            functions::allow(site, place.context).map_err(|denial| denial.message)?;
        }
        Ok(())
    }
}
