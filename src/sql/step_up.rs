//! The way out of a refusal that a second factor would change.
//!
//! A courtesy, not a lock: what it gives is policy's to say, once it has been proved.

use super::Context;
use crate::catalog::Relation;

/// The hint of whoever is refused for want of a second factor.
pub(crate) const HINT: &str = "prove a second factor: connect by a token that `pgveil login` prints, or by a new one of your identity provider";

/// The hint where a second factor would give more of a relation, or open that column of it;
/// otherwise that one.
pub(super) fn hint(
    relation: &Relation,
    column: Option<usize>,
    context: &Context<'_>,
    otherwise: String,
) -> String {
    let Context {
        rights, catalog, ..
    } = context;
    let helps = match column {
        Some(column) => rights.factor_opens(relation, catalog, column),
        None => rights.wants_factor(Some((relation, catalog))),
    };
    match helps {
        true => format!("{HINT}; until then, {otherwise}"),
        false => otherwise,
    }
}
