//! The rewriter's reading of a statement: which columns of which relation it
//! uses, by sqlparser's tree and Postgres's rules of scope.
//!
//! Soundness does not rest on this room: a scan holds no value that its caller
//! may not see, whoever refers to it. What rests on it is that a reference to a
//! blocked column is refused with its name, and that the record says what was
//! touched. Where a name could mean either of two columns, both count.

mod from;
mod outputs;
mod places;
mod references;
mod scope;
mod visit;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::rc::Rc;
use std::sync::Arc;

use sqlparser::ast::Visit;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError};

use places::Places;
pub(super) use places::Text;
use scope::Scope;
pub(super) use scope::{Column, Row};

/// What the catalog knows of a relation named at some byte of the statement: the
/// columns this caller can name, in order.
pub(super) type Known = HashMap<usize, Rc<Row>>;

/// What sqlparser's tree says of a statement. Places are bytes of the statement.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Where relations are named, and whether the name means a common table
    /// expression.
    pub(super) relations: BTreeSet<(usize, bool)>,
    /// Where columns and whole rows are referred to.
    pub(super) columns: BTreeSet<usize>,
    /// Columns used, by the relation's first byte.
    pub(super) uses: BTreeMap<usize, BTreeSet<Arc<str>>>,
    /// `schema.relation.column`: first byte, and the relation's first byte.
    pub(super) long: Vec<(usize, usize)>,
    /// References to a column of a relation named in the same SELECT, and to
    /// nothing else.
    pub(super) bound: super::pushdown::Bound,
    /// A reference could not be told: whatever it means must be there.
    pub(super) uncertain: bool,
    /// What an item of FROM has for columns was not known where it mattered:
    /// another reading may tell more.
    pub(super) vague: bool,
    /// References that certainly mean a column, so never a function in
    /// attribute notation.
    pub(super) certain: BTreeSet<usize>,
    /// References that certainly mean none.
    pub(super) attributes: BTreeSet<usize>,
}

impl Reading {
    /// Notes that the columns of that visible name are used; whether there are any.
    fn touch(&mut self, row: &Row, name: &str) -> bool {
        let mut any = false;
        for column in &row.columns {
            if column.name.as_deref() == Some(name) {
                any = true;
                self.touch_stored(column);
            }
        }
        any
    }

    fn touch_all(&mut self, row: &Row) {
        row.columns
            .iter()
            .for_each(|column| self.touch_stored(column));
    }

    fn touch_stored(&mut self, column: &Column) {
        if let Some((site, stored)) = &column.of {
            self.uses.entry(*site).or_default().insert(stored.clone());
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
const DEPTH: usize = 300;

/// Reads one canonical statement.
pub(super) fn read(text: Text<'_>, known: &Known) -> Result<Reading, Unread> {
    let statements = Parser::new(&PostgreSqlDialect {})
        .with_recursion_limit(DEPTH)
        .try_with_sql(text.text())?
        .parse_statements()?;
    let [statement] = statements.as_slice() else {
        return Err(Unread::Construct("more than one statement"));
    };
    let mut reader = Reader {
        places: Places::new(text),
        known,
        scopes: Vec::new(),
        rows: HashMap::new(),
        found: Reading::default(),
        outputs: BTreeSet::new(),
        function: None,
        targets: Vec::new(),
    };
    match statement.visit(&mut reader) {
        ControlFlow::Continue(()) => Ok(reader.found),
        ControlFlow::Break(unread) => Err(unread),
    }
}

struct Reader<'r> {
    places: Places<'r>,
    known: &'r Known,
    scopes: Vec<Scope>,
    /// What queries return, by their addresses in the tree.
    rows: HashMap<usize, Rc<Row>>,
    found: Reading,
    /// Bytes of names that mean an output column.
    outputs: BTreeSet<usize>,
    /// The address of a name in FROM that is a function's.
    function: Option<usize>,
    /// The addresses of names that are written to, which are never those of common
    /// table expressions (`setTargetTable`).
    targets: Vec<usize>,
}

type Flow = ControlFlow<Unread>;

fn stop(what: &'static str) -> Flow {
    ControlFlow::Break(Unread::Construct(what))
}

fn flow(result: Result<(), Unread>) -> Flow {
    match result {
        Ok(()) => ControlFlow::Continue(()),
        Err(unread) => ControlFlow::Break(unread),
    }
}
