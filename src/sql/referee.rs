//! The door out: the final text, read once more by Postgres's grammar and
//! checked against what was decided, independently of how it was made.
//!
//! Knows nothing about the client's text or the rewriter. Invariant: each
//! relation in the final text is a common table expression of the statement, a
//! schema-qualified relation that this caller reads as stored, or stands inside
//! exactly a scan that policy wrote; each function is qualified and allowed; the
//! statement is of the kind that was decided.

use std::collections::HashSet;

use pg_raw_parse::{Node, nodes, parse};

use super::canonical::query_of;
use super::statement::Kind;
use super::survey::{self, Role, Survey};
use super::{Context, Denial, Reason, functions, printer, temporary};

/// What was decided about a statement.
#[derive(Debug, Default)]
pub(super) struct Decided {
    /// `schema`, `name` of what is read as stored.
    pub(super) clear: HashSet<(String, String)>,
    /// `schema`, `name` of what is written to.
    pub(super) targets: HashSet<(String, String)>,
    /// Canonical text of the scans that policy wrote for this statement.
    pub(super) scans: HashSet<String>,
}

/// Checks a final text.
///
/// # Errors
/// [`Reason::Referee`]: the locks disagree, and nothing is sent.
pub(super) fn check(
    text: &str,
    kind: Kind,
    decided: &Decided,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let tree = parse(text).map_err(|error| disagree(&format!("it does not parse: {error}")))?;
    let mut statements = tree.iter();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(disagree("it is not one statement"));
    };
    let node = statement.stmt();
    if Kind::of(node) != Some(kind) {
        return Err(disagree("it is of another kind"));
    }
    match node {
        Node::CopyStmt(copy) => copy_target(copy, decided)?,
        Node::DeclareCursorStmt(_)
        | Node::PrepareStmt(_)
        | Node::ExplainStmt(_)
        | Node::SelectStmt(_)
        | Node::InsertStmt(_)
        | Node::UpdateStmt(_)
        | Node::DeleteStmt(_)
        | Node::MergeStmt(_) => {}
        Node::CreateTableAsStmt(create) => {
            let into = create.into().and_then(|into| into.rel());
            if !into.is_some_and(temporary::is_temporary) {
                return Err(disagree("it creates a table"));
            }
        }
        _ => return Err(disagree("it is not a query")),
    }
    let Some(query) = query_of(node) else {
        return Ok(());
    };
    let is_scan = |subselect: &nodes::RangeSubselect| {
        printer::text(subselect.subquery()).is_ok_and(|text| decided.scans.contains(&text))
    };
    // Where no scan was written, none can stand: nothing need be printed to tell.
    let found = match decided.scans.is_empty() {
        true => survey::survey(query, &|_| false),
        false => survey::survey(query, &is_scan),
    }
    .map_err(|unknown| disagree(&format!("it holds `{unknown}`")))?;
    relations(&found, decided)?;
    if found.into {
        return Err(disagree("it creates a table"));
    }
    for site in &found.functions {
        if site.schema.is_none() {
            return Err(disagree(&format!(
                "function {} is not qualified",
                site.name
            )));
        }
        functions::allow(site, context)?;
    }
    Ok(())
}

fn copy_target(copy: &nodes::CopyStmt, decided: &Decided) -> Result<(), Denial> {
    if copy.filename().is_some() || copy.is_program {
        return Err(disagree("it copies to or from a file"));
    }
    let Some(relation) = copy.relation() else {
        return Ok(());
    };
    let name = (
        relation.schemaname().unwrap_or_default().to_owned(),
        relation.relname().unwrap_or_default().to_owned(),
    );
    let decided = if copy.is_from {
        &decided.targets
    } else {
        &decided.clear
    };
    match decided.contains(&name) {
        true => Ok(()),
        false => Err(disagree(&format!("it copies {}.{}", name.0, name.1))),
    }
}

fn relations(found: &Survey, decided: &Decided) -> Result<(), Denial> {
    for site in found.relations.iter().filter(|site| !site.cte) {
        let name = (site.schema.clone().unwrap_or_default(), site.name.clone());
        let allowed = match site.role {
            Role::Read => decided.clear.contains(&name),
            Role::Target => decided.targets.contains(&name),
        };
        if !allowed || site.catalog.is_some() {
            return Err(disagree(&format!(
                "it names {}.{} outside a scan",
                name.0, name.1
            )));
        }
    }
    Ok(())
}

fn disagree(what: &str) -> Denial {
    Denial::new(
        Reason::Referee,
        format!("the rewritten statement was refused by the referee: {what}"),
    )
    .hint("this is a fault of pgveil, not of the statement; please report it")
}
