//! What the grammar says is wrong with a text: by which code Postgres says so, and
//! where in the client's text.
//!
//! Knows nothing about trees. pg_raw_parse gives a message and neither of the two.

use pg_raw_parse::parse;

use super::{Denial, Reason};
use crate::error::SqlState;

/// What the grammar says of a statement that could go on.
const AT_END: &str = "at end of input";
/// What stands between what is wrong and the client's own token.
const AT_TOKEN: &str = " at or near \"";

/// A parser's error, as what a client may hear of it: what Postgres would say.
pub(super) fn syntax(error: &pg_raw_parse::Error) -> Denial {
    let text = error.to_string();
    let text = text.strip_prefix("Invalid statement: ").unwrap_or(&text);
    let text = text.strip_prefix("PG internal error: ").unwrap_or(text);
    // What follows is the client's: it says nothing about what kind of error this is.
    let what = text.split(AT_TOKEN).next().unwrap_or_default();
    // Postgres's own check of the stack, and the bound of the parser's.
    if what.starts_with("stack depth limit") || what == "memory exhausted" {
        return Denial::too_deep();
    }
    let reason = match mistake(what) {
        Some(mistake) => Reason::Grammar(mistake),
        None => Reason::Syntax,
    };
    Denial::new(reason, text.to_owned())
}

/// What the grammar refuses by another code than 42601.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mistake {
    /// Bytes, behind an escape, that are not UTF-8.
    Encoding,
    /// An escape in a literal.
    Escape,
    /// A number or a word that cannot stand there.
    Value,
    /// A window's frame.
    Window,
    /// Something given twice.
    Duplicate,
    /// A role's name.
    Reserved,
    /// More columns than a result can have.
    Columns,
    /// What Postgres does not implement.
    Unimplemented,
}

impl Mistake {
    /// Postgres's code.
    pub fn state(self) -> SqlState {
        match self {
            Self::Encoding => SqlState::CHARACTER_NOT_IN_REPERTOIRE,
            Self::Escape => SqlState("22025"),
            Self::Value => SqlState::INVALID_PARAMETER_VALUE,
            Self::Window => SqlState("42P20"),
            Self::Duplicate => SqlState("42710"),
            Self::Reserved => SqlState("42939"),
            Self::Columns => SqlState("54011"),
            Self::Unimplemented => SqlState::FEATURE_NOT_SUPPORTED,
        }
    }
}

/// How the messages of those begin (`ereport` in Postgres 18's gram.y, scan.l and
/// mbutils.c).
const BEGINNINGS: &[(&str, Mistake)] = &[
    ("invalid byte sequence for encoding", Mistake::Encoding),
    ("frame start", Mistake::Window),
    ("frame end", Mistake::Window),
    ("precision for type float must be", Mistake::Value),
    ("column number must be in range", Mistake::Value),
    ("unrecognized JSON encoding", Mistake::Value),
    ("unrecognized partitioning strategy", Mistake::Value),
    ("modulus for hash partition", Mistake::Duplicate),
    ("remainder for hash partition", Mistake::Duplicate),
    ("unsafe use of string constant", Mistake::Unimplemented),
    ("UNENCRYPTED PASSWORD is", Mistake::Unimplemented),
    ("CREATE SCHEMA IF NOT EXISTS cannot", Mistake::Unimplemented),
    ("current database cannot be changed", Mistake::Unimplemented),
    ("constraints cannot be altered", Mistake::Unimplemented),
    ("MATCH PARTIAL not", Mistake::Unimplemented),
    ("a column list with ", Mistake::Unimplemented),
    ("CREATE EXTENSION ... FROM", Mistake::Unimplemented),
    (
        "CREATE OR REPLACE CONSTRAINT TRIGGER",
        Mistake::Unimplemented,
    ),
    ("CREATE ASSERTION", Mistake::Unimplemented),
    ("dropping an enum value", Mistake::Unimplemented),
    ("aggregates cannot have output", Mistake::Unimplemented),
    ("WITH CHECK OPTION not supported", Mistake::Unimplemented),
    (
        "only string constants are supported",
        Mistake::Unimplemented,
    ),
    ("UNIQUE predicate", Mistake::Unimplemented),
    ("an ordered-set aggregate with", Mistake::Unimplemented),
];

fn mistake(what: &str) -> Option<Mistake> {
    let begins = BEGINNINGS.iter().find(|(start, _)| what.starts_with(start));
    match begins {
        Some((_, mistake)) => Some(*mistake),
        // Of E'…'; `invalid Unicode escape value` is a syntax error, and so is the same
        // of U&'…': see [`locate`].
        None if what == "invalid Unicode escape" => Some(Mistake::Escape),
        None if what.contains(" constraints cannot be marked ") => Some(Mistake::Unimplemented),
        // `role name "public" is reserved`, `CURRENT_USER cannot be used as …`
        None if what.ends_with(" is reserved") || what.ends_with("used as a role name here") => {
            Some(Mistake::Reserved)
        }
        None => None,
    }
}

/// Says where in the client's text the grammar stumbled, as Postgres does. The
/// message names the token: it is the last one of that spelling up to which there is
/// nothing wrong.
pub(super) fn locate(mut denial: Denial, text: &str) -> Denial {
    // U&'…' and E'…' have their mistakes in the same words; this one takes a `\u`.
    let could_be_e = text.contains("\\u") || text.contains("\\U");
    if denial.reason == Reason::Grammar(Mistake::Escape) && !could_be_e {
        denial.reason = Reason::Syntax;
    }
    if denial.reason != Reason::Syntax {
        return denial;
    }
    let at = match denial.message.split_once(AT_TOKEN) {
        _ if denial.message.ends_with(AT_END) => Some(text.len()),
        Some((_, token)) => token
            .strip_suffix('"')
            .and_then(|token| stumble(text, token)),
        None => None,
    };
    // Postgres counts characters, from 1.
    denial.position = at
        .and_then(|at| text.get(..at))
        .and_then(|before| u32::try_from(before.chars().count() + 1).ok());
    denial
}

fn stumble(text: &str, token: &str) -> Option<usize> {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let places: Vec<usize> = text
        .match_indices(token)
        .map(|(at, token)| (at, at + token.len()))
        // A part of a longer word is another token.
        .filter(|&(at, end)| {
            let before = text.get(..at).and_then(|text| text.chars().next_back());
            let after = text.get(end..).and_then(|text| text.chars().next());
            let longer = before.is_some_and(word) && token.starts_with(word)
                || after.is_some_and(word) && token.ends_with(word);
            !longer
        })
        .map(|(at, _)| at)
        .collect();
    // From the token itself on, whatever precedes a place is wrong.
    let right = places.partition_point(|&at| text.get(..at).is_some_and(goes_on));
    places.get(right.checked_sub(1)?).copied()
}

/// Whether there is nothing wrong with a text so far: it may end within a literal or
/// a comment.
fn goes_on(text: &str) -> bool {
    match parse(text) {
        Ok(_) => true,
        Err(error) => {
            let Denial { message, .. } = syntax(&error);
            message.ends_with(AT_END) || message.starts_with("unterminated ")
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Tell as _;
    use crate::sql::{Bounds, Denial};

    fn statements(text: &str) -> Result<Vec<std::sync::Arc<str>>, Denial> {
        crate::sql::statements(text, Bounds::default())
    }

    #[test]
    fn a_mistake_has_its_place() {
        let place = |text: &str| statements(text).unwrap_err().position;
        assert_eq!(place("selec 1"), Some(1));
        assert_eq!(place("select 1; /* selec */ selec"), Some(23));
        assert_eq!(place("select 'from', x from from t"), Some(23));
        assert_eq!(place("select 'ä' from t where"), Some(24));
        assert_eq!(place("select (1"), Some(10));
        assert_eq!(place("select 'open"), Some(8));
        assert_eq!(place("select 1 /* open"), Some(10));
        assert_eq!(place("select 1 <= 2, 3 < = 4"), Some(20));
        assert_eq!(place("select 1a"), Some(8));
    }

    /// Neither a long text nor a token that stands there often hides it.
    #[test]
    fn a_mistake_far_away_has_its_place() {
        let place = |text: &str| statements(text).unwrap_err().position;
        let list = "'from', \"from\", /* from */ ".repeat(10_000);
        let text = format!("select {list} 1 from t union select 2 from from u");
        assert_eq!(
            place(&text),
            u32::try_from(text.len() - "from u".len() + 1).ok()
        );
        let text = format!("selec {}", "1, ".repeat(300_000));
        assert_eq!(place(&text), Some(1));
    }

    #[test]
    fn other_codes_are_postgres_s_own() {
        for (text, state, message) in [
            (
                "select E'\\xff'",
                "22021",
                "invalid byte sequence for encoding \"UTF8\": 0xff",
            ),
            ("select E'\\u12'", "22025", "invalid Unicode escape"),
            (
                "select E'\\ud800x'",
                "42601",
                "invalid Unicode surrogate pair",
            ),
            (
                "select sum(1) over (rows unbounded following) from t",
                "42P20",
                "frame start",
            ),
            ("select 1::float(0)", "22023", "precision for type float"),
            (
                "select unique (select 1)",
                "0A000",
                "UNIQUE predicate is not yet implemented",
            ),
            (
                "create table t (a int references u match partial)",
                "0A000",
                "MATCH PARTIAL",
            ),
            (
                "set session authorization current_user",
                "42601",
                "syntax error",
            ),
            ("grant a to none", "42939", "role name \"none\" is reserved"),
            // The client's own token decides nothing.
            (
                "select 1 \"stack depth limit\" \"too large\"",
                "42601",
                "syntax error",
            ),
            ("select 1 1 \"frame start\"", "42601", "syntax error"),
            ("select $99999999999", "42601", "parameter number too large"),
        ] {
            let denial = statements(text).unwrap_err();
            assert_eq!(denial.tell().state.0, state, "{text}: {denial}");
            assert!(denial.message.starts_with(message), "{text}: {denial}");
        }
    }
}
