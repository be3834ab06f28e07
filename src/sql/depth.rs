//! Walks of Postgres's tree that stop before the stack does.
//!
//! The grammar parses any depth on a heap of its own, and libpg_query's check of
//! the stack does not see threads that are not Postgres's. A stack that overflows
//! ends the process, so every walk measures what it has used.

use std::ops::ControlFlow;

use pg_raw_parse::Node;
use pg_raw_parse::walk::{Recurse, walk_manual};

/// What one walk may use of the stack, in bytes: a fifth of what a planning thread
/// has, because what comes after it (printing, sqlparser's tree) goes as deep with
/// larger steps.
const LIMIT: usize = 12 << 20;

/// A statement may not be this deep.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TooDeep;

/// Where the stack was when a walk began.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ground(usize);

impl Ground {
    /// Here.
    #[inline(never)]
    pub(super) fn here() -> Self {
        let mark = 0_u8;
        Self(std::ptr::from_ref(&mark).addr())
    }

    /// Whether the stack has not grown too far since.
    pub(super) fn check(self) -> Result<(), TooDeep> {
        match self.0.abs_diff(Self::here().0) <= LIMIT {
            true => Ok(()),
            false => Err(TooDeep),
        }
    }
}

/// Visits a tree's nodes, in no order that matters, unless it has more than so many
/// levels, its root the first. It keeps on the heap what it has still to see, so
/// that it can be asked of any tree.
pub(super) fn levels<'a>(
    root: Node<'a>,
    limit: usize,
    mut visit: impl FnMut(Node<'a>),
) -> Result<(), TooDeep> {
    let mut waiting = vec![(root, 1)];
    while let Some((node, level)) = waiting.pop() {
        if level > limit {
            return Err(TooDeep);
        }
        visit(node);
        walk_manual::<()>(node, |child| {
            waiting.push((child, level + 1));
            Recurse::no()
        });
    }
    Ok(())
}

/// Visits a query's nodes, itself included; of a clause that is not there, none.
pub(super) fn walk<'a>(node: Node<'a>, mut visit: impl FnMut(Node<'a>)) -> Result<(), TooDeep> {
    // A clause that is not there: the library's walk takes it for one, and aborts.
    if matches!(node, Node::None) {
        return Ok(());
    }
    let ground = Ground::here();
    visit(node);
    let stopped = walk_manual(node, |node| match ground.check() {
        Ok(()) => {
            visit(node);
            Recurse::yes()
        }
        Err(deep) => ControlFlow::Break(deep),
    });
    stopped.map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_walked_where_nothing_is() {
        let mut visited = 0;
        assert_eq!(walk(Node::None, |_| visited += 1), Ok(()));
        assert_eq!(visited, 0);
    }
}
