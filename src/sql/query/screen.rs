//! What a statement may not hold, whatever it reads: too much of anything, locks,
//! and operators, types and attributes behind which a function stands that policy
//! does not know.
//!
//! Knows nothing about treatments of columns.

use std::collections::BTreeSet;

use super::reach::Reached;
use crate::catalog::Relation;
use crate::policy::Action;
use crate::sql::resolve::Reading;
use crate::sql::survey::{Argument, FunctionSite, Survey};
use crate::sql::{Context, Denial, Reason, functions};

/// What one statement may hold: planning must not keep a thread from others.
pub(super) fn bounded(surveyed: &Survey) -> Result<(), Denial> {
    let counts = [
        ("relations", surveyed.relations.len(), 500),
        ("column references", surveyed.columns.len(), 20_000),
        ("calls", surveyed.functions.len(), 20_000),
        ("field selections", surveyed.fields.len(), 1_000),
    ];
    match counts.into_iter().find(|(_, count, limit)| count > limit) {
        None => Ok(()),
        Some((what, count, limit)) => Err(Denial::new(
            Reason::TooLarge,
            format!("statement has {count} {what}, too many to plan (limit {limit})"),
        )
        .hint("split the statement")),
    }
}

pub(super) fn locks(
    surveyed: &Survey,
    governed: bool,
    context: &Context<'_>,
) -> Result<(), Denial> {
    if !surveyed.locks || (!governed && context.rights.allows(Action::Write).is_some()) {
        return Ok(());
    }
    Err(Denial::new(
        Reason::Policy,
        "FOR UPDATE and FOR SHARE lock rows, which takes a grant to write and relations in clear",
    )
    .hint("leave the locking clause out"))
}

pub(super) fn operators(surveyed: &Survey, context: &Context<'_>) -> Result<(), Denial> {
    let foreign = &context.catalog.foreign_operators;
    let mut named = surveyed
        .operators
        .iter()
        .filter_map(|name| foreign.get(name.as_str()));
    match named.find(|operator| !context.rights.trusts(operator)) {
        None => Ok(()),
        Some(operator) => Err(Denial::new(
            Reason::Policy,
            format!(
                "operator {} is overloaded by a function that policy does not know",
                operator.name
            ),
        )
        .hint("write the comparison with a built-in function instead")),
    }
}

/// A cast or a domain's check can run arbitrary SQL without a name in sight: no
/// value of such a type may come into being, from a column or by its name. Whole
/// rows lose their type by the scan that [`super::reach`] puts in the relation's place.
pub(super) fn types(
    surveyed: &Survey,
    reached: &[Reached],
    context: &Context<'_>,
) -> Result<(), Denial> {
    let mut columns = reached.iter().flat_map(|one| one.relation.columns.iter());
    match columns.find_map(|column| context.foreign_type(column.type_oid)) {
        Some(name) => Err(foreign_type(name)),
        None => named_types(&surveyed.types, context),
    }
}

/// The same of names of types alone.
pub(in crate::sql) fn named_types(
    names: &BTreeSet<String>,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let mut named = context.foreign_types().filter(|name| names.contains(*name));
    named.next().map_or(Ok(()), |name| Err(foreign_type(name)))
}

/// Whether a cast of the relation's whole rows is such a function.
pub(super) fn row_is_foreign(relation: &Relation, context: &Context<'_>) -> bool {
    let mut foreign = context.foreign_types();
    foreign.any(|name| *name == *relation.name)
}

pub(super) fn foreign_type(name: &str) -> Denial {
    Denial::new(
        Reason::Policy,
        format!("type {name} is cast or checked by a function that policy does not know"),
    )
    .hint("select other columns, and leave the type out")
}

/// Expressions that stand outside any query: the arguments of EXECUTE.
pub(in crate::sql) fn screened(found: &Survey, context: &Context<'_>) -> Result<(), Denial> {
    operators(found, context)?;
    attributes(found, None, context)
}

/// `row.f` is `f(row)` where the row has no such column: the function has to be
/// one that may be called.
pub(super) fn attributes(
    surveyed: &Survey,
    reading: Option<&Reading>,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let uncertain = surveyed
        .columns
        .iter()
        .filter(|site| site.parts.len() > 1)
        .filter(|site| !reading.is_some_and(|reading| reading.certain.contains(&site.start)))
        .filter_map(|site| site.parts.last());
    let names: BTreeSet<&String> = uncertain.chain(&surveyed.fields).collect();
    for name in names {
        // Which of that name would run is Postgres's to say: all must be allowed.
        for function in context
            .catalog
            .functions
            .get(name.as_str())
            .into_iter()
            .flatten()
        {
            functions::allow(
                &FunctionSite {
                    start: 0,
                    schema: Some(function.schema.to_string()),
                    name: name.clone(),
                    argument: Argument::Other,
                },
                context,
            )?;
        }
    }
    Ok(())
}
