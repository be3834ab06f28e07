//! Session commands: transactions, settings, cursors, prepared statements.
//!
//! They touch no relation; what they may change is `settings`' to say.

use std::sync::Arc;

use pg_raw_parse::{ConstValue, Node, nodes};

use super::settings::{readable, settable, writable};
use super::survey::unknown;
use super::{Context, Denial, Effect, Reason};

/// Decides a session command: its label and effect. Its text stays as it is.
pub(super) fn allowed(
    command: Node<'_>,
    context: &Context<'_>,
) -> Result<(&'static str, Effect), Denial> {
    let name = |name: Option<&str>| -> Arc<str> { name.unwrap_or_default().into() };
    Ok(match command {
        Node::TransactionStmt(statement) => transaction(statement, context)?,
        Node::VariableSetStmt(statement) => set(statement, context)?,
        Node::VariableShowStmt(statement) => {
            readable(statement.name())?;
            ("SHOW", Effect::None)
        }
        Node::DiscardStmt(statement) => match statement.target {
            nodes::DiscardMode::DISCARD_ALL => ("DISCARD ALL", Effect::DiscardAll),
            nodes::DiscardMode::DISCARD_TEMP => {
                let all = context.scope.temporary.to_vec();
                ("DISCARD TEMP", Effect::DropTemporary(all))
            }
            _ => ("DISCARD", Effect::None),
        },
        Node::DeallocateStmt(statement) => {
            let which = (!statement.isall).then(|| name(statement.name()));
            ("DEALLOCATE", Effect::Deallocate(which))
        }
        Node::FetchStmt(statement) => {
            let label = if statement.ismove { "MOVE" } else { "FETCH" };
            (label, Effect::Fetch(name(statement.portalname())))
        }
        Node::ClosePortalStmt(statement) => {
            let which = statement.portalname().map(Arc::from);
            ("CLOSE CURSOR", Effect::CloseCursor(which))
        }
        Node::ConstraintsSetStmt(_) => ("SET CONSTRAINTS", Effect::None),
        other => {
            return Err(Denial::new(
                Reason::Unsupported,
                format!("statement `{}` is not served", unknown(other)),
            ));
        }
    })
}

fn transaction(
    statement: &nodes::TransactionStmt,
    context: &Context<'_>,
) -> Result<(&'static str, Effect), Denial> {
    use nodes::TransactionStmtKind as Is;
    let savepoint = || -> Arc<str> { statement.savepoint_name().unwrap_or_default().into() };
    Ok(match statement.kind {
        Is::TRANS_STMT_BEGIN | Is::TRANS_STMT_START => {
            modes(statement.options().iter(), context)?;
            ("BEGIN", Effect::Begin)
        }
        Is::TRANS_STMT_COMMIT => ("COMMIT", Effect::Commit),
        Is::TRANS_STMT_ROLLBACK => ("ROLLBACK", Effect::Rollback),
        Is::TRANS_STMT_SAVEPOINT => ("SAVEPOINT", Effect::Savepoint(savepoint())),
        Is::TRANS_STMT_RELEASE => ("RELEASE", Effect::Release(savepoint())),
        Is::TRANS_STMT_ROLLBACK_TO => ("ROLLBACK", Effect::RollbackTo(savepoint())),
        _ => {
            return Err(
                Denial::new(Reason::Unsupported, "two-phase commit is not served")
                    .hint("use COMMIT"),
            );
        }
    })
}

/// Modes of a transaction: isolation and the like; writing takes a grant.
fn modes<'n>(options: impl Iterator<Item = Node<'n>>, context: &Context<'_>) -> Result<(), Denial> {
    for option in options {
        let Node::DefElem(mode) = option else {
            return Err(Denial::new(
                Reason::Unsupported,
                "a transaction mode that is not known",
            ));
        };
        match mode.defname() {
            Some("transaction_read_only") if !is_true(mode.arg()) => writable(context.rights)?,
            Some("transaction_read_only" | "transaction_isolation" | "transaction_deferrable") => {}
            other => {
                return Err(Denial::new(
                    Reason::Unsupported,
                    format!(
                        "transaction mode `{}` is not served",
                        other.unwrap_or_default()
                    ),
                ));
            }
        }
    }
    Ok(())
}

fn is_true(node: Node<'_>) -> bool {
    match node {
        Node::A_Const(value) => matches!(
            value.val(),
            Some(ConstValue::Integer(1) | ConstValue::Boolean(true))
        ),
        Node::Integer(value) => value.ival == 1,
        Node::Boolean(value) => value.boolval,
        _ => false,
    }
}

fn set(
    statement: &nodes::VariableSetStmt,
    context: &Context<'_>,
) -> Result<(&'static str, Effect), Denial> {
    use nodes::VariableSetKind as Is;
    let name = statement.name().unwrap_or_default().to_ascii_lowercase();
    match statement.kind {
        Is::VAR_RESET_ALL => Ok(("RESET", Effect::ResetAll)),
        Is::VAR_SET_MULTI => match name.as_str() {
            "transaction" | "session characteristics" => {
                modes(statement.args().iter(), context)?;
                Ok(("SET", Effect::None))
            }
            // An exported snapshot shows what its exporter sees, by our scans.
            "transaction snapshot" => Ok(("SET", Effect::None)),
            _ => Err(Denial::new(
                Reason::Unsupported,
                format!("SET {name} is not served"),
            )),
        },
        Is::VAR_SET_VALUE => {
            let values: Vec<String> = statement
                .args()
                .iter()
                .map(value)
                .collect::<Result<_, _>>()?;
            settable(&name, Some(&values.join(", ")), context.rights)?;
            Ok(("SET", effect(&name, Some(values), statement.is_local)))
        }
        // To what the session began with, which the proxy chose.
        Is::VAR_SET_DEFAULT | Is::VAR_RESET => {
            settable(&name, None, context.rights)?;
            let label = if statement.kind == Is::VAR_RESET {
                "RESET"
            } else {
                "SET"
            };
            Ok((label, effect(&name, None, statement.is_local)))
        }
        Is::VAR_SET_CURRENT => {
            settable(&name, None, context.rights)?;
            Err(Denial::new(
                Reason::Unsupported,
                "SET … FROM CURRENT is not served",
            ))
        }
        _ => Err(Denial::new(
            Reason::Unsupported,
            "a form of SET that is not known",
        )),
    }
}

fn effect(name: &str, values: Option<Vec<String>>, local: bool) -> Effect {
    match name {
        "search_path" => Effect::SearchPath {
            path: values.map(|values| values.iter().map(|value| value.as_str().into()).collect()),
            local,
        },
        "application_name" => Effect::ApplicationName {
            claim: values.map(|values| values.concat().into()),
            local,
        },
        _ => Effect::None,
    }
}

fn value(node: Node<'_>) -> Result<String, Denial> {
    let constant = match node {
        Node::A_Const(value) => value.val(),
        // SET timezone TO INTERVAL '…' and the like.
        Node::TypeCast(cast) => match cast.arg() {
            Node::A_Const(value) => value.val(),
            _ => None,
        },
        _ => None,
    };
    match constant {
        Some(ConstValue::Unrecognized(_)) | None => Err(Denial::new(
            Reason::Unsupported,
            "a value in SET that is not a constant",
        )),
        Some(constant) => Ok(constant.to_string()),
    }
}
