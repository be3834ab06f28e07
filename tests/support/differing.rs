//! Where the answers to the same statements differ, and to which.

use super::client::{By, Message, show};
use super::world::Pair;

/// As a new session.
pub fn reset(pair: &mut Pair) {
    pair.run("ROLLBACK", By::Simple);
    pair.run("DISCARD ALL", By::Simple);
}

/// Both answers to the first of some statements where they differ.
pub fn difference(pair: &mut Pair, statements: &[String], by: By) -> Option<String> {
    reset(pair);
    let (one, other) = statements
        .iter()
        .map(|statement| pair.run(statement, by))
        .find(|(one, other)| one != other)?;
    Some(versus(&one, &other))
}

/// Two answers, from where they differ.
pub fn versus(one: &[Message], other: &[Message]) -> String {
    let differing = one.iter().zip(other).position(|(one, other)| one != other);
    let from = differing.unwrap_or(one.len().min(other.len()));
    let shown = |answer: &[Message]| show(&answer[from..answer.len().min(from + 3)]);
    format!("{}or\n{}", shown(one), shown(other))
}

/// The smallest statements that still differ, as a case, and how.
pub fn minimize(pair: &mut Pair, statements: &[String], by: By) -> String {
    let mut all: Vec<Vec<String>> = statements.iter().map(|text| words(text)).collect();
    let joined =
        |all: &[Vec<String>]| -> Vec<String> { all.iter().map(|pieces| pieces.concat()).collect() };
    // Statements that need not be there, but for the last; then pieces of each.
    let mut at = 0;
    while at + 1 < all.len() {
        let rest = [&all[..at], &all[at + 1..]].concat();
        match difference(pair, &joined(&rest), by) {
            Some(_) => all = rest,
            None => at += 1,
        }
    }
    for at in (0..all.len()).rev() {
        let mut size = all[at].len() / 2;
        while size > 0 {
            let mut from = 0;
            while from + size <= all[at].len() {
                let mut rest = all.clone();
                rest[at].drain(from..from + size);
                match difference(pair, &joined(&rest), by) {
                    Some(_) => all = rest,
                    None => from += size.div_ceil(2),
                }
            }
            size /= 2;
        }
    }
    let smallest = joined(&all);
    let answers =
        difference(pair, &smallest, by).unwrap_or_else(|| "  (it does not show again)\n".into());
    format!(
        "{}\n---\n\nof {}\n{answers}",
        smallest.join("\n;\n"),
        statements.join("\n;\n")
    )
}

/// Words, with the space before them, and single brackets and commas.
fn words(text: &str) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut joins = false;
    for letter in text.chars() {
        let wordy = letter.is_alphanumeric() || letter == '_';
        match all.last_mut() {
            Some(last) if joins && wordy => last.push(letter),
            Some(last) if last == " " && wordy => last.push(letter),
            _ => all.push(letter.into()),
        }
        joins = wordy;
    }
    all
}
