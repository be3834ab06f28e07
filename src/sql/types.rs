//! Which types may be named, and values of which may be read.
//!
//! A cast, a domain's check or an order can run arbitrary SQL without a call in sight:
//! no value of a type behind which something stands that the caller may not run may
//! come into being, by the type's name or by a parameter's, or be read from a column.
//! A name that is not in the catalog is refused: the type may be newer, and anything
//! may stand behind it.

use pg_raw_parse::{Node, nodes};

use crate::catalog::{Oid, Relation, Type};
use crate::policy::{RelationAccess, Treatment};

use super::names::{effective_path, quote};
use super::splice::Edit;
use super::survey::{TypeSite, Unknown, type_site};
use super::{Context, Denial, Reason, temporary, unnamed};

/// OIDs below this belong to Postgres itself (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: Oid = 16_384;

/// What a type's name means.
enum Meaning<'a> {
    /// The row of a temporary table of the session's own: its columns were looked at
    /// when it was made.
    Temporary,
    Known(&'a Type),
}

/// What goes in front of a type's name, once it is allowed: the final text says which
/// type is meant, where the search_path could.
pub(super) fn allow(site: &TypeSite, context: &Context<'_>) -> Result<Option<Edit>, Denial> {
    let schema = match meaning(site, context)? {
        Meaning::Temporary => temporary::SCHEMA,
        Meaning::Known(one) => {
            harmless(one.oid, context)?;
            &one.schema
        }
    };
    let path = effective_path(&context.scope.search_path, context.catalog);
    // Postgres's own come first anyway, and syntax such as `int` names them.
    let plain = schema == "pg_catalog" && path.first() == Some(&"pg_catalog");
    if site.schema.is_some() || plain {
        return Ok(None);
    }
    let start = site.start.ok_or_else(|| {
        Denial::new(
            Reason::Referee,
            "a name is not where the grammar says it is",
        )
    })?;
    Ok(Some(Edit {
        start,
        end: start,
        text: format!("{}.", quote(schema)),
    }))
}

/// Types that are listed outside any query: of a prepared statement's parameters.
pub(super) fn listed<'n>(
    names: impl Iterator<Item = &'n nodes::TypeName>,
    context: &Context<'_>,
) -> Result<Vec<Edit>, Denial> {
    let mut edits = Vec::new();
    for name in names {
        let site = type_site(name).map_err(|unknown| unserved(&unknown))?;
        edits.extend(allow(&site, context)?);
    }
    Ok(edits)
}

/// The types of a table's columns.
pub(super) fn columns(
    create: &nodes::CreateStmt,
    context: &Context<'_>,
) -> Result<Vec<Edit>, Denial> {
    let mut edits = Vec::new();
    for element in create.table_elts() {
        let Node::ColumnDef(column) = element else {
            continue;
        };
        let Some(name) = column.type_name() else {
            continue;
        };
        let site = type_site(name).map_err(|unknown| unserved(&unknown))?;
        if !is_serial(&site) {
            edits.extend(allow(&site, context)?);
        }
    }
    Ok(edits)
}

/// Not types, but shorthands in the definition of a column
/// (transformColumnDefinition, parse_utilcmd.c).
pub(super) fn is_serial(site: &TypeSite) -> bool {
    site.schema.is_none()
        && matches!(
            site.name.as_str(),
            "smallserial" | "serial2" | "serial" | "serial4" | "bigserial" | "serial8"
        )
}

fn unserved(unknown: &Unknown) -> Denial {
    Denial::new(
        Reason::Unsupported,
        format!("syntax `{unknown}` is not served"),
    )
}

/// Whether values of a type may be read, or come into being.
pub(super) fn harmless(oid: Oid, context: &Context<'_>) -> Result<(), Denial> {
    let Some(runs) = context.catalog.runs.get(&oid) else {
        return Ok(());
    };
    let Some(by) = unnamed::refused(runs, context) else {
        return Ok(());
    };
    let name = context.catalog.types.get(&oid).map_or_else(
        || oid.to_string(),
        |one| format!("{}.{}", one.schema, one.name),
    );
    Err(Denial::new(
        Reason::Policy,
        format!("type {name} is cast, checked or compared by {by}, which policy does not know"),
    )
    .hint("select other columns, and leave the type out"))
}

/// The same of a type named in an expression that has been loaded with the catalog.
pub(super) fn harmless_within(site: &TypeSite, context: &Context<'_>, depth: usize) -> bool {
    match meaning(site, context) {
        Ok(Meaning::Known(one)) => {
            let runs = context.catalog.runs.get(&one.oid);
            runs.is_none_or(|runs| unnamed::refused_within(runs, context, depth).is_none())
        }
        Ok(Meaning::Temporary) | Err(_) => false,
    }
}

/// Whether the row of a relation may be read as a value of its own type.
pub(super) fn row(relation: &Relation, context: &Context<'_>) -> Result<(), Denial> {
    let row = context.catalog.type_named(&relation.schema, &relation.name);
    row.map_or(Ok(()), |row| harmless(row.oid, context))
}

/// Blocks the columns of a relation whose values may not be read, whatever policy says
/// of them: the others are served.
pub(super) fn close(access: &mut RelationAccess, relation: &Relation, context: &Context<'_>) {
    for (column, own) in relation.columns.iter().zip(&mut access.columns) {
        if let Err(denial) = harmless(column.type_oid, context)
            && !matches!(own.treatment, Treatment::Hide)
        {
            own.treatment = Treatment::Block;
            own.rule = denial.message.into();
        }
    }
}

/// Whether the values of a relation may be read.
pub(super) fn values(relation: &Relation, context: &Context<'_>) -> Result<(), Denial> {
    let mut columns = relation.columns.iter();
    columns.try_for_each(|column| harmless(column.type_oid, context))
}

/// Whether parameters may be of these types; 0 is for Postgres to tell.
pub(super) fn parameters(types: &[Oid], context: &Context<'_>) -> Result<(), Denial> {
    types.iter().try_for_each(|oid| {
        let known = *oid < FIRST_NORMAL_OID || context.catalog.types.contains_key(oid);
        match known {
            true => harmless(*oid, context),
            false => Err(absent(&format!("with OID {oid}"))),
        }
    })
}

/// What can run in any expression: casts and orders that somebody has given to
/// Postgres's own types.
pub(super) fn everywhere(context: &Context<'_>) -> Result<(), Denial> {
    match unnamed::refused(&context.catalog.everywhere, context) {
        None => Ok(()),
        Some(by) => Err(Denial::new(
            Reason::Policy,
            format!("a cast or order of a built-in type runs {by}, which policy does not know"),
        )
        .hint("an administrator can drop it, or list its function under `functions` of the dataset in the classification")),
    }
}

fn meaning<'c>(site: &TypeSite, context: &Context<'c>) -> Result<Meaning<'c>, Denial> {
    let (catalog, name) = (context.catalog, site.name.as_str());
    let schema = site.schema.as_deref();
    let own = schema.is_none_or(|schema| schema == temporary::SCHEMA);
    if own && temporary::lookup(context, schema, name).is_some() {
        return Ok(Meaning::Temporary);
    }
    let found = match schema {
        Some(schema) => catalog.type_named(schema, name),
        None => effective_path(&context.scope.search_path, catalog)
            .into_iter()
            .find_map(|schema| catalog.type_named(schema, name)),
    };
    found.map(Meaning::Known).ok_or_else(|| {
        let schema = schema.map_or_else(String::new, |schema| format!("{schema}."));
        absent(&format!("\"{schema}{name}\""))
    })
}

fn absent(which: &str) -> Denial {
    Denial::new(Reason::UnknownType, format!("type {which} does not exist"))
}
