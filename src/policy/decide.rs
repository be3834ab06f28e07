//! What one principal may do in one dataset, by one policy.
//!
//! # Semantics
//!
//! A relation goes by its own name and by those of all its ancestors (partitions
//! and inheritance children are their parents): classification, table patterns
//! and row filters of each apply. A column may so carry several tags; of each
//! grant's treatments of them the strictest counts.
//!
//! **Which grants apply.** Those of the principal's roles, in the order of roles
//! and then of grants, on this dataset, within `from` and `until`, in their hours
//! and environments, whose requirements are met, and whose `tables` name the relation.
//! Of a grant whose second factor is missing or too long ago, or whose role a token leaves
//! out, or which is of every dataset where this one is isolated, `block`,
//! `hide` and limits still count, and no column is clearer, nor is there an action more, than
//! if it applied too, after the others: leaving something out does not turn a mask into what it
//! masks. Of two masks of equal row filters the one in force stands, also where the other, of
//! a role before it, would have stood in its place. One outside its time, or for other environments, does not count at all.
//!
//! **One column.** Strictness: clear < mask < block < hide.
//! 1. An explicit `hide`, else `block`, of any such grant wins, whatever the
//!    grant's actions and row filter.
//! 2. Otherwise the grants of `read` with equal row filters (or none) add up:
//!    clear beats a mask, of two masks the first stands. A grant that does not
//!    speak of a tag is silent, and where all are silent the column is blocked.
//! 3. Where grants differ in row filter: those without any filter, if there are
//!    some, decide alone (they grant every row; the others could add something on
//!    their rows only). If all have filters, rows add up (OR), and each column
//!    gets the strictest of what each filter's grants give: a row of one must not
//!    show in another's treatment. There silence is block, and two masks neither
//!    of which can be computed from the other are block.
//! 4. A mask that does not serve the column's type is block, and so is one other than
//!    `null` of a column that is computed when it is read: computing can raise.
//!
//! A generated column without a tag is at least as strict as the columns that its
//! expression reads, NULL where one of them is masked. Any other column without a tag follows the dataset's `unclassified`; one of a view is
//! clear, because what the view reads is governed. Where the classification names
//! a column that is gone, any column without a tag may be it, renamed: blocked,
//! unless the caller sees the gone column's tag in clear. In the same way a table
//! that no entry names, but which has a column of an entry whose table is gone,
//! is taken for that table, renamed (for tags and row filters; never for what
//! grants name).
//!
//! **Other actions** than read count if the grants that give them reach at least
//! the rows that are read.
//!
//! **On behalf of somebody.** Each of the two is decided by itself, then column by
//! column the stricter stands (two masks: as in 3), row filters are joined by AND,
//! actions are those of both, limits the tighter.

mod share;
mod subject;

use std::collections::BTreeSet;
use std::sync::Arc;

use self::share::Share;
use self::subject::Subject;
use super::load::Policy;
use super::model::{Dataset, Digested};
use super::{Action, ColumnAccess, Limits, RelationAccess, RowFilter, Treatment};
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::identity::Principal;

/// Which of somebody's roles there are in one dataset.
#[derive(Debug)]
pub struct RolesHere<'a> {
    /// Those that give something at this moment.
    pub used: BTreeSet<&'a str>,
    /// Also those that could, and do not now: a token leaves them out, a second factor is
    /// missing, or it is not their time. When and how to connect is the caller's choice.
    pub all: BTreeSet<&'a str>,
}

/// A principal's effective rights in one dataset.
#[derive(Clone, Debug, Default)]
pub struct Rights {
    digest: [u8; 32],
    valid_until: Option<jiff::Timestamp>,
    dataset: Option<Arc<Digested<Dataset>>>,
    /// The principal's own, then that of whom it acts for.
    shares: Vec<Share>,
}

impl Rights {
    pub(super) fn new(
        policy: &Policy,
        principal: &Principal,
        dataset: &str,
        now: jiff::Timestamp,
    ) -> Self {
        let Some((name, dataset)) = policy.datasets.get_key_value(dataset) else {
            return Self::default();
        };
        let mut shares = Vec::new();
        let mut valid_until: Option<jiff::Timestamp> = None;
        let mut next = Some(principal);
        while let Some(one) = next {
            let (share, until) = Share::new(policy, one, name, now);
            valid_until = valid_until.into_iter().chain(until).min();
            shares.push(share);
            next = one.on_behalf_of.as_deref();
        }
        let mut context = ring::digest::Context::new(&ring::digest::SHA256);
        context.update(&dataset.digest);
        shares.iter().for_each(|share| share.digest(&mut context));
        let mut digest = [0; 32];
        digest
            .iter_mut()
            .zip(context.finish().as_ref())
            .for_each(|(to, from)| *to = *from);
        Self {
            digest,
            valid_until,
            dataset: Some(dataset.clone()),
            shares,
        }
    }

    /// Of everything that decides: equal digests, equal answers.
    pub fn digest(&self) -> [u8; 32] {
        self.digest
    }

    /// Until when these rights hold without being computed anew (a grant that
    /// begins or ends).
    pub fn valid_until(&self) -> Option<jiff::Timestamp> {
        self.valid_until
    }

    /// Whether any grant names the dataset at all.
    pub fn is_empty(&self) -> bool {
        self.shares.is_empty() || self.shares.iter().any(Share::is_empty)
    }

    /// The roles that there are here: of the principal, then of whom it acts for.
    pub fn roles(&self) -> impl Iterator<Item = RolesHere<'_>> {
        self.shares.iter().map(Share::roles)
    }

    /// Whether a second factor, or one proved more recently, would give its caller more
    /// of a relation, or, without one, of any.
    pub fn wants_factor(&self, relation: Option<(&Relation, &Catalog)>) -> bool {
        let Some(dataset) = &self.dataset else {
            return false;
        };
        let subject = relation.map(|(relation, catalog)| Subject::new(relation, catalog, dataset));
        match subject.transpose() {
            Ok(subject) => self
                .shares
                .iter()
                .any(|share| share.wants_factor(subject.as_ref())),
            Err(_) => false,
        }
    }

    /// Whether a second factor would open a column that is blocked without it: not where
    /// something else blocks it as well.
    pub fn factor_opens(&self, relation: &Relation, catalog: &Catalog, column: usize) -> bool {
        let subject = self
            .dataset
            .as_ref()
            .map(|dataset| Subject::new(relation, catalog, dataset));
        let Some(Ok(subject)) = subject else {
            return false;
        };
        let wants = |share: &Share| share.wants_factor(Some(&subject));
        let opens = |share: &Share| share.opens(&subject, column);
        self.shares.iter().any(wants) && self.shares.iter().all(opens)
    }

    /// What may be done with a relation of the dataset (not one of Postgres's own
    /// schemas: those are `sql`'s to govern).
    ///
    /// Rows of its children are read with it, so where a child's own rules are
    /// stricter, they hold for the whole.
    pub fn access(&self, relation: &Relation, catalog: &Catalog) -> RelationAccess {
        let mut access = self.own_access(relation, catalog);
        let mut parents = vec![relation.oid];
        while let Some(parent) = parents.pop().filter(|_| relation.has_children) {
            let children = catalog
                .relations
                .values()
                .filter(|child| child.parents.contains(&parent));
            for child in children {
                let own = self.own_access(child, catalog);
                if own.filter.is_some() && own.filter != access.filter {
                    let why = format!(
                        "rows of its child {} have a filter of their own; read that by name",
                        child.label()
                    );
                    return denied(relation, &why);
                }
                let columns = relation.columns.iter().zip(&mut access.columns);
                for (column, access) in columns {
                    let same = child.columns.iter().position(|own| own.name == column.name);
                    if let Some(own) = same.and_then(|at| own.columns.get(at)) {
                        *access = stricter_column(access.clone(), own);
                    }
                }
                parents.push(child.oid);
            }
        }
        access
    }

    /// By the rules of the relation itself and of its parents.
    fn own_access(&self, relation: &Relation, catalog: &Catalog) -> RelationAccess {
        let Some(dataset) = &self.dataset else {
            return denied(relation, "no grant names this dataset");
        };
        if let Some(why) = not_served(relation) {
            return denied(relation, &why);
        }
        let subject = match Subject::new(relation, catalog, dataset) {
            Ok(subject) => subject,
            Err(why) => return denied(relation, &why),
        };
        self.shares
            .iter()
            .map(|share| share.access(&subject))
            .reduce(|own, other| stricter(own, &other))
            .unwrap_or_else(|| denied(relation, "no grant names this dataset"))
    }

    /// The rule by which an action that concerns no relation (temp, notify, ddl,
    /// explain) or any relation at all (write) is allowed, if it is.
    pub fn allows(&self, action: Action) -> Option<Arc<str>> {
        let rules: Option<Vec<String>> = self
            .shares
            .iter()
            .map(|share| share.allows(action))
            .collect();
        rules
            .filter(|rules| !rules.is_empty())
            .map(|rules| rules.join(" and ").into())
    }

    /// Whether policy names a function outside pg_catalog as safe to call.
    pub fn trusts_function(&self, schema: &str, name: &str) -> bool {
        !self.is_empty()
            && self.dataset.as_ref().is_some_and(|dataset| {
                dataset
                    .functions
                    .iter()
                    .any(|pattern| pattern.matches(schema, name))
            })
    }

    /// Whether every column of every relation is clear, without a row filter.
    pub fn all_clear(&self) -> bool {
        !self.shares.is_empty()
            && self
                .dataset
                .as_ref()
                .is_some_and(|dataset| self.shares.iter().all(|share| share.all_clear(dataset)))
    }

    /// Bounds: the tightest of the grants that apply.
    pub fn limits(&self) -> Limits {
        self.shares
            .iter()
            .flat_map(Share::limits)
            .fold(Limits::default(), |one, two| Limits {
                rows_per_query: tighter(one.rows_per_query, two.rows_per_query),
                statement_timeout_ms: tighter(one.statement_timeout_ms, two.statement_timeout_ms),
            })
    }
}

fn tighter(one: Option<u64>, two: Option<u64>) -> Option<u64> {
    one.into_iter().chain(two).min()
}

/// No action, every column blocked, and why.
fn denied(relation: &Relation, why: &str) -> RelationAccess {
    let rule: Arc<str> = why.into();
    RelationAccess {
        actions: BTreeSet::new(),
        columns: relation
            .columns
            .iter()
            .map(|_| ColumnAccess {
                treatment: Treatment::Block,
                tag: None,
                rule: rule.clone(),
            })
            .collect(),
        filter: None,
        rule,
    }
}

fn not_served(relation: &Relation) -> Option<String> {
    let what = match relation.kind {
        _ if relation.is_system() => "policy does not govern Postgres's own schemas",
        RelationKind::Table
        | RelationKind::PartitionedTable
        | RelationKind::View
        | RelationKind::MaterializedView
        | RelationKind::ForeignTable => return None,
        RelationKind::Sequence => "sequences are not served",
        RelationKind::Toast => "toast tables are not served",
        RelationKind::Index => "indexes are not read",
        RelationKind::CompositeType => "a composite type holds no rows",
    };
    Some(what.into())
}

fn rank(treatment: &Treatment) -> u8 {
    match treatment {
        Treatment::Clear => 0,
        Treatment::Mask(_) => 1,
        Treatment::Block => 2,
        Treatment::Hide => 3,
    }
}

/// The stricter of two, by the rule that made it so; two masks neither of which
/// can be computed from the other are block.
fn stricter_column(one: ColumnAccess, two: &ColumnAccess) -> ColumnAccess {
    match (&one.treatment, &two.treatment) {
        (Treatment::Mask(first), Treatment::Mask(second)) => {
            if first.covers(second) {
                one
            } else if second.covers(first) {
                two.clone()
            } else {
                ColumnAccess {
                    treatment: Treatment::Block,
                    rule: format!(
                        "{} and {} mask it differently, and neither mask is the stricter",
                        one.rule, two.rule
                    )
                    .into(),
                    tag: one.tag,
                }
            }
        }
        (first, second) if rank(first) >= rank(second) => one,
        _ => two.clone(),
    }
}

/// What both allow.
fn stricter(one: RelationAccess, two: &RelationAccess) -> RelationAccess {
    let rule = match (one.actions.is_empty(), two.actions.is_empty()) {
        (true, _) => one.rule,
        (false, true) => two.rule.clone(),
        (false, false) => format!("{} and {}", one.rule, two.rule).into(),
    };
    let filter = match (one.filter, &two.filter) {
        (Some(first), Some(second)) if first.sql == second.sql => Some(first),
        (Some(first), Some(second)) => Some(RowFilter {
            sql: format!("({} AND {})", first.sql, second.sql).into(),
            rule: format!("{} and {}", first.rule, second.rule).into(),
        }),
        (first, second) => first.or_else(|| second.clone()),
    };
    RelationAccess {
        actions: one.actions.intersection(&two.actions).copied().collect(),
        columns: one
            .columns
            .into_iter()
            .zip(&two.columns)
            .map(|(one, two)| stricter_column(one, two))
            .collect(),
        filter,
        rule,
    }
}
