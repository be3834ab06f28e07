//! Policy's own texts as trees, to be compared with what stands in a final text.
//!
//! Knows nothing about statements. A tree depends on its text alone, so it is kept
//! for the next statement: masks are long, and the same for everybody.

use std::sync::{Arc, LazyLock};

use moka::sync::Cache;
use pg_raw_parse::{Node, Owned, ParseResult, StmtList, nodes, parse};

/// Trees that are kept, at most; each takes some 10 kB.
const KEPT: u64 = 1024;

static TREES: LazyLock<Cache<String, Option<Arc<Owned<StmtList>>>>> =
    LazyLock::new(|| Cache::new(KEPT));

/// Asks about an expression of policy's; false if it is not one expression.
pub(super) fn is_expression(text: &str, ask: impl FnOnce(Node<'_>) -> bool) -> bool {
    let Some(tree) = tree(&format!("SELECT {text}")) else {
        return false;
    };
    let Some(Node::SelectStmt(select)) = tree.iter().next().map(nodes::RawStmt::stmt) else {
        return false;
    };
    let mut targets = select.target_list().iter();
    match (targets.next(), targets.next()) {
        (Some(target), None) if is_bare(select) => ask(target.val()),
        _ => false,
    }
}

/// Asks about a view's definition, a SELECT.
pub(super) fn is_definition(text: &str, ask: impl FnOnce(Node<'_>) -> bool) -> bool {
    tree(text).is_some_and(|tree| {
        let statement = tree.iter().next().map(nodes::RawStmt::stmt);
        statement.is_some_and(ask)
    })
}

/// `SELECT …` and nothing after it.
fn is_bare(select: &nodes::SelectStmt) -> bool {
    select.from_clause().is_empty()
        && matches!(select.where_clause(), Node::None)
        && select.sort_clause().is_empty()
        && select.with_clause().is_none()
        && select.larg().is_none()
}

fn tree(text: &str) -> Option<Arc<Owned<StmtList>>> {
    if let Some(known) = TREES.get(text) {
        return known;
    }
    let tree = parse(text).ok().map(ParseResult::into_inner);
    let made = tree.filter(|tree| tree.len() == 1).map(Arc::new);
    TREES.insert(text.to_owned(), made.clone());
    made
}
