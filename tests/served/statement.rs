//! What kind of statement a text is.

use pg_raw_parse::nodes::TransactionStmtKind;
use pg_raw_parse::{Node, parse};

/// Kinds that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// SELECT, VALUES, TABLE, WITH … SELECT
    Select,
    /// COPY, either way
    Copy,
    /// DECLARE, FETCH, MOVE, CLOSE
    Cursor,
    /// EXPLAIN of anything but CREATE TABLE AS
    Explain,
    /// INSERT, UPDATE, DELETE, MERGE, PREPARE, EXECUTE, settings, transactions: not
    /// counted, and of no consequence to the catalog
    Plain,
    /// Anything else: not counted, and may change the catalog
    Other,
}

impl Kind {
    /// The kind of a message: of its statements, that which says most.
    pub fn of(text: &str) -> Self {
        let Ok(tree) = parse(text) else {
            return by_word(text);
        };
        let kinds = tree.iter().map(|statement| of_node(statement.stmt()));
        kinds.max().unwrap_or(Self::Plain)
    }

    /// Whether it is counted.
    pub fn counts(self) -> bool {
        matches!(
            self,
            Self::Select | Self::Copy | Self::Cursor | Self::Explain
        )
    }
}

fn of_node(node: Node<'_>) -> Kind {
    match node {
        // SELECT INTO is CREATE TABLE AS by another name.
        Node::SelectStmt(select) if select.into_clause().is_some() => Kind::Other,
        Node::SelectStmt(_) => Kind::Select,
        Node::CopyStmt(_) => Kind::Copy,
        Node::DeclareCursorStmt(_) | Node::FetchStmt(_) | Node::ClosePortalStmt(_) => Kind::Cursor,
        // EXPLAIN ANALYZE makes the table.
        Node::ExplainStmt(explain) if matches!(explain.query(), Node::CreateTableAsStmt(_)) => {
            Kind::Other
        }
        Node::ExplainStmt(_) => Kind::Explain,
        // What has been made in a prepared transaction is there from then on.
        Node::TransactionStmt(end)
            if end.kind == TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED =>
        {
            Kind::Other
        }
        Node::InsertStmt(_)
        | Node::UpdateStmt(_)
        | Node::DeleteStmt(_)
        | Node::MergeStmt(_)
        | Node::ExecuteStmt(_)
        | Node::PrepareStmt(_)
        | Node::TransactionStmt(_)
        | Node::DeallocateStmt(_)
        | Node::VariableSetStmt(_)
        | Node::VariableShowStmt(_)
        | Node::ConstraintsSetStmt(_)
        | Node::LockStmt(_)
        | Node::TruncateStmt(_)
        | Node::ListenStmt(_)
        | Node::UnlistenStmt(_)
        | Node::NotifyStmt(_) => Kind::Plain,
        _ => Kind::Other,
    }
}

/// Of a text that is not SQL by the grammar.
fn by_word(text: &str) -> Kind {
    let text = text.trim_start_matches(|c: char| c == '(' || c.is_whitespace());
    let word: String = text.chars().take_while(char::is_ascii_alphabetic).collect();
    match word.to_ascii_uppercase().as_str() {
        "SELECT" | "VALUES" | "TABLE" | "WITH" => Kind::Select,
        "COPY" => Kind::Copy,
        "DECLARE" | "FETCH" | "MOVE" | "CLOSE" => Kind::Cursor,
        "EXPLAIN" => Kind::Explain,
        _ => Kind::Plain,
    }
}

/// Whether a text is COPY with a file or a program of the server, which a superuser
/// alone may run: refused by design, and told apart.
pub fn copies_files(text: &str) -> bool {
    parse(text).is_ok_and(|tree| {
        tree.iter().any(|statement| match statement.stmt() {
            Node::CopyStmt(copy) => copy.filename().is_some() || copy.is_program,
            _ => false,
        })
    })
}
