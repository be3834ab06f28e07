//! The options of COPY, before they are printed.
//!
//! The grammar takes any name with any value. Its printer takes for granted that the
//! value is what the name calls for (libpg_query 18's `deparseCopyStmt`): where there
//! is none, or a number for a string, it reads memory that is something else.
//! Invariant: after [`check`] it does not.

use pg_raw_parse::{Node, nodes};

use crate::sql::{Denial, Reason};

/// Refuses an option whose value is not what its name calls for.
pub(in crate::sql) fn check(copy: &nodes::CopyStmt) -> Result<(), Denial> {
    let wrong = |option: &nodes::DefElem| {
        let name = option.defname().unwrap_or_default();
        !fits(name, option.arg())
    };
    match copy.options().iter().find(|option| wrong(option)) {
        None => Ok(()),
        Some(option) => Err(Denial::new(
            Reason::Unsupported,
            format!(
                "COPY option {} is not served with that value, or without one",
                option.defname().unwrap_or_default().escape_debug()
            ),
        )
        .hint("write it as Postgres documents it: (FORMAT csv, NULL 'none', HEADER true)")),
    }
}

fn fits(name: &str, value: Node<'_>) -> bool {
    match name {
        "format" | "delimiter" | "null" | "quote" | "escape" | "encoding" => {
            matches!(value, Node::String(_))
        }
        // Printed as they are, without quotes.
        "header" | "freeze" => match value {
            Node::None | Node::Boolean(_) | Node::Integer(_) => true,
            Node::String(text) => text.sval().is_some_and(|text| {
                !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase())
            }),
            _ => false,
        },
        "force_quote" | "force_not_null" | "force_null" => {
            matches!(value, Node::A_Star(_)) || names(value)
        }
        _ => {
            matches!(
                value,
                Node::None | Node::String(_) | Node::Integer(_) | Node::Float(_) | Node::A_Star(_)
            ) || names(value)
        }
    }
}

fn names(value: Node<'_>) -> bool {
    match value {
        Node::NodeList(list) => {
            !list.is_empty() && list.iter().all(|name| matches!(name, Node::String(_)))
        }
        _ => false,
    }
}

/// Whether options in the syntax of before Postgres 9 stand beside others, so that
/// all are printed in the syntax of now: there, HEADER has a word for a value.
pub(in crate::sql) fn mixed(copy: &nodes::CopyStmt) -> bool {
    let old = |option: &nodes::DefElem| match (option.defname(), option.arg()) {
        (Some("format"), format) => format.as_str() == Some("csv"),
        (Some("header" | "freeze"), value) => matches!(value, Node::Boolean(_)),
        (Some("force_quote"), value) => matches!(value, Node::NodeList(_)),
        _ => false,
    };
    let legacy = |option: &nodes::DefElem| matches!(option.arg(), Node::Boolean(_));
    copy.options().iter().any(legacy) && !copy.options().iter().all(old)
}
