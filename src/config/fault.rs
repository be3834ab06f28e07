//! What is wrong with a configuration: file, line, the word, the nearest one.
//!
//! Invariant: no line of the file is quoted, for it could hold a secret.

use std::fmt;
use std::path::{Path, PathBuf};

use serde_saphyr::Error as Yaml;

/// A fault of a configuration: `pgveil.yaml:3:5: unknown key `adress`; did you
/// mean `address`?`
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file, where it came from one.
    pub file: Option<PathBuf>,
    /// Line and column, counted from 1, where one place is at fault.
    pub place: Option<(u64, u64)>,
    /// What is wrong.
    pub what: String,
    /// The nearest valid word.
    pub suggestion: Option<String>,
}

impl ConfigError {
    pub(super) fn value(what: String) -> Self {
        Self {
            file: None,
            place: None,
            what,
            suggestion: None,
        }
    }

    pub(super) fn read(path: &Path, error: &std::io::Error) -> Self {
        Self::value(format!("cannot be read: {error}")).in_file(path)
    }

    pub(super) fn in_file(self, path: &Path) -> Self {
        Self {
            file: Some(path.to_owned()),
            ..self
        }
    }

    pub(super) fn yaml(error: &Yaml) -> Self {
        let error = error.without_snippet();
        let (what, suggestion) = match error {
            Yaml::SerdeUnknownField {
                field, expected, ..
            } => (
                format!("unknown key `{field}`{}", list(expected)),
                nearest(field, expected),
            ),
            Yaml::SerdeUnknownVariant {
                variant, expected, ..
            } => (
                format!("unknown value `{variant}`{}", list(expected)),
                nearest(variant, expected),
            ),
            Yaml::SerdeMissingField { field, .. } => (format!("`{field}` is missing"), None),
            Yaml::DuplicateMappingKey { key: Some(key), .. } => {
                (format!("`{key}` is there twice"), None)
            }
            Yaml::SerdeInvalidType { expected, .. } | Yaml::SerdeInvalidValue { expected, .. } => {
                (format!("expected {expected}"), None)
            }
            Yaml::InvalidScalar { ty, .. } => (format!("expected {}", scalar(ty)), None),
            Yaml::Unexpected {
                expected: "mapping start",
                ..
            } => ("expected keys with values".to_owned(), None),
            Yaml::Message { msg, .. } => (msg.clone(), None),
            Yaml::Eof { .. } => ("it ends where more is expected".to_owned(), None),
            other => (one_line(&other.to_string()), None),
        };
        Self {
            file: None,
            place: error
                .location()
                .map(|location| (location.line(), location.column())),
            what,
            suggestion: suggestion.map(str::to_owned),
        }
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}:", file.display())?;
        }
        if let Some((line, column)) = self.place {
            write!(f, "{line}:{column}:")?;
        }
        if self.file.is_some() || self.place.is_some() {
            f.write_str(" ")?;
        }
        f.write_str(&self.what)?;
        match &self.suggestion {
            Some(word) => write!(f, "; did you mean `{word}`?"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for ConfigError {}

fn list(words: &[&str]) -> String {
    match words {
        [] => String::new(),
        words => format!(" (known here: {})", words.join(", ")),
    }
}

fn scalar(rust: &str) -> &str {
    match rust {
        "u16" => "a whole number from 0 to 65535",
        "u32" | "u64" | "usize" => "a whole number, not negative",
        "bool" => "true or false",
        other => other,
    }
}

/// The first line, without the place that the parser puts at its end.
fn one_line(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default();
    line.rsplit_once(" at line ")
        .map_or(line, |(what, _place)| what)
        .to_owned()
}

/// The candidate nearest to a word, if any is near enough to have been meant.
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_lowercase();
    candidates
        .iter()
        .map(|&candidate| (distance(&word, &candidate.to_lowercase()), candidate))
        .min_by_key(|&(distance, _)| distance)
        .filter(|&(distance, candidate)| {
            distance <= 1 + candidate.len().max(word.len()) / 4 && distance < candidate.len()
        })
        .map(|(_, candidate)| candidate)
}

/// How many letters must be put in, left out or exchanged (Levenshtein), swapped
/// neighbours counted as one.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=right.len()).collect();
    let mut previous = None;
    for (row, letter) in left.chars().enumerate() {
        let mut current = vec![row + 1];
        let mut best = row + 1;
        for (column, &other) in right.iter().enumerate() {
            let at =
                |row: &[usize], index: usize| row.get(index).copied().unwrap_or(usize::MAX / 2);
            let swapped = column
                .checked_sub(1)
                .filter(|&left| right.get(left) == Some(&letter) && previous == Some(other))
                .map_or(usize::MAX / 2, |left| at(&before, left) + 1);
            best = (best + 1)
                .min(at(&above, column + 1) + 1)
                .min(at(&above, column) + usize::from(letter != other))
                .min(swapped);
            current.push(best);
        }
        previous = Some(letter);
        before = std::mem::replace(&mut above, current);
    }
    above.last().copied().unwrap_or_default()
}
