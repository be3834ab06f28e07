//! TABLESAMPLE, which can follow a relation's name only: it moves into the scan.
//!
//! Knows nothing about policy.

use crate::sql::names::{name_end, parenthesis_end};
use crate::sql::survey::{RelationSite, Survey};
use crate::sql::{Denial, Reason};

/// Where the TABLESAMPLE clause of a relation stands.
pub(super) fn sample(
    site: &RelationSite,
    text: &str,
    surveyed: &Survey,
) -> Result<Option<(usize, usize)>, Denial> {
    const KEYWORD: &str = "TABLESAMPLE ";
    const REPEATABLE: &str = " REPEATABLE ";
    let Some(found) = surveyed
        .samples
        .iter()
        .find(|sample| sample.relation == site.start)
    else {
        return Ok(None);
    };
    let lost = || {
        Denial::new(
            Reason::Unsupported,
            "TABLESAMPLE is served with constants only",
        )
    };
    let start = found.method.checked_sub(KEYWORD.len()).ok_or_else(lost)?;
    if !found.plain || text.get(start..found.method) != Some(KEYWORD) {
        return Err(lost());
    }
    let arguments = name_end(text, found.method).ok_or_else(lost)?;
    let mut end = parenthesis_end(text, arguments).ok_or_else(lost)?;
    if text
        .get(end..)
        .is_some_and(|rest| rest.starts_with(REPEATABLE))
    {
        end = parenthesis_end(text, end + REPEATABLE.len()).ok_or_else(lost)?;
    }
    Ok(Some((start, end)))
}
