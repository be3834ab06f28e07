//! Which operators, and operator classes of indexes, may be used: an operator is a call
//! of its function.
//!
//! Which of a name Postgres takes depends on types that are not known here, so all of
//! that name must be harmless. A name that is not in the catalog is refused: the
//! operator may be newer, and anything may stand behind it.

use pg_raw_parse::Node;
use pg_raw_parse::list::NodeList;

use super::survey::{OperatorSite, Survey};
use super::{Context, Denial, Reason, types, unnamed};

/// Whether all operators of a statement may be used.
pub(super) fn allow(found: &Survey, context: &Context<'_>) -> Result<(), Denial> {
    found
        .operators
        .iter()
        .try_for_each(|site| allow_one(site, context))
}

fn allow_one(site: &OperatorSite, context: &Context<'_>) -> Result<(), Denial> {
    let OperatorSite { schema, name } = site;
    let all = context.catalog.operators.get(name.as_str());
    let in_question = || {
        let of = |own: &str| schema.as_deref().is_none_or(|schema| schema == own);
        all.into_iter()
            .flatten()
            .filter(move |operator| of(&operator.schema))
    };
    if in_question().next().is_none() {
        let schema = schema
            .as_ref()
            .map_or_else(String::new, |schema| format!("{schema}."));
        return Err(Denial::new(
            Reason::UnknownFunction,
            format!("operator {schema}{name} does not exist"),
        ));
    }
    for operator in in_question() {
        if let Some(by) = unnamed::refused(&operator.runs, context) {
            return Err(Denial::new(
                Reason::Policy,
                format!("operator {name} is overloaded by {by}, which policy does not know"),
            )
            .hint("write the comparison with a built-in function instead"));
        }
        for oid in &operator.over {
            types::harmless(*oid, context)?;
        }
    }
    Ok(())
}

/// Whether an index may be of a class: all of that name must be harmless.
pub(super) fn class(name: &NodeList, context: &Context<'_>) -> Result<(), Denial> {
    let mut parts = name.iter().map(Node::as_str).rev();
    let (Some(Some(name)), schema) = (parts.next(), parts.next().flatten()) else {
        return Ok(());
    };
    let all = context.catalog.classes.get(name).into_iter().flatten();
    let mut found = false;
    for one in all.filter(|one| schema.is_none_or(|schema| schema == &*one.schema)) {
        found = true;
        if let Some(by) = unnamed::refused(&one.runs, context) {
            return Err(Denial::new(
                Reason::Policy,
                format!("operator class {name} runs {by}, which policy does not know"),
            )
            .hint("leave the operator class out, or have an administrator make the index"));
        }
    }
    match found {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::UnknownType,
            format!("operator class \"{name}\" does not exist"),
        )),
    }
}
