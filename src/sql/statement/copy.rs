//! COPY: of a relation TO is the query it stands for, FROM is like an INSERT.
//!
//! Invariant: no file and no program of the server is read or written.

use std::sync::Arc;

use pg_raw_parse::{Node, nodes};

use super::written::table;
use super::{Kind, planned, query};
use crate::catalog::{Relation, RelationKind};
use crate::policy::Treatment;
use crate::sql::canonical::Canonical;
use crate::sql::names::{lookup, name_end, parenthesis_end, qualified, quote};
use crate::sql::query::{Governed, govern};
use crate::sql::splice::{Edit, apply};
use crate::sql::step::{Step, wrong};
use crate::sql::{Context, Denial, Effect, Plan, Reason};

pub(super) fn copy(
    copy: &nodes::CopyStmt,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    if (copy.filename().is_some() || copy.is_program) && !wrong(Step::Copy) {
        return Err(Denial::new(
            Reason::Unsupported,
            "COPY with a file or program of the server is not served",
        )
        .hint("use COPY … TO STDOUT or FROM STDIN (psql: \\copy)"));
    }
    let Some(relation) = copy.relation() else {
        return query(Kind::Copy, canonical, context, Effect::None);
    };
    // COPY t TO is the query it stands for; COPY t FROM is like an INSERT.
    let probe = copy_as_query(relation, copy, context)?;
    let governed = govern(&probe, context)?;
    if !copy.is_from && governed.governed {
        partitioned(relation, context)?;
        let options = options(canonical, relation)?;
        let text = format!("COPY ({}) TO STDOUT{options}", governed.text);
        let governed = Governed { text, ..governed };
        return Ok(planned(Kind::Copy, governed, Effect::None));
    }
    // Otherwise only the name changes: to the relation's full name.
    let start = usize::try_from(relation.location).unwrap_or(usize::MAX);
    let end = name_end(&canonical.text, start).ok_or_else(|| {
        Denial::new(
            Reason::Referee,
            "a name is not where the grammar says it is",
        )
    })?;
    let Some((schema, name)) = &governed.named else {
        return Err(Denial::new(Reason::Referee, "COPY names no relation"));
    };
    if copy.is_from {
        table(schema, name, context)?;
    }
    let text = apply(
        &canonical.text,
        vec![Edit {
            start,
            end,
            text: qualified(schema, name),
        }],
    )
    .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
    let governed = Governed {
        text,
        writes: copy.is_from,
        ..governed
    };
    Ok(planned(Kind::Copy, governed, Effect::None))
}

/// Whether COPY … TO sends a line of column names first.
pub(super) fn has_heading(copy: &nodes::CopyStmt) -> bool {
    let is = |value: &str| value.eq_ignore_ascii_case("true") || value.eq_ignore_ascii_case("on");
    !copy.is_from
        && copy
            .options()
            .iter()
            .filter(|option| option.defname() == Some("header"))
            .any(|option| match option.arg() {
                Node::None => true,
                Node::Boolean(value) => value.boolval,
                Node::Integer(value) => value.ival != 0,
                other => other.as_str().is_some_and(is),
            })
}

/// The statement whose rules COPY of a relation follows.
fn copy_as_query(
    relation: &nodes::RangeVar,
    copy: &nodes::CopyStmt,
    context: &Context<'_>,
) -> Result<Canonical, Denial> {
    let name = match (relation.schemaname(), relation.relname()) {
        (Some(schema), Some(name)) => qualified(schema, name),
        (None, Some(name)) => quote(name),
        (_, None) => return Err(Denial::new(Reason::Unsupported, "COPY names no relation")),
    };
    let listed: Vec<String> = copy
        .attlist()
        .iter()
        .filter_map(Node::as_str)
        .map(quote)
        .collect();
    if copy.is_from {
        let filter = copy.where_clause();
        if !matches!(filter, Node::None) && !wrong(Step::Copy) {
            return Err(
                Denial::new(Reason::Unsupported, "COPY FROM with WHERE is not served")
                    .hint("load into a table of your own and filter with INSERT … SELECT"),
            );
        }
        return Canonical::one(&match listed.is_empty() {
            true => format!("INSERT INTO {name} DEFAULT VALUES"),
            false => {
                let nulls = vec!["NULL"; listed.len()].join(", ");
                format!(
                    "INSERT INTO {name} ({}) VALUES ({nulls})",
                    listed.join(", ")
                )
            }
        });
    }
    let columns = match listed.is_empty() {
        false => listed.join(", "),
        true => everything(relation, context),
    };
    Canonical::one(&format!("SELECT {columns} FROM ONLY {name}"))
}

/// Postgres copies a partitioned table by a query only, since it holds no rows of its
/// own.
fn partitioned(relation: &nodes::RangeVar, context: &Context<'_>) -> Result<(), Denial> {
    match found(relation, context) {
        Some(found) if found.kind == RelationKind::PartitionedTable => Err(Denial::new(
            Reason::Unsupported,
            format!("cannot copy from partitioned table {}", found.label()),
        )
        .hint("use COPY (SELECT …) TO STDOUT")),
        _ => Ok(()),
    }
}

fn found<'c>(relation: &nodes::RangeVar, context: &Context<'c>) -> Option<&'c Arc<Relation>> {
    lookup(
        context.catalog,
        &context.scope.search_path,
        relation.schemaname(),
        relation.relname().unwrap_or_default(),
    )
}

/// What COPY takes of a relation when no column is named: all that exist for the caller
/// but generated ones, which is `*` almost always.
fn everything(relation: &nodes::RangeVar, context: &Context<'_>) -> String {
    match found(relation, context) {
        Some(found) if found.columns.iter().any(|column| column.generated) => {
            let access = context.rights.access(found, context.catalog);
            let columns = found.columns.iter().zip(&access.columns);
            columns
                .filter(|(column, _)| !column.generated)
                .filter(|(_, access)| !matches!(access.treatment, Treatment::Hide))
                .map(|(column, _)| quote(&column.name))
                .collect::<Vec<_>>()
                .join(", ")
        }
        _ => "*".to_owned(),
    }
}

/// ` WITH (…)` of a canonical COPY of a relation TO STDOUT: what follows its
/// name and columns.
fn options<'c>(canonical: &'c Canonical, relation: &nodes::RangeVar) -> Result<&'c str, Denial> {
    let text = &canonical.text;
    let start = usize::try_from(relation.location).unwrap_or(usize::MAX);
    name_end(text, start)
        .map(|end| parenthesis_end(text, end).unwrap_or(end))
        .and_then(|end| text.get(end..)?.trim_start().strip_prefix("TO STDOUT"))
        .ok_or_else(|| Denial::new(Reason::Unsupported, "COPY without STDOUT is not served"))
}
