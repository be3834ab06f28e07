//! What a statement does to the relation that it writes.

use pg_raw_parse::{Node, nodes};

use super::{Columns, Unknown, Written};

/// Of an INSERT, UPDATE, DELETE or MERGE.
pub(super) fn written(statement: Node<'_>) -> Result<Option<Written>, Unknown> {
    use nodes::CmdType as Is;
    let (relation, mut inserts, mut updates, mut deletes) = match statement {
        Node::InsertStmt(insert) => {
            let updates = match insert.on_conflict_clause() {
                Some(clause) if clause.action == nodes::OnConflictAction::ONCONFLICT_UPDATE => {
                    named(clause.target_list().iter().map(Into::into))
                }
                _ => Columns::None,
            };
            let inserts = given(named(insert.cols().iter()));
            (insert.relation(), inserts, updates, false)
        }
        Node::UpdateStmt(update) => {
            let updates = given(named(update.target_list().iter().map(Into::into)));
            (update.relation(), Columns::None, updates, false)
        }
        Node::DeleteStmt(delete) => (delete.relation(), Columns::None, Columns::None, true),
        Node::MergeStmt(merge) => (merge.relation(), Columns::None, Columns::None, false),
        _ => return Ok(None),
    };
    if let Node::MergeStmt(merge) = statement {
        for when in merge.merge_when_clauses().iter() {
            let columns = given(named(when.target_list().iter()));
            match when.command_type {
                Is::CMD_INSERT => inserts = joined(inserts, columns),
                Is::CMD_UPDATE => updates = joined(updates, columns),
                Is::CMD_DELETE => deletes = true,
                Is::CMD_NOTHING => {}
                _ => return Err(Unknown::Construct("an action of MERGE".into())),
            }
        }
    }
    let start = relation.and_then(|relation| usize::try_from(relation.location).ok());
    let Some(start) = start else {
        return Err(Unknown::Construct("a name without a place".into()));
    };
    Ok(Some(Written {
        start,
        inserts,
        updates,
        deletes,
    }))
}

/// Without a list, all columns are meant.
fn given(columns: Columns) -> Columns {
    match columns {
        Columns::None => Columns::All,
        some => some,
    }
}

fn named<'n>(targets: impl Iterator<Item = Node<'n>>) -> Columns {
    let mut columns = Columns::None;
    for target in targets {
        let one = match target {
            Node::ResTarget(target) => target.name(),
            _ => None,
        };
        let one = one.map_or(Columns::All, |name| Columns::Some([name.to_owned()].into()));
        columns = joined(columns, one);
    }
    columns
}

fn joined(one: Columns, other: Columns) -> Columns {
    match (one, other) {
        (Columns::All, _) | (_, Columns::All) => Columns::All,
        (Columns::None, some) | (some, Columns::None) => some,
        (Columns::Some(mut one), Columns::Some(other)) => {
            one.extend(other);
            Columns::Some(one)
        }
    }
}
