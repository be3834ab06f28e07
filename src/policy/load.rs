//! A directory of YAML → [`Policy`], as one unit: all of it or none.
//!
//! Knows nothing about relations that exist: names of tables and columns are
//! taken as written, and meet the catalog when a decision is made. Invariant: a
//! [`Policy`] holds no reference that leads nowhere, and no expression that was
//! not checked.

mod check;
mod mask;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::answerable::Answerable;
use super::file::File;
use super::model::{Certified, Dataset, Digested, Grant, Identity};
use super::{Mask, Rights, Treatment};
use crate::identity::certificate::{Name, Template, Trust};
use crate::identity::stand_in::StandIns;
use crate::identity::token::Tokens;
use crate::identity::verifier::Verifier;
use crate::identity::{Method, Principal};

/// One validated set of policy files.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Increases by one with every load that took effect.
    pub epoch: u64,
    /// SHA-256 of the files, in hex.
    pub digest: String,
    /// What is likely a mistake but keeps nothing from loading:
    /// `roles.yaml:9: no column of shop carries the tag …`.
    pub warnings: Vec<String>,
    pub(super) datasets: BTreeMap<Arc<str>, Arc<Digested<Dataset>>>,
    pub(super) roles: BTreeMap<Arc<str>, Vec<Arc<Digested<Grant>>>>,
    /// By role, who must answer for agents, and where that stands.
    pub(super) answerable: BTreeMap<Arc<str>, (Answerable, Arc<str>)>,
    pub(super) identities: BTreeMap<Arc<str>, Identity>,
    /// Roles by group, in the order of the files.
    pub(super) groups: Vec<(Arc<str>, Vec<Arc<str>>)>,
    /// Whose certificate a listed name is, disabled or not.
    pub(super) certificates: BTreeMap<Name, Arc<str>>,
    /// Who is by their certificates without being listed: no name is of two.
    pub(super) certified: Vec<Certified>,
    /// Which certificate is needed beside a password or token, by role.
    pub(super) clientcerts: BTreeMap<Arc<str>, Template>,
    /// What certificates are verified by, if those of clients are asked for.
    pub(super) trust: Option<Arc<Trust>>,
    /// What the configuration says that a dataset is: `production`.
    pub(super) environments: BTreeMap<Arc<str>, Arc<str>>,
    /// What tokens are verified by.
    pub(super) tokens: Arc<Tokens>,
    pub(super) stand_ins: StandIns,
}

/// Why a set of files does not load.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    /// A file or the directory cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// Which
        path: PathBuf,
        /// Why
        source: std::io::Error,
    },
    /// The directory holds no policy.
    #[error("{} holds no *.yaml file", path.display())]
    Empty {
        /// Which
        path: PathBuf,
    },
    /// A mistake in a file.
    #[error("{file}:{line}: {what}{}", hint.as_ref().map(|hint| format!("; {hint}")).unwrap_or_default())]
    Fault {
        /// Its name within the directory
        file: String,
        /// Counted from 1
        line: u64,
        /// What is wrong
        what: String,
        /// The way out
        hint: Option<String>,
    },
}

/// A policy file is written by people; one beyond this is not.
const LARGEST: u64 = 16 * 1024 * 1024;

impl Policy {
    /// Reads every `*.yaml` of the directory.
    ///
    /// # Errors
    /// With file, line and a suggestion, for the first fault found.
    pub fn load(directory: &Path, epoch: u64) -> Result<Self, PolicyError> {
        Self::from_files(&read(directory)?, epoch)
    }

    /// From names and contents.
    ///
    /// # Errors
    /// With file, line and a suggestion, for the first fault found.
    pub fn from_files(files: &[(String, String)], epoch: u64) -> Result<Self, PolicyError> {
        let mut files: Vec<&(String, String)> = files.iter().collect();
        files.sort();
        let mut digest = ring::digest::Context::new(&ring::digest::SHA256);
        for part in files.iter().flat_map(|(name, text)| [name, text]) {
            // With lengths, so that no two sets of files run together alike.
            digest.update(&(part.len() as u64).to_be_bytes());
            digest.update(part.as_bytes());
        }
        let parsed = files
            .iter()
            .map(|(name, text)| Ok((name.as_str(), parse(name, text)?)))
            .collect::<Result<Vec<_>, PolicyError>>()?;
        let digest = digest.finish();
        Ok(Self {
            epoch,
            digest: digest
                .as_ref()
                .iter()
                .map(|byte| format!("{byte:02x}"))
                .collect(),
            ..check::policy(&parsed)?
        })
    }

    /// With the environments of datasets, of which the files know nothing: the same
    /// policy may serve several.
    pub fn within(mut self, environments: BTreeMap<Arc<str>, Arc<str>>) -> Self {
        let known: Vec<&str> = environments.values().map(|one| &**one).collect();
        let named = check::Environments::of(&self.roles);
        let mut warnings = named.misspelt(known.iter().copied());
        // One that the configuration has is none.
        warnings.retain(|warning| !self.warnings.contains(warning));
        self.warnings.extend(warnings);
        self.environments = environments;
        self
    }

    /// The verifier of an identity, if it has one and may connect.
    pub fn verifier(&self, name: &str) -> Option<&Verifier> {
        let identity = self.identities.get(name).filter(|one| !one.disabled)?;
        identity.verifier.as_ref()
    }

    /// A verifier for a name that has none, which looks like one that has.
    pub fn stand_in(&self, name: &str) -> Verifier {
        self.stand_ins.of(name)
    }

    /// The principal of a proved name, with its kind, roles and owner; `None` if
    /// policy names no such identity, or disables it.
    pub fn principal(&self, name: &str, method: Method) -> Option<Principal> {
        let (name, identity) = self.identities.get_key_value(name)?;
        (!identity.disabled).then(|| Principal {
            name: name.clone(),
            kind: identity.kind,
            roles: identity.roles.clone(),
            owner: identity.owner.clone(),
            on_behalf_of: None,
            method,
            mfa: None,
            verifier: by_password(method)
                .then_some(identity.verifier.as_ref())
                .flatten()
                .map(Verifier::fingerprint),
            token: None,
            certificate: None,
        })
    }

    /// The names of all identities, in order.
    pub fn identities(&self) -> impl Iterator<Item = &Arc<str>> {
        self.identities.keys()
    }

    /// The names of all datasets, in order.
    pub fn datasets(&self) -> impl Iterator<Item = &Arc<str>> {
        self.datasets.keys()
    }

    /// The names of all roles, in order.
    pub fn roles(&self) -> impl Iterator<Item = &Arc<str>> {
        self.roles.keys()
    }

    /// That nothing is masked by `hash` in a dataset that has no key for it: Postgres
    /// would say of each query that it does not know the setting.
    ///
    /// # Errors
    /// With the file and line of the first such mask.
    pub fn hashes_nothing_of(&self, dataset: &str) -> Result<(), PolicyError> {
        let grants = self.roles.values().flatten();
        let treatments = grants
            .filter(|grant| *grant.dataset == *dataset && !grant.apart)
            .flat_map(|grant| grant.tags.values().chain(&grant.other_tags));
        let places = treatments
            .filter(|tag| matches!(&tag.treatment, Treatment::Mask(mask) if **mask == Mask::Hash))
            .filter_map(|tag| {
                let (file, line) = tag.place.rsplit_once(':')?;
                Some((file, line.parse().ok()?))
            });
        match places.min() {
            None => Ok(()),
            Some((file, line)) => Err(PolicyError::Fault {
                file: file.into(),
                line,
                what: format!(
                    "mask `hash` wants a key, and the configuration gives the dataset \
                     `{dataset}` no `mask_key`"
                ),
                hint: Some("`openssl rand -hex 32` makes one".into()),
            }),
        }
    }

    /// What a principal may do in a dataset at this moment. Roles are those that
    /// this policy gives the name now; a name it does not know keeps the roles
    /// that came with it.
    pub fn rights(&self, principal: &Principal, dataset: &str, now: jiff::Timestamp) -> Rights {
        Rights::new(self, principal, dataset, now)
    }
}

/// Whether it is a password that is proved.
fn by_password(method: Method) -> bool {
    matches!(method, Method::Scram | Method::ScramPlus)
}

fn read(directory: &Path) -> Result<Vec<(String, String)>, PolicyError> {
    let unreadable = |path: &Path| {
        let path = path.to_path_buf();
        move |source| PolicyError::Unreadable { path, source }
    };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).map_err(unreadable(directory))? {
        let path = entry.map_err(unreadable(directory))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
            continue;
        };
        // Editors' and Kubernetes' own.
        if name.starts_with('.') {
            continue;
        }
        // A file of rules that is silently not read would let through what it
        // forbids.
        if name.ends_with(".yml") {
            return Err(PolicyError::Fault {
                file: name.into(),
                line: 1,
                what: "this file would not be read".into(),
                hint: Some(format!("name it {}.yaml", name.trim_end_matches(".yml"))),
            });
        }
        if !name.ends_with(".yaml") {
            continue;
        }
        let size = std::fs::metadata(&path).map_err(unreadable(&path))?.len();
        if size > LARGEST {
            return Err(PolicyError::Fault {
                file: name.into(),
                line: 1,
                what: format!("a policy file has at most {LARGEST} bytes"),
                hint: None,
            });
        }
        let text = std::fs::read_to_string(&path).map_err(unreadable(&path))?;
        files.push((name.to_owned(), text));
    }
    if files.is_empty() {
        return Err(PolicyError::Empty {
            path: directory.to_path_buf(),
        });
    }
    Ok(files)
}

fn parse(file: &str, text: &str) -> Result<File, PolicyError> {
    use serde_saphyr::Error;
    let options = serde_saphyr::options! { strict_booleans: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| {
        let line = error.location().map_or(1, |location| location.line());
        let (what, hint) = match error.without_snippet() {
            Error::SerdeUnknownField {
                field, expected, ..
            } => (format!("unknown key `{field}`"), meant(field, expected)),
            Error::SerdeUnknownVariant {
                variant, expected, ..
            } => (
                format!("unknown word `{variant}`"),
                meant(variant, expected),
            ),
            Error::SerdeMissingField { field, .. } => (format!("`{field}` is missing"), None),
            Error::DuplicateMappingKey { key, .. } => (
                format!("`{}` stands here twice", key.as_deref().unwrap_or("a key")),
                None,
            ),
            other => {
                let text = other.to_string();
                let text = text.split(" at line ").next().unwrap_or_default();
                (text.replace('\n', " "), None)
            }
        };
        PolicyError::Fault {
            file: file.into(),
            line,
            what,
            hint,
        }
    })
}

/// `did you mean …?`, or all there is to choose from.
fn meant(word: &str, words: &[&'static str]) -> Option<String> {
    match nearest(word, words.iter().copied()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None if words.is_empty() => None,
        None => Some(format!("one of {}", words.join(", "))),
    }
}

/// The word that was likely meant: at most a third of it differs.
pub(super) fn nearest<'a>(word: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let bound = (word.chars().count() / 3).max(1);
    words
        .into_iter()
        .map(|candidate| (distance(word, candidate), candidate))
        .filter(|(distance, _)| *distance <= bound)
        .min()
        .map(|(_, candidate)| candidate)
}

/// Edit distance with adjacent letters swapped as one edit (optimal string
/// alignment), by rows.
fn distance(one: &str, two: &str) -> usize {
    let two: Vec<char> = two.to_lowercase().chars().take(64).collect();
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=two.len()).collect();
    let mut previous = None;
    for (row, char) in one.to_lowercase().chars().take(64).enumerate() {
        let mut next = vec![row + 1];
        for (column, other) in two.iter().enumerate() {
            let at =
                |row: &[usize], column: usize| row.get(column).copied().unwrap_or(usize::MAX / 2);
            let mut best = (at(&last, column) + usize::from(char != *other))
                .min(at(&last, column + 1) + 1)
                .min(at(&next, column) + 1);
            let swapped = column
                .checked_sub(1)
                .filter(|left| previous == Some(*other) && two.get(*left) == Some(&char));
            if let Some(left) = swapped {
                best = best.min(at(&before, left) + 1);
            }
            next.push(best);
        }
        before = std::mem::replace(&mut last, next);
        previous = Some(char);
    }
    last.last().copied().unwrap_or_default()
}
