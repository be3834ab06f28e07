//! Who decides: policy for rights, `sql` for statements, a cache in between.
//!
//! Knows nothing about sockets. A session asks through [`Authority`] alone, so
//! that the relay can be tested without policy files.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use crate::audit::record::{PolicyStamp, Statement};
use crate::audit::{Fields, Who};
use crate::catalog::{Catalog, Oid, Relation};
use crate::error::{SqlState, Tell, Told};
use crate::identity::certificate::CertificateError;
use crate::identity::token::TokenError;
use crate::identity::{Method, Principal};
use crate::policy::{Action, Limits, Policy, Rights};
use crate::sql::cache::{Cache, Key};
use crate::sql::fold::{self, Template};
use crate::sql::{self, Bounds, Context, Denial, Plan, Scope};

/// What a principal may do at a moment, and until when that holds.
#[derive(Clone, Debug)]
pub struct Standing {
    /// Who is asking, as policy now has them.
    pub principal: Principal,
    /// What they may do.
    pub rights: Arc<Rights>,
    /// Of everything in `rights` that decides.
    pub digest: [u8; 32],
    /// When to ask again, beside a new policy.
    pub valid_until: Option<jiff::Timestamp>,
    /// Bounds on a statement.
    pub limits: Limits,
    /// No grant names the dataset.
    pub nothing: bool,
    /// Nothing of the dataset is masked, blocked, hidden or filtered.
    pub all_clear: bool,
    /// Some grant needs more than a read-only transaction.
    pub writes: bool,
    /// The policy this rests on.
    pub policy: PolicyStamp,
}

/// A plan, and how the record shows it.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What goes upstream.
    pub plan: Arc<Plan>,
    /// What the record says of it.
    pub statement: Arc<Statement>,
}

impl From<Arc<Plan>> for Decided {
    fn from(plan: Arc<Plan>) -> Self {
        let statement = Arc::new(Statement {
            kind: plan.kind,
            normalized: plan.normalized.clone(),
            fingerprint: plan.fingerprint,
            relations: plan.touched.clone(),
            fields: Fields::default(),
        });
        Self { plan, statement }
    }
}

/// What a session asks before anything runs.
pub trait Authority: Send + Sync {
    /// The epoch of the policy in force: cheap, asked before every statement.
    fn epoch(&self) -> u64;

    /// The policy, to be waited for.
    fn policy(&self) -> watch::Receiver<Arc<Policy>>;

    /// Whether somebody may still be in a session, and when to ask again beside a new
    /// policy.
    ///
    /// # Errors
    /// FATAL where the identity is no longer one, or what it proved no longer holds.
    fn admits(
        &self,
        principal: &Principal,
        dataset: &str,
        now: jiff::Timestamp,
    ) -> Result<Option<jiff::Timestamp>, Told>;

    /// What a principal may do now.
    ///
    /// # Errors
    /// As [`Authority::admits`].
    fn standing(
        &self,
        principal: &Principal,
        dataset: &str,
        now: jiff::Timestamp,
    ) -> Result<Standing, Told>;

    /// Whether a client may set a setting in its startup packet.
    ///
    /// # Errors
    /// Why not.
    fn settable(&self, standing: &Standing, name: &str, value: &str) -> Result<(), Told>;

    /// Decides each statement of a text, whose parameters have the `types` that
    /// Parse gives them.
    ///
    /// # Errors
    /// The first refusal.
    fn decide(
        &self,
        text: &Arc<str>,
        types: &[Oid],
        sight: &Sight,
        scope: &Scope,
    ) -> Result<Arc<[Decided]>, Denial>;

    /// The longest SQL text that it decides on, in bytes.
    fn longest(&self) -> usize;

    /// Splits a text into statements.
    ///
    /// # Errors
    /// Where it is not SQL.
    fn statements(&self, text: &str) -> Result<Vec<Arc<str>>, Denial>;

    /// Attribute numbers of a relation that must not come out as they are
    /// stored, sorted.
    fn unseen(&self, standing: &Standing, relation: &Relation, catalog: &Catalog) -> Vec<i16>;
}

/// What a session's decisions rest on at a moment; one lasts until policy,
/// rights or catalog change.
#[derive(Debug)]
pub struct Sight {
    /// What the principal may do
    pub standing: Standing,
    /// What is in the database
    pub catalog: Arc<Catalog>,
    /// The dataset, and as whom it is gone to
    pub dataset: Arc<str>,
    /// For the record
    pub who: Arc<Who>,
    /// The policy epoch as of which `standing` was asked for.
    pub epoch: u64,
    unseen: Mutex<HashMap<Oid, Arc<[i16]>>>,
}

/// OIDs below this belong to Postgres itself (`FirstNormalObjectId`).
const FIRST_NORMAL_OID: Oid = 16_384;

/// The number of a result's column that is a relation's whole row, as one value
/// (`InvalidAttrNumber`).
const WHOLE_ROW: i16 = 0;

/// What a result's column turns out to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Glimpse {
    /// The caller may see it.
    Seen,
    /// The caller may not: the tripwire.
    Unseen,
    /// Its relation is not in this catalog.
    Unknown,
}

impl Sight {
    /// A new one.
    pub fn new(
        standing: Standing,
        catalog: Arc<Catalog>,
        dataset: Arc<str>,
        who: Arc<Who>,
        epoch: u64,
    ) -> Self {
        Self {
            standing,
            catalog,
            dataset,
            who,
            epoch,
            unseen: Mutex::default(),
        }
    }

    /// Whether a column may come out as it is stored.
    pub(crate) fn glimpse(&self, authority: &dyn Authority, table: Oid, column: i16) -> Glimpse {
        if table < FIRST_NORMAL_OID || self.standing.all_clear {
            return Glimpse::Seen;
        }
        let Some(relation) = self.catalog.relations.get(&table) else {
            return Glimpse::Unknown;
        };
        let mut unseen = self.unseen.lock().unwrap_or_else(PoisonError::into_inner);
        let columns = unseen.entry(table).or_insert_with(|| {
            authority
                .unseen(&self.standing, relation, &self.catalog)
                .into()
        });
        if column == WHOLE_ROW {
            return match columns.is_empty() {
                true => Glimpse::Seen,
                false => Glimpse::Unseen,
            };
        }
        // A column added since the catalog was read is nobody's to see yet;
        // system columns (ctid) have negative numbers.
        let known = column < 0 || relation.columns.iter().any(|own| own.attnum == column);
        match columns.binary_search(&column) {
            Ok(_) => Glimpse::Unseen,
            Err(_) if known => Glimpse::Seen,
            Err(_) => Glimpse::Unknown,
        }
    }

    /// What a decision made now, with names looked up there, rests on.
    pub(crate) fn basis(&self, scope: &Scope) -> Basis {
        Basis {
            rights: self.standing.digest,
            catalog: self.catalog.epoch,
            scope: scope.clone(),
        }
    }
}

/// What a decision rests on: equal bases, equal decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Basis {
    rights: [u8; 32],
    catalog: u64,
    scope: Scope,
}

/// The real one: policy files, `sql`, and a cache.
pub struct Governed {
    policy: watch::Receiver<Arc<Policy>>,
    plans: Cache<Arc<[Decided]>>,
    /// By the shape of texts in place of a text
    shapes: Cache<Shape>,
    bounds: Bounds,
}

/// What is known of texts that differ only in literals.
#[derive(Clone)]
enum Shape {
    /// One has been planned.
    Once,
    /// Each is planned by itself.
    Single,
    /// All have one plan, but for the literals.
    Shared(Arc<(Template, Arc<Statement>)>),
}

impl Governed {
    /// Decides by the policy that is watched, within bounds, and keeps plans in so
    /// many bytes.
    pub fn new(policy: watch::Receiver<Arc<Policy>>, cache_bytes: u64, bounds: Bounds) -> Self {
        Self {
            policy,
            bounds,
            plans: Cache::new(cache_bytes / 4 * 3),
            shapes: Cache::new(cache_bytes / 4),
        }
    }
}

impl Governed {
    /// Remembers what a text's plan says of others of its shape: at their second, for
    /// most come but once, and a template costs as much as a plan.
    fn learn(
        &self,
        key: Key,
        known: Option<Shape>,
        text: &str,
        decided: &Decided,
        context: Context<'_>,
    ) {
        let (shape, bytes) = match known {
            None => (Shape::Once, 0),
            Some(Shape::Once) => match Template::of(text, &decided.plan, context) {
                Some(template) => {
                    let bytes = template.weight() + weight(std::slice::from_ref(decided));
                    let shared = Arc::new((template, decided.statement.clone()));
                    (Shape::Shared(shared), bytes)
                }
                None => (Shape::Single, 0),
            },
            Some(Shape::Single | Shape::Shared(_)) => return,
        };
        self.shapes.insert(key, shape, bytes);
    }
}

impl Authority for Governed {
    fn epoch(&self) -> u64 {
        self.policy.borrow().epoch
    }

    fn policy(&self) -> watch::Receiver<Arc<Policy>> {
        self.policy.clone()
    }

    fn admits(
        &self,
        principal: &Principal,
        dataset: &str,
        now: jiff::Timestamp,
    ) -> Result<Option<jiff::Timestamp>, Told> {
        let policy = self.policy.borrow().clone();
        let current = current(&policy, principal, now)?;
        policy.answers(&current, Some(dataset))?;
        Ok(current.until())
    }

    fn standing(
        &self,
        principal: &Principal,
        dataset: &str,
        now: jiff::Timestamp,
    ) -> Result<Standing, Told> {
        let policy = self.policy.borrow().clone();
        let current = current(&policy, principal, now)?;
        policy.answers(&current, Some(dataset))?;
        let rights = policy.rights(&current, dataset, now);
        let until = current.until();
        let allows = |action| rights.allows(action).is_some();
        Ok(Standing {
            digest: rights.digest(),
            valid_until: rights.valid_until().into_iter().chain(until).min(),
            limits: rights.limits(),
            nothing: rights.is_empty(),
            all_clear: rights.all_clear(),
            writes: allows(Action::Write) || allows(Action::Temp) || allows(Action::Ddl),
            policy: PolicyStamp {
                epoch: policy.epoch,
                digest: policy.digest.as_str().into(),
            },
            principal: current,
            rights: Arc::new(rights),
        })
    }

    fn settable(&self, standing: &Standing, name: &str, value: &str) -> Result<(), Told> {
        sql::settings::settable(name, Some(value), &standing.rights).map_err(|denial| denial.tell())
    }

    fn decide(
        &self,
        text: &Arc<str>,
        types: &[Oid],
        sight: &Sight,
        scope: &Scope,
    ) -> Result<Arc<[Decided]>, Denial> {
        let key = Key {
            text: text.clone(),
            rights: sight.standing.digest,
            dataset: sight.dataset.clone(),
            catalog: sight.catalog.epoch,
            scope: scope.clone(),
            parameters: types.into(),
        };
        if let Some(decided) = self.plans.get(&key) {
            return Ok(decided);
        }
        let folded = fold::fold(text).map(|folded| {
            let key = Key {
                text: folded.shape.as_str().into(),
                ..key.clone()
            };
            let known = self.shapes.get(&key);
            (folded, key, known)
        });
        if let Some((folded, _, Some(Shape::Shared(shared)))) = &folded {
            let (template, statement) = &**shared;
            return Ok([Decided {
                plan: Arc::new(template.fill(folded)),
                statement: statement.clone(),
            }]
            .into());
        }
        let context = Context {
            bounds: self.bounds,
            rights: &sight.standing.rights,
            catalog: &sight.catalog,
            scope,
            parameters: types,
        };
        let decided: Arc<[Decided]> = sql::plan(text, context)?
            .into_iter()
            .map(Decided::from)
            .collect();
        self.plans.insert(key, decided.clone(), weight(&decided));
        if let (Some((_, key, known)), [only]) = (folded, &*decided) {
            self.learn(key, known, text, only, context);
        }
        Ok(decided)
    }

    fn longest(&self) -> usize {
        self.bounds.size
    }

    fn statements(&self, text: &str) -> Result<Vec<Arc<str>>, Denial> {
        sql::statements(text, self.bounds)
    }

    fn unseen(&self, standing: &Standing, relation: &Relation, catalog: &Catalog) -> Vec<i16> {
        if relation.is_system() {
            return Vec::new();
        }
        let access = standing.rights.access(relation, catalog);
        let unreadable = !access.actions.contains(&Action::Read);
        let mut columns: Vec<i16> = relation
            .columns
            .iter()
            .zip(&access.columns)
            .filter(|(_, access)| unreadable || !access.treatment.is_clear())
            .map(|(column, _)| column.attnum)
            .collect();
        columns.sort_unstable();
        columns
    }
}

/// About how many bytes a decision takes; uses are held by the
/// plan, by its record, and as the record's text.
fn weight(decided: &[Decided]) -> usize {
    decided
        .iter()
        .map(|decided| {
            let plan = &decided.plan;
            let columns: usize = plan.touched.iter().map(|used| used.columns.len()).sum();
            512 + plan.text().len()
                + 2 * plan.normalized.len()
                + 8 * plan.origins.as_ref().map_or(0, |origins| origins.len())
                + 3 * (plan.touched.len() * 64 + columns * 128)
        })
        .sum()
}

/// Who is asking, as policy now has them: a token and a certificate are looked at as they
/// were when the session began.
fn current(
    policy: &Policy,
    principal: &Principal,
    now: jiff::Timestamp,
) -> Result<Principal, Told> {
    let shown = principal.certificate.as_ref();
    let shown = shown.map(|shown| policy.verify_again(shown, now));
    let ended = |error: CertificateError| no_certificate(&principal.name, &error);
    let shown = shown.transpose().map_err(ended)?;
    let found = match (&principal.token, &shown) {
        (Some(token), _) => policy
            .still(principal, token, now)
            .map_err(|error| over(&principal.name, &error))?,
        (None, Some(shown)) if principal.method == Method::Certificate => {
            policy.certified(&principal.name, shown).map_err(ended)?
        }
        (None, _) => again(policy, principal)?,
    };
    // A session says of each statement what kind of caller it began with.
    if found.kind != principal.kind {
        return Err(gone(&principal.name));
    }
    policy.bound(found, shown.as_ref()).map_err(ended)
}

/// Somebody who proved who they are by a password.
fn again(policy: &Policy, principal: &Principal) -> Result<Principal, Told> {
    let again = |known: &Principal| {
        let found = policy.principal(&known.name, known.method);
        let found = found.filter(|found| found.kind == known.kind);
        // Nor does whoever came by a password stay that is theirs no longer.
        let found = found.filter(|found| found.verifier == known.verifier);
        let found = found.ok_or_else(|| gone(&known.name))?;
        Ok::<_, Told>(Principal {
            mfa: known.mfa,
            ..found
        })
    };
    let on_behalf_of = principal.on_behalf_of.as_deref().map(again).transpose()?;
    Ok(Principal {
        on_behalf_of: on_behalf_of.map(Box::new),
        ..again(principal)?
    })
}

/// Whose certificate was taken may hear what has become of it.
fn no_certificate(name: &str, error: &CertificateError) -> Told {
    let what = match error {
        CertificateError::Expired => "the client certificate of this session has expired",
        CertificateError::Revoked => "the client certificate of this session has been revoked",
        CertificateError::None | CertificateError::Issuer => {
            "the authority of this session's client certificate is trusted no longer"
        }
        CertificateError::Outdated | CertificateError::Unlisted => {
            "nothing in date says any longer that this session's client certificate is not revoked"
        }
        CertificateError::Missing => "a client certificate is needed now beside what was proved",
        _ => return gone(name),
    };
    Told::fatal(SqlState::INVALID_AUTHORIZATION, what).hint("connect with another certificate")
}

/// Whose token has been taken may hear what has become of it.
fn over(name: &str, error: &TokenError) -> Told {
    let what = match error {
        TokenError::Expired(at) => format!("the token of this session expired at {at}"),
        TokenError::Revoked => "the token of this session has been revoked".into(),
        TokenError::Key => "the key of this session's token is used no longer".into(),
        TokenError::Credential => {
            "the password or second factor that this session's token was got by is no longer its \
             human's"
                .into()
        }
        _ => return gone(name),
    };
    Told::fatal(SqlState::INVALID_AUTHORIZATION, what).hint("connect with another token")
}

fn gone(name: &str) -> Told {
    Told::fatal(
        SqlState::INVALID_AUTHORIZATION,
        format!("policy no longer names the identity `{name}` as it did"),
    )
    .hint("ask whoever keeps identities.yaml")
}
