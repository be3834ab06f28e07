//! A second opinion on what is sent, simpler than the referee's: it knows the names
//! of the tables and columns of tests/rewrite, and where a scan may read them.

use pg_raw_parse::walk::walk;
use pg_raw_parse::{Node, nodes, parse};

/// Tables that hold what none but the auditor sees in clear.
const GOVERNED: [&str; 2] = ["customers", "vips"];
/// Blocked or hidden for all of them: not even a mask may read it.
const BLOCKED: &str = "ssn";
/// Masked, or not for them at all: never the whole of an output.
const MASKED: [&str; 4] = ["email", "phone", "notes", "full_name"];

/// Panics where a caller with masks could be shown a raw value.
pub(crate) fn reads_no_raw_value(text: &str) {
    let tree = parse(text).unwrap();
    let Some(query) = tree.stmts().next().and_then(query) else {
        return;
    };
    let (mut named, mut scanned) = (0, 0);
    walk(query, |node| match node {
        Node::RangeVar(relation) if is_governed(relation) => named += 1,
        Node::SelectStmt(select) if scans(select) => {
            scanned += 1;
            for output in select.target_list().iter() {
                check(Node::ResTarget(output), text);
            }
        }
        _ => {}
    });
    assert_eq!(named, scanned, "outside a scan: {text}");
}

/// As the referee's grammar sees it: of what writes, the writer's own columns are
/// all there are.
fn query(statement: Node<'_>) -> Option<Node<'_>> {
    match statement {
        Node::SelectStmt(_) => Some(statement),
        Node::CopyStmt(copy) => query(copy.query()),
        Node::DeclareCursorStmt(declare) => query(declare.query()),
        Node::PrepareStmt(prepare) => query(prepare.query()),
        Node::ExplainStmt(explain) => query(explain.query()),
        Node::CreateTableAsStmt(create) => query(create.query()),
        _ => None,
    }
}

fn is_governed(relation: &nodes::RangeVar) -> bool {
    let schema = relation.schemaname().unwrap_or_default();
    let name = relation.relname().unwrap_or_default();
    GOVERNED.contains(&name) && matches!(schema, "public" | "archive")
}

/// Whether all that a SELECT reads is one governed table.
fn scans(select: &nodes::SelectStmt) -> bool {
    let mut items = select.from_clause().iter();
    let (Some(item), None) = (items.next(), items.next()) else {
        return false;
    };
    match item {
        Node::RangeVar(relation) => is_governed(relation),
        Node::RangeTableSample(sample) => match sample.relation() {
            Node::RangeVar(relation) => is_governed(relation),
            _ => false,
        },
        _ => false,
    }
}

fn check(output: Node<'_>, text: &str) {
    walk(output, |node| match node {
        Node::ResTarget(target) => {
            if let Node::ColumnRef(column) = target.val() {
                let name = last(column);
                assert!(name != "*" && !MASKED.contains(&name), "`{name}`: {text}");
            }
        }
        Node::ColumnRef(column) => assert!(last(column) != BLOCKED, "{text}"),
        _ => {}
    });
}

fn last(column: &nodes::ColumnRef) -> &str {
    column
        .fields()
        .iter()
        .last()
        .and_then(Node::as_str)
        .unwrap_or("*")
}
