//! What runs although no statement calls it: casts, checks and defaults of domains,
//! orders, the functions of operators.
//!
//! Knows nothing about what was named. Invariant: what runs so is held to the same
//! rules as a call: Postgres's own functions by the list, others if policy names them.

use crate::catalog::Runs;

use super::canonical::{Canonical, query_of};
use super::survey::{self, Argument, FunctionSite, Rest};
use super::{Context, Scope, attributes, functions, operators, types};

/// Checks whose types have checks, at most.
const DEPTH: usize = 16;

/// The first of them that the caller may not run, for a message.
pub(super) fn refused(runs: &[Runs], context: &Context<'_>) -> Option<String> {
    refused_within(runs, context, 0)
}

pub(super) fn refused_within(runs: &[Runs], context: &Context<'_>, depth: usize) -> Option<String> {
    runs.iter().find_map(|one| match one {
        Runs::Function { schema, name } => {
            (!may_run(schema, name, context)).then(|| format!("{schema}.{name}"))
        }
        Runs::Expression(text) => {
            (!may_hold(text, context, depth)).then(|| "an expression".to_owned())
        }
    })
}

fn may_run(schema: &str, name: &str, context: &Context<'_>) -> bool {
    let site = || FunctionSite {
        start: 0,
        schema: Some(schema.to_owned()),
        name: name.to_owned(),
        argument: Argument::Other,
        constant: None,
        projects: false,
    };
    match schema {
        "pg_catalog" | "information_schema" => functions::allow(&site(), context).is_ok(),
        _ => context.rights.trusts_function(schema, name),
    }
}

/// An expression of a domain's: all names in it carry their schemas.
fn may_hold(text: &str, context: &Context<'_>, depth: usize) -> bool {
    let nowhere = Scope::default();
    let context = &Context {
        scope: &nowhere,
        ..*context
    };
    let Ok(canonical) = Canonical::one(&format!("SELECT {text}")) else {
        return false;
    };
    let found = query_of(canonical.node()).map(|query| survey::survey(query, &|_| Rest::All));
    let Some(Ok(found)) = found else {
        return false;
    };
    let names = found.columns.iter().filter(|site| site.parts.len() > 1);
    let mut fields = names
        .filter_map(|site| site.parts.last())
        .chain(&found.fields);
    depth < DEPTH
        && found.relations.is_empty()
        && found.functions.iter().all(|site| {
            let schema = site.schema.as_deref().unwrap_or("pg_catalog");
            may_run(schema, &site.name, context)
        })
        && fields.all(|name| attributes::allow(name, true, context).is_ok())
        && operators::allow(&found, context).is_ok()
        && found
            .types
            .iter()
            .all(|site| types::harmless_within(site, context, depth + 1))
}
