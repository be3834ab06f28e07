//! Places: line and column (sqlparser, in characters) → byte (everybody else).

use sqlparser::tokenizer::Location;

/// Where the lines of a text begin.
pub(super) struct Lines {
    /// The byte at which each character begins, and the end; none where all are
    /// of one byte.
    bytes: Option<Vec<usize>>,
    /// The character at which each line begins.
    starts: Vec<usize>,
}

impl Lines {
    pub(super) fn new(text: &str) -> Self {
        let bytes = (!text.is_ascii()).then(|| {
            text.char_indices()
                .map(|(at, _)| at)
                .chain([text.len()])
                .collect()
        });
        let breaks = text
            .chars()
            .enumerate()
            .filter(|(_, c)| *c == '\n')
            .map(|(at, _)| at + 1);
        Self {
            bytes,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    pub(super) fn byte(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let at = self.starts.get(line)? + column;
        match &self.bytes {
            Some(bytes) => bytes.get(at).copied(),
            None => Some(at),
        }
    }
}
