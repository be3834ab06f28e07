//! What Postgres's own grammar sees in a statement: relations, columns, functions,
//! operators and types, and at which bytes.
//!
//! Knows nothing about policy or the catalog. Invariant: a node that the walk
//! does not know is refused, never skipped.

mod argument;
#[cfg(test)]
mod tests;
mod walk;
mod written;

use std::collections::BTreeSet;
use std::fmt::Write;
use std::sync::Arc;

use pg_raw_parse::list::NodeList;
use pg_raw_parse::{Node, nodes};

use super::canonical::ONLY_MARK;
use super::depth::Ground;
use super::version::Newer;
use super::{Denial, Reason};
use walk::{Scope, Walk};

/// In which role a relation is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// Rows are read from it.
    Read,
    /// INSERT, UPDATE, DELETE or MERGE change it.
    Target,
}

/// Where a relation is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct RelationSite {
    /// Byte offset of the name's first part.
    pub(super) start: usize,
    /// As written, folded and truncated by the grammar.
    pub(super) catalog: Option<String>,
    /// As written.
    pub(super) schema: Option<String>,
    /// As written.
    pub(super) name: String,
    /// `FROM ONLY name`
    pub(super) only: bool,
    /// Names a common table expression in scope here.
    pub(super) cte: bool,
    /// Read or changed.
    pub(super) role: Role,
    /// Whether an alias follows.
    pub(super) aliased: bool,
    /// What it goes by: its alias, or its own name.
    pub(super) refname: String,
}

impl RelationSite {
    /// Whether it says ONLY, and its schema's name: see
    /// [`canonical::ONLY_MARK`](super::canonical::ONLY_MARK).
    pub(super) fn qualifier(&self) -> (bool, Option<&str>) {
        let schema = self.schema.as_deref();
        match schema.map(|schema| (schema, schema.strip_prefix(ONLY_MARK))) {
            Some((_, Some(""))) => (true, None),
            Some((_, Some(schema))) => (true, Some(schema)),
            Some((schema, None)) => (self.only, Some(schema)),
            None => (self.only, None),
        }
    }
}

/// Columns that a write sets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Columns {
    None,
    Some(BTreeSet<String>),
    /// All, or it is not said which.
    All,
}

impl Columns {
    /// Whether one of these is set.
    pub(super) fn any_of(&self, names: &[Arc<str>]) -> bool {
        match self {
            Self::None => false,
            Self::Some(set) => names.iter().any(|name| set.contains(&**name)),
            Self::All => true,
        }
    }
}

/// What is done to a relation that is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Byte offset of the relation's name.
    pub(super) start: usize,
    pub(super) inserts: Columns,
    pub(super) updates: Columns,
    pub(super) deletes: bool,
}

/// Where a function is called by name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FunctionSite {
    /// Byte offset of the name's first part.
    pub(super) start: usize,
    /// As written; `pg_catalog` where no search_path decides, as of `unnest(a, b)` in FROM.
    pub(super) schema: Option<String>,
    /// As written.
    pub(super) name: String,
    /// What the first argument is.
    pub(super) argument: Argument,
    /// Byte offset of that argument, if it is a string constant.
    pub(super) constant: Option<usize>,
    /// Whether it can mean a column of its only argument, a row.
    pub(super) projects: bool,
}

/// What a function's first argument is, as far as it decides about the call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Argument {
    /// A string constant.
    Literal(String),
    /// A parameter, or a cast of one.
    Parameter,
    /// A setting's name that the rewriter wrapped so that it cannot be the
    /// proxy's own: see [`super::settings::screen`].
    Screened,
    /// Anything else, or none.
    Other,
}

/// Where a column (or a whole row) is referred to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ColumnSite {
    /// Byte offset of the reference.
    pub(super) start: usize,
    /// Its dotted parts; a star is `*`.
    pub(super) parts: Vec<String>,
}

/// Where a type is named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct TypeSite {
    /// Byte offset of the name's first part, if it is known.
    pub(super) start: Option<usize>,
    /// As written; `pg_catalog` for what syntax names, such as `int`.
    pub(super) schema: Option<String>,
    /// As written; of an array, its element's.
    pub(super) name: String,
}

/// An operator that is written, or that syntax stands for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct OperatorSite {
    /// As written: `OPERATOR(schema.…)`.
    pub(super) schema: Option<String>,
    /// As written.
    pub(super) name: String,
}

/// `relation TABLESAMPLE method (…)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct SampleSite {
    /// Byte offset of the relation's name.
    pub(super) relation: usize,
    /// Byte offset of the method's name.
    pub(super) method: usize,
    /// Whether its arguments are constants or parameters.
    pub(super) plain: bool,
}

/// What a statement holds, by Postgres's grammar.
#[derive(Clone, Debug, Default)]
pub(super) struct Survey {
    pub(super) relations: Vec<RelationSite>,
    pub(super) written: Vec<Written>,
    pub(super) functions: Vec<FunctionSite>,
    pub(super) columns: Vec<ColumnSite>,
    pub(super) operators: BTreeSet<OperatorSite>,
    pub(super) samples: Vec<SampleSite>,
    pub(super) types: Vec<TypeSite>,
    /// Names that it gives to columns and rows.
    pub(super) names: BTreeSet<String>,
    /// Relations are joined by whatever columns they share.
    pub(super) natural: bool,
    /// Names taken from a composite value: `(row).name`.
    pub(super) fields: Vec<String>,
    /// Syntax that not every server has.
    pub(super) newer: BTreeSet<Newer>,
    /// FOR UPDATE and its kin.
    pub(super) locks: bool,
    /// SELECT … INTO.
    pub(super) into: bool,
    /// `WHERE CURRENT OF`.
    pub(super) current_of: bool,
    /// How many expressions of operators there are.
    pub(super) expressions: usize,
    /// What RETURNING calls the rows before and after.
    pub(super) returned: Vec<String>,
}

impl Survey {
    /// Notes an operator by its name, in parts; none where there is none.
    pub(super) fn operator(&mut self, name: &NodeList) -> Result<(), Unknown> {
        let mut parts = name.iter().map(Node::as_str);
        let (schema, name) = match (parts.next(), parts.next(), parts.next()) {
            (None, None, None) => return Ok(()),
            (Some(Some(name)), None, None) => (None, name),
            (Some(Some(schema)), Some(Some(name)), None) => (Some(schema.to_owned()), name),
            _ => {
                return Err(Unknown::Construct(
                    "an operator's name in three parts".into(),
                ));
            }
        };
        let name = name.to_owned();
        self.operators.insert(OperatorSite { schema, name });
        Ok(())
    }

    /// Whether the whole row of a relation that is written may be taken as one value,
    /// under any of the names that it goes by.
    pub(super) fn takes_row(&self, site: &RelationSite) -> bool {
        let own = |name: &String| {
            *name == site.refname
                || matches!(name.as_str(), "excluded" | "old" | "new")
                || self.returned.contains(name)
        };
        self.columns
            .iter()
            .any(|column| match column.parts.as_slice() {
                [name] => own(name),
                [.., name, star] => star == "*" && own(name),
                [] => false,
            })
    }
}

/// What the survey does not know, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unknown {
    /// A construct, by its name.
    #[error("{0}")]
    Construct(String),
    /// Nested beyond what a thread has room for.
    #[error("what is nested too deeply")]
    TooDeep,
    /// More of something, side by side, than may be.
    #[error("more than {1} {0}")]
    TooMany(&'static str, usize),
}

impl From<Unknown> for Denial {
    fn from(unknown: Unknown) -> Self {
        match unknown {
            Unknown::Construct(name) => Self::new(
                Reason::Unsupported,
                format!("syntax `{name}` is not served"),
            ),
            Unknown::TooDeep => Self::too_deep(),
            Unknown::TooMany(what, limit) => Self::new(
                Reason::TooLarge,
                format!("statement joins too many {what} (limit {limit})"),
            )
            .hint("compare with a list, an array or a table instead"),
        }
    }
}

/// What the walk has left to see of a subquery in FROM.
pub(super) enum Rest<'n> {
    /// It is like any other.
    All,
    /// Nothing: it is a scan that policy wrote.
    Nothing,
    /// This part alone: what a scan reads from.
    Only(Node<'n>),
}

/// Says what is left to see of a subquery in FROM.
pub(super) type Scans<'s> = &'s dyn for<'n> Fn(&'n nodes::RangeSubselect) -> Rest<'n>;

/// Surveys a SELECT, VALUES, INSERT, UPDATE, DELETE or MERGE.
pub(super) fn survey(statement: Node<'_>, scans: Scans<'_>) -> Result<Survey, Unknown> {
    let mut walk = Walk {
        found: Survey::default(),
        scans,
        ground: Ground::here(),
        expanded: BTreeSet::new(),
    };
    walk.statement(
        statement,
        &Scope {
            outer: None,
            names: Vec::new(),
        },
    )?;
    Ok(walk.found)
}

/// Surveys bare expressions: the arguments of EXECUTE, what a definition holds.
pub(super) fn survey_expressions<'n>(
    list: impl Iterator<Item = Node<'n>>,
) -> Result<Survey, Unknown> {
    let mut walk = Walk {
        found: Survey::default(),
        scans: &|_| Rest::All,
        ground: Ground::here(),
        expanded: BTreeSet::new(),
    };
    let scope = Scope {
        outer: None,
        names: Vec::new(),
    };
    for node in list {
        walk.node(node, &scope, None)?;
    }
    Ok(walk.found)
}

/// Where a type is named.
pub(super) fn type_site(name: &nodes::TypeName) -> Result<TypeSite, Unknown> {
    if name.pct_type {
        return Err(Unknown::Construct("%TYPE".into()));
    }
    let start = usize::try_from(name.location).ok();
    let mut parts = name.names().iter().map(|part| part.sval());
    let (schema, name) = match (parts.next(), parts.next(), parts.next()) {
        (Some(Some(own)), None, None) => (None, own),
        (Some(Some(schema)), Some(Some(own)), None) => (Some(schema), own),
        _ => return Err(Unknown::Construct("a type's name in three parts".into())),
    };
    Ok(TypeSite {
        start,
        schema: schema.map(str::to_owned),
        name: name.to_owned(),
    })
}

/// Takes the first word that is written and stops there: what follows in a node's
/// debug form can be long, and of some utility statements (GRANT) it panics.
struct FirstWord(String);

impl Write for FirstWord {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        let end = text.find(|c: char| !c.is_alphanumeric() && c != '_');
        self.0
            .push_str(text.get(..end.unwrap_or(text.len())).unwrap_or_default());
        end.map_or(Ok(()), |_| Err(std::fmt::Error))
    }
}

/// The construct's name, for the message, from its node's: `CreateRoleStmt` is
/// `CREATE ROLE`.
pub(super) fn unknown(node: Node<'_>) -> Unknown {
    let mut first = FirstWord(String::new());
    // It says that it was stopped.
    let _ = write!(first, "{node:?}");
    let node = first.0.as_str();
    let mut name = String::new();
    for (at, c) in node.strip_suffix("Stmt").unwrap_or(node).char_indices() {
        if at > 0 && c.is_uppercase() {
            name.push(' ');
        }
        name.extend(c.to_uppercase());
    }
    Unknown::Construct(name)
}
