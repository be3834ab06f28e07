//! Names of relations, and patterns over them, as policy writes them.
//!
//! Names are as Postgres stores them (not folded); a part that holds a point is
//! quoted: `"odd.schema".customers`.

use std::fmt;
use std::sync::Arc;

/// `schema.name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Name {
    pub(super) schema: Arc<str>,
    pub(super) name: Arc<str>,
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}.{}", self.schema, self.name)
    }
}

impl Name {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match &*parts(text)? {
            [schema, name] => Ok(Self {
                schema: schema.as_str().into(),
                name: name.as_str().into(),
            }),
            [name] => Err(format!("`{text}` lacks its schema: write public.{name}")),
            _ => Err(format!("`{text}` is not of the form schema.name")),
        }
    }
}

/// `*`, `schema.*`, `schema.prefix_*` or `schema.name`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Pattern {
    schema: Part,
    name: Part,
}

/// A star stands at the end of a part alone.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Part {
    Exactly(Arc<str>),
    StartsWith(Arc<str>),
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        if text == "*" {
            let any = Part::StartsWith("".into());
            return Ok(Self {
                schema: any.clone(),
                name: any,
            });
        }
        let Name { schema, name } = Name::parse(text)?;
        Ok(Self {
            schema: Part::parse(&schema, text)?,
            name: Part::parse(&name, text)?,
        })
    }

    pub(super) fn matches(&self, schema: &str, name: &str) -> bool {
        self.schema.matches(schema) && self.name.matches(name)
    }

    /// `*`.
    pub(super) fn is_everything(&self) -> bool {
        let all = |part: &Part| matches!(part, Part::StartsWith(start) if start.is_empty());
        all(&self.schema) && all(&self.name)
    }
}

impl Part {
    fn parse(part: &str, whole: &str) -> Result<Self, String> {
        match part.strip_suffix('*') {
            None if !part.contains('*') => Ok(Self::Exactly(part.into())),
            Some(start) if !start.contains('*') => Ok(Self::StartsWith(start.into())),
            _ => Err(format!(
                "`{whole}`: a star stands at the end of a name alone"
            )),
        }
    }

    fn matches(&self, name: &str) -> bool {
        match self {
            Self::Exactly(exact) => **exact == *name,
            Self::StartsWith(start) => name.starts_with(&**start),
        }
    }
}

/// Splits at points outside of double quotes.
fn parts(text: &str) -> Result<Vec<String>, String> {
    let mut parts = vec![String::new()];
    let mut chars = text.chars().peekable();
    let mut quoted = false;
    while let Some(char) = chars.next() {
        match char {
            '"' if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                push(&mut parts, '"');
            }
            '"' => quoted = !quoted,
            '.' if !quoted => parts.push(String::new()),
            other => push(&mut parts, other),
        }
    }
    if quoted || parts.iter().any(String::is_empty) {
        return Err(format!("`{text}` is not of the form schema.name"));
    }
    Ok(parts)
}

fn push(parts: &mut [String], char: char) {
    if let Some(last) = parts.last_mut() {
        last.push(char);
    }
}
