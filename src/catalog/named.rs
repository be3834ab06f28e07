//! What runs although no statement calls it: the functions and expressions behind
//! types and operators.
//!
//! Knows nothing about who may run what.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::Oid;

/// Something that can run where a type or an operator is used.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Runs {
    /// A function that is neither native nor, of Postgres's own, immutable.
    Function {
        /// Its schema's name
        schema: Arc<str>,
        /// `pg_proc.proname`
        name: Arc<str>,
    },
    /// A domain's check or default, as `pg_get_expr` prints it with an empty
    /// `search_path`.
    Expression(Arc<str>),
}

/// A type.
#[derive(Clone, Debug)]
pub struct Type {
    /// `pg_type.oid`
    pub oid: Oid,
    /// Its schema's name
    pub schema: Arc<str>,
    /// `pg_type.typname`
    pub name: Arc<str>,
}

/// An operator; of Postgres's own only the name is told.
#[derive(Clone, Debug)]
pub struct Operator {
    /// Its schema's name
    pub schema: Arc<str>,
    /// What runs where it stands.
    pub runs: Vec<Runs>,
    /// The types it takes and gives.
    pub over: Vec<Oid>,
}

/// An operator class, which an index can name.
#[derive(Clone, Debug)]
pub struct OperatorClass {
    /// Its schema's name
    pub schema: Arc<str>,
    /// What runs where an index is of it.
    pub runs: Vec<Runs>,
}

/// What runs behind each type: of itself, and of all that it is made of (`over`: the
/// elements, fields, subtypes and base types of each).
pub(super) fn close(
    own: HashMap<Oid, Vec<Runs>>,
    over: &HashMap<Oid, Vec<Oid>>,
) -> HashMap<Oid, Arc<[Runs]>> {
    if own.is_empty() {
        return HashMap::new();
    }
    let mut above: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for (whole, parts) in over {
        for part in parts {
            above.entry(*part).or_default().push(*whole);
        }
    }
    let mut closed: HashMap<Oid, Vec<Runs>> = HashMap::new();
    for (part, runs) in own {
        let (mut reached, mut waiting) = (HashSet::from([part]), vec![part]);
        while let Some(one) = waiting.pop() {
            let all = closed.entry(one).or_default();
            for run in &runs {
                if !all.contains(run) {
                    all.push(run.clone());
                }
            }
            for whole in above.get(&one).into_iter().flatten() {
                if reached.insert(*whole) {
                    waiting.push(*whole);
                }
            }
        }
    }
    closed
        .into_iter()
        .map(|(oid, mut runs)| {
            // The same message, whichever way it was reached.
            runs.sort_unstable();
            (oid, runs.into())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_part_runs_its_wholes_run() {
        let check = |text: &str| Runs::Expression(text.into());
        let own = HashMap::from([(1, vec![check("a")]), (3, vec![check("b")])]);
        // 2 is an array of 1; 3 holds 2 and itself; 4 is of none of them.
        let over = HashMap::from([(2, vec![1]), (3, vec![2, 3]), (4, vec![5])]);
        let closed = close(own, &over);
        assert_eq!(&*closed[&1], [check("a")]);
        assert_eq!(&*closed[&2], [check("a")]);
        assert_eq!(closed[&3].len(), 2);
        assert!(!closed.contains_key(&4));
    }
}
