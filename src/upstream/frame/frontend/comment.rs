//! The comment that the proxy adds to a statement.
//!
//! Knows nothing about what it says. The invariant: it cannot end early.

use std::fmt::Write as _;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// Characters that stay as they are in a comment: RFC 3986's unreserved ones.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A sqlcommenter comment: ` /*key='value',key='value'*/`.
///
/// Keys and values are percent-encoded, so that no `*/`, quote or NUL in them can
/// end it: <https://google.github.io/sqlcommenter/spec/>.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comment(String);

impl Comment {
    /// Of these pairs, which come out sorted by key.
    pub fn of(pairs: &[(&str, &str)]) -> Self {
        let mut pairs: Vec<_> = pairs
            .iter()
            .map(|(key, value)| {
                (
                    utf8_percent_encode(key, ENCODED).to_string(),
                    utf8_percent_encode(value, ENCODED).to_string(),
                )
            })
            .collect();
        pairs.sort();
        let mut text = String::new();
        for (key, value) in pairs {
            let opening = if text.is_empty() { " /*" } else { "," };
            // Writing to a String does not fail.
            let _ = write!(text, "{opening}{key}='{value}'");
        }
        if !text.is_empty() {
            text.push_str("*/");
        }
        Self(text)
    }

    /// As it is appended to a statement; empty without pairs.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_comment_cannot_be_left() {
        let comment = Comment::of(&[
            ("pgveil_session", "*/; DROP TABLE t --"),
            ("pgveil_principal", "agent:o'brien\0\n"),
        ]);
        assert_eq!(
            comment.as_str(),
            " /*pgveil_principal='agent%3Ao%27brien%00%0A',\
             pgveil_session='%2A%2F%3B%20DROP%20TABLE%20t%20--'*/"
        );
        assert_eq!(Comment::of(&[]).as_str(), "");
    }
}
