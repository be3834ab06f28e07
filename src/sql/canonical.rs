//! The door in: client text → canonical text, by Postgres's own grammar.
//!
//! Comments, escapes, continuations, dollar quotes and Unicode tricks end here:
//! what goes on is what the grammar prints of its own tree. Knows nothing about
//! policy or the catalog.

use std::sync::Arc;

use pg_raw_parse::{Node, Owned, StmtList, make, nodes, parse};

use super::mistake::{locate, syntax};
use super::printer::{self, Unprintable};
use super::statement::{Kind, check_options, mixes_options};
use super::survey::unknown;
use super::{Bounds, Denial, Mistake, Reason, comments, depth};

/// In front of a schema's name (or alone, without one) where the client wrote
/// `ONLY`: sqlparser takes the keyword for a table's name, so the normal form
/// on which both parsers agree carries it inside the name. A client that writes
/// the mark itself says ONLY, no more.
pub(super) const ONLY_MARK: &str = "\u{1}only ";

/// One statement as Postgres's grammar prints it, with its tree.
pub(super) struct Canonical {
    pub(super) text: String,
    tree: Owned<StmtList>,
}

impl Canonical {
    /// Parses text that is canonical already, such as a view's definition.
    pub(super) fn one(text: &str) -> Result<Self, Denial> {
        let mut all = statements(text, Bounds::MOST)?;
        match (all.pop(), all.is_empty()) {
            (Some(one), true) => Ok(one),
            _ => Err(Denial::new(
                Reason::Unsupported,
                "more than one statement where one belongs",
            )),
        }
    }

    /// The statement's tree; its locations are bytes of `text`.
    pub(super) fn node(&self) -> Node<'_> {
        self.tree
            .iter()
            .next()
            .map_or(Node::None, nodes::RawStmt::stmt)
    }
}

/// Splits a message into its statements' own texts.
pub(super) fn split(text: &str, bounds: Bounds) -> Result<Vec<Arc<str>>, Denial> {
    let tree = parsed(text, bounds.size).map_err(|denial| locate(denial, text))?;
    if tree.len() == 1 {
        return Ok(vec![text.into()]);
    }
    bounded(tree.len())?;
    let piece = |statement: &nodes::RawStmt| {
        let start = usize::try_from(statement.stmt_location).ok()?;
        // A length of 0 means up to the end.
        let length = usize::try_from(statement.stmt_len).ok()?;
        let end = if length == 0 {
            text.len()
        } else {
            start.checked_add(length)?
        };
        text.get(start..end).map(Arc::from)
    };
    tree.iter()
        .map(|statement| {
            piece(statement).ok_or_else(|| {
                Denial::new(
                    Reason::Unsupported,
                    "a statement could not be told from the next",
                )
            })
        })
        .collect()
}

/// Splits a message into canonical statements.
pub(super) fn statements(text: &str, bounds: Bounds) -> Result<Vec<Canonical>, Denial> {
    let tree = parsed(text, bounds.size)?;
    bounded(tree.len())?;
    let utility = tree
        .iter()
        .any(|statement| query_of(statement.stmt()).is_none());
    if utility && text.len() > MAX_UTILITY {
        return Err(Denial::new(
            Reason::TooLarge,
            format!(
                "a message of {} bytes that is not all queries is too large (limit {MAX_UTILITY})",
                text.len()
            ),
        )
        .hint("send the statements one by one"));
    }
    tree.iter()
        .map(|statement| canonical(statement, bounds.depth))
        .collect()
}

/// Statements that one message may hold.
const STATEMENTS: usize = 1000;

fn bounded(statements: usize) -> Result<(), Denial> {
    match statements <= STATEMENTS {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::TooLarge,
            format!("{statements} statements in one message are too many (limit {STATEMENTS})"),
        )
        .hint("send them one by one, or load rows with COPY")),
    }
}

/// The grammar's printing of one statement of our own making.
pub(super) fn printed(text: &str) -> Result<String, Denial> {
    let tree = parsed(text, Bounds::MOST.size)?;
    match (tree.iter().next(), tree.len()) {
        (Some(statement), 1) => print(statement).map(|(text, _)| text),
        _ => Err(Denial::new(
            Reason::Unsupported,
            "more than one statement where one belongs",
        )),
    }
}

fn parsed(text: &str, size: usize) -> Result<pg_raw_parse::ParseResult, Denial> {
    if text.len() > size {
        let length = text.len();
        return Err(Denial::new(
            Reason::TooLarge,
            format!("a text of {length} bytes is larger than this proxy plans (limit {size})"),
        )
        .hint("split it, load values with COPY or pass them as parameters"));
    }
    parse(text).or_else(|error| {
        let plain = comments::blanked(text);
        let read = plain.and_then(|plain| parse(&plain).ok());
        read.ok_or_else(|| syntax(&error))
    })
}

fn canonical(statement: &nodes::RawStmt, depth: usize) -> Result<Canonical, Denial> {
    let node = statement.stmt();
    // What is not served goes no further than its name: the printer is not asked about
    // statements whose every form nobody has looked at.
    if Kind::of(node).is_none() {
        return Err(unserved(node));
    }
    if let Node::CopyStmt(copy) = node {
        check_options(copy)?;
    }
    // Nothing may go down the tree before its depth is known.
    shallow(node, depth)?;
    let mixed = matches!(node, Node::CopyStmt(copy) if mixes_options(copy));
    let (text, tree) = match mixed || says_only(node)? {
        true => print(&*marked(statement, mixed)?)?,
        false => print(statement)?,
    };
    Ok(Canonical { text, tree })
}

fn print(statement: &nodes::RawStmt) -> Result<(String, Owned<StmtList>), Denial> {
    printer::print(statement).map_err(|why| match why {
        Unprintable::Grammar(error) => syntax(&error),
        Unprintable::TooDeep => Denial::too_deep(),
        Unprintable::Unfaithful => Denial::new(
            Reason::Unsupported,
            "statement has no canonical form: printed, it would mean something else",
        )
        .hint("write it in plainer SQL"),
    })
}

/// `MaxTupleAttributeNumber`: what Postgres refuses anyhow, it need not print, which
/// takes a time that grows with the square of a list's length.
const TARGETS: usize = 1664;

/// Refuses a query, or arguments of EXECUTE, in more than so many levels, and what
/// is wider than any result can be.
fn shallow(node: Node<'_>, limit: usize) -> Result<(), Denial> {
    let mut widest = 0;
    let mut levels = |node| {
        depth::levels(node, limit, |node| {
            if let Node::SelectStmt(select) = node {
                widest = widest.max(select.target_list().len());
            }
        })
        .map_err(|depth::TooDeep| Denial::too_deep())
    };
    let explained = match node {
        Node::ExplainStmt(explain) => explain.query(),
        _ => node,
    };
    match (query_of(node), explained) {
        (Some(query), _) => levels(query)?,
        (None, Node::ExecuteStmt(execute)) => execute.params().iter().try_for_each(levels)?,
        (None, _) => {}
    }
    match widest <= TARGETS {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Grammar(Mistake::Columns),
            format!("target lists can have at most {TARGETS} entries"),
        )),
    }
}

/// The longest statement that holds no query, in bytes: its depth is not
/// measured, but cannot exceed its length.
const MAX_UTILITY: usize = 64 << 10;

/// Whether a query, or the query inside COPY, DECLARE …, says ONLY somewhere.
fn says_only(node: Node<'_>) -> Result<bool, Denial> {
    let mut only = false;
    if let Some(query) = query_of(node) {
        depth::walk(query, |node| {
            if let Node::RangeVar(relation) = node {
                only |= !relation.inh;
            }
        })
        .map_err(|depth::TooDeep| Denial::too_deep())?;
    }
    Ok(only)
}

/// Whether a statement is a query itself.
pub(super) fn is_query(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::SelectStmt(_)
            | Node::InsertStmt(_)
            | Node::UpdateStmt(_)
            | Node::DeleteStmt(_)
            | Node::MergeStmt(_)
    )
}

/// The query a statement consists of or wraps.
pub(super) fn query_of(node: Node<'_>) -> Option<Node<'_>> {
    match node {
        query if is_query(query) => Some(query),
        Node::CopyStmt(copy) => query_of(copy.query()),
        Node::DeclareCursorStmt(declare) => query_of(declare.query()),
        Node::PrepareStmt(prepare) => query_of(prepare.query()),
        Node::ExplainStmt(explain) => query_of(explain.query()),
        Node::CreateTableAsStmt(create) => query_of(create.query()),
        Node::ViewStmt(view) => query_of(view.query()),
        _ => None,
    }
}

/// A statement of a kind that is not served, by its name, whatever it holds.
pub(super) fn unserved(node: Node<'_>) -> Denial {
    let name = unknown(node).to_string();
    let mut denial = Denial::new(
        Reason::Unsupported,
        format!("statement `{name}` is not served"),
    )
    .hint("run it on the database itself, as an administrator");
    denial.normalized = Some(name.into());
    denial
}

/// A copy of the statement with marks for ONLY, and with words for the options of COPY
/// that are in an older syntax.
fn marked(statement: &nodes::RawStmt, options: bool) -> Result<Owned<nodes::RawStmt>, Denial> {
    let ctes = cte_names(statement.stmt())?;
    Ok(make::owned(|memory| {
        let mut copy = memory.make_unique(statement);
        let mut marker = Marker {
            memory,
            ctes,
            options,
        };
        pg_raw_parse::transform::Transform::transform_raw_stmt(&mut marker, copy.as_mut());
        copy
    }))
}

struct Marker<'mem> {
    memory: make::MemoryToken<'mem>,
    ctes: Vec<String>,
    options: bool,
}

/// The names of common table expressions anywhere in a statement.
fn cte_names(node: Node<'_>) -> Result<Vec<String>, Denial> {
    let mut names = Vec::new();
    if let Some(query) = query_of(node) {
        depth::walk(query, |node| {
            if let Node::CommonTableExpr(cte) = node {
                names.extend(cte.ctename().map(str::to_owned));
            }
        })
        .map_err(|depth::TooDeep| Denial::too_deep())?;
    }
    Ok(names)
}

impl<'mem> pg_raw_parse::transform::Transform<'mem> for Marker<'mem> {
    fn transform_range_var<'mutref>(&mut self, mut node: nodes::RangeVarMut<'mem, 'mutref>) {
        // What may be the name of a common table expression keeps the keyword.
        let bare = node.schemaname().is_none();
        let named = |name: &str| self.ctes.iter().any(|cte| cte == name);
        let keeps = bare && node.relname().is_some_and(named);
        if !node.inh && !keeps {
            let marked = format!("{ONLY_MARK}{}", node.schemaname().unwrap_or_default());
            node.set_schemaname(Some(self.memory.copy_string(&marked)));
            node.set_inh(true);
        }
    }

    fn transform_def_elem<'mutref>(&mut self, mut node: nodes::DefElemMut<'mem, 'mutref>) {
        if self.options && matches!(node.arg(), Node::Boolean(value) if value.boolval) {
            let mut word = self.memory.make_node::<nodes::String>();
            word.as_mut()
                .set_sval(Some(self.memory.copy_string("true")));
            node.set_arg(word.uncast());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn canonical(text: &str) -> String {
        statements(text, Bounds::default()).unwrap().remove(0).text
    }

    #[test]
    fn tricks_end_here() {
        assert_eq!(canonical("select/* c */ 1 -- x"), "SELECT 1");
        assert_eq!(canonical(r"select U&'d\0061t'"), "SELECT 'dat'");
        assert_eq!(canonical("select $q$it's$q$"), "SELECT 'it''s'");
        assert_eq!(canonical("table customers"), "SELECT * FROM customers");
    }

    #[test]
    fn only_becomes_a_mark() {
        let text = canonical("select * from only (public.t) x");
        assert_eq!(text, format!("SELECT * FROM \"{ONLY_MARK}public\".t x"));
        assert!(canonical("copy (select 1 from only t) to stdout").contains(ONLY_MARK));
    }

    #[test]
    fn not_sql() {
        let denial = statements("selec 1", Bounds::default()).err().unwrap();
        assert_eq!(denial.reason, Reason::Syntax);
        assert!(denial.message.contains("syntax error"), "{denial}");
    }

    #[test]
    fn pieces_of_a_message() {
        let split = |text| split(text, Bounds::default());
        let pieces = split("select 1; /* x */ select ';' ;; select 3 -- end").unwrap();
        let texts: Vec<_> = pieces.iter().map(|piece| piece.trim().to_owned()).collect();
        assert_eq!(texts, ["select 1", "select ';'", "select 3 -- end"]);
        assert!(split(" -- nothing").unwrap().is_empty());
        assert_eq!(&*split("select 1;").unwrap()[0], "select 1;");
    }
}
