//! What an expression may hold, whatever it reads: operators and types behind which
//! nothing stands that the caller may not run, and syntax that the server knows.
//!
//! Knows nothing about relations and columns. Both the rewriter and the referee ask
//! here, each about its own reading of its own text.

use super::splice::Edit;
use super::step::Step;
use super::survey::Survey;
use super::{Context, Denial, operators, types, version};

/// What has to be written into the text so that its types mean what was allowed.
/// Tests have it leave something `out`.
pub(super) fn pass(
    found: &Survey,
    context: &Context<'_>,
    out: impl Fn(Step) -> bool,
) -> Result<Vec<Edit>, Denial> {
    if !out(Step::Version) {
        version::allow(found, context)?;
    }
    types::everywhere(context)?;
    if !out(Step::Operator) {
        operators::allow(found, context)?;
    }
    let mut edits = Vec::new();
    for site in &found.types {
        match types::allow(site, context) {
            Err(_) if out(Step::Type) => {}
            Ok(_) if out(Step::TypeName) => {}
            allowed => edits.extend(allowed?),
        }
    }
    Ok(edits)
}
