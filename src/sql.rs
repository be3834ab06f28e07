//! Turns text into a [`Plan`] or a [`Denial`].
//!
//! Pure: no sockets, no clock, no I/O. Only this room constructs a [`Plan`],
//! and `upstream` sends SQL only as a `Plan`, so that nothing reaches Postgres
//! which was not decided here.

mod actions;
mod attributes;
pub mod cache;
mod canonical;
mod comments;
mod ddl;
mod depth;
mod flat;
pub mod fold;
mod functions;
mod gate;
mod keys;
mod mistake;
pub(crate) mod names;
mod normalize;
mod operators;
mod order;
pub mod origins;
mod printer;
mod pushdown;
mod query;
mod referee;
mod resolve;
mod scan;
mod sequences;
mod session;
pub mod settings;
mod skeleton;
mod splice;
mod statement;
mod step;
pub(crate) mod step_up;
mod storage;
mod survey;
mod system;
mod temporary;
mod types;
mod unnamed;
mod updatable;
mod version;

use std::sync::Arc;

pub(crate) use normalize::fingerprint;

pub use mistake::Mistake;

use crate::catalog::{Catalog, Oid};
use crate::error::{SqlState, Tell, Told};
use crate::policy::{Action, Rights};

/// Where a session looks unqualified names up.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Scope {
    /// Its search_path, as set (may hold `$user`).
    pub search_path: Arc<[Arc<str>]>,
    /// Its temporary tables, which come before all schemas.
    pub temporary: Arc<[Arc<str>]>,
}

/// How large a message's text may be, and how deep a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes.
    pub size: usize,
    /// Levels of Postgres's own tree.
    pub depth: usize,
}

impl Bounds {
    /// What planning can bear: a larger text keeps a thread for seconds, a deeper
    /// tree has no room on its stack.
    pub const MOST: Self = Self {
        size: 16 << 20,
        depth: 12_000,
    };
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            size: 1 << 20,
            ..Self::MOST
        }
    }
}

/// Everything a plan depends on, besides the text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// How much there may be of it.
    pub bounds: Bounds,
    /// What the caller may do.
    pub rights: &'a Rights,
    /// What is in the database.
    pub catalog: &'a Catalog,
    /// Where names are looked up.
    pub scope: &'a Scope,
    /// The types that the client gives its parameters, as Parse has them: 0, or
    /// none, leaves one to Postgres.
    pub parameters: &'a [Oid],
}

/// One statement, decided: the only thing that can be sent upstream as SQL.
#[derive(Clone, Debug)]
pub struct Plan {
    text: Arc<str>,
    /// The statement's kind, as Postgres's command tag begins: `SELECT`,
    /// `COPY`, `SET`, `DECLARE CURSOR`.
    pub kind: &'static str,
    /// What the statement needs to be allowed to do; none for session commands.
    pub action: Option<Action>,
    /// What it does to the session.
    pub effect: Effect,
    /// What it touches, for the record.
    pub touched: Vec<RelationUse>,
    /// The client's statement with its literals out.
    pub normalized: Arc<str>,
    /// Of `normalized`: equal for statements that differ in literals only.
    pub fingerprint: u64,
    /// The first line that it answers with is no row: COPY … TO with HEADER.
    pub heading: bool,
    /// Which stored column each column of its result is, where a scan keeps
    /// Postgres from saying so.
    pub origins: Option<Arc<origins::Origins>>,
}

impl Plan {
    /// A plan that nobody decided on, for tests of what happens to plans.
    #[cfg(test)]
    pub(crate) fn forged(text: &str, kind: &'static str, effect: Effect) -> Self {
        Self {
            text: text.into(),
            kind,
            action: None,
            effect,
            touched: Vec::new(),
            normalized: text.into(),
            fingerprint: 0,
            heading: false,
            origins: None,
        }
    }

    /// What goes to Postgres, without the tag comment.
    pub fn text(&self) -> &str {
        &self.text
    }
}

/// What a statement does to the session, beyond its result.
#[derive(Clone, Debug, PartialEq)]
pub enum Effect {
    /// Nothing.
    None,
    /// An empty statement: Postgres answers EmptyQueryResponse.
    Empty,
    /// BEGIN, START TRANSACTION.
    Begin,
    /// COMMIT, END.
    Commit,
    /// ROLLBACK, ABORT.
    Rollback,
    /// SAVEPOINT name.
    Savepoint(Arc<str>),
    /// ROLLBACK TO name.
    RollbackTo(Arc<str>),
    /// RELEASE name.
    Release(Arc<str>),
    /// SET search_path (folded names); `local` ends with the transaction.
    /// `None`: back to the session's start value.
    SearchPath {
        /// The new value
        path: Option<Vec<Arc<str>>>,
        /// SET LOCAL
        local: bool,
    },
    /// SET application_name: what is sent upstream keeps the identity in front.
    ApplicationName {
        /// What the client calls itself; `None`: RESET
        claim: Option<Arc<str>>,
        /// SET LOCAL
        local: bool,
    },
    /// RESET ALL.
    ResetAll,
    /// DISCARD ALL: also forgets prepared statements, cursors.
    DiscardAll,
    /// PREPARE name AS …: the inner statement's uses are in `touched`.
    Prepare(Arc<str>),
    /// EXECUTE name.
    Execute(Arc<str>),
    /// DEALLOCATE name; `None`: ALL.
    Deallocate(Option<Arc<str>>),
    /// DECLARE name CURSOR.
    Declare(Arc<str>),
    /// FETCH or MOVE from a cursor.
    Fetch(Arc<str>),
    /// CLOSE name; `None`: ALL.
    CloseCursor(Option<Arc<str>>),
    /// CREATE TEMP TABLE.
    CreateTemporary(Arc<str>),
    /// DROP TABLE of temporary tables.
    DropTemporary(Vec<Arc<str>>),
    /// The catalog changes: refresh it when this completes.
    Ddl,
}

/// A relation a statement touches, for the record.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct RelationUse {
    /// `schema.name`
    pub relation: Arc<str>,
    /// Which columns, in which treatment, by which rule.
    pub columns: Vec<ColumnUse>,
    /// The rule by which it may be read or written
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<Arc<str>>,
    /// The rule of the row filter applied, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub row_filter: Option<Arc<str>>,
    /// Its OID, for the tripwire and for dependants.
    #[serde(skip)]
    pub oid: Oid,
}

/// A column a statement touches, for the record.
#[derive(Clone, Debug, PartialEq, serde::Serialize, schemars::JsonSchema)]
pub struct ColumnUse {
    /// Its name
    pub column: Arc<str>,
    /// `clear`, `mask:email`, `block`, `hide`
    pub treatment: Arc<str>,
    /// What it holds, if classified
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tag: Option<Arc<str>>,
    /// The rule that decided
    pub rule: Arc<str>,
}

/// Why a statement is refused.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// A rule of policy: 42501.
    Policy,
    /// Syntax or an object the proxy does not serve: 0A000.
    Unsupported,
    /// Not SQL: 42601.
    Syntax,
    /// Refused by the grammar by another code.
    Grammar(Mistake),
    /// The relation is not in the catalog: 42P01; the session may refresh the
    /// catalog and ask again.
    UnknownRelation,
    /// The same of one that a text names: the message quotes a literal.
    UnknownText,
    /// The function, or the operator, is not in the catalog: 42883, and the same.
    UnknownFunction,
    /// No column of that name is in the catalog, nor a function that it could mean:
    /// 42703, and the same.
    UnknownColumn,
    /// The type is not in the catalog: 42704, and the same.
    UnknownType,
    /// A setting's value: 22023.
    Setting,
    /// Nested too deeply: 54001.
    TooDeep,
    /// Too large, or too much of something: 54000.
    TooLarge,
    /// The locks disagree about what was to be sent: a fault of ours, 42501 and
    /// an alert.
    Referee,
}

/// A refusal, with what a client may know of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{message}")]
pub struct Denial {
    /// Its kind
    pub reason: Reason,
    /// One line: what and why
    pub message: String,
    /// The way out
    pub hint: Option<String>,
    /// Where in the client's text, in characters from 1, the grammar stumbled.
    pub position: Option<u32>,
    /// What the statement would have touched, for the record.
    pub touched: Vec<RelationUse>,
    /// The statement with its literals out, if it could be parsed.
    pub normalized: Option<Arc<str>>,
    /// The statement's kind, if it is one that is served.
    pub kind: Option<&'static str>,
}

impl Denial {
    fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            hint: None,
            position: None,
            touched: Vec::new(),
            normalized: None,
            kind: None,
        }
    }

    /// Nested so deeply that planning it could exhaust the stack.
    fn too_deep() -> Self {
        Self::new(Reason::TooDeep, "statement is nested too deeply to plan")
            .hint("split it, or use a temporary table for the inner part")
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    fn touching(mut self, touched: Vec<RelationUse>) -> Self {
        self.touched = touched;
        self
    }
}

impl Tell for Denial {
    fn tell(&self) -> Told {
        let state = match self.reason {
            Reason::Policy | Reason::Referee => SqlState::INSUFFICIENT_PRIVILEGE,
            Reason::Unsupported => SqlState::FEATURE_NOT_SUPPORTED,
            Reason::Syntax => SqlState::SYNTAX_ERROR,
            Reason::Grammar(mistake) => mistake.state(),
            Reason::UnknownRelation | Reason::UnknownText => SqlState::UNDEFINED_TABLE,
            Reason::UnknownFunction => SqlState::UNDEFINED_FUNCTION,
            Reason::UnknownColumn => SqlState::UNDEFINED_COLUMN,
            Reason::UnknownType => SqlState::UNDEFINED_OBJECT,
            Reason::Setting => SqlState::INVALID_PARAMETER_VALUE,
            Reason::TooDeep => SqlState::STATEMENT_TOO_COMPLEX,
            Reason::TooLarge => SqlState::PROGRAM_LIMIT_EXCEEDED,
        };
        let mut told = Told::error(state, self.message.clone());
        told.position = self.position;
        match &self.hint {
            Some(hint) => told.hint(hint.clone()),
            None => told,
        }
    }
}

/// Splits a message into its statements, each as text that [`plan`] takes alone;
/// none where the message holds white space and comments only.
///
/// # Errors
/// Where it is not SQL, or too large.
pub fn statements(text: &str, bounds: Bounds) -> Result<Vec<Arc<str>>, Denial> {
    guarded(|| canonical::split(text, bounds))
}

/// Decides each statement of a message, in order, as if none had an effect on
/// the next.
///
/// # Errors
/// The first denial refuses the whole message: nothing of it may run.
pub fn plan(text: &str, context: Context<'_>) -> Result<Vec<Arc<Plan>>, Denial> {
    guarded(|| {
        types::parameters(context.parameters, &context)?;
        let all = canonical::statements(text, context.bounds)?;
        all.iter()
            .map(|one| statement::decide(one, &context).map(Arc::new))
            .collect()
    })
}

/// The grammar's tree walk panics where it runs out of stack: that is a
/// statement too deep to plan, not the end of the process.
fn guarded<T>(work: impl FnOnce() -> Result<T, Denial>) -> Result<T, Denial> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work))
        .unwrap_or_else(|_| Err(Denial::too_deep()))
}

/// The statement of a message that holds none: Postgres answers it with
/// EmptyQueryResponse.
pub fn empty() -> Arc<Plan> {
    Arc::new(Plan {
        text: "".into(),
        kind: "",
        action: None,
        effect: Effect::Empty,
        touched: Vec::new(),
        normalized: "".into(),
        fingerprint: 0,
        heading: false,
        origins: None,
    })
}

/// Sets the name that the upstream shows for the session: the identity, and what
/// the client calls itself behind it.
pub fn set_application_name(name: &str, local: bool) -> Arc<Plan> {
    let local = if local { "LOCAL " } else { "" };
    Arc::new(Plan {
        text: format!(
            "SET {local}application_name TO '{}'",
            name.replace('\'', "''")
        )
        .into(),
        kind: "SET",
        action: None,
        effect: Effect::None,
        touched: Vec::new(),
        normalized: "SET".into(),
        fingerprint: 0,
        heading: false,
        origins: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Texts of one construct, so many times: what stands before, what opens it, what
    /// stands within, and what closes it.
    const FORMS: &[[&str; 4]] = &[
        ["select 1", "", "", " is null"],
        ["select 1", "", "", " is true"],
        ["select 1", "", "", "::int"],
        ["select 'a'", "", "", " collate \"C\""],
        ["select now()", "", "", " at time zone 'UTC'"],
        ["select a", "", "", "[1]"],
        ["select (a)", "", "", ".b"],
        ["select 1", "", "", "+1"],
        ["select true", "", "", " and true"],
        ["select true", "", "", " or false"],
        ["select true", "", "", " or false and true"],
        ["select 'a'", "", "", "||'a'"],
        ["select ", "not ", "true", ""],
        ["select ", "- ", "1", ""],
        ["select ", "(", "1", ")"],
        ["select ", "(select ", "1", ")"],
        ["select ", "case when true then ", "1", " end"],
        ["select ", "f(", "1", ")"],
        ["select ", "row(", "1", ")"],
        ["select ", "array[", "1", "]"],
        ["", "select 1 union all ", "select 1", ""],
        ["", "select 1;", "", ""],
        ["", "(", "select 1", ")"],
        ["", "with a as (", "select 1", ") select 1"],
        ["select * from ", "(select * from ", "t", ")"],
        ["select 1 from t ", "join t using (a) ", "", ""],
        ["select 1 from ", "(", "t", " join t using (a))"],
        ["select 1", "", "", ",1"],
        ["values (1)", "", "", ",(1)"],
        ["select 1 where 1 in (1", "", "", ",1"],
        ["execute p(1", "", "", "+1"],
        ["execute p(", "f(", "1", ")"],
        ["create table t (a int default 1", "", "", "+1"],
        ["create table t (a int check (", "not ", "true", ""],
        ["declare c cursor for select 1", "", "", "+1"],
        ["copy (select ", "(select ", "1", ")"],
        ["create function f(a int default 1", "", "", "+1"],
    ];

    fn text([before, open, within, close]: &[&str; 4], count: usize) -> String {
        let (open, close) = (open.repeat(count), close.repeat(count));
        // What is still open, as far as these need it.
        let end = match before {
            _ if before.starts_with("execute") || before.ends_with("(1") => ")",
            _ if before.ends_with("check (") => "))",
            _ if before.starts_with("create") => ")",
            _ if before.starts_with("copy") => ") to stdout",
            _ => "",
        };
        format!("{before}{open}{within}{close}{end}")
    }

    /// However deep or long, a statement is planned or refused: a stack that
    /// overflows ends every session.
    #[test]
    fn no_statement_exhausts_the_stack() {
        on_a_planning_thread(|| {
            let (rights, catalog) = (Rights::default(), known());
            let context = Context {
                bounds: Bounds::default(),
                rights: &rights,
                catalog: &catalog,
                scope: &Scope::default(),
                parameters: &[],
            };
            for form in FORMS {
                let each = form[1].len() + form[3].len();
                // What is served, what utilities may have, and what anything may.
                for size in [400 * each, (60 << 10) - 64, (256 << 10) - 64] {
                    let text = text(form, size / each);
                    let state = |error: Denial| error.tell().state.0;
                    let planned = plan(&text, context).map_err(state).err();
                    let split = statements(&text, context.bounds).map_err(state).err();
                    assert!(matches!(split, None | Some("54000" | "54001")), "{form:?}");
                    let known = matches!(planned, None | Some("54000" | "54001" | "54011"));
                    // Names that are not there, and what is not granted.
                    let other = matches!(
                        planned,
                        Some("42P01" | "42883" | "42703" | "42704" | "42501")
                    );
                    // And a statement that is not served, whatever it holds.
                    let unserved = form[0].contains("function") && planned == Some("0A000");
                    let known = known || other || unserved;
                    assert!(known, "{form:?} of {size}: {planned:?}");
                }
            }
            let sum = text(&["select 1", "", "", "+1"], 9_900);
            assert!(
                plan(&sum, context).is_ok(),
                "a sum of 9,900 terms is served"
            );
        });
    }

    /// A catalog with the operators and the type that the forms use.
    fn known() -> Catalog {
        let mut catalog = Catalog::default();
        for name in ["+", "-", "||", "=", "<", ">"] {
            let operator = crate::catalog::Operator {
                schema: "pg_catalog".into(),
                runs: Vec::new(),
                over: Vec::new(),
            };
            catalog.operators.insert(name.into(), vec![operator]);
        }
        catalog.insert_type(crate::catalog::Type {
            oid: 23,
            schema: "pg_catalog".into(),
            name: "int4".into(),
        });
        catalog
    }

    /// With as much stack as `pgveil serve` gives its threads.
    fn on_a_planning_thread(work: impl FnOnce() + Send) {
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(64 << 20);
            thread.spawn_scoped(scope, work).unwrap().join().unwrap();
        });
    }

    #[test]
    fn nesting_is_bounded_where_it_is_configured() {
        let (rights, catalog) = (Rights::default(), known());
        let served = |text: &str, depth: usize| {
            let context = Context {
                bounds: Bounds {
                    depth,
                    ..Bounds::default()
                },
                rights: &rights,
                catalog: &catalog,
                scope: &Scope::default(),
                parameters: &[],
            };
            match plan(text, context) {
                Ok(_) => true,
                Err(denial) => {
                    assert_eq!(denial.tell().state.0, "54001", "{text}: {denial}");
                    false
                }
            }
        };
        on_a_planning_thread(|| {
            for form in [
                ["select 1", "", "", "+1"],
                ["select ", "- ", "'a'", ""],
                ["select ", "(select ", "1", ")"],
                ["declare c cursor for select 1", "", "", "+1"],
                ["copy (select ", "(select ", "1", ")"],
            ] {
                let depth = (10..400).find(|depth| served(&text(&form, 40), *depth));
                let depth = depth.unwrap_or_else(|| panic!("{form:?}"));
                assert!((40..400).contains(&depth));
                // One more time is at least one level more.
                assert!(!served(&text(&form, 41), depth), "{form:?} at {depth}");
                assert!(served(&text(&form, 41), depth + 8), "{form:?} at {depth}");
            }
        });
    }

    #[test]
    fn size_is_bounded_where_it_is_configured() {
        let (rights, catalog) = (Rights::default(), known());
        let context = Context {
            bounds: Bounds {
                size: 100,
                ..Bounds::default()
            },
            rights: &rights,
            catalog: &catalog,
            scope: &Scope::default(),
            parameters: &[],
        };
        let text = |len: usize| format!("select '{}'", "x".repeat(len - 9));
        assert!(plan(&text(100), context).is_ok());
        assert_eq!(
            plan(&text(101), context).unwrap_err().tell().state.0,
            "54000"
        );
        let split = statements(&text(101), context.bounds);
        assert_eq!(split.unwrap_err().tell().state.0, "54000");
    }
}
