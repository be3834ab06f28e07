//! Kinds of statements, as far as decisions differ.
//!
//! Invariant: a statement that is not listed has no kind, and is not served.

use pg_raw_parse::Node;

/// A statement's kind, as far as decisions differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::sql) enum Kind {
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
    Listen,
    Unlisten,
    Notify,
}

impl Kind {
    /// The kind of a statement; `None`: not served.
    pub(in crate::sql) fn of(node: Node<'_>) -> Option<Self> {
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
            Node::ListenStmt(_) => Self::Listen,
            Node::UnlistenStmt(_) => Self::Unlisten,
            Node::NotifyStmt(_) => Self::Notify,
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

    pub(in crate::sql) fn label(self) -> &'static str {
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
            Self::Listen => "LISTEN",
            Self::Unlisten => "UNLISTEN",
            Self::Notify => "NOTIFY",
        }
    }
}
