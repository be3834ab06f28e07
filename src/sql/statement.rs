//! Decides one canonical statement by its kind.
//!
//! Invariant: a statement kind that is not listed here is refused.

use std::sync::Arc;

use pg_raw_parse::{Node, nodes};

use crate::policy::Action;

use super::canonical::{self, Canonical};
use super::names::{name_end, parenthesis_end, qualified, quote};
use super::query::{Governed, govern, named_types, screened};
use super::splice::{Edit, apply};
use super::survey::{survey_expressions, type_name, unknown};
use super::{Context, Denial, Effect, Plan, Reason, functions, referee, session, temporary};

/// A statement's kind, as far as decisions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    Select,
    Insert,
    Update,
    Delete,
    Merge,
    Copy,
    Declare,
    Prepare,
    Explain,
    Execute,
    Session,
    Ddl,
    Lock,
    Truncate,
    Notify,
}

impl Kind {
    /// The kind of a statement; `None`: not served.
    pub(super) fn of(node: Node<'_>) -> Option<Self> {
        Some(match node {
            Node::SelectStmt(_) => Self::Select,
            Node::InsertStmt(_) => Self::Insert,
            Node::UpdateStmt(_) => Self::Update,
            Node::DeleteStmt(_) => Self::Delete,
            Node::MergeStmt(_) => Self::Merge,
            Node::CopyStmt(_) => Self::Copy,
            Node::DeclareCursorStmt(_) => Self::Declare,
            Node::PrepareStmt(_) => Self::Prepare,
            Node::ExplainStmt(_) => Self::Explain,
            Node::ExecuteStmt(_) => Self::Execute,
            Node::LockStmt(_) => Self::Lock,
            Node::TruncateStmt(_) => Self::Truncate,
            Node::ListenStmt(_) | Node::UnlistenStmt(_) | Node::NotifyStmt(_) => Self::Notify,
            Node::TransactionStmt(_)
            | Node::VariableSetStmt(_)
            | Node::VariableShowStmt(_)
            | Node::DiscardStmt(_)
            | Node::DeallocateStmt(_)
            | Node::FetchStmt(_)
            | Node::ClosePortalStmt(_)
            | Node::ConstraintsSetStmt(_) => Self::Session,
            Node::AlterDomainStmt(_)
            | Node::AlterEnumStmt(_)
            | Node::AlterObjectSchemaStmt(_)
            | Node::AlterOwnerStmt(_)
            | Node::AlterSeqStmt(_)
            | Node::AlterTableStmt(_)
            | Node::CommentStmt(_)
            | Node::CompositeTypeStmt(_)
            | Node::CreateDomainStmt(_)
            | Node::CreateEnumStmt(_)
            | Node::CreateSchemaStmt(_)
            | Node::CreateSeqStmt(_)
            | Node::CreateStmt(_)
            | Node::CreateTableAsStmt(_)
            | Node::DropStmt(_)
            | Node::IndexStmt(_)
            | Node::RefreshMatViewStmt(_)
            | Node::RenameStmt(_)
            | Node::VacuumStmt(_)
            | Node::ViewStmt(_) => Self::Ddl,
            // DO, CALL, functions, rules, roles, grants, extensions, LOAD,
            // CHECKPOINT, ALTER SYSTEM … and whatever a later grammar adds.
            _ => return None,
        })
    }

    fn label(self) -> &'static str {
        match self {
            Self::Select => "SELECT",
            Self::Insert => "INSERT",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Merge => "MERGE",
            Self::Copy => "COPY",
            Self::Declare => "DECLARE CURSOR",
            Self::Prepare => "PREPARE",
            Self::Explain => "EXPLAIN",
            Self::Execute => "EXECUTE",
            Self::Session => "SESSION",
            Self::Ddl => "DDL",
            Self::Lock => "LOCK TABLE",
            Self::Truncate => "TRUNCATE TABLE",
            Self::Notify => "NOTIFY",
        }
    }
}

/// Decides one statement.
pub(super) fn decide(canonical: &Canonical, context: &Context<'_>) -> Result<Plan, Denial> {
    let node = canonical.node();
    let Some(kind) = Kind::of(node) else {
        return Err(Denial::new(
            Reason::Unsupported,
            format!("statement `{}` is not served", unknown(node)),
        )
        .hint("run it on the database itself, as an administrator"));
    };
    let (normalized, fingerprint) = canonical::normalized(canonical, kind.label());
    let named = |mut denial: Denial| {
        denial.normalized = Some(normalized.clone());
        denial
    };
    let mut plan = by_kind(kind, canonical, context).map_err(named)?;
    plan.normalized = normalized.clone();
    plan.fingerprint = fingerprint;
    Ok(plan)
}

fn by_kind(kind: Kind, canonical: &Canonical, context: &Context<'_>) -> Result<Plan, Denial> {
    let plain = |effect, action| plan(kind.label(), canonical.text.as_str().into(), effect, action);
    match canonical.node() {
        Node::CopyStmt(copy) => self::copy(copy, canonical, context),
        Node::DeclareCursorStmt(declare) => {
            let name = owned(declare.portalname());
            query(kind, canonical, context, Effect::Declare(name))
        }
        Node::PrepareStmt(prepare) => {
            let types = prepare.argtypes().iter().filter_map(type_name).collect();
            named_types(&types, context)?;
            let name = owned(prepare.name());
            query(kind, canonical, context, Effect::Prepare(name))
        }
        Node::ExplainStmt(explain) => self::explain(explain, canonical, context),
        Node::ExecuteStmt(execute) => self::execute(execute, canonical, context),
        // Ends what LISTEN began, if anything: pools send it with every return.
        Node::UnlistenStmt(_) => Ok(plain(Effect::None, None)),
        Node::LockStmt(_) | Node::TruncateStmt(_) => relations_written(kind, canonical, context),
        _ => match kind {
            Kind::Select | Kind::Insert | Kind::Update | Kind::Delete | Kind::Merge => {
                query(kind, canonical, context, Effect::None)
            }
            Kind::Notify => {
                require(context, Action::Notify, "LISTEN and NOTIFY")?;
                Ok(plain(Effect::None, Some(Action::Notify)))
            }
            Kind::Ddl if temporary::concerns(canonical.node(), context) => {
                temporary::decide(canonical, context)
            }
            Kind::Ddl => {
                ddl(context)?;
                Ok(plain(Effect::Ddl, Some(Action::Ddl)))
            }
            Kind::Session => {
                let (label, effect, text) = session::decide(canonical, context)?;
                Ok(plan(label, text.into(), effect, None))
            }
            Kind::Copy
            | Kind::Declare
            | Kind::Prepare
            | Kind::Explain
            | Kind::Execute
            | Kind::Lock
            | Kind::Truncate => Err(Denial::new(Reason::Unsupported, "statement is not served")),
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

fn ddl(context: &Context<'_>) -> Result<(), Denial> {
    require(context, Action::Ddl, "changing the schema")?;
    match context.rights.all_clear() {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Policy,
            "changing the schema is refused: what it reads or writes would not be masked",
        )
        .hint("it takes an identity that sees the whole dataset in clear")),
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
    refereed(kind, governed, context, effect)
}

pub(super) fn refereed(
    kind: Kind,
    governed: Governed,
    context: &Context<'_>,
    effect: Effect,
) -> Result<Plan, Denial> {
    referee::check(&governed.text, kind, &governed.decided, context)
        .map_err(|denial| denial.touching(governed.touched.clone()))?;
    let action = if governed.writes {
        Action::Write
    } else {
        Action::Read
    };
    Ok(Plan {
        touched: governed.touched,
        ..plan(kind.label(), governed.text.into(), effect, Some(action))
    })
}

fn copy(
    copy: &nodes::CopyStmt,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    if copy.filename().is_some() || copy.is_program {
        return Err(Denial::new(
            Reason::Unsupported,
            "COPY with a file or program of the server is not served",
        )
        .hint("use COPY … TO STDOUT or FROM STDIN (psql: \\copy)"));
    }
    let Some(relation) = copy.relation() else {
        return query(Kind::Copy, canonical, context, Effect::None);
    };
    // COPY t TO is the query it stands for; COPY t FROM is like an INSERT.
    let probe = copy_as_query(relation, copy, context)?;
    let governed = govern(&probe, context)?;
    if !copy.is_from && governed.governed {
        let options = options(canonical, relation)?;
        let text = format!("COPY ({}) TO STDOUT{options}", governed.text);
        return refereed(
            Kind::Copy,
            Governed { text, ..governed },
            context,
            Effect::None,
        );
    }
    // Otherwise only the name changes: to the relation's full name.
    let start = usize::try_from(relation.location).unwrap_or(usize::MAX);
    let end = name_end(&canonical.text, start).ok_or_else(|| {
        Denial::new(
            Reason::Referee,
            "a name is not where the grammar says it is",
        )
    })?;
    let names = if copy.is_from {
        &governed.decided.targets
    } else {
        &governed.decided.clear
    };
    let Some((schema, name)) = names.iter().next() else {
        return Err(Denial::new(Reason::Referee, "COPY names no relation"));
    };
    let text = apply(
        &canonical.text,
        vec![Edit {
            start,
            end,
            text: qualified(schema, name),
        }],
    )
    .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
    refereed(
        Kind::Copy,
        Governed {
            text,
            writes: copy.is_from,
            ..governed
        },
        context,
        Effect::None,
    )
}

/// The statement whose rules COPY of a relation follows.
fn copy_as_query(
    relation: &nodes::RangeVar,
    copy: &nodes::CopyStmt,
    context: &Context<'_>,
) -> Result<Canonical, Denial> {
    let name = match (relation.schemaname(), relation.relname()) {
        (Some(schema), Some(name)) => qualified(schema, name),
        (None, Some(name)) => quote(name),
        (_, None) => return Err(Denial::new(Reason::Unsupported, "COPY names no relation")),
    };
    let listed: Vec<String> = copy
        .attlist()
        .iter()
        .filter_map(Node::as_str)
        .map(quote)
        .collect();
    if copy.is_from {
        let filter = copy.where_clause();
        if !matches!(filter, Node::None) {
            return Err(
                Denial::new(Reason::Unsupported, "COPY FROM with WHERE is not served")
                    .hint("load into a table of your own and filter with INSERT … SELECT"),
            );
        }
        return Canonical::one(&format!("INSERT INTO {name} DEFAULT VALUES"));
    }
    let columns = match listed.is_empty() {
        false => listed.join(", "),
        true => everything(relation, context),
    };
    Canonical::one(&format!("SELECT {columns} FROM ONLY {name}"))
}

/// What COPY takes of a relation when no column is named: all but generated
/// ones, which is `*` almost always.
fn everything(relation: &nodes::RangeVar, context: &Context<'_>) -> String {
    let found = super::names::lookup(
        context.catalog,
        &context.scope.search_path,
        relation.schemaname(),
        relation.relname().unwrap_or_default(),
    );
    match found {
        Some(found) if found.columns.iter().any(|column| column.generated) => found
            .columns
            .iter()
            .filter(|column| !column.generated)
            .map(|column| quote(&column.name))
            .collect::<Vec<_>>()
            .join(", "),
        _ => "*".to_owned(),
    }
}

/// ` WITH (…)` of a canonical COPY of a relation TO STDOUT: what follows its
/// name and columns.
fn options<'c>(canonical: &'c Canonical, relation: &nodes::RangeVar) -> Result<&'c str, Denial> {
    let text = &canonical.text;
    let start = usize::try_from(relation.location).unwrap_or(usize::MAX);
    name_end(text, start)
        .map(|end| parenthesis_end(text, end).unwrap_or(end))
        .and_then(|end| text.get(end..)?.trim_start().strip_prefix("TO STDOUT"))
        .ok_or_else(|| Denial::new(Reason::Unsupported, "COPY without STDOUT is not served"))
}

fn explain(
    explain: &nodes::ExplainStmt,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    require(context, Action::Explain, "EXPLAIN")?;
    if canonical::query_of(explain.query()).is_none()
        || matches!(explain.query(), Node::CreateTableAsStmt(_))
    {
        return Err(Denial::new(
            Reason::Unsupported,
            "EXPLAIN is served for queries only",
        ));
    }
    let plan = query(Kind::Explain, canonical, context, Effect::None)?;
    Ok(Plan {
        action: Some(Action::Explain),
        ..plan
    })
}

fn execute(
    execute: &nodes::ExecuteStmt,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    let found = survey_expressions(execute.params()).map_err(|unknown| {
        Denial::new(
            Reason::Unsupported,
            format!("syntax `{unknown}` is not served"),
        )
    })?;
    if !found.relations.is_empty() || !found.columns.is_empty() {
        return Err(Denial::new(
            Reason::Unsupported,
            "a parameter of EXECUTE cannot refer to a relation",
        ));
    }
    named_types(&found.types, context)?;
    screened(&found, context)?;
    let mut edits = Vec::new();
    for site in &found.functions {
        let schema = functions::allow(site, context)?;
        if site.schema.is_none() {
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

/// LOCK TABLE and TRUNCATE: as a DELETE of each relation would be decided.
fn relations_written(
    kind: Kind,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    let list = match canonical.node() {
        Node::LockStmt(lock) => lock.relations(),
        Node::TruncateStmt(truncate) if truncate.behavior == nodes::DropBehavior::DROP_CASCADE => {
            return Err(Denial::new(
                Reason::Unsupported,
                "TRUNCATE … CASCADE is not served: it empties relations that it does not name",
            )
            .hint("name every relation to be emptied"));
        }
        Node::TruncateStmt(truncate) => truncate.relations(),
        _ => return Err(Denial::new(Reason::Unsupported, "statement is not served")),
    };
    let mut edits = Vec::new();
    let mut touched = Vec::new();
    for node in list {
        let Node::RangeVar(relation) = node else {
            return Err(Denial::new(
                Reason::Unsupported,
                "a relation that is not a name",
            ));
        };
        let name = match (relation.schemaname(), relation.relname()) {
            (Some(schema), Some(name)) => qualified(schema, name),
            (_, name) => quote(name.unwrap_or_default()),
        };
        let governed = govern(&Canonical::one(&format!("DELETE FROM {name}"))?, context)?;
        let start = usize::try_from(relation.location).unwrap_or(usize::MAX);
        let end = name_end(&canonical.text, start);
        let target = governed.decided.targets.iter().next();
        let (Some(end), Some((schema, name))) = (end, target) else {
            return Err(Denial::new(
                Reason::Referee,
                "a name is not where the grammar says it is",
            ));
        };
        edits.push(Edit {
            start,
            end,
            text: qualified(schema, name),
        });
        touched.extend(governed.touched);
    }
    let text = apply(&canonical.text, edits)
        .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
    Ok(Plan {
        touched,
        ..plan(kind.label(), text.into(), Effect::None, Some(Action::Write))
    })
}
