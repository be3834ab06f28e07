//! What a statement may not hold, whatever it reads: too much of anything, locks,
//! and values and attributes behind which a function stands that policy does not
//! know.
//!
//! Knows nothing about treatments of columns.

use std::collections::BTreeMap;

use super::reach::Reached;
use crate::policy::Action;
use crate::sql::resolve::Reading;
use crate::sql::step::{Step, wrong};
use crate::sql::survey::{Role, Survey};
use crate::sql::{Context, Denial, Reason, attributes, types};

/// What one statement may hold: planning must not keep a thread from others.
pub(super) fn bounded(surveyed: &Survey) -> Result<(), Denial> {
    let counts = [
        ("relations", surveyed.relations.len(), 2_000),
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
    if wrong(Step::Lock)
        || !surveyed.locks
        || (!governed && context.rights.allows(Action::Write).is_some())
    {
        return Ok(());
    }
    Err(Denial::new(
        Reason::Policy,
        "FOR UPDATE and FOR SHARE lock rows, which takes a grant to write and relations in clear",
    )
    .hint("leave the locking clause out"))
}

/// Whether what stands as it is may be read: see [`types`]. A scan has no values of
/// columns that may not.
pub(super) fn values(reached: &[Reached], context: &Context<'_>) -> Result<(), Denial> {
    if wrong(Step::Value) {
        return Ok(());
    }
    reached
        .iter()
        .filter(|one| one.relation.is_system() || one.site.role == Role::Target)
        .try_for_each(|one| types::values(&one.relation, context))
}

/// `row.f` is `f(row)` where the row has no such column: the function has to be
/// one that may be called.
pub(in crate::sql) fn attributes(
    surveyed: &Survey,
    reading: Option<&Reading>,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let certain = |at| reading.is_some_and(|reading| reading.certain.contains(&at));
    let certainly_none = |at| reading.is_some_and(|reading| reading.attributes.contains(&at));
    let is_field = |name: &str| attributes::may_be_field(name, surveyed, context);
    let mut names: BTreeMap<&str, bool> = BTreeMap::new();
    for site in surveyed.columns.iter().filter(|site| site.parts.len() > 1) {
        if let Some(name) = site.parts.last().filter(|_| !certain(site.start)) {
            *names.entry(name).or_insert(true) &= !certainly_none(site.start) && is_field(name);
        }
    }
    for name in &surveyed.fields {
        *names.entry(name).or_insert(true) &= is_field(name);
    }
    for (name, is_field) in names {
        attributes::allow(name, is_field, context)
            .map_err(|denial| as_written(denial, name, surveyed))?;
    }
    Ok(())
}

/// A column that does not exist is called as it is written, as Postgres does.
fn as_written(mut denial: Denial, name: &str, surveyed: &Survey) -> Denial {
    let mut sites = surveyed.columns.iter();
    let of = sites.find_map(|site| match site.parts.as_slice() {
        [.., of, own] if own == name => Some(of),
        _ => None,
    });
    if let (Reason::UnknownColumn, Some(of)) = (&denial.reason, of) {
        denial.message = format!("column {of}.{name} does not exist");
    }
    denial
}
