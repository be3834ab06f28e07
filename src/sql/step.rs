//! The rewriter's steps, each of which a test can have done wrong: a referee that
//! never objects proves nothing.
//!
//! There is no such thing outside of tests: [`wrong`] is `false` there by definition.

use super::Denial;

macro_rules! steps {
    ($($(#[$about:meta])* $step:ident,)*) => {
        /// A step that can be done wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(super) enum Step {
            $($(#[$about])* $step,)*
            /// A scan leaves masks of a kind out.
            Mask(&'static str),
        }

        /// Every one but masks, which are by kind.
        #[cfg(test)]
        pub(super) const STEPS: &[Step] = &[$(Step::$step,)*];
    };
}

steps! {
    /// What is governed is taken for clear.
    Govern,
    /// A name stays as the client wrote it: without a schema, with the mark of ONLY.
    Name,
    /// A scan is not spliced in: the relation's own name is.
    Splice,
    /// A relation is taken for a common table expression.
    Cte,
    /// A relation is taken for a temporary table.
    Temporary,
    /// A view is not expanded.
    View,
    /// A relation is read, or written, without a grant.
    Grant,
    /// A relation is written that is no table in clear.
    Target,
    /// A sample is drawn in spite of a row filter.
    Sample,
    /// Postgres's own relations are read without their scans.
    Catalog,
    /// Those that hold secrets are read.
    Secret,
    /// What is to be blank in them is not.
    Blank,
    /// A mask is of another column than it is called.
    Other,
    /// A blocked column comes out as stored.
    Block,
    /// A hidden column comes out.
    Hide,
    /// A system column comes out.
    System,
    /// A scan's columns are in another order.
    Order,
    /// A scan is sorted by what is not to be seen.
    Sort,
    /// An index may be read alone, in its order.
    Guard,
    /// Rows stay in the order of an index that a condition is about.
    Heap,
    /// The row filter is left out.
    Filter,
    /// The fence behind it is left out.
    Fence,
    /// What comes through the fence has statistics.
    Opaque,
    /// A condition that can raise goes inside the fence.
    Inside,
    /// A condition goes inside whose column is computed when it is read.
    Computed,
    /// A condition goes inside whatever its column is converted to.
    Conversion,
    /// A call is not qualified.
    Prefix,
    /// A call is allowed that is not.
    Function,
    /// The name of a setting is not wrapped.
    Screen,
    /// A relation named by a text stays without its schema.
    Pin,
    /// Attribute notation calls what may not be called.
    Attribute,
    /// Operators are used behind which a function stands.
    Operator,
    /// Syntax is that the server does not know.
    Version,
    /// Types are, by name.
    Type,
    /// A type's name stays without its schema.
    TypeName,
    /// Types are, by a column.
    Value,
    /// Whole rows are.
    Row,
    /// Rows are locked.
    Lock,
    /// SELECT … INTO makes a table.
    Into,
    /// An action is taken that no grant allows.
    Action,
    /// Nor is it asked for each relation.
    Each,
    /// A write tells by a foreign key what is hidden.
    Key,
    /// A setting is changed or read that is not the client's.
    Setting,
    /// COPY goes to or comes from a file, or filters.
    Copy,
    /// A temporary table computes.
    Temp,
    /// A view is made that its session alone has.
    Lasting,
    /// A definition holds what no query may.
    Definition,
    /// TRUNCATE goes on to what refers to its relations.
    Cascade,
    /// EXECUTE has arguments that read.
    Argument,
    /// The text is of another kind.
    #[cfg(test)]
    Kind,
    /// The text is of two statements.
    #[cfg(test)]
    Second,
}

/// What a step has found, or nothing if it is left out.
pub(super) fn unless(step: Step, found: Result<(), Denial>) -> Result<(), Denial> {
    match found {
        Err(_) if wrong(step) => Ok(()),
        found => found,
    }
}

/// Whether a step is to be done wrong.
#[cfg(not(test))]
#[inline]
pub(super) const fn wrong(_: Step) -> bool {
    false
}

#[cfg(test)]
pub(super) use in_tests::{asked, tampered, while_wrong, wrong};

#[cfg(test)]
mod in_tests {
    use std::cell::{Cell, RefCell};
    use std::collections::BTreeSet;
    use std::sync::Arc;

    use super::Step;
    use crate::sql::statement::Kind;

    thread_local! {
        static WRONG: Cell<Option<Step>> = const { Cell::new(None) };
        static ASKED: RefCell<BTreeSet<Step>> = const { RefCell::new(BTreeSet::new()) };
    }

    pub(in crate::sql) fn wrong(step: Step) -> bool {
        ASKED.with_borrow_mut(|asked| asked.insert(step));
        WRONG.get() == Some(step)
    }

    /// Does work with a step done wrong.
    pub(in crate::sql) fn while_wrong<T>(step: Step, work: impl FnOnce() -> T) -> T {
        WRONG.set(Some(step));
        let done = work();
        WRONG.set(None);
        done
    }

    /// Does work, and tells which steps it came to.
    pub(in crate::sql) fn asked<T>(work: impl FnOnce() -> T) -> (T, BTreeSet<Step>) {
        ASKED.take();
        let done = work();
        (done, ASKED.take())
    }

    /// A text on its way to the referee.
    pub(in crate::sql) fn tampered(text: Arc<str>, kind: Kind) -> Arc<str> {
        match kind {
            _ if wrong(Step::Second) => format!("{text}; DISCARD ALL").into(),
            _ if !wrong(Step::Kind) => text,
            Kind::Session => "SELECT 1".into(),
            _ => "DISCARD ALL".into(),
        }
    }
}
