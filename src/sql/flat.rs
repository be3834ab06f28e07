//! Takes out brackets that the order of operators makes needless.
//!
//! The grammar's printer writes `a + b + c` as `(a + b) + c`, a chain of UNION ALL
//! likewise, and its parser takes no more than 10,000 nested brackets (bison's
//! `YYMAXDEPTH`), so that a long sum would be printed as what nobody can read,
//! Postgres included. Knows nothing of trees:
//! whoever asks holds what is read of the answer against what was meant.

/// What can be told of a bracket before its other half is found.
struct Open {
    /// Its place among the tokens
    at: usize,
    /// Whether nothing before it would take its first operand away
    leads: bool,
    /// The operators directly inside
    inside: Inside,
    /// Whether what is inside is arms of UNION or EXCEPT and nothing after them
    arms: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Inside {
    /// None yet
    Nothing,
    /// All of them bind alike
    Alike(Binding),
    /// Anything else
    Other,
}

/// How an operator binds; all of these are left-associative.
///
/// Source: <https://www.postgresql.org/docs/current/sql-syntax-lexical.html#SQL-PRECEDENCE>
#[derive(Clone, Copy, PartialEq, Eq)]
enum Binding {
    /// `* / %`
    Product,
    /// `+ -`
    Sum,
    /// `||`, `->` and all that have no place of their own
    Named,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Close,
    Operator(Option<Binding>),
    /// A word of the language's own, in capitals as the printer writes them
    Keyword,
    /// UNION, EXCEPT
    Arm,
    /// A word that comes after the arms, or INTERSECT, which binds closer
    Tail,
    /// A name, a literal, a dot
    Operand,
    Comma,
}

struct Token {
    start: usize,
    end: usize,
    kind: Kind,
}

/// Printed text without the brackets around the left operand of an operator that
/// binds like those inside them; none where there are none.
pub(super) fn flattened(text: &str) -> Option<String> {
    let tokens = tokens(text)?;
    let mut needless = vec![false; tokens.len()];
    let mut open: Vec<Open> = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| tokens.get(at));
        match token.kind {
            Kind::Open => open.push(Open {
                at,
                leads: before.is_none_or(|token| {
                    matches!(token.kind, Kind::Open | Kind::Comma | Kind::Keyword)
                }),
                inside: Inside::Nothing,
                arms: false,
            }),
            Kind::Close => {
                let group = open.pop()?;
                let next = tokens.get(at + 1).map(|token| token.kind);
                let needs_none = match (group.inside, next) {
                    (Inside::Alike(inside), Some(Kind::Operator(Some(after)))) => inside == after,
                    (Inside::Other, Some(Kind::Arm)) => group.arms,
                    _ => false,
                };
                if group.leads && needs_none {
                    *needless.get_mut(group.at)? = true;
                    *needless.get_mut(at)? = true;
                }
            }
            Kind::Operator(binding) => {
                if let Some(group) = open.last_mut() {
                    group.inside = match (group.inside, binding) {
                        (Inside::Nothing, Some(binding)) => Inside::Alike(binding),
                        (Inside::Alike(inside), Some(binding)) if inside == binding => group.inside,
                        _ => Inside::Other,
                    };
                }
            }
            Kind::Keyword | Kind::Comma | Kind::Arm | Kind::Tail => {
                if let Some(group) = open.last_mut() {
                    group.inside = Inside::Other;
                    group.arms |= token.kind == Kind::Arm;
                    group.arms &= token.kind != Kind::Tail;
                }
            }
            Kind::Operand => {}
        }
    }
    if !needless.contains(&true) {
        return None;
    }
    let mut flat = String::with_capacity(text.len());
    let mut copied = 0;
    for (token, _) in tokens.iter().zip(&needless).filter(|(_, gone)| **gone) {
        flat.push_str(text.get(copied..token.start)?);
        copied = token.end;
    }
    flat.push_str(text.get(copied..)?);
    Some(flat)
}

/// None where text is not as the printer writes it.
fn tokens(text: &str) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    let mut start = 0;
    while let Some(first) = text.get(start..)?.chars().next() {
        let rest = text.get(start..)?;
        let (length, kind) = match first {
            ' ' | '\n' => {
                start += 1;
                continue;
            }
            '(' => (1, Kind::Open),
            ')' => (1, Kind::Close),
            ',' => (1, Kind::Comma),
            '\'' => (quoted(rest, false)?, Kind::Operand),
            '"' => (quoted(rest, false)?, Kind::Operand),
            'E' | 'B' | 'X' if rest.get(1..)?.starts_with('\'') => {
                (1 + quoted(rest.get(1..)?, first == 'E')?, Kind::Operand)
            }
            _ if first.is_alphanumeric() || matches!(first, '_' | '$') => {
                let wordy = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$');
                let length = rest.find(|c| !wordy(c)).unwrap_or(rest.len());
                let word = rest.get(..length)?;
                let keyword = word.chars().all(|c| c.is_ascii_uppercase() || c == '_');
                match word {
                    "UNION" | "EXCEPT" => (length, Kind::Arm),
                    "INTERSECT" | "ORDER" | "LIMIT" | "OFFSET" | "FETCH" | "FOR" => {
                        (length, Kind::Tail)
                    }
                    _ if keyword => (length, Kind::Keyword),
                    _ => (length, Kind::Operand),
                }
            }
            _ if OPERATOR.contains(first) => {
                let length = rest.find(|c| !OPERATOR.contains(c)).unwrap_or(rest.len());
                (length, Kind::Operator(binding(rest.get(..length)?)))
            }
            // Dots, subscripts, casts: of the operand beside them.
            _ => (first.len_utf8(), Kind::Operand),
        };
        tokens.push(Token {
            start,
            end: start + length,
            kind,
        });
        start += length;
    }
    Some(tokens)
}

/// What an operator's name can consist of.
const OPERATOR: &str = "+-*/<>=~!@#%^&|`?";

/// None for comparisons, which do not associate, and for `^`.
fn binding(operator: &str) -> Option<Binding> {
    match operator {
        "*" | "/" | "%" => Some(Binding::Product),
        "+" | "-" => Some(Binding::Sum),
        "^" | "<" | ">" | "=" | "<=" | ">=" | "<>" | "!=" => None,
        _ => Some(Binding::Named),
    }
}

/// The length of what stands in quotes, with them; a doubled quote is one of its
/// own, and so is one behind a backslash where those are read.
fn quoted(text: &str, backslashes: bool) -> Option<usize> {
    let mut letters = text.char_indices().peekable();
    let (_, quote) = letters.next()?;
    while let Some((at, letter)) = letters.next() {
        if letter == '\\' && backslashes {
            letters.next()?;
        } else if letter == quote && letters.next_if(|(_, next)| *next == quote).is_none() {
            return Some(at + letter.len_utf8());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::printer::same;
    use pg_raw_parse::{deparse, parse};

    /// Whatever is taken out, the tree stays what it was.
    #[test]
    fn sums_are_read_as_they_were() {
        let forms = [
            ("select a+b+c+d", "SELECT a + b + c + d"),
            ("select a-b-c, a/b/c*d", "SELECT a - b - c, a / b / c * d"),
            (
                "select a||'('||b||E'\\\\('||\"(\"",
                "SELECT a || '(' || b || E'\\\\(' || \"(\"",
            ),
            ("select f(a+b+c)-d-e", "SELECT f(a + b + c) - d - e"),
            ("select a+b*c+d", "SELECT a + (b * c) + d"),
            ("select (a+b+c)*d*e", "SELECT (a + b + c) * d * e"),
            (
                "select (select a+b+c)+d+e",
                "SELECT (SELECT a + b + c) + d + e",
            ),
            (
                "select a->b->c, x where y+1+2 > 3",
                "SELECT a -> b -> c, x WHERE (y + 1 + 2) > 3",
            ),
            ("select a+(b+c)+d", "SELECT a + (b + c) + d"),
            ("select a-(b-c-d)", "SELECT a - (b - c - d)"),
            (
                "select 1 union all select 2 union all select 3 except select 4",
                "SELECT 1 UNION ALL SELECT 2 UNION ALL SELECT 3 EXCEPT SELECT 4",
            ),
            (
                "select x from (select 1 union select 2 union (select 3 union select 4)) t",
                "SELECT x FROM (SELECT 1 UNION SELECT 2 UNION (SELECT 3 UNION SELECT 4)) t",
            ),
        ];
        for (form, expected) in forms {
            let tree = parse(form).unwrap();
            let statement = tree.iter().next().unwrap();
            let printed = deparse(statement).unwrap();
            let flat = flattened(printed.as_str()).unwrap();
            let read = parse(&flat).unwrap();
            assert!(
                same(statement.stmt(), read.iter().next().unwrap().stmt()),
                "{flat}"
            );
            assert_eq!(flat, expected);
        }
    }

    #[test]
    fn needed_brackets_stay() {
        for text in [
            "SELECT a - (b - c)",
            "SELECT (a = b) = c",
            "SELECT (a + b) * c",
            "SELECT 'open",
            "(SELECT 1 UNION SELECT 2 LIMIT 1) UNION SELECT 3",
            "(SELECT 1 INTERSECT SELECT 2) UNION SELECT 3",
            "SELECT 1 UNION (SELECT 2 EXCEPT SELECT 3)",
        ] {
            assert_eq!(flattened(text), None);
        }
    }
}
