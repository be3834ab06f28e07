//! The door out: the final text, read once more by Postgres's grammar and judged by
//! policy alone.
//!
//! Knows nothing about the client's text or the rewriter: what it is given is the
//! text, the kind that was decided on, and whom to ask. Invariant: a final text is
//! of that kind and one statement; each relation in it is a common table
//! expression, or under its full name one that this caller reads as stored (or may
//! write), or stands inside a scan that says exactly what policy says; each
//! function outside a scan is qualified and allowed; operators, types, attribute
//! notation, locks and settings are as the caller may use them.
//!
//! What it does not judge is whether the text means what the client asked: a text
//! that shows nothing more than it may is let pass.

mod attributes;
mod commands;
mod expected;
mod harmless;
mod items;
mod parameters;
mod relations;
mod same;
mod scan;
#[cfg(test)]
mod tests;
mod views;

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::rc::Rc;

use pg_raw_parse::{Node, nodes, parse};

use super::canonical::query_of;
use super::statement::Kind;
use super::survey::{self, Columns, Rest, Written};
use super::{Context, Denial, Reason, actions, ddl, keys, system, temporary, types};
use crate::catalog::{Oid, Relation};
use crate::policy::{Action, RelationAccess};
use parameters::{Declared, Uses};

/// Checks a final text.
///
/// # Errors
/// [`Reason::Referee`]: the locks disagree, and nothing is sent.
pub(super) fn check(text: &str, kind: Kind, context: &Context<'_>) -> Result<(), Denial> {
    judge(text, kind, context).map_err(|objection| {
        Denial::new(
            Reason::Referee,
            format!("the rewritten statement was refused by the referee: {objection}"),
        )
        .hint("this is a fault of pgveil, not of the statement; please report it")
    })
}

/// What is wrong with a text.
type Verdict = Result<(), String>;

fn judge(text: &str, kind: Kind, context: &Context<'_>) -> Verdict {
    let tree = parse(text).map_err(|error| format!("it does not parse: {error}"))?;
    let mut statements = tree.iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err("it is not one statement".into());
    };
    let node = statement.stmt();
    if Kind::of(node) != Some(kind) {
        return Err("it is of another kind".into());
    }
    Referee::new(context).statement(node)
}

/// Policy's answers about what one final text holds.
struct Referee<'a> {
    context: &'a Context<'a>,
    accesses: RefCell<HashMap<Oid, Rc<RelationAccess>>>,
    catalogs: RefCell<HashMap<Oid, Option<Option<Rc<str>>>>>,
    /// The relations that it reads or writes, so far as it is judged.
    judged: RefCell<BTreeSet<Oid>>,
    /// How the statement's parameters are declared.
    declared: RefCell<Vec<Declared>>,
}

/// The whole of a query, for what depends on more than a part.
struct Root<'n> {
    query: Node<'n>,
    /// What the uses of parameters say, once somebody asks.
    uses: OnceCell<Option<Uses>>,
    /// Whether a scan stands in it.
    scanned: Cell<bool>,
    /// Whether a view that has masks or a filter of its own stands without them.
    exposed: Cell<bool>,
}

/// Where a query stands.
#[derive(Clone, Copy)]
struct Place<'p> {
    context: &'p Context<'p>,
    /// How many views are above it; in one nothing was rewritten.
    depth: usize,
}

impl<'a> Referee<'a> {
    fn new(context: &'a Context<'a>) -> Self {
        Self {
            context,
            accesses: RefCell::default(),
            catalogs: RefCell::default(),
            judged: RefCell::default(),
            declared: RefCell::new(
                context
                    .parameters
                    .iter()
                    .map(|oid| Declared::by_oid(*oid))
                    .collect(),
            ),
        }
    }

    fn access(&self, relation: &Relation) -> Rc<RelationAccess> {
        if let Some(known) = self.accesses.borrow().get(&relation.oid) {
            return known.clone();
        }
        let mut access = self.context.rights.access(relation, self.context.catalog);
        types::close(&mut access, relation, self.context);
        let access = Rc::new(access);
        self.accesses
            .borrow_mut()
            .insert(relation.oid, access.clone());
        access
    }

    fn may(&self, action: Action) -> Verdict {
        match self.context.rights.allows(action) {
            Some(_) => Ok(()),
            None => Err(format!("no grant allows {}", action.as_str())),
        }
    }

    /// Whether an action may be done with all relations that were judged.
    fn may_all(&self, action: Action) -> Verdict {
        let judged = self.judged.borrow();
        actions::allow(action, judged.iter().copied(), self.context)
            .map_err(|denial| denial.message)
    }

    fn statement(&self, node: Node<'_>) -> Verdict {
        match node {
            Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_)
            | Node::DeclareCursorStmt(_) => {}
            Node::PrepareStmt(prepare) => {
                let types = prepare.argtypes().iter();
                match types::listed(types.clone(), self.context) {
                    Ok(edits) if edits.is_empty() => {}
                    Ok(_) => return Err("a type is not qualified".into()),
                    Err(denial) => return Err(denial.message),
                }
                *self.declared.borrow_mut() = types.map(Declared::by_name).collect();
            }
            Node::ExplainStmt(explain) => {
                self.may(Action::Explain)?;
                if let Node::ExecuteStmt(_) = explain.query() {
                    actions::allow_any(Action::Explain, self.context)
                        .map_err(|denial| denial.message)?;
                    return self.command(explain.query());
                }
                if matches!(explain.query(), Node::CreateTableAsStmt(_)) {
                    return Err("it creates a table".into());
                }
            }
            Node::CreateTableAsStmt(create) => self.kept(create)?,
            Node::ViewStmt(view) => {
                self.may_change_the_schema()?;
                ddl::lasting(view).map_err(|denial| denial.message)?;
            }
            Node::CopyStmt(copy) => {
                if copy.relation().is_some() {
                    return self.copied(copy);
                }
                if copy.filename().is_some() || copy.is_program || copy.is_from {
                    return Err("it copies to or from a file".into());
                }
            }
            other => return self.command(other),
        }
        match query_of(node) {
            Some(query) => self.query(query, self.here())?,
            None => return Err("it holds no query".into()),
        }
        match node {
            Node::ExplainStmt(_) => self.may_all(Action::Explain),
            _ => Ok(()),
        }
    }

    fn here(&self) -> Place<'_> {
        Place {
            context: self.context,
            depth: 0,
        }
    }

    /// CREATE TABLE … AS: of a temporary table, or for who may change the schema.
    fn kept(&self, create: &nodes::CreateTableAsStmt) -> Verdict {
        let into = create.into();
        let is_temporary = into
            .and_then(|into| into.rel())
            .is_some_and(temporary::is_temporary);
        match (create.objtype, create.is_select_into) {
            (nodes::ObjectType::OBJECT_TABLE, false) if is_temporary => self.may(Action::Temp),
            (nodes::ObjectType::OBJECT_TABLE | nodes::ObjectType::OBJECT_MATVIEW, false) => {
                self.may_change_the_schema()
            }
            _ => Err("it creates a table".into()),
        }
    }

    /// COPY of a relation by its name.
    fn copied(&self, copy: &nodes::CopyStmt) -> Verdict {
        if copy.filename().is_some() || copy.is_program {
            return Err("it copies to or from a file".into());
        }
        if !matches!(copy.where_clause(), Node::None) {
            return Err("it filters what it copies".into());
        }
        match copy.relation() {
            Some(name) if copy.is_from => self.filled(name, copy),
            Some(name) => self.reads(name.schemaname(), name.relname(), self.here()),
            None => Err("it copies nothing".into()),
        }
    }

    /// COPY … FROM: an INSERT of the columns that it lists.
    fn filled(&self, name: &nodes::RangeVar, copy: &nodes::CopyStmt) -> Verdict {
        self.writes(name)?;
        let listed: BTreeSet<String> = copy
            .attlist()
            .iter()
            .filter_map(Node::as_str)
            .map(str::to_owned)
            .collect();
        let written = Written {
            start: 0,
            inserts: match listed.is_empty() {
                true => Columns::All,
                false => Columns::Some(listed),
            },
            updates: Columns::None,
            deletes: false,
        };
        let (schema, name) = (name.schemaname(), name.relname());
        let relation = self.named(schema, name, self.context)?;
        relation.map_or(Ok(()), |relation| {
            keys::write(relation, &written, self.context).map_err(|denial| denial.message)
        })
    }

    fn query(&self, query: Node<'_>, place: Place<'_>) -> Verdict {
        let root = Root {
            query,
            uses: OnceCell::new(),
            scanned: Cell::new(false),
            exposed: Cell::new(false),
        };
        let found = survey::survey(query, &|subselect| match place.depth {
            0 => self.rest(subselect, &root),
            _ => Rest::All,
        })
        .map_err(|unknown| format!("it holds `{unknown}`"))?;
        if found.into {
            return Err("it creates a table".into());
        }
        if root.exposed.get() {
            return Err("a view stands without its masks".into());
        }
        self.names(&found, place)?;
        self.locks(&found, root.scanned.get())?;
        keys::allow(&found, place.context).map_err(|denial| denial.message)?;
        self.gate(&found, place)?;
        self.functions(&found, place)?;
        self.attributes(&found, query, place)
    }

    /// What is left to be judged of a subquery in FROM.
    fn rest<'n>(&self, subselect: &'n nodes::RangeSubselect, root: &Root<'_>) -> Rest<'n> {
        match self.scan(subselect, root) {
            None => {
                let exposed = root.exposed.get() || self.is_exposed(subselect, root);
                root.exposed.set(exposed);
                Rest::All
            }
            Some(scan) => {
                root.scanned.set(true);
                self.judged.borrow_mut().insert(scan.oid);
                scan.beneath.map_or(Rest::Nothing, Rest::Only)
            }
        }
    }

    /// The type of a parameter, if it is certain.
    fn parameter(&self, number: i32, root: &Root<'_>) -> Option<Oid> {
        let at = usize::try_from(number).ok()?.checked_sub(1)?;
        let declared = self.declared.borrow();
        match declared.get(at).copied().unwrap_or(Declared::Left) {
            Declared::Of(oid) => Some(oid),
            Declared::Other => None,
            Declared::Left => {
                let uses = root.uses.get_or_init(|| self.uses(root.query)).as_ref()?;
                uses.get(&number).copied().flatten()
            }
        }
    }

    /// The filter of a scan of one of Postgres's own relations, if it has to have one;
    /// `None`: it is not read by a scan.
    fn catalog_filter(&self, relation: &Relation) -> Option<Option<Rc<str>>> {
        if let Some(known) = self.catalogs.borrow().get(&relation.oid) {
            return known.clone();
        }
        let filter = match system::standing(relation, self.context) {
            Ok(system::Standing::Scan(filter)) => Some(filter.map(Rc::from)),
            Ok(system::Standing::Clear) if self.is_foreign_row(relation) => Some(None),
            Ok(system::Standing::Clear | system::Standing::Expand) | Err(_) => None,
        };
        self.catalogs
            .borrow_mut()
            .insert(relation.oid, filter.clone());
        filter
    }
}
