//! Decides one canonical statement by its kind.
//!
//! Invariant: a statement kind that is not listed here is refused.

mod copy;
mod execute;
mod kind;
mod options;
mod written;

use std::sync::Arc;

use pg_raw_parse::{Node, nodes};

use crate::policy::Action;

use super::canonical::{self, Canonical};
use super::normalize::{fingerprint, normalized};
use super::query::{Governed, govern};
use super::step::{Step, unless, wrong};
use super::{Context, Denial, Effect, Plan, Reason, actions, ddl, referee, session, temporary};

pub(super) use kind::Kind;
pub(super) use options::{check as check_options, mixed as mixes_options};

/// Decides one statement.
pub(super) fn decide(canonical: &Canonical, context: &Context<'_>) -> Result<Plan, Denial> {
    let node = canonical.node();
    let kind = Kind::of(node);
    let normalized = normalized(&canonical.text);
    let decided = match kind {
        Some(kind) => {
            by_kind(kind, canonical, context).and_then(|plan| refereed(plan, kind, context))
        }
        None => Err(canonical::unserved(node)),
    };
    match decided {
        Ok(plan) => Ok(Plan {
            fingerprint: fingerprint(&normalized),
            normalized,
            ..plan
        }),
        Err(denial) => Err(Denial {
            normalized: Some(normalized),
            kind: kind.map(Kind::label),
            ..denial
        }),
    }
}

/// The plan, if the referee lets its text pass.
fn refereed(plan: Plan, kind: Kind, context: &Context<'_>) -> Result<Plan, Denial> {
    #[cfg(test)]
    let plan = Plan {
        text: super::step::tampered(plan.text, kind),
        ..plan
    };
    match referee::check(&plan.text, kind, context) {
        Ok(()) => Ok(plan),
        Err(denial) => Err(denial.touching(plan.touched)),
    }
}

fn by_kind(kind: Kind, canonical: &Canonical, context: &Context<'_>) -> Result<Plan, Denial> {
    let plain = |effect, action| plan(kind.label(), canonical.text.as_str().into(), effect, action);
    match canonical.node() {
        Node::CopyStmt(copy) => {
            let plan = copy::copy(copy, canonical, context)?;
            Ok(Plan {
                heading: copy::has_heading(copy),
                ..plan
            })
        }
        Node::DeclareCursorStmt(declare) => {
            let name = owned(declare.portalname());
            query(kind, canonical, context, Effect::Declare(name))
        }
        Node::PrepareStmt(prepare) => {
            let name = owned(prepare.name());
            query(kind, canonical, context, Effect::Prepare(name))
        }
        Node::ExplainStmt(explain) => self::explain(explain, canonical, context),
        Node::ExecuteStmt(execute) => execute::execute(execute, canonical, context),
        // Ends what LISTEN began, if anything: pools send it with every return.
        Node::UnlistenStmt(_) => Ok(plain(Effect::None, None)),
        Node::LockStmt(_) | Node::TruncateStmt(_) => written::relations(kind, canonical, context),
        _ => match kind {
            Kind::Select | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge => {
                query(kind, canonical, context, Effect::None)
            }
            Kind::Listen | Kind::Notify => {
                unless(
                    Step::Action,
                    require(context, Action::Notify, "LISTEN and NOTIFY"),
                )?;
                Ok(plain(Effect::None, Some(Action::Notify)))
            }
            Kind::Ddl if temporary::concerns(canonical.node(), context) => {
                temporary::decide(canonical, context)
            }
            Kind::Ddl => ddl::decide(canonical, context),
            Kind::Session => {
                let allowed = session::allowed(canonical.node(), context);
                let (label, effect) = match allowed {
                    Err(_) if wrong(Step::Setting) => ("SET", Effect::None),
                    allowed => allowed?,
                };
                Ok(plan(label, canonical.text.as_str().into(), effect, None))
            }
            Kind::Copy
            | Kind::Declare
            | Kind::Prepare
            | Kind::Explain
            | Kind::Execute
            | Kind::Lock
            | Kind::Truncate
            | Kind::Unlisten => Err(Denial::new(Reason::Unsupported, "statement is not served")),
        },
    }
}

pub(super) fn plan(
    kind: &'static str,
    text: Arc<str>,
    effect: Effect,
    action: Option<Action>,
) -> Plan {
    Plan {
        text,
        kind,
        action,
        effect,
        touched: Vec::new(),
        normalized: "".into(),
        fingerprint: 0,
        heading: false,
        origins: None,
    }
}

fn owned(name: Option<&str>) -> Arc<str> {
    name.unwrap_or_default().into()
}

pub(super) fn require(context: &Context<'_>, action: Action, what: &str) -> Result<(), Denial> {
    match context.rights.allows(action) {
        Some(_) => Ok(()),
        None => Err(Denial::new(
            Reason::Policy,
            format!("{what} is refused: no grant allows {}", action.as_str()),
        )
        .hint(format!(
            "ask for a grant with the action `{}`",
            action.as_str()
        ))),
    }
}

/// A query, or a statement that wraps one.
fn query(
    kind: Kind,
    canonical: &Canonical,
    context: &Context<'_>,
    effect: Effect,
) -> Result<Plan, Denial> {
    let governed = govern(canonical, context)?;
    Ok(planned(kind, governed, effect))
}

pub(super) fn planned(kind: Kind, governed: Governed, effect: Effect) -> Plan {
    let action = if governed.writes {
        Action::Write
    } else {
        Action::Read
    };
    let origins = match kind {
        Kind::Select | Kind::Declare | Kind::Prepare => governed.origins,
        _ => None,
    };
    Plan {
        touched: governed.touched,
        origins: origins.map(Arc::from),
        ..plan(kind.label(), governed.text.into(), effect, Some(action))
    }
}

fn explain(
    explain: &nodes::ExplainStmt,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    unless(Step::Action, require(context, Action::Explain, "EXPLAIN"))?;
    if let Node::ExecuteStmt(execute) = explain.query() {
        // What was prepared is the session's to know.
        unless(Step::Each, actions::allow_any(Action::Explain, context))?;
        let plan = execute::execute(execute, canonical, context)?;
        return Ok(Plan {
            kind: Kind::Explain.label(),
            action: Some(Action::Explain),
            ..plan
        });
    }
    if canonical::query_of(explain.query()).is_none()
        || matches!(explain.query(), Node::CreateTableAsStmt(_))
    {
        return Err(Denial::new(
            Reason::Unsupported,
            "EXPLAIN is served for queries and EXECUTE only",
        ));
    }
    let plan = query(Kind::Explain, canonical, context, Effect::None)?;
    let all = plan.touched.iter().map(|used| used.oid);
    unless(Step::Each, actions::allow(Action::Explain, all, context))
        .map_err(|denial| denial.touching(plan.touched.clone()))?;
    Ok(Plan {
        action: Some(Action::Explain),
        ..plan
    })
}
