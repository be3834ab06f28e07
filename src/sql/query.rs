//! Governs a query: names → relations → scans, spliced into canonical text.
//!
//! Knows nothing about sessions. Invariant: each relation site that Postgres's
//! grammar sees is replaced, by a scan or by the relation's full name; where
//! sqlparser sees other sites than Postgres does, a statement that touches
//! anything governed is refused.

mod agreement;
mod blocked;
mod edits;
mod reach;
mod sample;
mod scans;
mod screen;
mod touched;
mod views;

use std::sync::Arc;

use pg_raw_parse::Node;

use super::canonical::{Canonical, query_of};
use super::origins::{self, Origin};
use super::splice::apply;
use super::step::{Step, unless, wrong};
use super::survey::{self, Rest, Role};
use super::{Context, Denial, Reason, RelationUse, actions, gate, keys, types};
use crate::policy::Action;
use reach::Standing;

pub(super) use screen::attributes;

/// A query, governed.
#[derive(Debug)]
pub(super) struct Governed {
    /// The final text, not yet seen by the referee.
    pub(super) text: String,
    pub(super) touched: Vec<RelationUse>,
    /// The full name of the first relation that stands by its name.
    pub(super) named: Option<(Arc<str>, Arc<str>)>,
    /// Whether anything stands behind a scan.
    pub(super) governed: bool,
    pub(super) writes: bool,
    /// Which stored column each output is, where that is not what Postgres will say
    /// of scans.
    pub(super) origins: Option<Vec<Option<Origin>>>,
}

/// Governs the query that a canonical statement is or wraps.
pub(super) fn govern(canonical: &Canonical, context: &Context<'_>) -> Result<Governed, Denial> {
    govern_nested(canonical, context, 0)
}

fn govern_nested(
    canonical: &Canonical,
    context: &Context<'_>,
    depth: usize,
) -> Result<Governed, Denial> {
    let Some(query) = query_of(canonical.node()) else {
        return Err(Denial::new(Reason::Unsupported, "statement holds no query"));
    };
    let surveyed = survey::survey(query, &|_| Rest::All)?;
    screen::bounded(&surveyed)?;
    if surveyed.into && !wrong(Step::Into) {
        return Err(into(canonical.node()));
    }
    let mut reached = Vec::new();
    for site in surveyed.relations.iter().filter(|site| !site.cte) {
        if wrong(Step::Cte) && site.schema.is_none() {
            continue;
        }
        reached.push(reach::reach(site, canonical, &surveyed, context, depth)?);
    }
    let governed = reached
        .iter()
        .any(|one| !matches!(one.standing, Standing::Clear));
    screen::locks(&surveyed, governed, context)?;
    unless(Step::Key, keys::allow(&surveyed, context))?;
    let mut named = gate::pass(&surveyed, context, wrong)?;
    if let Node::PrepareStmt(prepare) = canonical.node() {
        match types::listed(prepare.argtypes().iter(), context) {
            Err(_) if wrong(Step::Type) => {}
            listed => named.extend(listed?),
        }
    }
    screen::values(&reached, context)?;

    let reading = agreement::read(canonical, query, &surveyed, &reached);
    let reading = match (reading, governed) {
        (Ok(reading), _) => Some(reading),
        // Nothing here is governed: Postgres's own reading is enough.
        (Err(_), false) => None,
        (Err(why), true) => return Err(agreement::unread(&why, &reached)),
    };
    if let Some(reading) = &reading {
        scans::settle(&mut reached, canonical, &surveyed, reading, context)?;
    }
    if depth > 0 {
        views::hidden(&reached, &surveyed)?;
    }
    let touched = touched::touched(&reached, reading.as_ref());
    blocked::refuse(&reached, &touched, context)?;
    if surveyed.locks {
        let all = touched.iter().map(|used| used.oid);
        unless(Step::Each, actions::allow(Action::Write, all, context))
            .map_err(|denial| denial.touching(touched.clone()))?;
    }
    let mut edits = edits::edits(canonical, &surveyed, &reached, reading.as_ref(), context)
        .map_err(|denial| denial.touching(touched.clone()))?;
    edits.append(&mut named);
    let text = apply(&canonical.text, edits)
        .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
    let origins = match governed && depth == 0 {
        true => origins::of(query, &|site| {
            let mut all = reached.iter();
            let one = all.find(|one| one.site.start == site)?;
            // A temporary table's columns are not known.
            (one.relation.oid != 0).then(|| (one.relation.oid, one.visible().collect()))
        }),
        false => None,
    };
    Ok(Governed {
        text,
        origins,
        touched,
        named: reached
            .iter()
            .find(|one| matches!(one.standing, Standing::Clear))
            .map(|one| (one.relation.schema.clone(), one.relation.name.clone())),
        governed,
        writes: surveyed
            .relations
            .iter()
            .any(|site| site.role == Role::Target),
    })
}

/// SELECT INTO, which Postgres has as a statement of its own only.
fn into(statement: Node<'_>) -> Denial {
    let query = match statement {
        Node::ExplainStmt(explain) => explain.query(),
        Node::CopyStmt(_) => {
            return Denial::new(Reason::Unsupported, "COPY (SELECT INTO) is not supported");
        }
        other => other,
    };
    let Node::SelectStmt(mut first) = query else {
        return Denial::new(Reason::Syntax, "SELECT ... INTO is not allowed here");
    };
    while let Some(left) = first.larg() {
        first = left;
    }
    match first.into_clause() {
        Some(_) => Denial::new(Reason::Unsupported, "SELECT INTO is not served")
            .hint("use CREATE TEMP TABLE … AS where policy grants the action `temp`"),
        None => Denial::new(Reason::Syntax, "SELECT ... INTO is not allowed here"),
    }
}
