//! Which versions of Postgres a case of a corpus is of.

use std::ops::RangeInclusive;

/// The major versions that a line `servers: 15-16` names, or all without one; and what
/// follows it.
pub fn servers(text: &str) -> (RangeInclusive<u32>, &str) {
    let Some(rest) = text.strip_prefix("servers: ") else {
        return (0..=u32::MAX, text);
    };
    let (range, rest) = rest.split_once('\n').expect("a statement");
    let (low, high) = range.split_once('-').expect("two versions");
    (low.parse().unwrap()..=high.parse().unwrap(), rest)
}
