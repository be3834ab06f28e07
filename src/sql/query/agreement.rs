//! sqlparser's reading of a statement, if it agrees with Postgres's.
//!
//! Knows nothing about policy, but for the columns that a caller can name.
//! Invariant: a reading that comes from here names the relations that Postgres's
//! grammar names, at the same bytes, and no column reference is missing from it.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap};

use super::reach::{Reached, Standing};
use super::touched::touched;
use crate::policy::Treatment;
use crate::sql::canonical::{Canonical, is_query};
use crate::sql::printer;
use crate::sql::resolve::{self, Reading};
use crate::sql::survey::Survey;
use crate::sql::{Denial, Reason};

/// sqlparser's reading, if it agrees with Postgres's about what stands where.
pub(super) fn read(
    canonical: &Canonical,
    query: pg_raw_parse::Node<'_>,
    surveyed: &Survey,
    reached: &[Reached],
) -> Result<Reading, String> {
    let inner = match is_query(canonical.node()) {
        true => Cow::Borrowed(canonical.text.as_str()),
        false => Cow::Owned(printer::text(query).map_err(|why| why.to_string())?),
    };
    let inner = &*inner;
    let shift = shift(&canonical.text, inner).ok_or("the query inside could not be located")?;
    let names: Vec<(usize, Vec<String>)> = reached
        .iter()
        // A temporary table's columns are not known.
        .filter(|one| one.relation.oid != 0)
        .filter_map(|one| Some((one.site.start.checked_sub(shift)?, visible(one))))
        .collect();
    let known: HashMap<usize, &[String]> = names
        .iter()
        .map(|(start, columns)| (*start, columns.as_slice()))
        .collect();
    let reading = resolve::read(inner, &known).map_err(|unread| unread.to_string())?;

    let theirs: BTreeSet<(usize, bool)> = surveyed
        .relations
        .iter()
        .filter_map(|site| Some((site.start.checked_sub(shift)?, site.cte)))
        .collect();
    let ours: BTreeSet<(usize, bool)> = reading
        .relations
        .iter()
        .map(|(start, _, cte)| (*start, *cte))
        .collect();
    if ours != theirs {
        return Err("the two parsers see relations at different places".into());
    }
    if let Some(site) = surveyed.columns.iter().find(|site| {
        !site
            .start
            .checked_sub(shift)
            .is_some_and(|start| reading.columns.contains(&start))
    }) {
        return Err(format!(
            "the two parsers differ about `{}`",
            site.parts.join(".")
        ));
    }
    Ok(reading.shifted(shift))
}

/// Where the text of a wrapped query begins: `COPY (` is followed by it, and
/// every other wrapper ends in it.
fn shift(outer: &str, inner: &str) -> Option<usize> {
    if outer == inner {
        return Some(0);
    }
    const COPY: &str = "COPY (";
    if outer
        .strip_prefix(COPY)
        .is_some_and(|rest| rest.starts_with(inner))
    {
        return Some(COPY.len());
    }
    let outer = outer
        .strip_suffix(" WITH NO DATA")
        .map_or(outer, str::trim_end);
    outer.ends_with(inner).then(|| outer.len() - inner.len())
}

/// The columns this caller can name, in order.
fn visible(reached: &Reached) -> Vec<String> {
    let hidden = |at: usize| {
        reached
            .access
            .as_ref()
            .and_then(|access| access.columns.get(at))
            .is_some_and(|column| matches!(column.treatment, Treatment::Hide))
    };
    reached
        .relation
        .columns
        .iter()
        .enumerate()
        .filter(|(at, _)| !hidden(*at))
        .map(|(_, column)| column.name.to_string())
        .collect()
}

pub(super) fn unread(why: &str, reached: &[Reached]) -> Denial {
    let name = reached
        .iter()
        .find(|one| !matches!(one.standing, Standing::Clear))
        .map_or_else(String::new, |one| one.relation.label());
    let why = why.strip_prefix("sql parser error: ").unwrap_or(why);
    // What was found may be a literal, which has no place in a record.
    let why = why.split_once(", found: ").map_or(why, |(why, _)| why);
    if why.contains("recursion limit") {
        return Denial::new(Reason::TooComplex, "statement is nested too deeply to plan")
            .hint("split it, or use a temporary table for the inner part");
    }
    Denial::new(
        Reason::Unsupported,
        format!("syntax is not served over {name}, which is masked for this role: {why}"),
    )
    .hint("write it in plainer SQL, or ask for the columns in clear")
    .touching(touched(reached, None))
}
