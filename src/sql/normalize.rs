//! A statement with its literals out, for the record.
//!
//! Knows nothing about syntax: it reads the tokens of canonical text, where only
//! a few forms of them are left. Invariant: no literal stays, wherever it stands;
//! names do, since what was touched is told by names.

use std::sync::Arc;

use ring::digest;

use super::canonical::ONLY_MARK;
use super::names::quote;

/// Canonical text with each string and number replaced by a parameter's mark,
/// numbered on from the parameters that it has.
pub(super) fn normalized(canonical: &str) -> Arc<str> {
    let mut next = highest_parameter(canonical) + 1;
    let mut out = String::with_capacity(canonical.len());
    let mut rest = canonical;
    let mut value = Value::of(canonical);
    while let Some(token) = Token::first(rest) {
        let (text, after) = rest.split_at_checked(token.len).unwrap_or((rest, ""));
        let kind = match token.kind {
            Kind::Name if value.follows(text) => Kind::Text,
            kind => kind,
        };
        match kind {
            Kind::Number | Kind::Text => {
                out.push('$');
                out.push_str(&next.to_string());
                next += 1;
            }
            Kind::Name => match only(text) {
                Some("") => out.push_str("ONLY "),
                Some(schema) => out.push_str(&format!("ONLY {}", quote(schema))),
                None => out.push_str(text),
            },
            Kind::Other => {
                // What stood before the dot was no more than the mark.
                let marked = text == "." && out.ends_with("ONLY ");
                out.push_str(if marked { "" } else { text });
            }
        }
        rest = after;
    }
    out.into()
}

/// Where a setting's value stands, which the printer leaves without quotes where it
/// can: behind `SET [LOCAL] name TO`, of SET itself or of what is made or altered.
/// That of search_path is schemas' names.
enum Value {
    /// In no such statement
    No,
    /// Not yet behind SET
    Before,
    /// Behind SET, and whether what is set is something else than search_path
    Named(bool),
    /// Here
    Here,
}

impl Value {
    fn of(canonical: &str) -> Self {
        let starts = ["SET ", "ALTER ", "CREATE "];
        match starts.iter().any(|word| canonical.starts_with(word)) {
            true => Self::Before,
            false => Self::No,
        }
    }

    /// Whether a name that comes next belongs to a value.
    fn follows(&mut self, name: &str) -> bool {
        *self = match (&self, name) {
            (Self::Here, "DEFAULT") => return false,
            (Self::Here, _) => return true,
            (Self::No, _) => Self::No,
            (_, "SET") => Self::Named(false),
            (Self::Before, _) => Self::Before,
            (Self::Named(true), "TO") => Self::Here,
            (Self::Named(false), "TO") => Self::Before,
            (Self::Named(other), "LOCAL" | "search_path") => Self::Named(*other),
            (Self::Named(_), _) => Self::Named(true),
        };
        false
    }
}

/// Equal for normalized statements that are equal.
pub(crate) fn fingerprint(normalized: &str) -> u64 {
    let digest = digest::digest(&digest::SHA256, normalized.as_bytes());
    let first = digest.as_ref().first_chunk::<8>().copied();
    u64::from_be_bytes(first.unwrap_or_default())
}

/// The schema behind the mark that stands for ONLY, in a quoted name.
fn only(name: &str) -> Option<&str> {
    name.strip_prefix('"')?
        .strip_prefix(ONLY_MARK)?
        .strip_suffix('"')
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// `'…'`, `E'…'`, `B'…'`, `X'…'`, `$$…$$`
    Text,
    /// `1`, `1.5e-3`
    Number,
    /// A word or a quoted name
    Name,
    /// A parameter, space or anything else
    Other,
}

#[derive(Clone, Copy, Debug)]
struct Token {
    kind: Kind,
    /// In bytes
    len: usize,
}

impl Token {
    fn first(text: &str) -> Option<Self> {
        let mut chars = text.chars();
        let first = chars.next()?;
        let second = chars.next();
        let (kind, len) = match (first, second) {
            ('\'', _) => (Kind::Text, quoted(text, '\'', false)),
            ('E' | 'e', Some('\'')) => (Kind::Text, 1 + quoted(after_one(text), '\'', true)),
            ('B' | 'b' | 'X' | 'x' | 'N' | 'n', Some('\'')) => {
                (Kind::Text, 1 + quoted(after_one(text), '\'', false))
            }
            ('"', _) => (Kind::Name, quoted(text, '"', false)),
            ('0'..='9', _) => (Kind::Number, number(text)),
            ('.', Some('0'..='9')) => (Kind::Number, number(text)),
            ('$', Some(second)) if !second.is_ascii_digit() => (Kind::Text, dollar_quoted(text)),
            ('$', _) => (Kind::Other, 1 + run(after_one(text), is_word)),
            _ if is_word(first) => (Kind::Name, run(text, is_word)),
            _ => (Kind::Other, first.len_utf8()),
        };
        Some(Self { kind, len })
    }
}

fn after_one(text: &str) -> &str {
    text.get(1..).unwrap_or_default()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$' || !c.is_ascii()
}

fn run(text: &str, belongs: impl Fn(char) -> bool) -> usize {
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

/// The length of a quoted token; a doubled quote does not end it, nor one behind a
/// backslash where `escapes`. One that does not end takes all that is left.
fn quoted(text: &str, quote: char, escapes: bool) -> usize {
    let mut chars = text.char_indices().skip(1).peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' if escapes => {
                chars.next();
            }
            _ if c == quote => match chars.peek() {
                Some((_, doubled)) if *doubled == quote => {
                    chars.next();
                }
                _ => return at + 1,
            },
            _ => {}
        }
    }
    text.len()
}

/// `$tag$ … $tag$`
fn dollar_quoted(text: &str) -> usize {
    let tag = after_one(text).find('$').map_or(text.len(), |at| at + 2);
    let (tag, body) = text.split_at_checked(tag).unwrap_or((text, ""));
    body.find(tag).map_or(text.len(), |at| at + 2 * tag.len())
}

fn number(text: &str) -> usize {
    let mut last = ' ';
    let belongs = |c: char| {
        let sign = matches!(c, '+' | '-') && matches!(last, 'e' | 'E');
        last = c;
        sign || c == '.' || is_word(c)
    };
    let mut belongs = belongs;
    text.find(|c| !belongs(c)).unwrap_or(text.len())
}

fn highest_parameter(text: &str) -> u32 {
    let mut highest = 0;
    let mut rest = text;
    while let Some(token) = Token::first(rest) {
        let (text, after) = rest.split_at_checked(token.len).unwrap_or((rest, ""));
        let number = text.strip_prefix('$').and_then(|text| text.parse().ok());
        highest = highest.max(number.unwrap_or(0));
        rest = after;
    }
    highest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(canonical: &str, expected: &str) {
        assert_eq!(&*normalized(canonical), expected);
    }

    #[test]
    fn literals_are_out() {
        check(
            "SELECT 'it''s', 1, 1.5e-3, x1 FROM t1",
            "SELECT $1, $2, $3, x1 FROM t1",
        );
        check(
            r"SELECT E'a\'b' || x, X'1f', B'01'",
            "SELECT $1 || x, $2, $3",
        );
        check(
            "SELECT \"a'b\", \"c\"\"d\", 'e'",
            "SELECT \"a'b\", \"c\"\"d\", $1",
        );
        check("SELECT $2, 7 LIMIT 10", "SELECT $2, $3 LIMIT $4");
        check(
            "SELECT -1::numeric(10, 2), a[1]",
            "SELECT -$1::numeric($2, $3), a[$4]",
        );
        check("SELECT timestamptz(4), 5", "SELECT timestamptz($1), $2");
        check("SELECT 'unended", "SELECT $1");
        check("SELECT 'ä', ß, 5", "SELECT $1, ß, $2");
    }

    #[test]
    fn so_they_are_where_no_expression_stands() {
        check(
            "PREPARE p AS SELECT 1 WHERE email = 'a@b.c'",
            "PREPARE p AS SELECT $1 WHERE email = $2",
        );
        check("SET application_name TO 'me'", "SET application_name TO $1");
        check(
            "SET LOCAL datestyle TO iso, 'x'",
            "SET LOCAL datestyle TO $1, $2",
        );
        check("SET timezone TO DEFAULT", "SET timezone TO DEFAULT");
        check(
            "SET datestyle TO iso, 'search_path'",
            "SET datestyle TO $1, $2",
        );
        check("SET a.search_path TO x", "SET a.search_path TO $1");
        check("SET LOCAL search_path TO a", "SET LOCAL search_path TO a");
        check(
            "ALTER ROLE r SET application_name TO me",
            "ALTER ROLE r SET application_name TO $1",
        );
        check("ALTER TABLE t RENAME TO u", "ALTER TABLE t RENAME TO u");
        check("SET search_path TO a, \"b\"", "SET search_path TO a, \"b\"");
        check("DO $$x$$", "DO $1");
        check("DO LANGUAGE l $q$a $$ b$q$ c", "DO LANGUAGE l $1 c");
        check(
            "COPY t TO STDOUT WITH (DELIMITER ';')",
            "COPY t TO STDOUT WITH (DELIMITER $1)",
        );
        check("ALTER ROLE r PASSWORD 'secret'", "ALTER ROLE r PASSWORD $1");
    }

    #[test]
    fn the_mark_of_only_is_only() {
        let text = format!("SELECT * FROM \"{ONLY_MARK}public\".t, \"{ONLY_MARK}\".u");
        check(&text, "SELECT * FROM ONLY \"public\".t, ONLY u");
    }

    #[test]
    fn fingerprints_tell_statements_apart() {
        let of = |text: &str| fingerprint(&normalized(text));
        assert_eq!(of("SELECT 1"), of("SELECT 2"));
        assert_ne!(of("SELECT 1"), of("SELECT a"));
        assert_ne!(of("SET a TO 'x'"), of("SET b TO 'x'"));
    }
}
