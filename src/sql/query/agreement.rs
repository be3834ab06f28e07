//! sqlparser's reading of a statement, if it agrees with Postgres's.
//!
//! It reads the canonical text. Where it cannot, or sees other names there than
//! Postgres's grammar does, or cannot tell what they mean, it reads the statement's
//! skeleton, the normal form on which both agree.
//!
//! Knows nothing about policy, but for the columns that a caller can name.
//! Invariant: a reading that comes from here names the relations that Postgres's
//! grammar names, at the same bytes, and no column reference is missing from it.

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::rc::Rc;

use pg_raw_parse::Node;

use super::reach::{Reached, Standing};
use super::touched::touched;
use crate::sql::canonical::{Canonical, is_query};
use crate::sql::printer;
use crate::sql::resolve::{self, Column, Known, Reading, Row, Text};
use crate::sql::skeleton::Skeleton;
use crate::sql::survey::Survey;
use crate::sql::{Denial, Reason};

/// sqlparser's reading, if it agrees with Postgres's about what stands where.
pub(super) fn read(
    canonical: &Canonical,
    query: Node<'_>,
    surveyed: &Survey,
    reached: &[Reached],
) -> Result<Reading, String> {
    let known = known(reached);
    let agreed = |text: Text<'_>| {
        let reading = resolve::read(text, &known).map_err(|unread| unread.to_string())?;
        agree(reading, surveyed)
    };
    let plain =
        inner(canonical, query).and_then(|(text, start)| agreed(Text::Canonical(&text, start)));
    if let Ok(reading) = &plain
        && !(reading.uncertain || reading.vague)
    {
        return plain;
    }
    let skeleton = Skeleton::of(query).map_err(|unknown| unknown.to_string());
    skeleton
        .and_then(|skeleton| agreed(Text::Skeleton(&skeleton)))
        .or_else(|why| plain.map_err(|_| why))
}

fn agree(reading: Reading, surveyed: &Survey) -> Result<Reading, String> {
    let sites = surveyed.relations.iter();
    let theirs: BTreeSet<(usize, bool)> = sites.map(|site| (site.start, site.cte)).collect();
    if reading.relations != theirs {
        return Err("the two parsers see relations at different places".into());
    }
    let mut columns = surveyed.columns.iter();
    match columns.find(|site| !reading.columns.contains(&site.start)) {
        None => Ok(reading),
        Some(site) => Err(format!(
            "the two parsers differ about `{}`",
            site.parts.join(".")
        )),
    }
}

/// The canonical text of the query that a statement is or wraps, and where it
/// begins.
fn inner<'c>(canonical: &'c Canonical, query: Node<'_>) -> Result<(Cow<'c, str>, usize), String> {
    if is_query(canonical.node()) {
        return Ok((Cow::Borrowed(&canonical.text), 0));
    }
    let text = printer::text(query).map_err(|why| why.to_string())?;
    let start = start(&canonical.text, &text).ok_or("the query inside could not be located")?;
    Ok((Cow::Owned(text), start))
}

/// Where the text of a wrapped query begins: `COPY (` is followed by it, and
/// every other wrapper ends in it.
fn start(outer: &str, inner: &str) -> Option<usize> {
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

/// The columns this caller can name, by relation. Those of a temporary table are
/// not known.
fn known(reached: &[Reached]) -> Known {
    let stored = reached.iter().filter(|one| one.relation.oid != 0);
    let row = |one: &Reached| {
        let seen = one.visible().map(|column| Column {
            name: Some(column.name.clone()),
            of: Some((one.site.start, column.name.clone())),
        });
        Row {
            columns: seen.collect(),
            open: false,
        }
    };
    stored
        .map(|one| (one.site.start, Rc::new(row(one))))
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
        return Denial::too_deep();
    }
    Denial::new(
        Reason::Unsupported,
        format!("syntax is not served over {name}, which is masked for this role: {why}"),
    )
    .hint("write it in plainer SQL, or ask for the columns in clear")
    .touching(touched(reached, None))
}
