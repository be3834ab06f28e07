//! Statements that are no query.
//!
//! Invariant: a command that is not listed is refused.

use pg_raw_parse::{Node, nodes};

use super::{Referee, Verdict};
use crate::policy::Action;
use crate::sql::survey::survey_expressions;
use crate::sql::{ddl, session, temporary, types};

impl Referee<'_> {
    pub(super) fn command(&self, node: Node<'_>) -> Verdict {
        match node {
            Node::ExecuteStmt(execute) => self.arguments(execute),
            Node::LockStmt(lock) => lock.relations().iter().try_for_each(|one| self.taken(one)),
            Node::TruncateStmt(truncate) => {
                if truncate.behavior == nodes::DropBehavior::DROP_CASCADE {
                    return Err("it empties what it does not name".into());
                }
                truncate
                    .relations()
                    .iter()
                    .try_for_each(|one| self.taken(one))
            }
            Node::ListenStmt(_) | Node::NotifyStmt(_) => self.may(Action::Notify),
            Node::UnlistenStmt(_) => Ok(()),
            Node::TransactionStmt(_)
            | Node::VariableSetStmt(_)
            | Node::VariableShowStmt(_)
            | Node::DiscardStmt(_)
            | Node::DeallocateStmt(_)
            | Node::FetchStmt(_)
            | Node::ClosePortalStmt(_)
            | Node::ConstraintsSetStmt(_) => match session::allowed(node, self.context) {
                Ok(_) => Ok(()),
                Err(denial) => Err(denial.message),
            },
            Node::CreateStmt(create) if create.relation().is_some_and(temporary::is_temporary) => {
                self.may(Action::Temp)?;
                self.columns(create)
            }
            Node::DropStmt(_) if temporary::concerns(node, self.context) => self.may(Action::Temp),
            // Of those that Kind knows: the schema is for who sees all of it.
            other => {
                self.may_change_the_schema()?;
                match ddl::edits(other, self.context) {
                    Ok(edits) if edits.is_empty() => Ok(()),
                    Ok(_) => Err("a call or a type in it is not qualified".into()),
                    Err(denial) => Err(denial.message),
                }
            }
        }
    }

    pub(super) fn may_change_the_schema(&self) -> Verdict {
        ddl::allowed(self.context).map_err(|denial| denial.message)
    }

    /// The arguments of EXECUTE: expressions outside any query.
    fn arguments(&self, execute: &nodes::ExecuteStmt) -> Verdict {
        let found = survey_expressions(execute.params().iter())
            .map_err(|unknown| format!("it holds `{unknown}`"))?;
        if !found.relations.is_empty() || !found.columns.is_empty() {
            return Err("an argument names a relation".into());
        }
        self.gate(&found, self.here())?;
        self.functions(&found, self.here())?;
        self.fields(&found, self.here())
    }

    fn taken(&self, node: Node<'_>) -> Verdict {
        match node {
            Node::RangeVar(name) => self.writes(name),
            _ => Err("it names a relation in a way that is not known".into()),
        }
    }

    /// Columns of CREATE TEMP TABLE: of types that policy knows, and nothing that
    /// computes.
    fn columns(&self, create: &nodes::CreateStmt) -> Verdict {
        temporary::plain(create).map_err(|denial| denial.message)?;
        types::everywhere(self.context).map_err(|denial| denial.message)?;
        match types::columns(create, self.context) {
            Ok(edits) if edits.is_empty() => Ok(()),
            Ok(_) => Err("a type is not qualified".into()),
            Err(denial) => Err(denial.message),
        }
    }
}
