//! LOCK TABLE and TRUNCATE, which write to relations without reading them.

use pg_raw_parse::{Node, nodes};

use super::{Kind, plan};
use crate::catalog::RelationKind;
use crate::policy::Action;
use crate::sql::canonical::Canonical;
use crate::sql::names::{name_end, qualified, quote};
use crate::sql::query::govern;
use crate::sql::splice::{Edit, apply};
use crate::sql::step::{Step, wrong};
use crate::sql::{Context, Denial, Effect, Plan, Reason};

/// A write that foreign keys have nothing to say about: LOCK touches no row, and
/// Postgres truncates nothing that others refer to, whether a row does or not.
fn probe(name: &str) -> String {
    format!("MERGE INTO {name} USING (SELECT 1) AS s ON true WHEN MATCHED THEN DO NOTHING")
}

/// LOCK TABLE and TRUNCATE: as a write of each relation would be decided.
pub(super) fn relations(
    kind: Kind,
    canonical: &Canonical,
    context: &Context<'_>,
) -> Result<Plan, Denial> {
    let list = match canonical.node() {
        Node::LockStmt(lock) => lock.relations(),
        Node::TruncateStmt(truncate)
            if truncate.behavior == nodes::DropBehavior::DROP_CASCADE && !wrong(Step::Cascade) =>
        {
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
        let governed = govern(&Canonical::one(&probe(&name))?, context)?;
        let start = usize::try_from(relation.location).unwrap_or(usize::MAX);
        let end = name_end(&canonical.text, start);
        let target = &governed.named;
        let (Some(end), Some((schema, name))) = (end, target) else {
            return Err(Denial::new(
                Reason::Referee,
                "a name is not where the grammar says it is",
            ));
        };
        table(schema, name, context)?;
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

/// Views are written by INSERT, UPDATE, DELETE and MERGE alone.
pub(super) fn table(schema: &str, name: &str, context: &Context<'_>) -> Result<(), Denial> {
    match context.catalog.relation(schema, name) {
        Some(view) if view.kind == RelationKind::View && !wrong(Step::Target) => Err(Denial::new(
            Reason::Unsupported,
            format!("{} is not a table", view.label()),
        )),
        _ => Ok(()),
    }
}
