//! Places: line and column in the text that sqlparser read (in characters) → byte
//! of the statement.

use sqlparser::ast::Ident;
use sqlparser::tokenizer::Location;

use crate::sql::skeleton::Skeleton;

/// The text that is read: a part of the statement, or its skeleton.
#[derive(Clone, Copy)]
pub(in crate::sql) enum Text<'t> {
    /// Canonical text of the query, and where in the statement it begins.
    Canonical(&'t str, usize),
    /// What stands for it.
    Skeleton(&'t Skeleton),
}

impl<'t> Text<'t> {
    /// What sqlparser is given.
    pub(super) fn text(self) -> &'t str {
        match self {
            Self::Canonical(text, _) => text,
            Self::Skeleton(skeleton) => &skeleton.text,
        }
    }
}

/// Where the lines of a text begin, and what its bytes are in the statement.
pub(super) struct Places<'t> {
    text: Text<'t>,
    /// The byte at which each character begins, and the end; none where all are
    /// of one byte.
    bytes: Option<Vec<usize>>,
    /// The character at which each line begins.
    starts: Vec<usize>,
}

impl<'t> Places<'t> {
    pub(super) fn new(text: Text<'t>) -> Self {
        let read = text.text();
        let bytes = (!read.is_ascii()).then(|| {
            read.char_indices()
                .map(|(at, _)| at)
                .chain([read.len()])
                .collect()
        });
        let after = |(at, c): (usize, char)| (c == '\n').then_some(at + 1);
        let breaks: Vec<usize> = match bytes {
            None => (0..)
                .zip(read.bytes().map(char::from))
                .filter_map(after)
                .collect(),
            Some(_) => (0..).zip(read.chars()).filter_map(after).collect(),
        };
        Self {
            text,
            bytes,
            starts: std::iter::once(0).chain(breaks).collect(),
        }
    }

    /// The statement's byte of a place where a name begins.
    pub(super) fn of(&self, location: Location) -> Option<usize> {
        let line = usize::try_from(location.line).ok()?.checked_sub(1)?;
        let column = usize::try_from(location.column).ok()?.checked_sub(1)?;
        let at = self.starts.get(line)? + column;
        let byte = match &self.bytes {
            Some(bytes) => bytes.get(at).copied()?,
            None => at,
        };
        match self.text {
            Text::Canonical(_, begin) => Some(begin + byte),
            Text::Skeleton(skeleton) => skeleton.place(byte),
        }
    }

    pub(super) fn start(&self, name: &Ident) -> Option<usize> {
        self.of(name.span.start)
    }

    /// Whether names may hold the marks of a skeleton.
    pub(super) fn marked(&self) -> bool {
        matches!(self.text, Text::Skeleton(_))
    }
}
