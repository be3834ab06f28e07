//! The rewriter's reading of a statement: which columns of which relation it
//! uses, by sqlparser's tree and Postgres's rules of scope.
//!
//! Soundness does not rest on this room: a scan holds no value that its caller
//! may not see, whoever refers to it. What rests on it is that a reference to a
//! blocked column is refused with its name, and that the record says what was
//! touched. Where a name could mean either of two columns, both count.

mod from;
mod lines;
mod outputs;
mod references;
mod scope;
mod visit;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use sqlparser::ast::{Ident, Visit};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};

use lines::Lines;
use scope::Scope;

/// What the catalog knows of a relation named at some byte: the columns this
/// caller can name, in order.
pub(super) type Known<'k> = HashMap<usize, &'k [String]>;

/// What sqlparser's tree says of a statement.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Where relations are named: first byte, end, and whether the name means a
    /// common table expression.
    pub(super) relations: BTreeSet<(usize, usize, bool)>,
    /// Where columns and whole rows are referred to.
    pub(super) columns: BTreeSet<usize>,
    /// Columns used, by the relation's first byte.
    pub(super) uses: BTreeMap<usize, BTreeSet<String>>,
    /// `schema.relation.column`: first byte, the byte after `schema.`, and the
    /// relation's first byte.
    pub(super) long: Vec<(usize, usize, usize)>,
    /// References to a column of a relation named in the same SELECT, and to
    /// nothing else.
    pub(super) bound: super::pushdown::Bound,
    /// A reference could not be told: whatever it means must be there.
    pub(super) uncertain: bool,
    /// References that certainly mean a column, so never a function in
    /// attribute notation.
    pub(super) certain: BTreeSet<usize>,
}

impl Reading {
    /// The same, for a text in which the statement begins at byte `by`.
    pub(super) fn shifted(self, by: usize) -> Self {
        Self {
            relations: self
                .relations
                .into_iter()
                .map(|(start, end, cte)| (start + by, end + by, cte))
                .collect(),
            columns: self.columns.into_iter().map(|at| at + by).collect(),
            uses: self
                .uses
                .into_iter()
                .map(|(at, names)| (at + by, names))
                .collect(),
            long: self
                .long
                .into_iter()
                .map(|(start, after, site)| (start + by, after + by, site + by))
                .collect(),
            bound: self
                .bound
                .into_iter()
                .map(|(at, (site, name))| (at + by, (site + by, name)))
                .collect(),
            uncertain: self.uncertain,
            certain: self.certain.into_iter().map(|at| at + by).collect(),
        }
    }
}

/// Why sqlparser's tree cannot be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unread {
    #[error("{0}")]
    Syntax(#[from] ParserError),
    #[error("{0}")]
    Construct(&'static str),
}

/// Nested expressions sqlparser may enter before it gives up.
const DEPTH: usize = 1000;

/// Reads one canonical statement.
pub(super) fn read(text: &str, known: &Known<'_>) -> Result<Reading, Unread> {
    let statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH)
        .try_with_sql(text)?
        .parse_statements()?;
    let [statement] = statements.as_slice() else {
        return Err(Unread::Construct("more than one statement"));
    };
    let mut reader = Reader {
        lines: Lines::new(text),
        known,
        scopes: Vec::new(),
        found: Reading::default(),
        output_names: BTreeSet::new(),
        function: None,
    };
    match statement.visit(&mut reader) {
        ControlFlow::Continue(()) => Ok(reader.found),
        ControlFlow::Break(unread) => Err(unread),
    }
}

struct Reader<'r> {
    lines: Lines,
    known: &'r Known<'r>,
    scopes: Vec<Scope>,
    found: Reading,
    /// Bytes of ORDER BY names that mean an output column.
    output_names: BTreeSet<usize>,
    /// The name of a function in FROM, which the visitor reports as a relation.
    function: Option<usize>,
}

type Flow = ControlFlow<Unread>;

fn stop(what: &'static str) -> Flow {
    ControlFlow::Break(Unread::Construct(what))
}

impl Reader<'_> {
    fn start(&self, ident: &Ident) -> Option<usize> {
        self.lines.byte(ident.span.start)
    }

    fn end(&self, ident: &Ident) -> Option<usize> {
        self.lines.byte(ident.span.end)
    }
}
