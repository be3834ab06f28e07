//! The edits that make canonical text the text that is sent.
//!
//! Invariant: each relation's name is replaced, each call qualified, and a name
//! that is not where the grammar says it is refuses the statement.

use super::reach::{Reached, Standing};
use super::screen::attributes;
use crate::sql::canonical::Canonical;
use crate::sql::names::{after_first, name_end, qualified, quote};
use crate::sql::resolve::Reading;
use crate::sql::splice::Edit;
use crate::sql::step::{Step, unless, wrong};
use crate::sql::survey::Survey;
use crate::sql::{Context, Denial, Reason, functions};

pub(super) fn edits(
    canonical: &Canonical,
    surveyed: &Survey,
    reached: &[Reached],
    reading: Option<&Reading>,
    context: &Context<'_>,
) -> Result<Vec<Edit>, Denial> {
    let lost = || {
        Denial::new(
            Reason::Referee,
            "a name is not where the grammar says it is",
        )
    };
    let mut edits = Vec::new();
    for one in reached {
        let start = one.site.start;
        let end = name_end(&canonical.text, start).ok_or_else(lost)?;
        if reading.is_some_and(|reading| !reading.relations.contains(&(start, false))) {
            return Err(lost());
        }
        let text = match &one.standing {
            Standing::Clear if wrong(Step::Name) => continue,
            Standing::Scan(_) if wrong(Step::Splice) => {
                qualified(&one.relation.schema, &one.relation.name)
            }
            Standing::Clear => {
                let only = if one.only { "ONLY " } else { "" };
                format!(
                    "{only}{}",
                    qualified(&one.relation.schema, &one.relation.name)
                )
            }
            Standing::Scan(text) if one.site.aliased => format!("({text})"),
            Standing::Scan(text) => format!("({text}) AS {}", quote(&one.site.name)),
            Standing::Governed | Standing::Masked(_) => return Err(lost()),
        };
        // Where the name could have been a common table expression's, the keyword stands
        // in the text itself: see `canonical::ONLY_MARK`.
        let from = match one.site.only {
            false => start,
            true => start
                .checked_sub("ONLY ".len())
                .filter(|from| canonical.text.get(*from..start) == Some("ONLY "))
                .ok_or_else(lost)?,
        };
        edits.push(Edit {
            start: from,
            end,
            text,
        });
        if let (Standing::Scan(_), Some((start, end))) = (&one.standing, one.sample) {
            edits.push(Edit {
                start,
                end,
                text: String::new(),
            });
        }
    }
    for site in &surveyed.functions {
        let (site, screen) = functions::screened(site, &canonical.text);
        let schema = match functions::allow(&site, context) {
            Err(_) if wrong(Step::Function) => functions::any(&site, context),
            allowed => allowed?,
        };
        edits.extend(screen.filter(|_| !wrong(Step::Screen)));
        let pin = functions::pin(&site, &schema, &canonical.text, context);
        edits.extend(pin.filter(|_| !wrong(Step::Pin)));
        let open = functions::is_open(&site, context);
        if site.schema.is_none() && !open && !wrong(Step::Prefix) {
            let prefix = functions::prefix(&schema);
            edits.push(Edit {
                start: site.start,
                end: site.start,
                text: prefix,
            });
        }
    }
    unless(Step::Attribute, attributes(surveyed, reading, context))?;
    for (start, site) in reading.iter().flat_map(|reading| &reading.long) {
        let scanned = reached
            .iter()
            .any(|one| one.site.start == *site && matches!(one.standing, Standing::Scan(_)));
        if scanned {
            edits.push(Edit {
                start: *start,
                end: after_first(&canonical.text, *start).ok_or_else(lost)?,
                text: String::new(),
            });
        }
    }
    Ok(edits)
}
