//! The scans of one statement, written once it is known what it uses.
//!
//! Invariant: after [`settle`] nothing governed stands without a scan.

use std::collections::{BTreeSet, HashMap};

use super::reach::{Reached, Standing};
use crate::catalog::{Column, Relation};
use crate::policy::RelationAccess;
use crate::sql::canonical::{Canonical, query_of};
use crate::sql::order::{Order, order};
use crate::sql::resolve::Reading;
use crate::sql::scan::{self, Wants};
use crate::sql::step::{Step, wrong};
use crate::sql::survey::Survey;
use crate::sql::{Context, Denial, Reason, pushdown};

/// Writes the scans, now that it is known what the statement uses.
pub(super) fn settle(
    reached: &mut [Reached],
    canonical: &Canonical,
    surveyed: &Survey,
    reading: &Reading,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let inside = inside(reached, canonical, reading, context);
    let nothing = BTreeSet::new();
    for one in reached.iter_mut() {
        let Some(access) = &one.access else { continue };
        let used = match reading.uncertain {
            true => None,
            false => Some(reading.uses.get(&one.site.start).unwrap_or(&nothing)),
        };
        let order = match &one.standing {
            Standing::Governed => order(&one.relation, access, context.catalog, |column| {
                used.is_none_or(|used| used.contains(column))
            }),
            Standing::Masked(_) | Standing::Clear | Standing::Scan(_) => Order::Any,
        };
        let wants = Wants {
            order,
            only: one.only,
            ctid: matches!(one.standing, Standing::Governed)
                && ctid(&one.relation, access, surveyed)?,
            sample: one
                .sample
                .and_then(|(start, end)| canonical.text.get(start..end)),
            inside: inside.get(&one.site.start).map_or(&[], Vec::as_slice),
            used,
        };
        let text = match &one.standing {
            Standing::Governed => scan::table(&one.relation, access, wants)?,
            Standing::Masked(expansion) => scan::view(&one.relation, access, expansion, wants)?,
            Standing::Clear | Standing::Scan(_) => continue,
        };
        one.standing = Standing::Scan(text);
    }
    Ok(())
}

/// The client's harmless conditions, by the fenced relation they are about.
fn inside(
    reached: &[Reached],
    canonical: &Canonical,
    reading: &Reading,
    context: &Context<'_>,
) -> HashMap<usize, Vec<String>> {
    let fenced = |one: &Reached| {
        let filtered = |access: &RelationAccess| access.filter.is_some();
        // A view's column is an expression, which could raise.
        matches!(one.standing, Standing::Governed) && one.access.as_ref().is_some_and(filtered)
    };
    let Some(query) = query_of(canonical.node()).filter(|_| reached.iter().any(fenced)) else {
        return HashMap::new();
    };
    let at = |site: usize| reached.iter().find(|one| one.site.start == site);
    let column = |site: usize, name: &str| at(site)?.relation.column(name);
    let open = |site: usize, name: &str| {
        at(site).filter(|one| fenced(one)).is_some_and(|one| {
            let accesses = one.access.iter().flat_map(|access| &access.columns);
            let mut columns = one.relation.columns.iter().zip(accesses);
            let harmless = |column: &Column| !column.computed || wrong(Step::Computed);
            columns.any(|(column, access)| {
                &*column.name == name && access.treatment.is_clear() && harmless(column)
            })
        })
    };
    let known = pushdown::Known {
        bound: &reading.bound,
        column: &column,
        open: &open,
        parameters: context.parameters,
        version: context.catalog.version,
    };
    pushdown::conditions(canonical.node(), query, &known)
}

/// Which system columns the statement names, so that scans serve them.
pub(super) fn names_system(surveyed: &Survey) -> Vec<&'static str> {
    ["tableoid", "ctid"]
        .into_iter()
        .filter(|name| {
            surveyed
                .columns
                .iter()
                .any(|site| site.parts.last().is_some_and(|part| part == name))
        })
        .collect()
}

fn ctid(relation: &Relation, access: &RelationAccess, surveyed: &Survey) -> Result<bool, Denial> {
    if !names_system(surveyed).contains(&"ctid") {
        return Ok(false);
    }
    if access.filter.is_some() {
        return Err(Denial::new(
            Reason::Policy,
            format!(
                "ctid of {} is not served: a row filter holds, and it tells of the rows it hides",
                relation.label()
            ),
        )
        .hint("leave it out; DuckDB does with SET pg_use_ctid_scan = false"));
    }
    // None of these has it, and a scan that serves it would make them have it.
    let is_row = |name: &str| surveyed.relations.iter().any(|one| one.refname == name);
    let mut parts = surveyed.columns.iter().map(|site| site.parts.as_slice());
    let beside = parts.find_map(|parts| match parts {
        [.., last] if last == "*" => Some("`*`"),
        [name] if is_row(name) => Some("a whole row"),
        _ => None,
    });
    match beside.or(surveyed.natural.then_some("NATURAL JOIN")) {
        None => Ok(true),
        Some(beside) => Err(Denial::new(
            Reason::Unsupported,
            format!("ctid beside {beside} is not served on a masked relation"),
        )
        .hint("name the columns instead")),
    }
}
