//! Views: each is governed like the query it is.
//!
//! Invariant: what a view's expansion holds has been through the same doors as a
//! statement of the caller's own, and its errors speak of the view alone.

use std::collections::BTreeSet;

use super::reach::{Reached, Standing, row_is_foreign};
use super::{Governed, govern_nested};
use crate::catalog::Relation;
use crate::policy::{RelationAccess, Treatment};
use crate::sql::canonical::Canonical;
use crate::sql::step::{Step, wrong};
use crate::sql::survey::Survey;
use crate::sql::{Context, Denial, Reason, RelationUse, Scope};

/// Views inside views, at most.
const VIEW_DEPTH: usize = 16;

/// A view is governed like the query it is.
pub(super) fn expand(
    reached: &mut Reached,
    access: Option<&RelationAccess>,
    context: &Context<'_>,
    depth: usize,
) -> Result<(), Denial> {
    let relation = reached.relation.clone();
    let relation = &relation;
    let in_view = |mut denial: Denial| {
        denial.message = format!("view {}: {}", relation.label(), denial.message);
        denial
    };
    if depth >= VIEW_DEPTH {
        return Err(Denial::new(
            Reason::TooDeep,
            format!("view {} nests too deeply", relation.label()),
        ));
    }
    let Some(definition) = &relation.definition else {
        return Err(Denial::new(
            Reason::Unsupported,
            format!("view {} has no definition", relation.label()),
        ));
    };
    let governed = inside(definition, context, depth).map_err(in_view)?;
    reached.beneath = governed.touched;
    if wrong(Step::View) {
        return Ok(());
    }
    let masked = access.is_some_and(|access| !access.is_clear());
    if !governed.governed && !masked && !row_is_foreign(relation, context) {
        return Ok(());
    }
    reached.standing = match masked {
        true => Standing::Masked(governed.text),
        false => Standing::Scan(governed.text),
    };
    Ok(())
}

/// What a definition comes to; it is loaded with every name qualified.
fn inside(definition: &str, context: &Context<'_>, depth: usize) -> Result<Governed, Denial> {
    let nowhere = Scope::default();
    let inside = Context {
        scope: &nowhere,
        ..*context
    };
    let canonical = Canonical::one(definition)?;
    govern_nested(&canonical, &inside, depth + 1)
}

/// What is beneath a view, if all of that is read as it is stored.
pub(super) fn stored(view: &Relation, context: &Context<'_>) -> Result<Vec<RelationUse>, Denial> {
    let refused = |why: &str| {
        Denial::new(
            Reason::Policy,
            format!("no write of view {}: {why}", view.label()),
        )
    };
    let definition = view.definition.as_ref();
    let definition = definition.ok_or_else(|| refused("it has no definition"))?;
    let governed = inside(definition, context, 0).map_err(|denial| refused(&denial.message))?;
    match governed.governed {
        false => Ok(governed.touched),
        true => Err(refused("something beneath it is masked for this role")),
    }
}

/// Inside a view, a name that would mean a hidden column is refused here: left to
/// Postgres, its error would speak of a relation the caller did not name.
pub(super) fn hidden(reached: &[Reached], surveyed: &Survey) -> Result<(), Denial> {
    for one in reached {
        let refname = &one.site.refname;
        // Definitions name columns by their relations, wherever there are several.
        let others = |name: &String| {
            name != refname && reached.iter().any(|other| other.site.refname == *name)
        };
        let sites = surveyed.columns.iter().map(|site| site.parts.as_slice());
        let names: BTreeSet<&str> = sites
            .filter_map(|parts| match parts {
                [.., of, _] if others(of) => None,
                parts => parts.last().map(String::as_str),
            })
            .collect();
        let Some(access) = &one.access else { continue };
        for (column, access) in one.relation.columns.iter().zip(&access.columns) {
            if matches!(access.treatment, Treatment::Hide) && names.contains(&*column.name) {
                return Err(Denial::new(
                    Reason::Policy,
                    format!(
                        "it is built on a column that does not exist for this role: {}",
                        access.rule
                    ),
                )
                .hint("select from the tables beneath it instead"));
            }
        }
    }
    Ok(())
}
