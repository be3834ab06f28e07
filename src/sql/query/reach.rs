//! A relation as a statement reaches it: which one its name means, and how this
//! caller reads or writes it.
//!
//! Knows nothing about the rest of the statement. Invariant: what is not
//! certainly read as stored stands behind a scan, or is refused.

use std::sync::Arc;

use super::sample::sample;
use super::scans::names_system;
use super::views::expand;
use crate::catalog::{Column, Relation, RelationKind};
use crate::policy::{Action, RelationAccess, Treatment};
use crate::sql::canonical::Canonical;
use crate::sql::names::lookup;
use crate::sql::step::{Step, wrong};
use crate::sql::survey::{RelationSite, Role, Survey};
use crate::sql::{Context, Denial, Reason, RelationUse, step_up};
use crate::sql::{system, temporary, types, updatable};

/// A relation as the statement reaches it.
pub(super) struct Reached {
    pub(super) site: RelationSite,
    pub(super) only: bool,
    pub(super) relation: Arc<Relation>,
    /// None for Postgres's own relations.
    pub(super) access: Option<RelationAccess>,
    /// The bytes of its TABLESAMPLE clause.
    pub(super) sample: Option<(usize, usize)>,
    pub(super) standing: Standing,
    /// What a view's expansion touches.
    pub(super) beneath: Vec<RelationUse>,
}

impl Reached {
    /// The columns that this caller can name, in order.
    pub(super) fn visible(&self) -> impl Iterator<Item = &Column> {
        let accesses = self.access.as_ref().map(|access| access.columns.as_slice());
        let hidden = move |at: usize| {
            let access = accesses.and_then(|columns| columns.get(at));
            access.is_some_and(|column| matches!(column.treatment, Treatment::Hide))
        };
        let columns = self.relation.columns.iter().enumerate();
        columns
            .filter(move |(at, _)| !hidden(*at))
            .map(|(_, column)| column)
    }
}

pub(super) enum Standing {
    /// As stored, under its full name.
    Clear,
    /// To be replaced by a scan, once it is known which columns are used.
    Governed,
    /// A view whose own columns are masked, over this governed expansion.
    Masked(String),
    /// Replaced by this canonical SELECT.
    Scan(String),
}

pub(super) fn reach(
    site: &RelationSite,
    canonical: &Canonical,
    surveyed: &Survey,
    context: &Context<'_>,
    depth: usize,
) -> Result<Reached, Denial> {
    let (only, schema) = site.qualifier();
    if site.catalog.is_some() {
        return Err(Denial::new(
            Reason::Unsupported,
            "names with a database in front are not served",
        )
        .hint("leave the database out: schema.relation"));
    }
    let temporary = temporary::lookup(context, schema, &site.name);
    let taken = wrong(Step::Temporary) && schema.is_none();
    if let Some(relation) = temporary.or_else(|| taken.then(|| temporary::relation(&site.name))) {
        return Ok(Reached {
            site: site.clone(),
            only,
            relation,
            access: None,
            sample: None,
            standing: Standing::Clear,
            beneath: Vec::new(),
        });
    }
    let Some(relation) = lookup(
        context.catalog,
        &context.scope.search_path,
        schema,
        &site.name,
    ) else {
        let name = schema.map_or_else(
            || site.name.clone(),
            |schema| format!("{schema}.{}", site.name),
        );
        return Err(Denial::new(
            Reason::UnknownRelation,
            format!("relation \"{name}\" does not exist"),
        ));
    };
    let mut reached = Reached {
        site: site.clone(),
        only,
        relation: relation.clone(),
        access: None,
        sample: None,
        standing: Standing::Clear,
        beneath: Vec::new(),
    };
    let sampled = surveyed
        .samples
        .iter()
        .any(|sample| sample.relation == site.start);
    if relation.is_system() {
        reached.sample = sample(site, &canonical.text, surveyed)?;
        if site.role == Role::Target {
            return Err(Denial::new(
                Reason::Policy,
                format!("{} cannot be written to", relation.label()),
            ));
        }
        let standing = match system::standing(relation, context) {
            Err(_) if wrong(Step::Secret) => system::Standing::Clear,
            Ok(_) if wrong(Step::Catalog) => system::Standing::Clear,
            standing => standing?,
        };
        match standing {
            system::Standing::Clear if row_is_foreign(relation, context) => {
                let text = system::scan(relation, None, &names_system(surveyed))?;
                reached.standing = Standing::Scan(text);
            }
            system::Standing::Clear => {}
            system::Standing::Scan(filter) => {
                let named = names_system(surveyed);
                let text = system::scan(relation, filter.as_deref(), &named)?;
                reached.standing = Standing::Scan(text);
            }
            system::Standing::Expand => expand(&mut reached, None, context, depth)?,
        }
        return Ok(reached);
    }
    let mut access = context.rights.access(relation, context.catalog);
    if !wrong(Step::Value) {
        types::close(&mut access, relation, context);
    }
    match site.role {
        Role::Target => {
            reached.beneath = target(relation, &access, context)?;
            if surveyed.takes_row(site) && !wrong(Step::Row) {
                types::row(relation, context)?;
            }
        }
        Role::Read => {
            permitted(relation, &access, Action::Read, context)?;
            // Which rows are drawn depends on where they lie among the hidden.
            if access.filter.is_some() && sampled && !wrong(Step::Sample) {
                return Err(Denial::new(
                    Reason::Policy,
                    format!(
                        "TABLESAMPLE of {} is not served: a row filter holds, and a sample tells of the rows it hides",
                        relation.label()
                    ),
                )
                .hint("select by a hash of a column instead: WHERE pg_catalog.hashtext(id::text) % 10 = 0"));
            }
            match relation.kind {
                RelationKind::View if sampled => return Err(of_a_view()),
                RelationKind::View => expand(&mut reached, Some(&access), context, depth)?,
                RelationKind::Table
                | RelationKind::PartitionedTable
                | RelationKind::ForeignTable
                | RelationKind::MaterializedView => {
                    // A scan's rows have no type of their own.
                    let governed = !access.is_clear() && !wrong(Step::Govern);
                    if governed || row_is_foreign(relation, context) {
                        reached.standing = Standing::Governed;
                        reached.sample = sample(site, &canonical.text, surveyed)?;
                    }
                }
                RelationKind::Sequence
                | RelationKind::Toast
                | RelationKind::CompositeType
                | RelationKind::Index => {
                    return Err(Denial::new(
                        Reason::Policy,
                        format!(
                            "{} is not a table or a view, and is not read through the proxy",
                            relation.label()
                        ),
                    ));
                }
            }
        }
    }
    reached.access = Some(access);
    Ok(reached)
}

/// Whether its rows may not be read as values of their own type.
pub(super) fn row_is_foreign(relation: &Relation, context: &Context<'_>) -> bool {
    types::row(relation, context).is_err() && !wrong(Step::Row)
}

fn permitted(
    relation: &Relation,
    access: &RelationAccess,
    action: Action,
    context: &Context<'_>,
) -> Result<(), Denial> {
    match access.actions.contains(&action) || wrong(Step::Grant) {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Policy,
            format!(
                "no {} of {}: {}",
                action.as_str(),
                relation.label(),
                access.rule
            ),
        )
        .hint(step_up::hint(
            relation,
            None,
            context,
            "ask for a grant, or select from a relation that your roles name".into(),
        ))),
    }
}

fn of_a_view() -> Denial {
    Denial::new(
        Reason::Unsupported,
        "TABLESAMPLE clause can only be applied to tables and materialized views",
    )
    .hint("draw from the relations that the view reads")
}

/// Whether it may be written, and what a write touches beneath it.
fn target(
    relation: &Relation,
    access: &RelationAccess,
    context: &Context<'_>,
) -> Result<Vec<RelationUse>, Denial> {
    permitted(relation, access, Action::Write, context)?;
    if wrong(Step::Target) {
        return Ok(Vec::new());
    }
    if !matches!(
        relation.kind,
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::View
    ) {
        return Err(Denial::new(
            Reason::Unsupported,
            format!(
                "{} is not a table: writes go to tables and views only",
                relation.label()
            ),
        ));
    }
    match access.is_clear() {
        true if relation.kind == RelationKind::View => through(relation, access, context),
        true => Ok(Vec::new()),
        false => Err(Denial::new(
            Reason::Policy,
            format!(
                "no write of {}: a column or row of it is masked for this role, and a write would tell of it",
                relation.label()
            ),
        )
        .hint("write through an identity that sees the whole relation in clear")),
    }
}

/// Whether a view may be written: its rows are read as they are, and so are the tables
/// beneath it, which change.
fn through(
    view: &Relation,
    access: &RelationAccess,
    context: &Context<'_>,
) -> Result<Vec<RelationUse>, Denial> {
    permitted(view, access, Action::Read, context)?;
    let read = super::views::stored(view, context)?;
    for relation in updatable::allow(view, context)? {
        if !wrong(Step::Row) {
            types::row(&relation, context)?;
        }
        if !wrong(Step::Value) {
            types::values(&relation, context)?;
        }
    }
    Ok(read)
}
