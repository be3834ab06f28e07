//! What changes what a name means, `search_path` and temporary tables, and what
//! the client calls itself, through transactions; and what it may ask for at startup.
//!
//! Knows nothing about sockets. Invariant: [`SearchPath`] is what upstream has,
//! statement by statement, as far as upstream has confirmed.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::audit::record::clipped;
use crate::error::{Severity, SqlState, Told};
use crate::sql::{Effect, Scope};

/// Folded names, as `SET search_path` takes them; may hold `$user`.
pub(crate) type Path = Arc<[Arc<str>]>;

/// What Postgres starts with where nobody asks otherwise.
pub(crate) fn default_path() -> Path {
    Arc::from(["$user".into(), "public".into()])
}

/// Everything at one transaction level: what SET gave it, and what SET LOCAL lays
/// over it until the transaction ends.
#[derive(Clone, Debug)]
struct Value {
    set: Path,
    local: Option<Path>,
    temporary: Path,
    claim: Claim,
    local_claim: Option<Claim>,
}

impl Value {
    /// Whether names mean the same.
    fn names_as(&self, other: &Self) -> bool {
        self.set == other.set && self.local == other.local && self.temporary == other.temporary
    }
}

/// What a client calls itself.
type Claim = Option<Arc<str>>;

/// `search_path`, temporary tables and `application_name` of one session.
///
/// Source: <https://www.postgresql.org/docs/current/sql-set.html>
#[derive(Clone, Debug)]
pub(crate) struct SearchPath {
    /// What RESET goes back to: the values of the startup packet.
    start: Path,
    start_claim: Claim,
    /// As of the last commit.
    committed: Path,
    committed_claim: Claim,
    /// Temporary tables as of the last commit.
    kept: Path,
    current: Value,
    savepoints: Vec<(Arc<str>, Value)>,
}

impl SearchPath {
    pub(crate) fn new(start: Path, claim: Claim) -> Self {
        Self {
            committed: start.clone(),
            committed_claim: claim.clone(),
            kept: Path::default(),
            current: Value {
                set: start.clone(),
                local: None,
                temporary: Path::default(),
                claim: claim.clone(),
                local_claim: None,
            },
            savepoints: Vec::new(),
            start,
            start_claim: claim,
        }
    }

    /// What the client calls itself.
    pub(crate) fn claim(&self) -> Claim {
        let current = &self.current;
        current
            .local_claim
            .as_ref()
            .unwrap_or(&current.claim)
            .clone()
    }

    /// What holds for the next statement.
    pub(crate) fn effective(&self) -> Scope {
        let current = &self.current;
        Scope {
            search_path: current.local.as_ref().unwrap_or(&current.set).clone(),
            temporary: current.temporary.clone(),
        }
    }

    /// Whether the end of the transaction could change it.
    pub(crate) fn is_dirty(&self) -> bool {
        self.current.local.is_some()
            || self.current.set != self.committed
            || self.current.temporary != self.kept
            || self
                .savepoints
                .iter()
                .any(|(_, value)| !value.names_as(&self.current))
    }

    /// Whether a statement in flight could change what the next one means.
    pub(crate) fn concerns(effect: &Effect) -> bool {
        matches!(
            effect,
            Effect::SearchPath { .. }
                | Effect::ResetAll
                | Effect::DiscardAll
                | Effect::CreateTemporary(_)
                | Effect::DropTemporary(_)
        )
    }

    /// A statement has completed; `tag` is its command tag.
    pub(crate) fn apply(&mut self, effect: &Effect, tag: &[u8]) {
        match effect {
            Effect::SearchPath { path, local } => {
                let path = path
                    .as_ref()
                    .map_or_else(|| self.start.clone(), |path| path.as_slice().into());
                if *local {
                    self.current.local = Some(path);
                } else {
                    self.current.set = path;
                    self.current.local = None;
                }
            }
            Effect::ApplicationName { claim, local } => {
                let claim = claim.as_deref().map(|claim| clipped(claim).into());
                let claim = claim.or_else(|| self.start_claim.clone());
                if *local {
                    self.current.local_claim = Some(claim);
                } else {
                    self.current.claim = claim;
                    self.current.local_claim = None;
                }
            }
            Effect::ResetAll | Effect::DiscardAll => {
                self.current.set = self.start.clone();
                self.current.local = None;
                self.current.claim = self.start_claim.clone();
                self.current.local_claim = None;
                if *effect == Effect::DiscardAll {
                    self.current.temporary = Path::default();
                }
            }
            Effect::CreateTemporary(name) => {
                let kept = self.current.temporary.iter().filter(|own| *own != name);
                self.current.temporary = kept.chain([name]).cloned().collect();
            }
            Effect::DropTemporary(names) => {
                let kept = self
                    .current
                    .temporary
                    .iter()
                    .filter(|own| !names.contains(own));
                self.current.temporary = kept.cloned().collect();
            }
            // COMMIT of a failed transaction answers ROLLBACK.
            Effect::Commit if tag.starts_with(b"COMMIT") => self.commit(),
            Effect::Commit | Effect::Rollback => self.rollback(),
            Effect::Savepoint(name) => {
                self.savepoints.push((name.clone(), self.current.clone()));
            }
            Effect::RollbackTo(name) => {
                if let Some(at) = self.savepoint(name) {
                    self.savepoints.truncate(at + 1);
                    if let Some((_, value)) = self.savepoints.last() {
                        self.current = value.clone();
                    }
                }
            }
            Effect::Release(name) => {
                if let Some(at) = self.savepoint(name) {
                    self.savepoints.truncate(at);
                }
            }
            Effect::None
            | Effect::Empty
            | Effect::Begin
            | Effect::Prepare(_)
            | Effect::Execute(_)
            | Effect::Deallocate(_)
            | Effect::Declare(_)
            | Effect::Fetch(_)
            | Effect::CloseCursor(_)
            | Effect::Ddl => {}
        }
    }

    pub(crate) fn commit(&mut self) {
        self.committed = self.current.set.clone();
        self.committed_claim = self.current.claim.clone();
        self.kept = self.current.temporary.clone();
        self.current.local = None;
        self.current.local_claim = None;
        self.savepoints.clear();
    }

    pub(crate) fn rollback(&mut self) {
        self.current = Value {
            set: self.committed.clone(),
            local: None,
            temporary: self.kept.clone(),
            claim: self.committed_claim.clone(),
            local_claim: None,
        };
        self.savepoints.clear();
    }

    fn savepoint(&self, name: &str) -> Option<usize> {
        self.savepoints.iter().rposition(|(own, _)| **own == *name)
    }
}

/// What a client's startup parameters ask for.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Asked {
    /// What it calls itself.
    pub(crate) application: Option<String>,
    /// `search_path`, yet to be decided on.
    pub(crate) search_path: Option<String>,
    /// Harmless settings, passed on as they are.
    pub(crate) settings: Vec<(String, String)>,
}

impl Asked {
    /// Sorts out the parameters; `user`, `database` and the like are no settings.
    ///
    /// # Errors
    /// FATAL for a setting that is not served.
    pub(crate) fn read(
        parameters: &BTreeMap<String, String>,
        settable: impl Fn(&str, &str) -> Result<(), Told>,
    ) -> Result<Self, Told> {
        let mut asked = Self::default();
        for (name, value) in parameters {
            match name.to_ascii_lowercase().as_str() {
                "user" | "database" | "options" | "replication" => {}
                "application_name" => asked.application = Some(value.clone()),
                "client_encoding" => encoding(value)?,
                "search_path" => asked.search_path = Some(value.clone()),
                folded => {
                    settable(folded, value).map_err(|told| Told {
                        severity: Severity::Fatal,
                        ..told
                    })?;
                    asked.settings.push((folded.to_owned(), value.clone()));
                }
            }
        }
        Ok(asked)
    }

    /// The value asked for a setting.
    pub(crate) fn setting(&self, name: &str) -> Option<&str> {
        self.settings
            .iter()
            .find(|(own, _)| own == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Everything upstream is UTF-8; SQL_ASCII means that the client converts nothing.
fn encoding(value: &str) -> Result<(), Told> {
    let plain: String = value
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    // libpq's `auto` never reaches the wire.
    if matches!(plain.as_str(), "utf8" | "unicode" | "sqlascii" | "") {
        return Ok(());
    }
    Err(Told::fatal(
        SqlState::INVALID_PARAMETER_VALUE,
        format!("client_encoding `{}` is not served", quotable(value)),
    )
    .hint("set client_encoding (or PGCLIENTENCODING) to UTF8"))
}

/// For messages: bounded, one line.
fn quotable(text: &str) -> String {
    text.chars()
        .take(63)
        .map(|c| if c.is_control() { '?' } else { c })
        .collect()
}

/// Splits a `search_path` as `SplitIdentifierString` (varlena.c) does: folded
/// unless quoted, cut to 63 bytes. `None` where it is not a list of names.
pub(crate) fn names(list: &str) -> Option<Vec<Arc<str>>> {
    let mut rest = list.trim();
    let mut names = Vec::new();
    if rest.is_empty() {
        return Some(names);
    }
    loop {
        let name;
        if let Some(quoted) = rest.strip_prefix('"') {
            let mut text = String::new();
            let mut chars = quoted.char_indices();
            let end = loop {
                match chars.next()? {
                    (at, '"') => {
                        let after = quoted.get(at + 1..)?;
                        if !after.starts_with('"') {
                            break after;
                        }
                        text.push('"');
                        chars.next();
                    }
                    (_, c) => text.push(c),
                }
            };
            rest = end.trim_start();
            name = text;
        } else {
            let end = rest
                .find(|c: char| c == ',' || c.is_whitespace())
                .unwrap_or(rest.len());
            let (word, after) = rest.split_at_checked(end)?;
            name = word.to_lowercase();
            rest = after.trim_start();
        }
        if name.is_empty() {
            return None;
        }
        let mut cut = name.len().min(63);
        while !name.is_char_boundary(cut) {
            cut -= 1;
        }
        names.push(name.get(..cut)?.into());
        if rest.is_empty() {
            return Some(names);
        }
        rest = rest.strip_prefix(',')?.trim_start();
    }
}

/// Names as a list for `SET search_path TO` or the startup packet.
pub(crate) fn list(path: &[Arc<str>]) -> String {
    path.iter()
        .map(|name| format!("\"{}\"", name.replace('"', "\"\"")))
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(names: &[&str]) -> Path {
        names.iter().map(|name| Arc::from(*name)).collect()
    }

    fn set(names: &[&str], local: bool) -> Effect {
        Effect::SearchPath {
            path: Some(names.iter().map(|name| Arc::from(*name)).collect()),
            local,
        }
    }

    #[test]
    fn a_set_reverts_with_its_transaction_and_a_local_one_always() {
        let mut it = SearchPath::new(path(&["public"]), None);
        it.apply(&Effect::Begin, b"BEGIN");
        it.apply(&set(&["a"], false), b"SET");
        assert_eq!(it.effective().search_path, path(&["a"]));
        it.apply(&Effect::Rollback, b"ROLLBACK");
        assert_eq!(it.effective().search_path, path(&["public"]));
        it.apply(&set(&["a"], false), b"SET");
        it.apply(&set(&["b"], true), b"SET");
        assert_eq!(it.effective().search_path, path(&["b"]));
        it.apply(&Effect::Commit, b"COMMIT");
        assert_eq!(it.effective().search_path, path(&["a"]));
        it.apply(&set(&["c"], false), b"SET");
        it.apply(&Effect::Commit, b"ROLLBACK");
        assert_eq!(
            it.effective().search_path,
            path(&["a"]),
            "COMMIT of a failed transaction"
        );
        it.apply(&Effect::ResetAll, b"RESET");
        assert_eq!(it.effective().search_path, path(&["public"]));
    }

    #[test]
    fn savepoints_keep_their_value() {
        let mut it = SearchPath::new(path(&["public"]), None);
        it.apply(&set(&["a"], true), b"SET");
        it.apply(&Effect::Savepoint("s".into()), b"SAVEPOINT");
        it.apply(&set(&["b"], false), b"SET");
        it.apply(&Effect::Savepoint("t".into()), b"SAVEPOINT");
        it.apply(&set(&["c"], true), b"SET");
        it.apply(&Effect::Release("t".into()), b"RELEASE");
        assert_eq!(it.effective().search_path, path(&["c"]));
        it.apply(&Effect::RollbackTo("s".into()), b"ROLLBACK");
        assert_eq!(it.effective().search_path, path(&["a"]));
        assert!(it.is_dirty());
        it.commit();
        assert_eq!(it.effective().search_path, path(&["public"]));
        assert!(!it.is_dirty());
    }

    #[test]
    fn temporary_tables_come_and_go_with_their_transaction() {
        let mut it = SearchPath::new(path(&["public"]), None);
        let tables = |it: &SearchPath| it.effective().temporary.join(",");
        it.apply(&Effect::Begin, b"BEGIN");
        it.apply(&Effect::CreateTemporary("a".into()), b"CREATE TABLE");
        assert!(it.is_dirty());
        it.apply(&Effect::Savepoint("s".into()), b"SAVEPOINT");
        it.apply(&Effect::CreateTemporary("b".into()), b"SELECT 1");
        assert_eq!(tables(&it), "a,b");
        it.apply(&Effect::RollbackTo("s".into()), b"ROLLBACK");
        assert_eq!(tables(&it), "a");
        it.apply(&Effect::Commit, b"COMMIT");
        it.apply(&Effect::DropTemporary(vec!["a".into()]), b"DROP TABLE");
        assert_eq!(tables(&it), "");
        it.apply(&Effect::Rollback, b"ROLLBACK");
        assert_eq!(tables(&it), "a");
        it.apply(&Effect::DiscardAll, b"DISCARD ALL");
        assert_eq!(tables(&it), "");
    }

    #[test]
    fn a_list_of_names_is_read_as_postgres_reads_it() {
        let read = |list: &str| {
            names(list).map(|names| {
                names
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join("|")
            })
        };
        assert_eq!(
            read("Public , \"My \"\"S\"").as_deref(),
            Some("public|My \"S")
        );
        assert_eq!(read("\"$user\",public").as_deref(), Some("$user|public"));
        assert_eq!(read("").as_deref(), Some(""));
        assert_eq!(read("a,"), None);
        assert_eq!(read("a b"), None);
        assert_eq!(read("\"a"), None);
        assert_eq!(list(&names("A,\"b\"\"c\"").unwrap()), "\"a\", \"b\"\"c\"");
    }

    #[test]
    fn startup_parameters_are_sorted_out() {
        let ask = |pairs: &[(&str, &str)]| {
            let pairs = pairs
                .iter()
                .map(|(name, value)| ((*name).into(), (*value).into()));
            Asked::read(&pairs.collect(), |name, _| match name {
                "datestyle" => Ok(()),
                _ => Err(Told::error(SqlState::INSUFFICIENT_PRIVILEGE, "no")),
            })
        };
        let asked = ask(&[
            ("user", "x"),
            ("application_name", "psql"),
            ("client_encoding", "utf-8"),
            ("DateStyle", "ISO"),
        ])
        .unwrap();
        assert_eq!(asked.application.as_deref(), Some("psql"));
        assert_eq!(asked.setting("datestyle"), Some("ISO"));
        for refused in [("client_encoding", "LATIN1"), ("role", "postgres")] {
            assert_eq!(ask(&[refused]).unwrap_err().severity, Severity::Fatal);
        }
    }
}
