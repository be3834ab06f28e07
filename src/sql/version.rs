//! Syntax that is newer than the server.
//!
//! Statements are read here by the grammar of Postgres 18. An older server reads some
//! of them as something else: `json_value(a, b)` is a construct to 17 and a call to 16,
//! of whichever function the search_path has. So what a server does not know is
//! refused, and a server that knows more than the grammar here is not served at all
//! ([`crate::catalog::SERVED`]).
//!
//! What differs, from the keywords of 15.18 and 18.4 (`pg_get_keywords()`) and the
//! release notes:
//! - Words that are functions' names to 15 and constructs to 18 (`col_name_keyword`):
//!   `json`, `json_array`, `json_arrayagg`, `json_object`, `json_objectagg` (16);
//!   `json_exists`, `json_query`, `json_scalar`, `json_serialize`, `json_table`,
//!   `json_value`, `merge_action` (17). `json_object` over arrays is a call to both, and
//!   canonical text gives it its schema; so it does to the type `json`.
//! - A word that is a column's name to 15 and reserved in 18: `system_user` (16).
//! - Words that mean something where 15 has a syntax error, and are names elsewhere to
//!   both (`unreserved_keyword`): absent, format, indent, keys, scalar (16); conditional,
//!   empty, error, keep, nested, omit, path, plan, quotes, source, string, target,
//!   unconditional (17); enforced, objects, period, virtual (18). 15 also has `recheck`.
//! - Numbers: 0x1f, 0o17, 0b11 and 1_000 (16). 15 has a syntax error there, and canonical
//!   text keeps the form of large ones.
//! - `RETURNING WITH (OLD AS …)` (18), a syntax error to others.

use pg_raw_parse::{ConstValue, Node, nodes};

use super::survey::Survey;
use super::{Context, Denial, Reason};

/// A construct by its name, and the first version that has it.
pub(super) type Newer = (u32, &'static str);

/// What a node is, if it is younger than the oldest server that is served.
pub(super) fn newer(node: Node<'_>) -> Option<Newer> {
    use nodes::MergeMatchKind::MERGE_WHEN_NOT_MATCHED_BY_SOURCE;
    Some(match node {
        Node::JsonObjectConstructor(_) => (16, "JSON_OBJECT"),
        Node::JsonArrayConstructor(_) | Node::JsonArrayQueryConstructor(_) => (16, "JSON_ARRAY"),
        Node::JsonObjectAgg(_) => (16, "JSON_OBJECTAGG"),
        Node::JsonArrayAgg(_) => (16, "JSON_ARRAYAGG"),
        Node::JsonIsPredicate(_) => (16, "IS JSON"),
        Node::JsonFormat(_) | Node::JsonValueExpr(_) => (16, "FORMAT JSON"),
        Node::JsonParseExpr(_) => (17, "JSON"),
        Node::JsonScalarExpr(_) => (17, "JSON_SCALAR"),
        Node::JsonSerializeExpr(_) => (17, "JSON_SERIALIZE"),
        Node::JsonFuncExpr(_) => (17, "JSON_EXISTS, JSON_QUERY, JSON_VALUE"),
        Node::JsonTable(_) | Node::JsonTableColumn(_) => (17, "JSON_TABLE"),
        Node::XmlSerialize(xml) if xml.indent => (16, "XMLSERIALIZE … INDENT"),
        Node::MergeSupportFunc(_) => (17, "MERGE_ACTION"),
        Node::MergeStmt(merge) if merge.returning_clause().is_some() => (17, "MERGE … RETURNING"),
        Node::MergeWhenClause(when) if when.match_kind == MERGE_WHEN_NOT_MATCHED_BY_SOURCE => {
            (17, "WHEN NOT MATCHED BY SOURCE")
        }
        Node::ReturningOption(_) => (18, "RETURNING WITH"),
        Node::FuncCall(call) => return newer_call(call),
        Node::A_Const(value) => match value.val() {
            Some(ConstValue::Float(text)) if !is_decimal(text) => (16, "numbers in that form"),
            _ => return None,
        },
        _ => return None,
    })
}

/// Syntax that is a call in the tree.
fn newer_call(call: &nodes::FuncCall) -> Option<Newer> {
    if call.funcformat != nodes::CoercionForm::COERCE_SQL_SYNTAX {
        return None;
    }
    let name = call.funcname().iter().filter_map(Node::as_str).next_back();
    match name? {
        "system_user" => Some((16, "SYSTEM_USER")),
        "timezone" if call.args().len() == 1 => Some((17, "AT LOCAL")),
        _ => None,
    }
}

/// `12.5e-3`, which every version reads alike.
fn is_decimal(text: &str) -> bool {
    text.bytes()
        .all(|byte| byte.is_ascii_digit() || b".eE+-".contains(&byte))
}

/// Whether the server knows all that a statement holds.
pub(super) fn allow(found: &Survey, context: &Context<'_>) -> Result<(), Denial> {
    let server = context.catalog.version / 10_000;
    match found.newer.iter().find(|(version, _)| *version > server) {
        None => Ok(()),
        Some((version, what)) => Err(Denial::new(
            Reason::Unsupported,
            format!("{what} came with Postgres {version}: the server is Postgres {server}"),
        )
        .hint("write it as that version does")),
    }
}
