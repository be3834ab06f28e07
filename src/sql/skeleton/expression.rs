//! Expressions in a skeleton: a column stays what it is, everything else shrinks to
//! a call of the columns and subqueries in it.
//!
//! Invariant: a column or a subquery in an expression is written once, at whatever
//! depth it stands.

use std::ops::ControlFlow;

use pg_raw_parse::walk::{Recurse, walk_manual};
use pg_raw_parse::{Node, nodes};

use super::write::Writer;
use crate::sql::survey::{Unknown, unknown};

impl Writer {
    /// A column as it is, anything else as a call of what it refers to.
    pub(super) fn expression(&mut self, node: Node<'_>) -> Result<(), Unknown> {
        match node {
            Node::ColumnRef(column) => self.column(column),
            other => self.calls([other], Empty::Null),
        }
    }

    /// A call, even of nothing.
    pub(super) fn call(&mut self, node: Node<'_>) -> Result<(), Unknown> {
        self.calls([node], Empty::Call)
    }

    pub(super) fn calls<'n>(
        &mut self,
        all: impl IntoIterator<Item = Node<'n>>,
        empty: Empty,
    ) -> Result<(), Unknown> {
        let before = self.text.len();
        self.text.push_str("f(");
        let start = self.text.len();
        for node in all {
            self.refers(node, start)?;
        }
        match empty {
            _ if self.text.len() > start => self.text.push(')'),
            Empty::Call => self.text.push(')'),
            Empty::Null => {
                self.text.truncate(before);
                self.text.push_str("NULL");
            }
            Empty::Nothing => self.text.truncate(before),
        }
        Ok(())
    }

    /// The columns and subqueries in an expression, into a list that starts there.
    fn refers(&mut self, node: Node<'_>, start: usize) -> Result<(), Unknown> {
        // The walk does not take nothing for a node.
        if matches!(node, Node::None) || self.refer(node, start)? == Recurse::No {
            return Ok(());
        }
        let stopped = walk_manual(node, |node| match self.refer(node, start) {
            Ok(recurse) => ControlFlow::Continue(recurse),
            Err(unknown) => ControlFlow::Break(unknown),
        });
        stopped.map_or(Ok(()), Err)
    }

    fn refer(&mut self, node: Node<'_>, start: usize) -> Result<Recurse, Unknown> {
        self.ground()?;
        if !matches!(node, Node::ColumnRef(_) | Node::SelectStmt(_)) {
            // One subquery stands for all the columns that it sets.
            let again = matches!(node, Node::MultiAssignRef(one) if one.colno > 1);
            return Ok(if again { Recurse::No } else { Recurse::Yes });
        }
        if self.text.len() > start {
            self.text.push_str(", ");
        }
        match node {
            Node::ColumnRef(column) => self.column(column)?,
            other => {
                self.text.push('(');
                self.statement(other)?;
                self.text.push(')');
            }
        }
        Ok(Recurse::No)
    }

    pub(super) fn column(&mut self, column: &nodes::ColumnRef) -> Result<(), Unknown> {
        self.place(column.location)?;
        for (at, field) in column.fields().iter().enumerate() {
            if at > 0 {
                self.text.push('.');
            }
            match field {
                Node::String(name) => self.quoted(name.sval().unwrap_or_default()),
                Node::A_Star(_) => self.text.push('*'),
                other => return Err(unknown(other)),
            }
        }
        Ok(())
    }
}

/// What stands where nothing is referred to.
#[derive(Clone, Copy)]
pub(super) enum Empty {
    Null,
    Call,
    Nothing,
}
