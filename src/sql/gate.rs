//! What an expression may hold, whatever it reads: operators and types behind which
//! nothing stands that the caller may not run, and syntax that the server knows.
//!
//! Knows nothing about relations and columns. Both the rewriter and the referee ask
//! here, each about its own reading of its own text.

use super::splice::Edit;
use super::survey::Survey;
use super::{Context, Denial, operators, types, version};

/// What has to be written into the text so that its types mean what was allowed.
pub(super) fn pass(found: &Survey, context: &Context<'_>) -> Result<Vec<Edit>, Denial> {
    version::allow(found, context)?;
    types::everywhere(context)?;
    operators::allow(found, context)?;
    let mut edits = Vec::new();
    for site in &found.types {
        edits.extend(types::allow(site, context)?);
    }
    Ok(edits)
}
