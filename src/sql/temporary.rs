//! Temporary tables: of this session alone, so what the caller puts there it has
//! seen already.
//!
//! Invariant: a temporary table never stands for a relation that is governed:
//! the final text names it as `pg_temp.name`, and every other relation by its
//! own schema.

use std::sync::Arc;

use pg_raw_parse::{Node, nodes};

use crate::catalog::{Relation, RelationKind};
use crate::policy::Action;

use super::canonical::Canonical;
use super::names::{self, qualified};
use super::query::govern;
use super::splice::apply;
use super::statement::{Kind, plan, planned, require};
use super::step::{Step, unless, wrong};
use super::{Context, Denial, Effect, Plan, Reason, types};

/// The schema that a session's temporary tables are named by.
pub(super) const SCHEMA: &str = "pg_temp";

/// The session's temporary table that a name means, if any: temporary tables
/// come before everything else in the search_path. Its columns are not known.
pub(super) fn lookup(
    context: &Context<'_>,
    schema: Option<&str>,
    name: &str,
) -> Option<Arc<Relation>> {
    let own = schema.is_none_or(|schema| schema == SCHEMA);
    let name = context
        .scope
        .temporary
        .iter()
        .find(|table| own && ***table == *name)?;
    Some(relation(name))
}

/// A temporary table of that name.
pub(super) fn relation(name: &str) -> Arc<Relation> {
    Arc::new(Relation {
        oid: 0,
        schema: SCHEMA.into(),
        name: name.into(),
        kind: RelationKind::Table,
        columns: Vec::new(),
        parents: Vec::new(),
        has_children: false,
        definition: None,
    })
}

/// Whether a statement makes or drops temporary tables only.
pub(super) fn concerns(node: Node<'_>, context: &Context<'_>) -> bool {
    match node {
        Node::CreateStmt(create) => create.relation().is_some_and(is_temporary),
        Node::CreateTableAsStmt(create) => create
            .into()
            .and_then(|into| into.rel())
            .is_some_and(is_temporary),
        Node::DropStmt(drop) => {
            drop.remove_type == nodes::ObjectType::OBJECT_TABLE
                && dropped(drop).is_some_and(|all| {
                    all.iter().all(|(schema, name)| {
                        let schema = schema.as_deref();
                        lookup(context, schema, name).is_some()
                            || drop.missing_ok && is_free(schema, name, context)
                    })
                })
        }
        _ => false,
    }
}

/// Whether nothing has a name that for this caller only a temporary table can have, as
/// where `DROP TABLE IF EXISTS` stands before the first CREATE TEMP TABLE. Who may change
/// the schema can mean a table that is newer than the catalog.
fn is_free(schema: Option<&str>, name: &str, context: &Context<'_>) -> bool {
    schema.is_none_or(|schema| schema == SCHEMA)
        && context.rights.allows(Action::Ddl).is_none()
        && names::lookup(context.catalog, &context.scope.search_path, schema, name).is_none()
}

pub(super) fn is_temporary(relation: &nodes::RangeVar) -> bool {
    // RELPERSISTENCE_TEMP
    u8::try_from(relation.relpersistence).is_ok_and(|kind| kind == b't')
        || relation.schemaname() == Some(SCHEMA)
}

fn dropped(drop: &nodes::DropStmt) -> Option<Vec<(Option<String>, String)>> {
    drop.objects()
        .iter()
        .map(|object| {
            let Node::NodeList(parts) = object else {
                return None;
            };
            let parts: Vec<&str> = parts.iter().map(Node::as_str).collect::<Option<_>>()?;
            match parts.as_slice() {
                [name] => Some((None, (*name).to_owned())),
                [schema, name] => Some((Some((*schema).to_owned()), (*name).to_owned())),
                _ => None,
            }
        })
        .collect()
}

/// Decides CREATE TEMP TABLE, CREATE TEMP TABLE AS and DROP TABLE of such.
pub(super) fn decide(canonical: &Canonical, context: &Context<'_>) -> Result<Plan, Denial> {
    unless(
        Step::Action,
        require(context, Action::Temp, "a temporary table"),
    )?;
    match canonical.node() {
        Node::CreateStmt(create) => {
            unless(Step::Temp, plain(create))?;
            lasting(create.oncommit)?;
            types::everywhere(context)?;
            let named = match types::columns(create, context) {
                Err(_) if wrong(Step::Type) => Vec::new(),
                named => named?,
            };
            let text = apply(&canonical.text, named)
                .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
            created(create.relation(), text, context)
        }
        Node::CreateTableAsStmt(create) => {
            let into = create.into();
            lasting(into.map_or(nodes::OnCommitAction::ONCOMMIT_NOOP, |into| into.on_commit))?;
            let relation = into.and_then(|into| into.rel());
            let governed = govern(canonical, context)?;
            let made = created(relation, String::new(), context)?;
            let plan = planned(Kind::Ddl, governed, made.effect);
            Ok(Plan {
                kind: made.kind,
                action: Some(Action::Temp),
                ..plan
            })
        }
        Node::DropStmt(drop) => {
            let names = dropped(drop).unwrap_or_default();
            let quoted: Vec<String> = names
                .iter()
                .map(|(_, name)| qualified(SCHEMA, name))
                .collect();
            let names = names.iter().map(|(_, name)| name.as_str().into()).collect();
            let if_exists = if drop.missing_ok { "IF EXISTS " } else { "" };
            // Only what is temporary itself can depend on them.
            let cascade = match drop.behavior == nodes::DropBehavior::DROP_CASCADE {
                true => " CASCADE",
                false => "",
            };
            let text = format!("DROP TABLE {if_exists}{}{cascade}", quoted.join(", "));
            Ok(plan(
                "DROP TABLE",
                text.into(),
                Effect::DropTemporary(names),
                Some(Action::Temp),
            ))
        }
        _ => Err(Denial::new(Reason::Unsupported, "statement is not served")),
    }
}

/// The plan that makes it, under its own schema: a name with another schema is
/// refused by the grammar of the server. Its row is a type of its name, which would
/// come before any other of that name: in masks and views too.
fn created(
    relation: Option<&nodes::RangeVar>,
    text: String,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    let Some(name) = relation.and_then(|relation| relation.relname()) else {
        return Err(Denial::new(Reason::Unsupported, "a table without a name"));
    };
    if context.catalog.type_named("pg_catalog", name).is_some() {
        return Err(Denial::new(
            Reason::Unsupported,
            format!("a temporary table cannot bear the name of the type {name}"),
        )
        .hint("give it another name"));
    }
    let effect = Effect::CreateTemporary(name.into());
    Ok(plan(
        "CREATE TABLE",
        text.into(),
        effect,
        Some(Action::Temp),
    ))
}

/// One that vanishes with its transaction could not be followed.
fn lasting(action: nodes::OnCommitAction::Type) -> Result<(), Denial> {
    match action == nodes::OnCommitAction::ONCOMMIT_DROP {
        false => Ok(()),
        true => Err(
            Denial::new(Reason::Unsupported, "ON COMMIT DROP is not served")
                .hint("leave it out and DROP TABLE, or use ON COMMIT DELETE ROWS"),
        ),
    }
}

/// Columns of a type, nullable or not, unique or not: nothing that computes or
/// refers.
pub(super) fn plain(create: &nodes::CreateStmt) -> Result<(), Denial> {
    let refused = |what: &str| {
        Err(Denial::new(
            Reason::Unsupported,
            format!("{what} in a temporary table is not served"),
        )
        .hint("list plain columns, or use CREATE TEMP TABLE … AS SELECT"))
    };
    if !create.inh_relations().is_empty()
        || create.partbound().is_some()
        || create.of_typename().is_some()
    {
        return refused("inheritance");
    }
    if create.partspec().is_some() || !create.constraints().is_empty() {
        return refused("partitioning or a table constraint");
    }
    for element in create.table_elts() {
        let column = match element {
            Node::ColumnDef(column) => column,
            // A key of these columns: neither computes nor refers.
            Node::Constraint(key)
                if matches!(
                    key.contype,
                    nodes::ConstrType::CONSTR_PRIMARY | nodes::ConstrType::CONSTR_UNIQUE
                ) =>
            {
                continue;
            }
            _ => return refused("LIKE or a table constraint"),
        };
        for constraint in column.constraints() {
            let Node::Constraint(constraint) = constraint else {
                return refused("a constraint of an unknown form");
            };
            match constraint.contype {
                nodes::ConstrType::CONSTR_NULL
                | nodes::ConstrType::CONSTR_NOTNULL
                | nodes::ConstrType::CONSTR_PRIMARY
                | nodes::ConstrType::CONSTR_UNIQUE => {}
                _ => return refused("a default, check or reference"),
            }
        }
    }
    Ok(())
}
