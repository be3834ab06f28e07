//! One principal's part in a decision: its grants, sorted by what they can do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::subject::Subject;
use super::{RolesHere, denied, rank, stricter_column};
use crate::catalog::RelationKind;
use crate::identity::Principal;
use crate::policy::expression::Kind;
use crate::policy::file::Unclassified;
use crate::policy::load::Policy;
use crate::policy::mask::Mask;
use crate::policy::model::{Dataset, Digested, Grant, Tag, TagTreatment};
use crate::policy::{Action, ColumnAccess, Limits, RelationAccess, RowFilter, Treatment};

/// A principal's grants on a dataset at a moment.
#[derive(Clone, Debug, Default)]
pub(super) struct Share {
    /// `role analyst`, `roles a, b`, or why there is none.
    who: Arc<str>,
    /// Those that apply.
    grants: Vec<Arc<Digested<Grant>>>,
    /// Those that want more than was shown: they give nothing, and what the others give is no
    /// more than if they did.
    locked: Vec<(Arc<Digested<Grant>>, Lock)>,
    /// Those that are not in force, for messages, and why.
    dormant: Vec<(Arc<Digested<Grant>>, String)>,
    /// The roles of all of these, but for grants that are never of this dataset.
    here: BTreeSet<Arc<str>>,
}

/// What a grant wants that is not there.
#[derive(Clone, Copy, Debug)]
enum Lock {
    /// A second factor.
    Factor,
    /// One that was proved not so long ago.
    Recent,
    /// A token that uses its role.
    Role,
    /// A dataset that is not isolated.
    Dataset,
}

/// What the grants say of one relation.
struct Verdict<'a> {
    /// All whose `block` and `hide` count.
    heard: Vec<&'a Grant>,
    /// Grants of `read` by row filter (`None`: all rows), each with its rule.
    groups: BTreeMap<Option<String>, Group<'a>>,
    /// By other action, the row filters of grants that give it.
    others: BTreeMap<Action, BTreeSet<Option<String>>>,
    /// Why a grant that names the relation could not be used.
    unusable: Option<String>,
}

#[derive(Default)]
struct Group<'a> {
    grants: Vec<&'a Grant>,
    rule: String,
}

impl Share {
    /// Also until when it holds.
    pub(super) fn new(
        policy: &Policy,
        principal: &Principal,
        dataset: &str,
        now: jiff::Timestamp,
    ) -> (Self, Option<jiff::Timestamp>) {
        let roles = match policy.identities.get(&principal.name) {
            Some(identity) if identity.disabled => &Vec::new(),
            Some(identity) => &identity.roles,
            None => &principal.roles,
        };
        let used: Vec<_> = roles.iter().filter(|role| principal.uses(role)).collect();
        let mut share = Self {
            who: match used.as_slice() {
                [] => format!("{} has no role", principal.label()).into(),
                [role] => format!("role {role}").into(),
                _ => format!(
                    "roles {}",
                    used.iter()
                        .map(|role| &***role)
                        .collect::<Vec<_>>()
                        .join(", ")
                )
                .into(),
            },
            ..Self::default()
        };
        let environment = policy.environments.get(dataset).map(|one| &**one);
        let mut until: Option<jiff::Timestamp> = None;
        for role in roles {
            let Some(grants) = policy.roles.get(role) else {
                // A role that is gone may have blocked what the others do not.
                share = Self {
                    who: format!("role {role} (no longer defined)").into(),
                    ..Self::default()
                };
                return (share, None);
            };
            let here = |grant: &&Arc<Digested<Grant>>| *grant.dataset == *dataset;
            for grant in grants.iter().filter(here) {
                let (dormant, turn) = grant.dormant(now, environment);
                until = until.into_iter().chain(turn).min();
                let grant = grant.clone();
                if !grant.apart && grant.is_for(environment) {
                    share.here.insert(grant.role.clone());
                }
                if let Some(why) = dormant {
                    share.dormant.push((grant, why));
                    continue;
                }
                if grant.apart {
                    share.locked.push((grant, Lock::Dataset));
                    continue;
                }
                if !principal.uses(role) {
                    share.locked.push((grant, Lock::Role));
                    continue;
                }
                let lasts = match (grant.factor, principal.mfa) {
                    (Some(_), None) => {
                        share.locked.push((grant, Lock::Factor));
                        continue;
                    }
                    (Some(factor), Some(proved)) => factor.lasts(proved),
                    (None, _) => None,
                };
                match lasts {
                    Some(end) if now >= end => share.locked.push((grant, Lock::Recent)),
                    end => {
                        until = until.into_iter().chain(end).min();
                        share.grants.push(grant);
                    }
                }
            }
        }
        (share, until)
    }

    pub(super) fn digest(&self, context: &mut ring::digest::Context) {
        context.update(&(self.who.len() as u64).to_be_bytes());
        context.update(self.who.as_bytes());
        let grants = self.grants.iter().collect();
        let locked = self.locked.iter().map(|(grant, _)| grant).collect();
        let dormant = self.dormant.iter().map(|(grant, _)| grant).collect();
        for list in [grants, locked, dormant] {
            let list: Vec<&Arc<Digested<Grant>>> = list;
            context.update(&(list.len() as u64).to_be_bytes());
            list.iter().for_each(|grant| context.update(&grant.digest));
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.grants.is_empty()
    }

    pub(super) fn roles(&self) -> RolesHere<'_> {
        RolesHere {
            used: self.grants.iter().map(|grant| &*grant.role).collect(),
            all: self.here.iter().map(|role| &**role).collect(),
        }
    }

    pub(super) fn limits(&self) -> impl Iterator<Item = Limits> {
        let locked = self.locked.iter().map(|(grant, _)| grant);
        self.grants.iter().chain(locked).map(|grant| grant.limits)
    }

    pub(super) fn allows(&self, action: Action) -> Option<String> {
        let grants = self.grants.iter();
        let mut giving = grants.filter(|grant| grant.actions.contains(&action));
        giving.next().map(|grant| grant.rule())
    }

    /// Whether a second factor would give something of a relation, or of any.
    pub(super) fn wants_factor(&self, subject: Option<&Subject<'_>>) -> bool {
        self.locked.iter().any(|(grant, lock)| {
            matches!(lock, Lock::Factor | Lock::Recent)
                && subject.is_none_or(|subject| grant.names(&subject.names))
        })
    }

    /// Whether a column is seen, if masked, where nothing is locked.
    pub(super) fn opens(&self, subject: &Subject<'_>, column: usize) -> bool {
        let seen = self.verdict(subject, true).column(subject, column);
        rank(&seen.treatment) < rank(&Treatment::Block)
    }

    /// Whether a grant of everything shows every tag in clear, and none forbids.
    pub(super) fn all_clear(&self, dataset: &Dataset) -> bool {
        let tags = dataset.tags();
        let everything = |grant: &&Arc<Digested<Grant>>| {
            grant.actions.contains(&Action::Read)
                && grant.rows.is_empty()
                && grant.tables.iter().any(|pattern| pattern.is_everything())
        };
        let open: Vec<_> = self.grants.iter().filter(everything).collect();
        let forbids = |rule: Option<&TagTreatment>| {
            rule.is_some_and(|rule| rank(&rule.treatment) >= rank(&Treatment::Block))
        };
        let locked = self.locked.iter().map(|(grant, _)| grant);
        let mut heard = self.grants.iter().chain(locked);
        !open.is_empty()
            && dataset.unclassified == Unclassified::Clear
            && tags.iter().all(|tag| {
                open.iter()
                    .any(|grant| grant.of(tag).is_some_and(|rule| rule.treatment.is_clear()))
            })
            && !heard.any(|grant| tags.iter().any(|tag| forbids(grant.of(tag))))
    }

    pub(super) fn access(&self, subject: &Subject<'_>) -> RelationAccess {
        let relation = subject.relation;
        let own_rows = match relation.kind {
            RelationKind::MaterializedView => Some("materialized view"),
            RelationKind::ForeignTable => Some("foreign table"),
            _ => None,
        };
        if let Some(kind) = own_rows
            && !subject.classified
            && !self.all_clear(subject.dataset)
        {
            return denied(
                relation,
                &format!(
                    "{kind} {} stores rows of its own; classify it under `tables` of {}",
                    relation.label(),
                    subject.dataset.place
                ),
            );
        }
        let verdict = self.verdict(subject, false);
        // Nothing is more by what is left out than with it.
        let whole = (!self.locked.is_empty()).then(|| self.verdict(subject, true));
        let mut actions = verdict.actions();
        if let Some(whole) = &whole {
            let reached = whole.actions();
            actions.retain(|action| reached.contains(action));
        }
        if actions.is_empty() {
            return denied(relation, &self.why_not(subject, &verdict));
        }
        let Some(first) = verdict.first() else {
            let given: Vec<&str> = actions.iter().map(|action| action.as_str()).collect();
            let why = format!(
                "{} may {} {}, not read it",
                self.who,
                given.join(", "),
                relation.label()
            );
            return RelationAccess {
                actions,
                ..denied(relation, &why)
            };
        };
        let columns = (0..relation.columns.len())
            .map(|index| {
                let own = verdict.column(subject, index);
                match &whole {
                    Some(whole) => stricter_column(own, &whole.column(subject, index)),
                    None => own,
                }
            })
            .collect();
        RelationAccess {
            actions,
            columns: generated(subject, columns),
            filter: verdict.filter(),
            rule: first.rule().into(),
        }
    }

    /// Of the grants that apply, or as if the locked ones did too, after those.
    fn verdict<'a>(&'a self, subject: &Subject<'_>, whole: bool) -> Verdict<'a> {
        let naming = |grant: &&Arc<Digested<Grant>>| grant.names(&subject.names);
        let locked = self.locked.iter().map(|(grant, _)| grant).filter(naming);
        let mut verdict = Verdict {
            heard: locked.map(|grant| &grant.value).collect(),
            groups: BTreeMap::new(),
            others: BTreeMap::new(),
            unusable: None,
        };
        let locked = self.locked.iter().map(|(grant, _)| grant);
        let all = self.grants.iter().chain(locked.filter(|_| whole));
        for grant in all.filter(naming) {
            let grant = &grant.value;
            verdict.heard.push(grant);
            let (filter, rule) = match row_filter(grant, subject) {
                Ok(filter) => filter,
                Err(why) => {
                    verdict.unusable.get_or_insert(why);
                    continue;
                }
            };
            for action in &grant.actions {
                if *action == Action::Read {
                    let group = verdict.groups.entry(filter.clone()).or_default();
                    if group.grants.is_empty() {
                        group.rule.clone_from(&rule);
                    }
                    group.grants.push(grant);
                } else {
                    verdict
                        .others
                        .entry(*action)
                        .or_default()
                        .insert(filter.clone());
                }
            }
        }
        verdict
    }

    fn why_not(&self, subject: &Subject<'_>, verdict: &Verdict<'_>) -> String {
        let label = subject.relation.label();
        let names = |grant: &Grant| grant.names(&subject.names);
        if let Some(why) = &verdict.unusable {
            return why.clone();
        }
        if let Some((grant, lock)) = self.locked.iter().find(|(grant, _)| names(grant)) {
            let rule = grant.rule();
            return match lock {
                Lock::Factor => format!("{rule} grants {label} only with a second factor"),
                Lock::Recent => {
                    format!("{rule} grants {label} only with a second factor proved more recently")
                }
                Lock::Role => format!("{rule} grants {label}, but the token leaves it out"),
                Lock::Dataset => format!(
                    "{rule} grants every dataset, and this one is isolated: a grant must name it"
                ),
            };
        }
        if let Some((grant, why)) = self.dormant.iter().find(|(grant, _)| names(grant)) {
            return format!("the grant of {} on {label} is {why}", grant.rule());
        }
        if self.who.starts_with("role") {
            format!("no grant of {} names {label}", self.who)
        } else {
            self.who.to_string()
        }
    }
}

/// Generated columns that nobody has classified are treated as the strictest of those
/// that they are made of; for what a mask makes of a source, there is NULL.
fn generated(subject: &Subject<'_>, mut columns: Vec<ColumnAccess>) -> Vec<ColumnAccess> {
    let all = &subject.relation.columns;
    for (index, column) in all.iter().enumerate() {
        let untagged = subject.tags.get(index).is_none_or(Vec::is_empty);
        let sources = all.iter().zip(&columns);
        let worst = sources
            .filter(|(source, _)| untagged && column.made_of.contains(&source.attnum))
            .max_by_key(|(_, access)| rank(&access.treatment));
        let Some((source, access)) = worst else {
            continue;
        };
        let treatment = match &access.treatment {
            Treatment::Mask(_) if Mask::Null.expression("x", column).is_none() => Treatment::Block,
            Treatment::Mask(_) => Treatment::Mask(Arc::new(Mask::Null)),
            other => other.clone(),
        };
        let made = ColumnAccess {
            treatment,
            tag: access.tag.clone(),
            rule: format!("made of {}: {}", source.name, access.rule).into(),
        };
        if let Some(own) = columns.get_mut(index)
            && rank(&made.treatment) > rank(&own.treatment)
        {
            *own = made;
        }
    }
    columns
}

/// A grant's condition on the relation's rows, as canonical SQL, with its rule.
fn row_filter(grant: &Grant, subject: &Subject<'_>) -> Result<(Option<String>, String), String> {
    let mut parts = BTreeSet::new();
    let mut rule = grant.rule();
    for rows in &grant.rows {
        let reaches = subject
            .names_for_rows()
            .any(|name| rows.tables.matches(&name.schema, &name.name));
        if !reaches {
            continue;
        }
        let classes = |name: &str| subject.relation.column(name).map(|column| column.base);
        let names = rows.condition.columns();
        let is_computed = |name: &Arc<str>| {
            let column = subject.relation.column(name);
            column.is_some_and(|column| column.computed)
        };
        let fault = match rows.condition.kind(&classes) {
            _ if names.iter().any(is_computed) => {
                Some("a column in it is computed when it is read, which can raise".to_owned())
            }
            Ok(Kind::Bool) => None,
            Ok(_) => Some("it is no condition".to_owned()),
            Err(why) => Some(why),
        };
        if let Some(why) = fault {
            return Err(format!(
                "the row filter of role {} ({}) does not fit {}: {why}",
                grant.role,
                rows.place,
                subject.relation.label()
            ));
        }
        if parts.is_empty() {
            rule = format!("role {} ({})", grant.role, rows.place);
        }
        parts.insert(rows.condition.canonical());
    }
    let joined = parts
        .into_iter()
        .reduce(|one, two| format!("({one} AND {two})"));
    Ok((joined, rule))
}

impl Verdict<'_> {
    /// The grant by which the relation is read.
    fn first(&self) -> Option<&Grant> {
        let decisive = self
            .groups
            .get(&None)
            .or_else(|| self.groups.values().next());
        decisive.and_then(|group| group.grants.first().copied())
    }

    fn actions(&self) -> BTreeSet<Action> {
        let mut actions = BTreeSet::new();
        if !self.groups.is_empty() {
            actions.insert(Action::Read);
        }
        for (action, filters) in &self.others {
            let reach = filters.contains(&None)
                || (!self.groups.is_empty()
                    && self.groups.keys().all(|filter| filters.contains(filter)));
            if reach {
                actions.insert(*action);
            }
        }
        actions
    }

    fn filter(&self) -> Option<RowFilter> {
        if self.groups.contains_key(&None) {
            return None;
        }
        let filters: Vec<&str> = self.groups.keys().flatten().map(String::as_str).collect();
        let rules: Vec<&str> = self.groups.values().map(|group| &*group.rule).collect();
        let sql = match filters.as_slice() {
            [one] => (*one).to_owned(),
            many => format!("({})", many.join(" OR ")),
        };
        Some(RowFilter {
            sql: sql.into(),
            rule: rules.join(" or ").into(),
        })
    }

    fn column(&self, subject: &Subject<'_>, index: usize) -> ColumnAccess {
        let tags = subject.tags.get(index).map_or(&[][..], Vec::as_slice);
        if tags.is_empty() {
            return self.unclassified(subject);
        }
        let access = self.tagged(tags);
        let Some(column) = subject.relation.columns.get(index) else {
            return access;
        };
        match &access.treatment {
            // That computing it raises would tell of what is masked.
            Treatment::Mask(mask) if column.computed && **mask != Mask::Null => ColumnAccess {
                treatment: Treatment::Block,
                rule: format!(
                    "mask {} cannot serve a column that is computed when it is read: {}",
                    mask.name(),
                    access.rule
                )
                .into(),
                tag: access.tag,
            },
            Treatment::Mask(mask) if mask.expression("x", column).is_none() => ColumnAccess {
                treatment: Treatment::Block,
                rule: format!(
                    "mask {} cannot serve type {}: {}",
                    mask.name(),
                    column.type_sql,
                    access.rule
                )
                .into(),
                tag: access.tag,
            },
            _ => access,
        }
    }

    fn unclassified(&self, subject: &Subject<'_>) -> ColumnAccess {
        let access = |treatment, rule: String| ColumnAccess {
            treatment,
            tag: None,
            rule: rule.into(),
        };
        let dataset = subject.dataset;
        let by_dataset = |what: &str| format!("unclassified: {what} ({})", dataset.place);
        if dataset.unclassified == Unclassified::Hide && subject.relation.kind != RelationKind::View
        {
            return access(Treatment::Hide, by_dataset("hide"));
        }
        let gone = subject.gone.iter().find(|gone| {
            let tags = std::slice::from_ref(&gone.tag);
            !self.tagged(tags).treatment.is_clear()
        });
        if let Some(gone) = gone {
            return access(
                Treatment::Block,
                format!(
                    "{} is classified ({}) but not there: this may be it, renamed",
                    gone.column, gone.tag.place
                ),
            );
        }
        match dataset.unclassified {
            _ if subject.relation.kind == RelationKind::View => access(
                Treatment::Clear,
                "a view is governed by what it reads".into(),
            ),
            Unclassified::Clear => access(Treatment::Clear, by_dataset("clear")),
            Unclassified::Block => access(Treatment::Block, by_dataset("block")),
            Unclassified::Hide => access(Treatment::Hide, by_dataset("hide")),
        }
    }

    /// Steps 1 to 3 of the semantics, for a column that carries these tags.
    fn tagged(&self, tags: &[Tag]) -> ColumnAccess {
        let silent = || {
            let names: Vec<&str> = tags.iter().map(|tag| &*tag.name).collect();
            ColumnAccess {
                treatment: Treatment::Block,
                tag: tags.first().map(|tag| tag.name.clone()),
                rule: match self.heard.first() {
                    Some(grant) => format!(
                        "role {} does not speak of tag {} ({})",
                        grant.role,
                        names.join(", "),
                        grant.place
                    ),
                    None => format!("no role speaks of tag {}", names.join(", ")),
                }
                .into(),
            }
        };
        let mut forbidden: Option<ColumnAccess> = None;
        for grant in &self.heard {
            for said in tags.iter().filter_map(|tag| opinion(grant, tag)) {
                let floor = forbidden.as_ref().map_or(1, |one| rank(&one.treatment));
                if rank(&said.treatment) > floor {
                    forbidden = Some(said);
                }
            }
        }
        if let Some(forbidden) = forbidden {
            return forbidden;
        }
        if let Some(group) = self.groups.get(&None) {
            return group.tagged(tags).unwrap_or_else(silent);
        }
        self.groups
            .values()
            .map(|group| group.tagged(tags).unwrap_or_else(silent))
            .reduce(|one, two| stricter_column(one, &two))
            .unwrap_or_else(silent)
    }
}

impl Group<'_> {
    /// Grants with one row filter add up; `None`: all are silent.
    fn tagged(&self, tags: &[Tag]) -> Option<ColumnAccess> {
        let mut first_mask = None;
        for grant in &self.grants {
            let said: Option<Vec<ColumnAccess>> =
                tags.iter().map(|tag| opinion(grant, tag)).collect();
            let strictest = said
                .into_iter()
                .flatten()
                .reduce(|one, two| stricter_column(one, &two));
            match strictest {
                Some(access) if access.treatment.is_clear() => return Some(access),
                Some(access) => {
                    first_mask.get_or_insert(access);
                }
                None => {}
            }
        }
        first_mask
    }
}

/// What a grant says of a tag.
fn opinion(grant: &Grant, tag: &Tag) -> Option<ColumnAccess> {
    grant.of(&tag.name).map(|said| ColumnAccess {
        treatment: said.treatment.clone(),
        tag: Some(tag.name.clone()),
        rule: format!("role {}, tag {} ({})", grant.role, tag.name, said.place).into(),
    })
}
