//! Names in client certificates, and patterns over them, as policy writes them.
//!
//! Knows nothing about certificates. A name says of which kind it is: `spiffe://…`,
//! `dns:…`, `email:…`, `cn:…`. Invariants: a [`Name`] is well formed and in the one form
//! that equal names have; a star stands for letters, digits and `.`, `_`, `@`, `+`, `-`
//! alone, one at the least, and for no more than one part of a name (a segment of a path,
//! a label of a host name) unless it is written `**`.

use std::fmt;
use std::sync::Arc;

/// <https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md>, section 2.3.
const LONGEST_SPIFFE: usize = 2048;
/// RFC 1035, section 2.3.4.
const LONGEST_HOST: usize = 253;
const LONGEST_LABEL: usize = 63;
/// RFC 5321, section 4.5.3.1.1.
const LONGEST_LOCAL: usize = 64;
/// RFC 5280, `ub-common-name`.
const LONGEST_COMMON: usize = 64;

/// Of which kind a name is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Spiffe,
    Dns,
    Email,
    Common,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Spiffe, Self::Dns, Self::Email, Self::Common];

    fn prefix(self) -> &'static str {
        match self {
            Self::Spiffe => "spiffe://",
            Self::Dns => "dns:",
            Self::Email => "email:",
            Self::Common => "cn:",
        }
    }

    /// The kind that a text says, and what follows.
    fn of(text: &str) -> Option<(Self, &str)> {
        Self::ALL
            .into_iter()
            .find_map(|kind| Some((kind, text.strip_prefix(kind.prefix())?)))
    }

    /// What a name consists of, without its kind.
    fn parts(self, rest: &str) -> Vec<&str> {
        match self {
            Self::Spiffe => rest.split('/').collect(),
            Self::Dns => rest.split('.').collect(),
            Self::Email => match rest.rsplit_once('@') {
                Some((local, host)) => vec![local, host],
                None => vec![rest],
            },
            Self::Common => vec![rest],
        }
    }
}

/// A name that a certificate carries.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Name(Arc<str>);

impl Name {
    /// As policy writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some((kind, rest)) = Kind::of(text) else {
            return Err(unknown(text));
        };
        let name = match kind {
            Kind::Spiffe => Self::spiffe(text),
            Kind::Dns => Self::dns(rest),
            Kind::Email => Self::email(rest),
            Kind::Common => Self::common(rest),
        };
        name.ok_or_else(|| format!("`{text}` is no name of its kind"))
    }

    /// A SPIFFE ID, path included.
    pub(super) fn spiffe(uri: &str) -> Option<Self> {
        let rest = uri.strip_prefix(Kind::Spiffe.prefix())?;
        let (domain, path) = rest.split_once('/')?;
        let of = |text: &str, letter: fn(u8) -> bool| {
            !text.is_empty()
                && text
                    .bytes()
                    .all(|byte| letter(byte) || matches!(byte, b'.' | b'_' | b'-'))
        };
        let is_lower = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let segment = |text: &str| of(text, |byte| byte.is_ascii_alphanumeric());
        let well_formed = uri.len() <= LONGEST_SPIFFE
            && domain.len() <= 255
            && of(domain, is_lower)
            && path
                .split('/')
                .all(|one| segment(one) && one != "." && one != "..");
        well_formed.then(|| Self(uri.into()))
    }

    /// A host name; no wildcard.
    pub(super) fn dns(host: &str) -> Option<Self> {
        let host = host_name(host)?;
        Some(Self(format!("{}{host}", Kind::Dns.prefix()).into()))
    }

    /// An address of the form that people have; what stands before the `@` keeps its case.
    pub(super) fn email(address: &str) -> Option<Self> {
        let (local, host) = address.split_once('@')?;
        let host = host_name(host)?;
        let plain = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'%' | b'+' | b'-')
        };
        let well_formed = (1..=LONGEST_LOCAL).contains(&local.len()) && local.bytes().all(plain);
        well_formed.then(|| Self(format!("{}{local}@{host}", Kind::Email.prefix()).into()))
    }

    /// A common name.
    pub(super) fn common(name: &str) -> Option<Self> {
        let well_formed = !name.is_empty()
            && name.chars().count() <= LONGEST_COMMON
            && !name.chars().any(char::is_control);
        well_formed.then(|| Self(format!("{}{name}", Kind::Common.prefix()).into()))
    }

    /// Whether it is a common name.
    pub(super) fn is_common(&self) -> bool {
        matches!(Kind::of(&self.0), Some((Kind::Common, _)))
    }

    /// With its kind.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Shared.
    pub(crate) fn text(&self) -> Arc<str> {
        self.0.clone()
    }

    /// Whether a text has the form that names of certificates alone have, be it one or not.
    pub fn is_form_of(text: &str) -> bool {
        Kind::of(text).is_some()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

fn unknown(text: &str) -> String {
    format!("`{text}` does not say its kind: write spiffe://…, dns:…, email:… or cn:…")
}

fn host_name(host: &str) -> Option<String> {
    let label = |label: &str| {
        (1..=LONGEST_LABEL).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    let well_formed = host.len() <= LONGEST_HOST && host.split('.').all(label);
    well_formed.then(|| host.to_ascii_lowercase())
}

/// A pattern over names: `spiffe://corp/agent/*`, `dns:*.etl.corp.example`,
/// `email:*@corp.example`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    kind: Kind,
    parts: Vec<Part>,
    /// `/**` at its end: one segment more, or several.
    open: bool,
}

/// One star at most.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Exactly(String),
    Like(String, String),
}

impl Pattern {
    /// As policy writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = |what: &str| Err(format!("`{text}`: {what}"));
        let Some((kind, rest)) = Kind::of(text) else {
            return Err(unknown(text));
        };
        let (rest, open) = match (kind, rest.strip_suffix("/**")) {
            (Kind::Spiffe, Some(rest)) => (rest, true),
            _ => (rest, false),
        };
        // What it says beside its stars must be what a name says.
        let lower = match kind {
            Kind::Dns => rest.to_ascii_lowercase(),
            Kind::Email => match rest.rsplit_once('@') {
                Some((local, host)) => format!("{local}@{}", host.to_ascii_lowercase()),
                None => rest.to_owned(),
            },
            Kind::Spiffe | Kind::Common => rest.to_owned(),
        };
        let tried = lower.replace('*', "x") + if open { "/x" } else { "" };
        Name::parse(&format!("{}{tried}", kind.prefix()))
            .map_err(|_| format!("`{text}` is no pattern of names of its kind"))?;
        let parts = kind.parts(&lower);
        let fixed = match kind {
            Kind::Spiffe => parts.first(),
            Kind::Email | Kind::Dns => parts.last(),
            Kind::Common => None,
        };
        if fixed.is_some_and(|part| part.contains('*')) {
            return wrong("whose names they are stands there in full: no star in the domain");
        }
        if parts.iter().any(|part| part.matches('*').count() > 1) {
            return wrong("one star in each part, or `/**` at the end of a path");
        }
        let part = |part: &str| match part.split_once('*') {
            None => Part::Exactly(part.to_owned()),
            Some((start, end)) => Part::Like(start.to_owned(), end.to_owned()),
        };
        Ok(Self {
            kind,
            parts: parts.into_iter().map(part).collect(),
            open,
        })
    }

    /// Whether a name is one of those.
    pub fn matches(&self, name: &Name) -> bool {
        let Some((kind, rest)) = Kind::of(name.as_str()) else {
            return false;
        };
        let parts = kind.parts(rest);
        let fits = match self.open {
            true => parts.len() > self.parts.len(),
            false => parts.len() == self.parts.len(),
        };
        kind == self.kind
            && fits
            && self
                .parts
                .iter()
                .zip(&parts)
                .all(|(part, text)| part.matches(text))
    }

    /// Whether some name may be of both.
    pub fn meets(&self, other: &Self) -> bool {
        let long_enough = |one: &Self, two: &Self| one.parts.len() > two.parts.len();
        let lengths = match (self.open, other.open) {
            (false, false) => self.parts.len() == other.parts.len(),
            (true, false) => long_enough(other, self),
            (false, true) => long_enough(self, other),
            (true, true) => true,
        };
        let mut both = self.parts.iter().zip(&other.parts);
        self.kind == other.kind && lengths && both.all(|(one, two)| one.meets(two))
    }
}

impl Part {
    fn matches(&self, text: &str) -> bool {
        let within = match self {
            Self::Exactly(own) => return own == text,
            Self::Like(start, end) => text
                .strip_prefix(start.as_str())
                .and_then(|rest| rest.strip_suffix(end.as_str())),
        };
        let plain = |byte: u8| {
            byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'@' | b'+' | b'-')
        };
        within.is_some_and(|text| !text.is_empty() && text.bytes().all(plain))
    }

    fn meets(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exactly(text), part) | (part, Self::Exactly(text)) => part.matches(text),
            // What both begin and end with can be made long enough.
            (Self::Like(start, end), Self::Like(begin, finish)) => {
                (start.starts_with(begin.as_str()) || begin.starts_with(start.as_str()))
                    && (end.ends_with(finish.as_str()) || finish.ends_with(end.as_str()))
            }
        }
    }
}

/// Which certificate an identity must show beside its password or token: a name, in which
/// `{name}` stands for the identity's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Template(Arc<str>);

impl Template {
    const NAME: &str = "{name}";

    /// As policy writes it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        // Names of identities are of two forms, of which either will do.
        let tried = |name: &str| {
            let text = text.replace(Self::NAME, name);
            Name::parse(&text).map(|name| name.as_str() == text)
        };
        let is_normal = tried("x").or_else(|_| tried("x@x.example"))?;
        let template = Self(text.into());
        // Then whatever differs in a name differs in the identity's own.
        if template.is_personal() && !is_normal {
            return Err(format!("`{text}`: host names are in lower case"));
        }
        Ok(template)
    }

    /// Whether each identity's is another.
    pub fn is_personal(&self) -> bool {
        self.0.contains(Self::NAME)
    }

    /// The name that this identity's must have, if there can be one.
    pub fn of(&self, identity: &str) -> Option<Name> {
        let text = self.0.replace(Self::NAME, identity);
        let name = Name::parse(&text).ok()?;
        // Two identities that differ in case have no certificate in common.
        if self.is_personal() && name.as_str() != text {
            return None;
        }
        // A slash or an `@` in an identity's name must not make it another's.
        let plain = |byte: u8| !matches!(byte, b'/' | b'*' | b':');
        let safe = !self.is_personal() || identity.bytes().all(plain);
        safe.then_some(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_have_one_form() {
        let check = |text: &str, expected: Option<&str>| {
            let name = Name::parse(text).ok();
            assert_eq!(name.as_ref().map(Name::as_str), expected, "{text}");
        };
        let same = |text: &str| check(text, Some(text));
        same("spiffe://corp.example/agent/trainer");
        same("spiffe://corp/Agent_1/a.b-c");
        same("email:Ann+x@corp.example");
        same("cn:Ann Example");
        check("dns:ETL.Corp.example", Some("dns:etl.corp.example"));
        check("email:Ann@CORP.example", Some("email:Ann@corp.example"));
        for text in [
            "",
            "trainer",
            "CN=trainer",
            "uri:spiffe://corp/x",
            "spiffe://corp",
            "spiffe://corp/",
            "spiffe:///x",
            "spiffe://Corp/x",
            "spiffe://corp/x/",
            "spiffe://corp//x",
            "spiffe://corp/../x",
            "spiffe://corp/./x",
            "spiffe://corp:80/x",
            "spiffe://me@corp/x",
            "spiffe://corp/x?y",
            "spiffe://corp/x#y",
            "spiffe://corp/%78",
            "spiffe://corp/é",
            "SPIFFE://corp/x",
            "dns:",
            "dns:a..b",
            "dns:*.corp",
            "dns:a.b.",
            "dns:-a.b",
            "dns:a b",
            "email:ann",
            "email:@corp.example",
            "email:a@b@corp.example",
            "email:a/b@corp.example",
            "email:\"a\"@corp.example",
            "cn:",
            "cn:a\u{0}b",
            "cn:a\nb",
        ] {
            check(text, None);
        }
        check(&format!("spiffe://corp/{}", "x".repeat(2048)), None);
        check(&format!("cn:{}", "x".repeat(65)), None);
    }

    #[test]
    fn a_star_stays_within_a_part() {
        let matches = |pattern: &str, name: &str| {
            let name = Name::parse(name).unwrap();
            Pattern::parse(pattern).unwrap().matches(&name)
        };
        let agents = "spiffe://corp/agent/*";
        assert!(matches(agents, "spiffe://corp/agent/trainer"));
        assert!(!matches(agents, "spiffe://corp/agent/a/b"));
        assert!(!matches(agents, "spiffe://corp/agent"));
        assert!(!matches(agents, "spiffe://corp/agents/a"));
        assert!(!matches(agents, "spiffe://corp.evil/agent/a"));
        assert!(!matches(agents, "spiffe://other/agent/a"));
        assert!(!matches(agents, "dns:agent"));
        let etl = "spiffe://corp/ns/*/sa/etl-*";
        assert!(matches(etl, "spiffe://corp/ns/prod/sa/etl-1"));
        assert!(!matches(etl, "spiffe://corp/ns/prod/sa/etl-"));
        assert!(!matches(etl, "spiffe://corp/ns/prod/x/sa/etl-1"));
        let deep = "spiffe://corp/agent/**";
        assert!(matches(deep, "spiffe://corp/agent/a"));
        assert!(matches(deep, "spiffe://corp/agent/a/b"));
        assert!(!matches(deep, "spiffe://corp/agent"));
        assert!(!matches(deep, "spiffe://corp/agentx/a"));
        assert!(matches("dns:*.corp.example", "dns:a.corp.example"));
        assert!(!matches("dns:*.corp.example", "dns:a.b.corp.example"));
        assert!(!matches("dns:*.corp.example", "dns:corp.example"));
        assert!(matches("email:*@corp.example", "email:ann@corp.example"));
        assert!(!matches(
            "email:*@corp.example",
            "email:ann@corp.example.org"
        ));
        assert!(!matches("email:*@corp.example", "email:ann%x@corp.example"));
        assert!(matches("cn:job-*", "cn:job-1"));
        assert!(!matches("cn:job-*", "cn:job-1,OU=x"));
        assert!(!matches("cn:job-*", "cn:job-é"));
        assert!(matches("cn:Ann Example", "cn:Ann Example"));
    }

    #[test]
    fn refuses_what_is_no_pattern() {
        let check = |text: &str, what: &str| {
            let error = Pattern::parse(text).unwrap_err();
            assert!(error.contains(what), "{text}: {error}");
        };
        check("*", "does not say its kind");
        check("agent/*", "does not say its kind");
        check("spiffe://*/agent", "no star in the domain");
        check("spiffe://c*/agent", "no star in the domain");
        check("spiffe://corp/**/x", "one star in each part");
        check("spiffe://corp/a*b*", "one star in each part");
        check("spiffe://corp/*/", "no pattern of names");
        check("spiffe://corp", "no pattern of names");
        check("email:*@*", "no star in the domain");
        check("email:*", "no pattern of names");
        check("dns:*", "no star in the domain");
        check("dns:corp.*", "no star in the domain");
        check("dns:a b.c.d", "no pattern of names");
        check("cn:", "no pattern of names");
    }

    #[test]
    fn patterns_that_meet() {
        let meet = |one: &str, two: &str| {
            let (one, two) = (Pattern::parse(one).unwrap(), Pattern::parse(two).unwrap());
            assert_eq!(one.meets(&two), two.meets(&one));
            one.meets(&two)
        };
        assert!(meet("spiffe://c/agent/*", "spiffe://c/agent/etl-*"));
        assert!(meet("spiffe://c/agent/*", "spiffe://c/*/a"));
        assert!(meet("spiffe://c/agent/**", "spiffe://c/agent/a/b"));
        assert!(meet("spiffe://c/**", "spiffe://c/agent/**"));
        assert!(meet("spiffe://c/a*", "spiffe://c/*b"));
        assert!(!meet("spiffe://c/agent/*", "spiffe://c/agent/a/b"));
        assert!(!meet("spiffe://c/agent/**", "spiffe://c/agent"));
        assert!(!meet("spiffe://c/a/*", "spiffe://c/b/*"));
        assert!(!meet("spiffe://c/a-*", "spiffe://c/b-*"));
        assert!(!meet("spiffe://c/*", "spiffe://d/*"));
        assert!(!meet("dns:*.c.example", "email:*@c.example"));
        assert!(meet("dns:*.C.example", "dns:a.c.example"));
    }

    #[test]
    fn a_template_is_one_identitys() {
        let of = |template: &str, name: &str| {
            let template = Template::parse(template).unwrap();
            template.of(name).map(|name| name.to_string())
        };
        let found = of("email:{name}", "ann@corp.example");
        assert_eq!(found.as_deref(), Some("email:ann@corp.example"));
        let found = of("spiffe://corp/agent/{name}", "trainer");
        assert_eq!(found.as_deref(), Some("spiffe://corp/agent/trainer"));
        assert_eq!(of("spiffe://corp/agent/{name}", "../admin"), None);
        assert_eq!(of("spiffe://corp/agent/{name}", "a/b"), None);
        assert_eq!(of("email:{name}@corp.example", "a@b"), None);
        assert_eq!(of("email:{name}", "ann"), None);
        // Host names have no case, and identities have.
        assert_eq!(of("dns:{name}.corp", "Ann"), None);
        assert_eq!(of("email:{name}", "ann@Corp.example"), None);
        let found = of("email:{name}@corp.example", "Ann");
        assert_eq!(found.as_deref(), Some("email:Ann@corp.example"));
        let error = Template::parse("dns:{name}.Corp").unwrap_err();
        assert!(error.contains("host names are in lower case"), "{error}");
        assert!(!Template::parse("cn:x").unwrap().is_personal());
        assert!(Template::parse("{name}").is_err());
        assert!(Template::parse("email:*@corp.example").is_err());
    }
}
