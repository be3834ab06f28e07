//! Files as parsed → a [`Policy`] whose every reference leads somewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Policy, PolicyError, distance, nearest};
use crate::identity::Kind;
use crate::identity::certificate;
use crate::identity::stand_in::StandIns;
use crate::identity::totp::Sealed;
use crate::identity::verifier::Verifier;
use crate::policy::expression::Expression;
use crate::policy::file::{self, At, Entries, File, TagRule};
use crate::policy::model::{
    Certified, Dataset, Digested, Factor, Grant, Identity, Rows, Table, Tag, TagTreatment,
};
use crate::policy::pattern::{Name, Pattern};
use crate::policy::window::Window;
use crate::policy::{Limits, Treatment};

/// A mistake and its line; the file is known further out.
pub(super) struct Fault {
    line: u64,
    what: String,
    hint: Option<String>,
}

impl Fault {
    pub(super) fn new(line: u64, what: &str, hint: Option<String>) -> Self {
        Self {
            line,
            what: what.to_owned(),
            hint,
        }
    }

    fn within(self, file: &str) -> PolicyError {
        PolicyError::Fault {
            file: file.into(),
            line: self.line,
            what: self.what,
            hint: self.hint,
        }
    }
}

/// What an unknown name was likely meant to be.
fn did_you_mean<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<String> {
    nearest(word, words).map(|near| format!("did you mean `{near}`?"))
}

type Files<'a> = [(&'a str, File)];

/// What stands in a file of the set, for one kind of top-level key.
type Entry<'a, V> = (&'a str, &'a At<String>, &'a V);

pub(super) fn policy(files: &Files<'_>) -> Result<Policy, PolicyError> {
    let mut warnings = Vec::new();
    let mut datasets = BTreeMap::new();
    for (file, name, dataset) in once(files, "dataset", |file| &file.datasets)? {
        let place = place(file, name.line);
        let checked = self::dataset(file, place, dataset).map_err(|fault| fault.within(file))?;
        datasets.insert(Arc::from(name.value.as_str()), Digested::new(checked));
    }
    let mut answerable = BTreeMap::new();
    let mut roles = BTreeMap::new();
    let mut clientcerts = BTreeMap::new();
    for (file, name, role) in once(files, "role", |file| &file.roles)? {
        if let Some(clientcert) = &role.clientcert {
            let personal =
                self::clientcert(clientcert, true).map_err(|fault| fault.within(file))?;
            clientcerts.insert(Arc::from(name.value.as_str()), personal);
        }
        let mut grants = Vec::new();
        for grant in &role.grants {
            let checked = self::grant(file, &name.value, grant, &datasets, &mut warnings)
                .map_err(|fault| fault.within(file))?;
            grants.extend(checked.into_iter().map(Digested::new));
        }
        let own: Arc<str> = name.value.as_str().into();
        if let Some(agents) = role.agents {
            answerable.insert(own.clone(), (agents.require, place(file, name.line)));
        }
        roles.insert(own, grants);
    }
    let entries = once(files, "identity", |file| &file.identities)?;
    let kinds: BTreeMap<&str, Kind> = entries
        .iter()
        .map(|(_, name, identity)| (name.value.as_str(), identity.kind))
        .collect();
    let mut identities = BTreeMap::new();
    let mut certificates = BTreeMap::new();
    for (file, name, identity) in entries {
        let checked = self::identity(file, name, identity, &roles, &kinds, &mut warnings)
            .map_err(|fault| fault.within(file))?;
        if let (Some(own), Some(at)) = (&checked.certificate, &identity.certificate) {
            let whose: Arc<str> = name.value.as_str().into();
            if let Some(other) = certificates.insert(own.clone(), whose) {
                let what = format!("`{own}` is the certificate of `{other}` already");
                return Err(Fault::new(at.line, &what, None).within(file));
            }
        }
        identities.insert(Arc::from(name.value.as_str()), checked);
    }
    let mut groups = Vec::new();
    for (file, name, given) in once(files, "group", |file| &file.groups)? {
        let given = self::given(given, &roles).map_err(|fault| fault.within(file))?;
        groups.push((Arc::from(name.value.as_str()), given));
    }
    let mut certified: Vec<(Certified, &str)> = Vec::new();
    for (file, name, rule) in once(files, "certificate", |file| &file.certificates)? {
        let own =
            self::certified(name, rule, &roles, &kinds).map_err(|fault| fault.within(file))?;
        let other = certified
            .iter()
            .find(|(other, _)| other.names.meets(&own.names));
        if let Some((_, other)) = other {
            let what = format!("a name may be of `{}` and of `{other}`", name.value);
            let hint = "let each name be of one alone".to_owned();
            return Err(Fault::new(name.line, &what, Some(hint)).within(file));
        }
        certified.push((own, &name.value));
    }
    let enabled = || identities.iter().filter(|(_, identity)| !identity.disabled);
    let verifiers =
        enabled().filter_map(|(_, identity): (_, &Identity)| identity.verifier.as_ref());
    let by_token = enabled().filter(|(_, identity)| identity.tokens);
    let stand_ins = StandIns::after(verifiers, by_token.map(|(name, _)| &**name));
    let known = Environments::of(&roles);
    warnings.extend(known.misspelt(known.names.iter().copied()));
    Ok(Policy {
        warnings,
        stand_ins,
        datasets,
        roles,
        answerable,
        identities,
        groups,
        certificates,
        certified: certified.into_iter().map(|(rule, _)| rule).collect(),
        clientcerts,
        ..Policy::default()
    })
}

fn place(file: &str, line: u64) -> Arc<str> {
    format!("{file}:{line}").into()
}

/// The entries of all files, no name twice.
fn once<'a, V>(
    files: &'a Files<'a>,
    kind: &str,
    entries: impl Fn(&'a File) -> &'a Entries<V>,
) -> Result<Vec<Entry<'a, V>>, PolicyError> {
    let mut seen: BTreeMap<&str, Arc<str>> = BTreeMap::new();
    let mut all = Vec::new();
    for (file, parsed) in files {
        for (name, value) in &entries(parsed).0 {
            let fault = |what: &str| Fault::new(name.line, what, None).within(file);
            // Names go into messages, tags and records.
            if name.value.is_empty()
                || name.value.len() > 63
                || name.value.chars().any(char::is_control)
            {
                return Err(fault(&format!(
                    "a {kind}'s name has 1 to 63 bytes and no control characters"
                )));
            }
            if let Some(first) = seen.insert(&name.value, place(file, name.line)) {
                return Err(fault(&format!(
                    "{kind} `{}` stands in {first} already",
                    name.value
                )));
            }
            all.push((*file, name, value));
        }
    }
    Ok(all)
}

fn dataset(file: &str, at: Arc<str>, dataset: &file::Dataset) -> Result<Dataset, Fault> {
    let mut tables = BTreeMap::new();
    for (name, columns) in &dataset.tables.0 {
        let fault = |what: String| Fault::new(name.line, &what, None);
        let table = Name::parse(&name.value).map_err(fault)?;
        if table.schema.contains('*') || table.name.contains('*') {
            return Err(fault(format!(
                "`{}`: a classification names one table",
                name.value
            )));
        }
        let mut tags = BTreeMap::new();
        for (column, tag) in &columns.0 {
            if tag.value == "*" || tag.value.is_empty() {
                return Err(Fault::new(tag.line, "this is no tag", None));
            }
            tags.insert(
                Arc::from(column.value.as_str()),
                Tag {
                    name: tag.value.as_str().into(),
                    place: place(file, tag.line),
                },
            );
        }
        let classified = Table { columns: tags };
        // Two spellings of one name: with quotes and without.
        if tables.insert(table, classified).is_some() {
            return Err(fault(format!("`{}` stands here twice", name.value)));
        }
    }
    let functions = dataset
        .functions
        .iter()
        .map(pattern)
        .collect::<Result<_, _>>()?;
    Ok(Dataset {
        unclassified: dataset.unclassified,
        isolated: dataset.isolated,
        agents: dataset.agents.map(|agents| agents.require),
        tables,
        functions,
        place: at,
    })
}

fn grant(
    file: &str,
    role: &str,
    grant: &At<file::Grant>,
    datasets: &BTreeMap<Arc<str>, Arc<Digested<Dataset>>>,
    warnings: &mut Vec<String>,
) -> Result<Vec<Grant>, Fault> {
    let At { value: grant, line } = grant;
    let of = &grant.dataset;
    let (names, place_of): (Vec<&Arc<str>>, _) =
        match (&*of.value, datasets.get_key_value(&*of.value)) {
            ("*", _) => {
                // What it forbids it forbids in an isolated one too.
                (datasets.keys().collect(), "any dataset")
            }
            (_, Some((name, _))) => (vec![name], &**name),
            (_, None) => {
                return Err(Fault::new(
                    of.line,
                    &format!("no classification names dataset `{}`", of.value),
                    did_you_mean(&of.value, datasets.keys().map(|name| &**name)),
                ));
            }
        };
    if grant.tables.is_empty() || grant.actions.is_empty() {
        return Err(Fault::new(*line, "a grant names tables and actions", None));
    }
    let tables: Vec<Pattern> = grant.tables.iter().map(pattern).collect::<Result<_, _>>()?;
    let of_names = names.iter().filter_map(|name| datasets.get(*name));
    let known: BTreeSet<_> = of_names.flat_map(|dataset| dataset.tags()).collect();
    let mut tags = BTreeMap::new();
    let mut other_tags = None;
    for (tag, rule) in &grant.tags.0 {
        let treatment = TagTreatment {
            treatment: treatment(rule)?,
            place: place(file, rule.line),
        };
        if tag.value == "*" {
            other_tags = Some(treatment);
            continue;
        }
        if !known.contains(&Arc::from(tag.value.as_str())) {
            let meant = did_you_mean(&tag.value, known.iter().map(|name| &***name));
            warnings.push(format!(
                "{file}:{}: no column of {place_of} carries the tag `{}`{}",
                tag.line,
                tag.value,
                meant.map(|hint| format!("; {hint}")).unwrap_or_default()
            ));
        }
        tags.insert(Arc::from(tag.value.as_str()), treatment);
    }
    let rows = grant
        .rows
        .0
        .iter()
        .map(|(table, text)| rows(file, table, text))
        .collect::<Result<Vec<_>, _>>()?;
    let time = |at: &Option<At<String>>| match at {
        None => Ok(None),
        Some(at) => at.value.parse::<jiff::Timestamp>().map(Some).map_err(|_| {
            let what = format!("`{}` is no time", at.value);
            Fault::new(at.line, &what, Some("write 2027-01-31T00:00:00Z".into()))
        }),
    };
    let (from, until) = (time(&grant.from)?, time(&grant.until)?);
    if from.zip(until).is_some_and(|(from, until)| from >= until) {
        return Err(Fault::new(
            *line,
            "a grant that ends before it begins",
            None,
        ));
    }
    let limits = limits(grant.limits.as_ref())?;
    let factor = factor(*line, &grant.require)?;
    let hours = hours(*line, grant.hours.as_deref())?;
    let environments = environments(*line, grant.environments.as_deref())?;
    let checked = |dataset: &Arc<str>| Grant {
        role: role.into(),
        place: place(file, *line),
        dataset: dataset.clone(),
        tables: tables.clone(),
        actions: grant.actions.iter().copied().collect(),
        tags: tags.clone(),
        other_tags: other_tags.clone(),
        rows: rows.clone(),
        limits,
        from,
        until,
        hours: hours.clone(),
        environments: environments.clone(),
        factor,
        apart: of.value == "*" && datasets.get(dataset).is_some_and(|one| one.isolated),
    };
    Ok(names.into_iter().map(checked).collect())
}

/// Neither list may be empty: it would be taken for none at all, or for nothing.
fn hours(line: u64, hours: Option<&[At<file::Hours>]>) -> Result<Vec<Window>, Fault> {
    let Some(hours) = hours else {
        return Ok(Vec::new());
    };
    if hours.is_empty() {
        return Err(Fault::new(line, "`hours` names none", None));
    }
    let window = |At { value, line }: &At<file::Hours>| {
        Window::new(&value.days, &value.from, &value.until, &value.zone)
            .map_err(|what| Fault::new(*line, &what, None))
    };
    hours.iter().map(window).collect()
}

fn environments(
    line: u64,
    environments: Option<&[At<String>]>,
) -> Result<Option<BTreeSet<Arc<str>>>, Fault> {
    match environments {
        None => Ok(None),
        Some([]) => Err(Fault::new(line, "`environments` names none", None)),
        Some(some) => Ok(Some(
            some.iter()
                .map(|one| Arc::from(one.value.as_str()))
                .collect(),
        )),
    }
}

/// The environments that grants name, and where the first grant does.
pub(super) struct Environments<'a> {
    names: BTreeSet<&'a str>,
    places: BTreeMap<&'a str, &'a str>,
}

impl<'a> Environments<'a> {
    pub(super) fn of(roles: &'a BTreeMap<Arc<str>, Vec<Arc<Digested<Grant>>>>) -> Self {
        let mut places = BTreeMap::new();
        for grant in roles.values().flatten() {
            for name in grant.environments.iter().flatten() {
                let place = places.entry(&**name).or_insert(&*grant.place);
                *place = (*place).min(&*grant.place);
            }
        }
        Self {
            names: places.keys().copied().collect(),
            places,
        }
    }

    /// What of it is likely a mistake, since it is nearly one of those. Nobody but the
    /// configuration knows which there are, and one policy may serve several.
    pub(super) fn misspelt<'b>(&self, known: impl Iterator<Item = &'b str> + Clone) -> Vec<String> {
        let mut warnings = Vec::new();
        for (name, place) in &self.places {
            let mut others = known.clone();
            if let Some(near) = others.find(|other| is_nearly(name, other)) {
                warnings.push(format!(
                    "{place}: the environment `{name}` is nearly `{near}`: a grant is in force \
                     only where the configuration says it as it is written here"
                ));
            }
        }
        warnings
    }
}

/// One slip apart, but for `eu1` and `eu2`.
fn is_nearly(one: &str, two: &str) -> bool {
    let words = |text: &str| text.replace(|c: char| c.is_ascii_digit(), "");
    one.len() > 3 && distance(one, two) == 1 && words(one) != words(two)
}

fn pattern(text: &At<String>) -> Result<Pattern, Fault> {
    Pattern::parse(&text.value).map_err(|what| Fault::new(text.line, &what, None))
}

fn rows(file: &str, table: &At<String>, text: &At<String>) -> Result<Rows, Fault> {
    let condition = Expression::condition(&text.value).map_err(|error| {
        let what = format!("row filter of {}: {error}", table.value);
        Fault::new(text.line, &what, None)
    })?;
    Ok(Rows {
        tables: pattern(table)?,
        condition: Arc::new(condition),
        place: place(file, table.line),
    })
}

fn treatment(rule: &At<TagRule>) -> Result<Treatment, Fault> {
    Ok(match &rule.value {
        TagRule::Clear => Treatment::Clear,
        TagRule::Block => Treatment::Block,
        TagRule::Hide => Treatment::Hide,
        TagRule::Mask(fields) => Treatment::Mask(Arc::new(super::mask::mask(fields, rule.line)?)),
    })
}

fn limits(limits: Option<&file::GrantLimits>) -> Result<Limits, Fault> {
    let Some(limits) = limits else {
        return Ok(Limits::default());
    };
    let timeout = limits.statement_timeout.as_ref();
    let timeout = timeout.map(|at| {
        milliseconds(&at.value).ok_or_else(|| {
            let what = format!("`{}` is no duration", at.value);
            Fault::new(at.line, &what, Some("write 500ms, 60s, 5min or 1h".into()))
        })
    });
    Ok(Limits {
        rows_per_query: limits.rows_per_query,
        statement_timeout_ms: timeout.transpose()?,
    })
}

fn factor(line: u64, require: &file::Requirements) -> Result<Option<Factor>, Fault> {
    let max_age = require.max_age.as_ref().map(|at| {
        let age = milliseconds(&at.value).and_then(|age| i64::try_from(age).ok());
        age.map(jiff::SignedDuration::from_millis).ok_or_else(|| {
            let what = format!("`{}` is no age", at.value);
            Fault::new(at.line, &what, Some("write 15min or 8h".into()))
        })
    });
    match (require.mfa, max_age.transpose()?) {
        (true, max_age) => Ok(Some(Factor { max_age })),
        (false, None) => Ok(None),
        (false, Some(_)) => Err(Fault::new(
            line,
            "`max_age` is that of a second factor, and none is required",
            Some("write require: { mfa: true, max_age: 8h }".into()),
        )),
    }
}

/// Above zero (which Postgres takes for no limit at all), and below its own
/// largest.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = match text.get(digits.len()..)? {
        "ms" => 1,
        "s" => 1000,
        "min" => 60_000,
        "h" => 3_600_000,
        _ => return None,
    };
    let count = digits.parse::<u64>().ok()?.checked_mul(unit)?;
    (1..=2_147_483_647).contains(&count).then_some(count)
}

/// Roles that exist, each once.
fn given(
    names: &[At<String>],
    roles: &BTreeMap<Arc<str>, Vec<Arc<Digested<Grant>>>>,
) -> Result<Vec<Arc<str>>, Fault> {
    let mut given = Vec::new();
    let mut seen = BTreeSet::new();
    for role in names {
        let Some((known, _)) = roles.get_key_value(&*role.value) else {
            return Err(Fault::new(
                role.line,
                &format!("no role `{}`", role.value),
                did_you_mean(&role.value, roles.keys().map(|name| &**name)),
            ));
        };
        if seen.insert(known.clone()) {
            given.push(known.clone());
        }
    }
    Ok(given)
}

fn identity(
    file: &str,
    name: &At<String>,
    identity: &file::Identity,
    roles: &BTreeMap<Arc<str>, Vec<Arc<Digested<Grant>>>>,
    kinds: &BTreeMap<&str, Kind>,
    warnings: &mut Vec<String>,
) -> Result<Identity, Fault> {
    let given = given(&identity.roles, roles)?;
    if certificate::Name::is_form_of(&name.value) {
        let what = format!(
            "`{}` is a name of certificates: those connect by it whom `certificates` names",
            name.value
        );
        return Err(Fault::new(name.line, &what, None));
    }
    let owner = owner(identity.owner.as_ref(), kinds)?;
    let verifier = identity.scram.as_ref().map(|scram| {
        // Never the verifier itself: it is as good as a hash of the password.
        scram.value.parse::<Verifier>().map_err(|error| {
            let what = format!("`scram` is no SCRAM-SHA-256 verifier: {error}");
            let hint = "`pgveil identity verifier` prints one";
            Fault::new(scram.line, &what, Some(hint.into()))
        })
    });
    if let (Some(scram), true) = (&identity.scram, identity.tokens) {
        let what = "an identity connects by a password or by tokens, not by both";
        return Err(Fault::new(scram.line, what, None));
    }
    if let (Some(certificate), true) = (
        &identity.certificate,
        identity.scram.is_some() || identity.tokens,
    ) {
        let what = "an identity connects by a certificate alone, or not by one";
        let hint = "`clientcert` is what must be shown beside a password or a token";
        return Err(Fault::new(certificate.line, what, Some(hint.into())));
    }
    if let (Some(clientcert), None, false) =
        (&identity.clientcert, &identity.scram, identity.tokens)
    {
        let what = "`clientcert` is for what is shown beside a password or a token: there is none";
        return Err(Fault::new(clientcert.line, what, None));
    }
    let totp = totp(identity)?;
    let may_act = may_act(name, identity, kinds)?;
    let credential = identity.scram.is_some() || identity.certificate.is_some() || identity.tokens;
    if !credential && !identity.disabled {
        warnings.push(format!(
            "{file}:{}: {}",
            name.line,
            no_credential(&name.value)
        ));
    }
    let named = |at: &At<String>| {
        certificate::Name::parse(&at.value).map_err(|what| Fault::new(at.line, &what, None))
    };
    let beside = |at: &At<String>| self::clientcert(at, false);
    Ok(Identity {
        kind: identity.kind,
        roles: given,
        owner,
        verifier: verifier.transpose()?,
        tokens: identity.tokens,
        totp,
        may_act,
        certificate: identity.certificate.as_ref().map(named).transpose()?,
        clientcert: identity.clientcert.as_ref().map(beside).transpose()?,
        disabled: identity.disabled,
    })
}

/// A human who is listed.
fn owner(
    owner: Option<&At<String>>,
    kinds: &BTreeMap<&str, Kind>,
) -> Result<Option<Arc<str>>, Fault> {
    let Some(owner) = owner else { return Ok(None) };
    match kinds.get(&*owner.value) {
        Some(Kind::Human) => Ok(Some(owner.value.as_str().into())),
        Some(Kind::Agent | Kind::Service) => {
            let what = format!("`{}` is no human: an owner answers for it", owner.value);
            Err(Fault::new(owner.line, &what, None))
        }
        None => Err(Fault::new(
            owner.line,
            &format!("no identity `{}`", owner.value),
            did_you_mean(&owner.value, kinds.keys().copied()),
        )),
    }
}

fn certified(
    name: &At<String>,
    rule: &file::Certified,
    roles: &BTreeMap<Arc<str>, Vec<Arc<Digested<Grant>>>>,
    kinds: &BTreeMap<&str, Kind>,
) -> Result<Certified, Fault> {
    let names = certificate::Pattern::parse(&name.value)
        .map_err(|what| Fault::new(name.line, &what, None))?;
    Ok(Certified {
        names,
        kind: rule.kind,
        roles: given(&rule.roles, roles)?,
        owner: owner(rule.owner.as_ref(), kinds)?,
    })
}

/// `personal`: it is for several, each of whom must have another.
fn clientcert(at: &At<String>, personal: bool) -> Result<certificate::Template, Fault> {
    let template =
        certificate::Template::parse(&at.value).map_err(|what| Fault::new(at.line, &what, None))?;
    if personal && !template.is_personal() {
        let what = format!("`{}` would be one certificate for all", at.value);
        let hint = "`{name}` in it stands for who connects";
        return Err(Fault::new(at.line, &what, Some(hint.into())));
    }
    Ok(template)
}

/// The second factor of a human who has a first.
fn totp(identity: &file::Identity) -> Result<Option<Sealed>, Fault> {
    let Some(totp) = &identity.totp else {
        return Ok(None);
    };
    let fault = |what: &str| Err(Fault::new(totp.line, what, None));
    if identity.kind != Kind::Human {
        return fault("`totp` is a second factor of humans: nobody else reads a code off");
    }
    if identity.scram.is_none() {
        return fault("`totp` is a second factor, beside the password that `scram` verifies");
    }
    totp.value.parse().map(Some).map_err(|error| {
        let hint = "`pgveil identity enroll-totp` prints one";
        let what = format!("`totp` is no sealed secret: {error}");
        Fault::new(totp.line, &what, Some(hint.into()))
    })
}

/// Agents that exist, who may act on behalf of a human.
fn may_act(
    name: &At<String>,
    identity: &file::Identity,
    kinds: &BTreeMap<&str, Kind>,
) -> Result<Option<BTreeSet<Arc<str>>>, Fault> {
    let Some(agents) = &identity.may_act else {
        return Ok(None);
    };
    if identity.kind != Kind::Human {
        let what = format!("`{}` is no human: nobody acts on its behalf", name.value);
        return Err(Fault::new(name.line, &what, None));
    }
    let known = |agent: &At<String>| match kinds.get(&*agent.value) {
        Some(_) => Ok(Arc::from(agent.value.as_str())),
        None => Err(Fault::new(
            agent.line,
            &format!("no identity `{}`", agent.value),
            did_you_mean(&agent.value, kinds.keys().copied()),
        )),
    };
    agents.iter().map(known).collect::<Result<_, _>>().map(Some)
}

/// The warning about an identity that cannot prove itself.
fn no_credential(name: &str) -> String {
    format!("`{name}` has no credential, so nobody can connect as it")
}
