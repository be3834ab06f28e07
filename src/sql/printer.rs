//! Prints a tree so that it reads back as the same tree.
//!
//! The grammar's own printer leaves brackets out where an operand needs them:
//! `(NOT a) IS NULL` comes out as `NOT a IS NULL`, which Postgres reads as
//! `NOT (a IS NULL)` (libpg_query 18's `deparseNullTest`, and the left operands of
//! IN, LIKE, BETWEEN and `= ANY`). So operands that are expressions of operators
//! themselves are bracketed in a copy of the tree first.
//!
//! Invariant: [`print()`] gives text whose tree, places aside, is the tree that was
//! asked for; where the printer fails at that in any other way, the statement is
//! refused. Nothing is forwarded on the word of the printer alone.

use std::fmt::{self, Write};
use std::ops::ControlFlow;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::list_mut::NodeListMut;
use pg_raw_parse::transform::{self, Transform};
use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, NodeMut, Owned, StmtList, deparse, make, nodes, parse};

use super::canonical::{is_query, query_of};
use super::flat::flattened;

/// Why a tree has no text.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unprintable {
    /// The grammar says why.
    #[error("{0}")]
    Grammar(#[from] pg_raw_parse::Error),
    /// Brackets nest deeper than is served.
    #[error("brackets nest too deeply")]
    TooDeep,
    /// Its text would be another statement.
    #[error("printed, it would mean something else")]
    Unfaithful,
}

/// The text of a statement, and the tree that it is read back as.
pub(super) fn print(statement: &nodes::RawStmt) -> Result<(String, Owned<StmtList>), Unprintable> {
    let printed = match bracketed(statement)? {
        Some(bracketed) => deparse(&*bracketed)?,
        None => deparse(statement)?,
    };
    let printed = printed.as_str();
    // A long sum in all its brackets is more than a parser takes, Postgres's included.
    // Only the levels of queries have been counted: what else is as deep stays refused.
    let counted = query_of(statement.stmt()).is_some();
    let flat = match counted && printed.contains(MANY_BRACKETS) {
        true => flattened(printed),
        false => None,
    };
    if let Some(flat) = flat
        && let Some(tree) = read_as(&flat, statement)?
    {
        return Ok((flat, tree));
    }
    let tree = read_as(printed, statement)?.ok_or(Unprintable::Unfaithful)?;
    Ok((printed.to_owned(), tree))
}

/// The tree of a text, if that is the tree of the statement.
fn read_as(text: &str, statement: &nodes::RawStmt) -> Result<Option<Owned<StmtList>>, Unprintable> {
    let tree = parse(text)?.into_inner();
    let faithful = match (tree.iter().next(), tree.len()) {
        (Some(read), 1) => same(statement.stmt(), read.stmt()),
        _ => false,
    };
    Ok(faithful.then_some(tree))
}

/// So many that a sum is worth being printed without.
const MANY_BRACKETS: &str = "((((((((((((((((((((((((((((((((";

/// The text of a query that is part of a tree which has been read from its text.
pub(super) fn text(query: Node<'_>) -> Result<String, Unprintable> {
    let printed = match wants_brackets(query) {
        true => {
            let alone = make::owned(|memory| memory.make_raw_stmt(memory.make_unique(query)));
            match bracketed(&alone)? {
                Some(bracketed) => deparse(&*bracketed)?,
                None => deparse(query)?,
            }
        }
        false => deparse(query)?,
    };
    Ok(printed.as_str().to_owned())
}

/// Whether two trees are one statement, wherever its parts stand.
pub(super) fn same(one: Node<'_>, other: Node<'_>) -> bool {
    let mut written = Places::around(String::new());
    let mut compared = Places::around(Rest(""));
    if write!(written, "{one:?}").is_err() {
        return false;
    }
    compared.inner.0 = &written.inner;
    write!(compared, "{other:?}").is_ok() && compared.inner.0.is_empty()
}

/// Fields that say where a node stands and nothing else.
const PLACES: &[&str] = &[
    "location",
    "name_location",
    "stmt_location",
    "stmt_len",
    "list_start",
    "list_end",
    "rexpr_list_start",
    "rexpr_list_end",
];

/// Leaves the values of [`PLACES`] out of what `Debug` writes of a tree.
///
/// It writes a field as a separator, the name and a colon, each in one piece, and
/// text always with its quotes, so no value can be taken for a field's name.
struct Places<W> {
    inner: W,
    /// A field's name comes next, if anything does.
    separated: bool,
    /// Until the next separator.
    skipping: bool,
}

impl<W> Places<W> {
    fn around(inner: W) -> Self {
        Self {
            inner,
            separated: false,
            skipping: false,
        }
    }
}

impl<W: Write> Write for Places<W> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        if matches!(piece, ", " | " { " | ", .. }" | " }") {
            self.separated = true;
            self.skipping = false;
        } else if std::mem::take(&mut self.separated) && PLACES.contains(&piece) {
            self.skipping = true;
        }
        match self.skipping {
            true => Ok(()),
            false => self.inner.write_str(piece),
        }
    }
}

/// What must be written from here on; anything else is an error.
struct Rest<'t>(&'t str);

impl Write for Rest<'_> {
    fn write_str(&mut self, piece: &str) -> fmt::Result {
        self.0 = self.0.strip_prefix(piece).ok_or(fmt::Error)?;
        Ok(())
    }
}

/// How many brackets may stand inside each other: each level copies what is inside
/// it once more, so a small statement may have more of them than a large one.
fn levels(statement: Node<'_>) -> usize {
    const COPIES: usize = 2_000_000;
    const LEVELS: (usize, usize) = (64, 1000);
    let mut nodes = 1;
    if is_query(statement) {
        let _ = walk_manual::<()>(statement, |_| {
            nodes += 1;
            Recurse::yes()
        });
        return (COPIES / nodes).clamp(LEVELS.0, LEVELS.1);
    }
    // The walk does not see into it.
    LEVELS.0
}

/// A copy of the statement with brackets where the printer would leave them out;
/// none where it needs none.
fn bracketed(statement: &nodes::RawStmt) -> Result<Option<Owned<nodes::RawStmt>>, Unprintable> {
    if !wants_brackets(statement.stmt()) {
        return Ok(None);
    }
    let mut too_deep = false;
    let copy = make::owned(|memory| {
        let mut copy = memory.make_unique(statement);
        let mut brackets = Brackets {
            memory,
            level: 0,
            levels: levels(statement.stmt()),
            too_deep: false,
        };
        brackets.transform_raw_stmt(copy.as_mut());
        too_deep = brackets.too_deep;
        copy
    });
    match too_deep {
        true => Err(Unprintable::TooDeep),
        false => Ok(Some(copy)),
    }
}

/// Whether any operand in a query is to be bracketed; of other statements the walk
/// sees nothing, so they are always gone through.
fn wants_brackets(statement: Node<'_>) -> bool {
    if !is_query(statement) {
        return true;
    }
    let found = walk_manual(statement, |node| {
        let selected_from = match node {
            Node::A_Indirection(selection) => !stands_before_a_dot(selection.arg()),
            _ => false,
        };
        match selected_from || operands(node).any(|operand| Beside::of(node).breaks(operand)) {
            true => ControlFlow::Break(()),
            false => Recurse::yes(),
        }
    });
    found.is_some()
}

/// What stands beside an operator or a keyword in a node's text.
fn operands(node: Node<'_>) -> impl Iterator<Item = Node<'_>> {
    let (one, list) = match node {
        Node::NullTest(test) => (test.arg(), Node::None),
        Node::BooleanTest(test) => (test.arg(), Node::None),
        Node::JsonIsPredicate(test) => (test.expr(), Node::None),
        Node::CollateClause(collate) => (collate.arg(), Node::None),
        Node::TypeCast(cast) => (cast.arg(), Node::None),
        Node::SubLink(link) => (link.testexpr(), Node::None),
        Node::A_Expr(expression) => (expression.lexpr(), expression.rexpr()),
        Node::FuncCall(call) if is_syntax(call) || is_pattern(call) => {
            (Node::None, Node::NodeList(call.args()))
        }
        _ => (Node::None, Node::None),
    };
    // An empty list is no node, and is no operand.
    let (right, list) = match list {
        Node::NodeList(all) => (Node::None, Some(all)),
        other => (other, None),
    };
    [one, right]
        .into_iter()
        .chain(list.into_iter().flat_map(|list| list.iter()))
}

/// `x AT TIME ZONE y`, `x OVERLAPS y` …: a call whose text is not that of a call.
fn is_syntax(call: &nodes::FuncCall) -> bool {
    call.funcformat == nodes::CoercionForm::COERCE_SQL_SYNTAX
}

/// The right side of SIMILAR TO, which the printer takes apart.
fn is_pattern(call: &nodes::FuncCall) -> bool {
    let name = call.funcname().iter().filter_map(Node::as_str);
    name.eq(["pg_catalog", "similar_to_escape"])
}

/// What an operand stands beside.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Beside {
    /// An infix operator, or IS DISTINCT FROM
    Operator,
    /// A prefix operator
    Sign,
    /// `::`
    Cast,
    /// COLLATE
    Collate,
    /// IS TRUE and its kin
    BooleanTest,
    /// IS NULL, IN, LIKE, BETWEEN, AT TIME ZONE …
    Keyword,
}

impl Beside {
    fn of(parent: Node<'_>) -> Self {
        match parent {
            Node::A_Expr(expression) => Self::of_operator(expression),
            Node::TypeCast(_) => Self::Cast,
            Node::CollateClause(_) => Self::Collate,
            Node::BooleanTest(_) => Self::BooleanTest,
            _ => Self::Keyword,
        }
    }

    fn of_operator(expression: &nodes::A_Expr) -> Self {
        use nodes::A_Expr_Kind as Is;
        match (expression.kind, expression.lexpr()) {
            (Is::AEXPR_OP, Node::None) => Self::Sign,
            (Is::AEXPR_OP | Is::AEXPR_DISTINCT, _) => Self::Operator,
            _ => Self::Keyword,
        }
    }

    /// Whether an operand falls apart here, and the printer does not bracket it by
    /// itself.
    fn breaks(self, operand: Node<'_>) -> bool {
        let tested = matches!(self, Self::Operator | Self::Sign | Self::Cast);
        match operand {
            Node::A_Expr(_) => !tested && self != Self::Collate,
            Node::BoolExpr(_) => !tested && self != Self::BooleanTest,
            Node::NullTest(_) | Node::BooleanTest(_) => !tested,
            Node::JsonIsPredicate(_) => true,
            // COLLATE binds closer than all but a sign.
            Node::CollateClause(_) => self == Self::Sign,
            Node::FuncCall(call) => is_syntax(call),
            _ => false,
        }
    }
}

/// What a field can be selected from as it is, or what the printer brackets itself.
fn stands_before_a_dot(node: Node<'_>) -> bool {
    matches!(
        node,
        Node::ColumnRef(_)
            | Node::ParamRef(_)
            | Node::A_Indirection(_)
            | Node::FuncCall(_)
            | Node::A_Expr(_)
            | Node::TypeCast(_)
            | Node::RowExpr(_)
            | Node::A_ArrayExpr(_)
            | Node::JsonFuncExpr(_)
    )
}

type Bracketed<'mem> = make::Unique<'mem, Node<'mem>>;

struct Brackets<'mem> {
    memory: make::MemoryToken<'mem>,
    level: usize,
    levels: usize,
    too_deep: bool,
}

impl<'mem> Brackets<'mem> {
    /// An operand in brackets, if it wants them.
    fn around(&self, beside: Beside, operand: Node<'_>) -> Option<Bracketed<'mem>> {
        beside.breaks(operand).then(|| self.brackets(operand))
    }

    /// To the printer, brackets are a selection of no field from a selection: it puts
    /// them around the inner one, whatever that is of (but for a column's bare name,
    /// which never comes here).
    fn brackets(&self, node: Node<'_>) -> Bracketed<'mem> {
        let mut inner = self.memory.make_node::<nodes::A_Indirection>();
        inner.as_mut().set_arg(self.memory.make_unique(node));
        let mut outer = self.memory.make_node::<nodes::A_Indirection>();
        outer.as_mut().set_arg(inner.uncast());
        outer.uncast()
    }

    fn list(&self, beside: Beside, mut list: NodeListMut<'mem, '_, NodeList>) {
        for at in 0..list.len() {
            if let Some(bracketed) = list.get(at).and_then(|node| self.around(beside, node)) {
                list.set(at, bracketed);
            }
        }
    }
}

impl<'mem> Transform<'mem> for Brackets<'mem> {
    fn transform_null_test<'r>(&mut self, mut node: nodes::NullTestMut<'mem, 'r>) {
        if let Some(arg) = self.around(Beside::Keyword, node.arg()) {
            node.set_arg(arg);
        }
        transform::transform_null_test(node, self);
    }

    fn transform_boolean_test<'r>(&mut self, mut node: nodes::BooleanTestMut<'mem, 'r>) {
        if let Some(arg) = self.around(Beside::BooleanTest, node.arg()) {
            node.set_arg(arg);
        }
        transform::transform_boolean_test(node, self);
    }

    fn transform_json_is_predicate<'r>(&mut self, mut node: nodes::JsonIsPredicateMut<'mem, 'r>) {
        if let Some(expr) = self.around(Beside::Keyword, node.expr()) {
            node.set_expr(expr);
        }
        transform::transform_json_is_predicate(node, self);
    }

    fn transform_collate_clause<'r>(&mut self, mut node: nodes::CollateClauseMut<'mem, 'r>) {
        if let Some(arg) = self.around(Beside::Collate, node.arg()) {
            node.set_arg(arg);
        }
        transform::transform_collate_clause(node, self);
    }

    fn transform_type_cast<'r>(&mut self, mut node: nodes::TypeCastMut<'mem, 'r>) {
        if let Some(arg) = self.around(Beside::Cast, node.arg()) {
            node.set_arg(arg);
        }
        transform::transform_type_cast(node, self);
    }

    fn transform_sub_link<'r>(&mut self, mut node: nodes::SubLinkMut<'mem, 'r>) {
        if let Some(testexpr) = self.around(Beside::Keyword, node.testexpr()) {
            node.set_testexpr(testexpr);
        }
        transform::transform_sub_link(node, self);
    }

    fn transform_a_indirection<'r>(&mut self, mut node: nodes::A_IndirectionMut<'mem, 'r>) {
        // Brackets of ours: two nodes that select nothing.
        if node.indirection().is_empty() {
            let inner = usize::from(!matches!(node.arg(), Node::A_Indirection(_)));
            self.level += inner;
            self.too_deep |= self.level > self.levels;
            if !self.too_deep {
                transform::transform_a_indirection(node, self);
            }
            self.level -= inner;
            return;
        }
        if !stands_before_a_dot(node.arg()) {
            let arg = self.brackets(node.arg());
            node.set_arg(arg);
        }
        transform::transform_a_indirection(node, self);
    }

    fn transform_a_expr<'r>(&mut self, mut node: nodes::A_ExprMut<'mem, 'r>) {
        let beside = Beside::of_operator(&node);
        if let Some(lexpr) = self.around(beside, node.lexpr()) {
            node.set_lexpr(lexpr);
        }
        if let Some(rexpr) = self.around(beside, node.rexpr()) {
            node.set_rexpr(rexpr);
        } else if let NodeMut::NodeList(list) = node.rexpr_mut() {
            self.list(beside, list);
        }
        transform::transform_a_expr(node, self);
    }

    fn transform_func_call<'r>(&mut self, mut node: nodes::FuncCallMut<'mem, 'r>) {
        if is_syntax(&node) || is_pattern(&node) {
            self.list(Beside::Keyword, node.args_mut());
        }
        transform::transform_func_call(node, self);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(text: &str) -> Result<String, Unprintable> {
        let tree = parse(text).unwrap();
        print(tree.iter().next().unwrap()).map(|(text, _)| text)
    }

    /// Each of these came out as another statement.
    #[test]
    fn brackets_stay_where_they_mean_something() {
        let forms = [
            "SELECT (not a) IS NULL",
            "SELECT (a AND b) IS NOT NULL",
            "SELECT (a = b) IS NULL",
            "SELECT (a IS DISTINCT FROM b) IS TRUE",
            "SELECT (not a) IN (true, false)",
            "SELECT (a OR b) IN (c)",
            "SELECT (a = b) BETWEEN (c AND d) AND (e OR f)",
            "SELECT (a = b) = ANY (c)",
            "SELECT (a || b) LIKE (c || d)",
            "SELECT (a LIKE b) LIKE c",
            "SELECT (a < b) SIMILAR TO ((c = d) || e) ESCAPE (f || g)",
            "SELECT (a < b) IS NOT DISTINCT FROM (c < d)",
            "SELECT (a AND b) IN (SELECT true)",
            "SELECT (a = b) IS JSON",
            "SELECT (a AT TIME ZONE b)::date",
            "SELECT (a < b) AT TIME ZONE (c || d)",
            "SELECT (a COLLATE \"C\")::text",
            "SELECT (a AND b) COLLATE \"C\"",
            "SELECT ((a IS NULL) IS NULL) IS NULL",
            "SELECT - (- a), - (a COLLATE \"C\"), (a COLLATE \"C\") IS NULL, (a COLLATE \"C\") || b",
            "SELECT (array(select 1))[1], (case when a then b end).c, (coalesce(a, b)).c, (select a).b",
            "SELECT (- 1)::int, - (1::int), (-1)[1], (a).b, (a.b).c, (f(a)).b, (a[1]).b, (row(a)).f1",
            "SELECT NOT (a IS NULL), (NOT a) = b, NOT (a = b)",
            "SELECT 1 WHERE (NOT a) IS UNKNOWN OR (b IS NULL) = c",
            "INSERT INTO t VALUES ((NOT a) IS NULL)",
            "CREATE VIEW v AS SELECT (NOT a) IS NULL",
            "CREATE TABLE t (a boolean CHECK ((NOT a) IS NULL))",
        ];
        for form in forms {
            let text = printed(form).unwrap_or_else(|why| panic!("{form}: {why:?}"));
            let (one, two) = (parse(form).unwrap(), parse(&text).unwrap());
            let first = |tree: &pg_raw_parse::ParseResult| {
                format!("{:?}", tree.iter().next().unwrap().stmt())
            };
            let digits = |text: String| text.replace(|c: char| c.is_ascii_digit(), "");
            assert_eq!(digits(first(&one)), digits(first(&two)), "{form}: {text}");
        }
    }

    #[test]
    fn places_do_not_matter_and_everything_else_does() {
        let is_same = |one: &str, two: &str| {
            let (one, two) = (parse(one).unwrap(), parse(two).unwrap());
            same(
                one.iter().next().unwrap().stmt(),
                two.iter().next().unwrap().stmt(),
            )
        };
        assert!(is_same("select  a", "SELECT a"));
        assert!(!is_same("select a", "select b"));
        assert!(!is_same("select a", "select a, b"));
        assert!(!is_same("select 'location'", "select 'locations'"));
        assert!(!is_same(
            "select location from t",
            "select locations from t"
        ));
        assert!(!is_same("select ', ', 1", "select ', ', 2"));
        assert!(!is_same(
            "(select 1) union select 2",
            "select 1 union all select 2"
        ));
    }

    #[test]
    fn many_levels_of_brackets_are_refused() {
        let nested = |levels| {
            format!(
                "SELECT {}a{}",
                "(".repeat(levels),
                " IS NULL)".repeat(levels)
            )
        };
        assert!(printed(&nested(500)).is_ok());
        assert!(matches!(printed(&nested(1100)), Err(Unprintable::TooDeep)));
        let wide = format!("{}, {}1", nested(200), "1, ".repeat(20_000));
        assert!(matches!(printed(&wide), Err(Unprintable::TooDeep)));
    }
}
