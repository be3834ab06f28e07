//! EXECUTE: the statement was decided on when it was prepared; its arguments are
//! expressions outside any query.

use pg_raw_parse::nodes;

use super::{owned, plan};
use crate::policy::Action;
use crate::sql::canonical::Canonical;
use crate::sql::query::attributes;
use crate::sql::splice::{Edit, apply};
use crate::sql::step::{Step, unless, wrong};
use crate::sql::survey::survey_expressions;
use crate::sql::{Context, Denial, Effect, Plan, Reason, functions, gate};

pub(super) fn execute(
    execute: &nodes::ExecuteStmt,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    let found = survey_expressions(execute.params().iter())?;
    let reads = !found.relations.is_empty() || !found.columns.is_empty();
    if reads && !wrong(Step::Argument) {
        return Err(Denial::new(
            Reason::Unsupported,
            "a parameter of EXECUTE cannot refer to a relation",
        ));
    }
    let mut edits = gate::pass(&found, context, wrong)?;
    unless(Step::Attribute, attributes(&found, None, context))?;
    for site in &found.functions {
        let schema = match functions::allow(site, context) {
            Err(_) if wrong(Step::Function) => functions::any(site, context),
            allowed => allowed?,
        };
        let pin = functions::pin(site, &schema, &canonical.text, context);
        edits.extend(pin.filter(|_| !wrong(Step::Pin)));
        let open = functions::is_open(site, context);
        if site.schema.is_none() && !open && !wrong(Step::Prefix) {
            edits.push(Edit {
                start: site.start,
                end: site.start,
                text: functions::prefix(&schema),
            });
        }
    }
    let text = apply(&canonical.text, edits)
        .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
    Ok(plan(
        "EXECUTE",
        text.into(),
        Effect::Execute(owned(execute.name())),
        Some(Action::Read),
    ))
}
