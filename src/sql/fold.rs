//! Statements that differ only in literals compared with columns share a plan.
//!
//! A point read by a client that writes its values into the text is a new text every
//! time, and planning it costs several times what sending it does. Here such a text
//! finds the plan of another that differs from it in those literals only, with its
//! own in their place.
//!
//! Why that is sound:
//!
//! - **Which literals.** What [`fold`] takes for a literal stands between a
//!   comparison's operator and something that ends an operand, and is a decimal
//!   integer of up to nine digits or a string of one line of plain ASCII without
//!   quotes and backslashes. [`Template::of`] asks Postgres's own tree whether each is
//!   a constant of that value, the operand of a comparison whose other operand is a
//!   column reference: one that is not, and the text is never folded.
//! - **Nothing is decided by their values.** The rewriter and the referee tell such
//!   constants apart by class alone: an integer of up to nine digits is Postgres's
//!   `integer`, a string is of unknown type, and becomes of the column's
//!   ([`super::pushdown`] says why comparing it is harmless whatever it is). Values
//!   are looked at where they are arguments, settings, options or ordinals.
//! - **Both are checked, not trusted.** The template comes from planning the text with
//!   other literals of the same class (the probes), referee included; it is kept only
//!   if putting the first text's literals in place of the probes gives the first
//!   text's plan, byte for byte, and everything else about the two plans is equal.
//! - **Whatever is not certain is planned.** A text that holds a comment, a backslash,
//!   a dollar sign, a prefixed or continued string or a byte outside ASCII is.

use std::sync::Arc;

use pg_raw_parse::{ConstValue, Node, nodes, parse};

use super::canonical::is_query;
use super::{Context, Plan, depth};

/// A longer text is planned: finding its literals is no longer cheap beside it.
const LONGEST: usize = 8 << 10;
/// More literals are planned.
const MOST: usize = 32;
/// Digits that fit Postgres's `integer` whatever they are.
const DIGITS: usize = 9;
/// What stands for a literal in a shape; no text that a client can send holds it.
const INTEGER: char = '\u{0}';
const STRING: char = '\u{1}';

/// A text, apart from the literals that it compares columns with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Folded<'t> {
    /// Equal for texts that differ only in these literals, class by class.
    pub shape: String,
    /// The literals as written, in order, and where they begin.
    literals: Vec<(usize, &'t str)>,
}

/// Takes the literals out of a text that may share a plan with others; none where it
/// cannot, or where there are no such literals.
pub fn fold(text: &str) -> Option<Folded<'_>> {
    if text.len() > LONGEST {
        return None;
    }
    let mut shape = String::with_capacity(text.len());
    let mut literals = Vec::new();
    let mut reader = Reader { text, at: 0 };
    // The last two tokens: a literal is taken after a name and a comparison.
    let mut before = [Token::Other; 2];
    while let Some((token, start)) = reader.token()? {
        let written = text.get(start..reader.at)?;
        let compared = before == [Token::Name, Token::Comparison] && reader.ends_an_operand();
        let mark = match token {
            Token::Integer if compared => Some(INTEGER),
            Token::String if compared => Some(STRING),
            _ => None,
        };
        match mark {
            Some(mark) => {
                literals.push((start, written));
                shape.push(mark);
            }
            None => shape.push_str(written),
        }
        if token != Token::Space {
            before = [before[1], token];
        }
    }
    (!literals.is_empty() && literals.len() <= MOST).then_some(Folded { shape, literals })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Space,
    /// A name, quoted or not, or a keyword
    Name,
    /// `=`, `<>`, `!=`, `<`, `>`, `<=`, `>=`
    Comparison,
    /// Up to nine digits, without leading zeros
    Integer,
    /// A string that is printed as it is written
    String,
    Other,
}

/// Reads tokens as Postgres's scanner does, where that is simple.
///
/// Source: `src/backend/parser/scan.l` of Postgres, and
/// <https://www.postgresql.org/docs/current/sql-syntax-lexical.html>
struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl Reader<'_> {
    fn peek(&self, ahead: usize) -> Option<u8> {
        self.text.as_bytes().get(self.at + ahead).copied()
    }

    fn skip(&mut self, while_: impl Fn(u8) -> bool) {
        while self.peek(0).is_some_and(&while_) {
            self.at += 1;
        }
    }

    /// The next token and where it begins; `Some(None)` at the end, `None` where what
    /// follows is not simple.
    #[expect(
        clippy::option_option,
        reason = "the end and what is not simple are different ends"
    )]
    fn token(&mut self) -> Option<Option<(Token, usize)>> {
        let start = self.at;
        let Some(first) = self.peek(0) else {
            return Some(None);
        };
        let token = match first {
            b' ' | b'\t' | b'\n' | b'\r' => {
                self.skip(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'));
                Token::Space
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                self.skip(in_name);
                // E'…', B'…', U&'…' and the like.
                if matches!(self.peek(0), Some(b'\'' | b'"' | b'&')) {
                    return None;
                }
                Token::Name
            }
            b'0'..=b'9' => {
                self.skip(|byte| byte.is_ascii_digit());
                let digits = self.at - start;
                let whole = !self
                    .peek(0)
                    .is_some_and(|byte| in_name(byte) || byte == b'.');
                let after = start
                    .checked_sub(1)
                    .and_then(|at| self.text.as_bytes().get(at));
                let begins = after.is_none_or(|&byte| byte != b'.');
                let plain = first != b'0' || digits == 1;
                match whole && begins && plain && digits <= DIGITS {
                    true => Token::Integer,
                    false => Token::Other,
                }
            }
            b'\'' => {
                self.at += 1;
                self.skip(in_string);
                self.closed(b'\'')?;
                Token::String
            }
            b'"' => {
                self.at += 1;
                self.skip(|byte| byte.is_ascii() && !matches!(byte, b'"' | b'\\' | 0 | 1));
                self.closed(b'"')?;
                Token::Name
            }
            byte if is_operator(byte) => {
                self.skip(is_operator);
                let operator = self.text.get(start..self.at)?;
                if operator.contains("--") || operator.contains("/*") {
                    return None;
                }
                match operator {
                    "=" | "<>" | "!=" | "<" | ">" | "<=" | ">=" => Token::Comparison,
                    _ => Token::Other,
                }
            }
            b'(' | b')' | b'[' | b']' | b',' | b';' | b':' | b'.' => {
                self.at += 1;
                Token::Other
            }
            _ => return None,
        };
        Some(Some((token, start)))
    }

    /// Passes a closing quote that is not doubled.
    fn closed(&mut self, quote: u8) -> Option<()> {
        let ends = self.peek(0) == Some(quote) && self.peek(1) != Some(quote);
        self.at += 1;
        ends.then_some(())
    }

    /// Whether what follows cannot belong to the literal that has just been read: the
    /// end, a bracket, a comma, a semicolon, or a word after white space.
    fn ends_an_operand(&self) -> bool {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        let spaces = rest
            .iter()
            .take_while(|byte| matches!(byte, b' ' | b'\t' | b'\n' | b'\r'))
            .count();
        match rest.get(spaces) {
            None | Some(b')' | b',' | b';') => true,
            Some(byte) => spaces > 0 && byte.is_ascii_alphabetic(),
        }
    }
}

fn in_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// What a string holds that is printed as it is written.
fn in_string(byte: u8) -> bool {
    (b' '..=b'~').contains(&byte) && !matches!(byte, b'\'' | b'\\')
}

fn is_operator(byte: u8) -> bool {
    b"+-*/<>=~!@#%^&|`?".contains(&byte)
}

/// A plan with room for other literals.
#[derive(Debug)]
pub struct Template {
    /// Everything but the text.
    plan: Plan,
    /// Text, each piece followed by the literal of that number.
    pieces: Vec<(Box<str>, usize)>,
    /// What follows the last.
    rest: Box<str>,
}

impl Template {
    /// The template that a text's plan is of; none where the plan could hang on its
    /// literals.
    pub fn of(text: &str, plan: &Plan, context: Context<'_>) -> Option<Self> {
        let folded = fold(text)?;
        if !folded.are_compared(text)? {
            return None;
        }
        let probes = folded.probes(&[text, plan.text()])?;
        let template = Self::cut(&folded.planned(text, &probes, context)?, &probes)?;
        let again = template.fill(&folded);
        (again.text == plan.text && again.is_alike(plan)).then_some(template)
    }

    /// A plan's text, cut where the probes stand.
    fn cut(plan: &Plan, probes: &[String]) -> Option<Self> {
        let mut pieces: Vec<(Box<str>, usize)> = Vec::new();
        let mut rest = plan.text();
        loop {
            let next = probes.iter().enumerate().filter_map(|(number, probe)| {
                rest.find(probe.as_str())
                    .map(|at| (at, number, probe.len()))
            });
            let Some((at, number, length)) = next.min() else {
                break;
            };
            pieces.push((rest.get(..at)?.into(), number));
            rest = rest.get(at + length..)?;
        }
        let all = (0..probes.len()).all(|number| pieces.iter().any(|piece| piece.1 == number));
        all.then(|| Self {
            plan: plan.clone(),
            pieces,
            rest: rest.into(),
        })
    }

    /// The plan of a text of the same shape.
    pub fn fill(&self, folded: &Folded<'_>) -> Plan {
        let mut text = String::with_capacity(self.plan.text.len() + 16);
        for (piece, number) in &self.pieces {
            text.push_str(piece);
            // Of the same shape, so it has as many.
            text.push_str(folded.literals.get(*number).map_or("", |literal| literal.1));
        }
        text.push_str(&self.rest);
        Plan {
            text: text.into(),
            ..self.plan.clone()
        }
    }

    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let columns: usize = self
            .plan
            .touched
            .iter()
            .map(|used| used.columns.len())
            .sum();
        512 + 2 * self.plan.text.len() + self.plan.touched.len() * 64 + columns * 128
    }
}

impl Folded<'_> {
    /// Whether Postgres reads each literal as a constant of that value, compared with a
    /// column, in a message of one query.
    fn are_compared(&self, text: &str) -> Option<bool> {
        let tree = parse(text).ok()?;
        let mut statements = tree.iter();
        let (statement, None) = (statements.next()?.stmt(), statements.next()) else {
            return None;
        };
        if !is_query(statement) {
            return None;
        }
        let mut found = Vec::new();
        let visit = |node: Node<'_>| {
            if let Node::A_Expr(expression) = node
                && is_comparison(expression)
                && let (Node::ColumnRef(_), Node::A_Const(constant)) =
                    (expression.lexpr(), expression.rexpr())
            {
                found.extend(value_of(constant));
            }
        };
        depth::walk(statement, visit).ok()?;
        let is_found = |(at, written): &(usize, &str)| {
            found
                .iter()
                .any(|(location, value)| location == at && value == written)
        };
        Some(self.literals.iter().all(is_found))
    }

    /// Literals of the same classes, none of which is anywhere in these texts.
    fn probes(&self, texts: &[&str]) -> Option<Vec<String>> {
        let mut free = (918_273_645_u32..=999_999_999)
            .map(|number| number.to_string())
            .filter(|digits| !texts.iter().any(|text| text.contains(digits.as_str())));
        self.literals
            .iter()
            .map(|(_, written)| match written.starts_with('\'') {
                true => Some(format!("'probe {}'", free.next()?)),
                false => free.next(),
            })
            .collect()
    }

    /// The plan of a text with the probes in place of its literals.
    fn planned(&self, text: &str, probes: &[String], context: Context<'_>) -> Option<Plan> {
        let mut probing = String::with_capacity(text.len() + 16 * probes.len());
        let mut from = 0;
        for ((at, written), probe) in self.literals.iter().zip(probes) {
            probing.push_str(text.get(from..*at)?);
            probing.push_str(probe);
            from = at + written.len();
        }
        probing.push_str(text.get(from..)?);
        let mut plans = super::plan(&probing, context).ok()?;
        match (plans.pop(), plans.is_empty()) {
            (Some(plan), true) => Some(Arc::unwrap_or_clone(plan)),
            _ => None,
        }
    }
}

impl Plan {
    /// Whether everything but the text is equal.
    fn is_alike(&self, other: &Self) -> bool {
        let Self {
            text: _,
            kind,
            action,
            effect,
            touched,
            normalized,
            fingerprint,
            heading,
            origins,
        } = self;
        *kind == other.kind
            && *action == other.action
            && *effect == other.effect
            && *touched == other.touched
            && *normalized == other.normalized
            && *fingerprint == other.fingerprint
            && *heading == other.heading
            && *origins == other.origins
    }
}

fn is_comparison(expression: &nodes::A_Expr) -> bool {
    let mut name = expression.name().iter().filter_map(Node::as_str);
    expression.kind == nodes::A_Expr_Kind::AEXPR_OP
        && matches!(
            (name.next(), name.next()),
            (Some("=" | "<>" | "<" | ">" | "<=" | ">="), None)
        )
}

/// Where a constant stands and how it is written plainly.
fn value_of(constant: &nodes::A_Const) -> Option<(usize, String)> {
    let location = usize::try_from(constant.location).ok()?;
    match constant.val()? {
        _ if constant.isnull => None,
        ConstValue::Integer(value) => Some((location, value.to_string())),
        ConstValue::String(value) => Some((location, format!("'{value}'"))),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn literals(text: &str) -> Option<Vec<&str>> {
        let folded = fold(text)?;
        Some(folded.literals.iter().map(|literal| literal.1).collect())
    }

    #[test]
    fn what_is_taken_out() {
        for (text, expected) in [
            ("select a from t where id = 5", vec!["5"]),
            ("select a from t where id=5;", vec!["5"]),
            (
                "select 1 from t where a <> 'x y' and t.b >= 10 limit 3",
                vec!["'x y'", "10"],
            ),
            ("select * from t where (a != 0)", vec!["0"]),
            (
                "select * from \"T\" where \"A b\" < 7 order by 1",
                vec!["7"],
            ),
        ] {
            assert_eq!(literals(text), Some(expected), "{text}");
        }
        let shape = |text| fold(text).unwrap().shape;
        assert_eq!(
            shape("select 2 where a = 5"),
            shape("select 2 where a = 61")
        );
        assert_ne!(shape("select 2 where a = 5"), shape("select 3 where a = 5"));
        assert_ne!(
            shape("select 2 where a = 5"),
            shape("select 2 where a = '5'")
        );
    }

    #[test]
    fn what_is_not() {
        for text in [
            "select 5",
            "select a from t limit 5",
            "select f(5), 'x' from t",
            "select a from t where id = 5::text",
            "select a from t where id = 5 + 1",
            "select a from t where id = -5",
            "select a from t where id =-5",
            "select a from t where id = +5",
            "select a from t where id = 05",
            "select a from t where id = 5.0",
            "select a from t where id = .5",
            "select a from t where id = 5e3",
            "select a from t where id = 0x5",
            "select a from t where id = 5_000",
            "select a from t where id = 1234567890",
            "select a from t where id = 5 'x'",
            "select a from t where a = E'x'",
            "select a from t where a = U&'x'",
            "select a from t where a = 'it''s'",
            "select a from t where a = 'x\ny'",
            "select a from t where a = 'x'\n'y'",
            r"select a from t where a = 'x\y'",
            "select a from t where a = 'é'",
            "select a from t where a = $$x$$",
            "select a from t where a = $1",
            "select a from t where a = 5 -- x",
            "select a from t where a = 5 /* x */",
            "select a from t where a = 'x",
            "select a from t where a ~= 5",
            "select a from t where a = all 5",
            "select a from t where f(a) = 5",
        ] {
            assert_eq!(literals(text), None, "{text}");
        }
    }

    /// A name that is no column, or an operand of something else.
    #[test]
    fn what_the_tree_does_not_confirm() {
        let confirmed = |text: &str| fold(text).unwrap().are_compared(text);
        assert_eq!(confirmed("select a from t where id = 5"), Some(true));
        assert_eq!(
            confirmed("select a from t where id = 5 or b < 'x'"),
            Some(true)
        );
        for text in [
            "select a from t where current_user = 'x'",
            "select a from t where true = 5",
            "select a from t where b + id = 5",
            "select a from t where id = 5 collate x",
            "select a from t where id = 5 between 1 and 2",
        ] {
            if fold(text).is_some() {
                assert_ne!(confirmed(text), Some(true), "{text}");
            }
        }
        assert_eq!(confirmed("set a = 5"), None);
        assert_eq!(confirmed("update t set a = 5"), Some(false));
        assert_eq!(confirmed("select 1; select a from t where id = 5"), None);
    }
}
