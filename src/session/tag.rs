//! The identity tag: what each statement sent upstream says of who is behind it.
//!
//! Knows nothing about SQL. Invariant: nothing that a client controls is in it but
//! as the value of a [`Comment`], which encodes it, or behind the space in
//! `application_name`, which the identity in front of it never holds.

use std::sync::Arc;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use ring::digest::{SHA256, digest};

use crate::audit::Id;
use crate::identity::Principal;
use crate::upstream::frame::frontend::Comment;

/// The longest value of `application_name` (NAMEDATALEN - 1).
const APPLICATION_NAME: usize = 63;
/// As much of it as an identity may take, and each of two: some room is left for
/// what the client calls itself.
const ALONE: usize = 47;
const EACH: usize = 24;

/// A session's tag.
#[derive(Clone, Debug)]
pub struct Tag {
    label: Arc<str>,
    on_behalf_of: Option<Arc<str>>,
    shown: Arc<str>,
    session: Arc<str>,
    lasting: Comment,
}

impl Tag {
    /// The tag of a session.
    pub fn new(principal: &Principal, session: Id) -> Self {
        let mut tag = Self {
            shown: shown(principal).into(),
            label: principal.label().into(),
            on_behalf_of: principal
                .on_behalf_of
                .as_ref()
                .map(|human| human.label().into()),
            session: session.to_string().into(),
            lasting: Comment::default(),
        };
        tag.lasting = tag.comment(None);
        tag
    }

    /// For a text that is sent once and may be executed many times: the same
    /// for the whole session, so that equal statements stay equal.
    pub fn lasting(&self) -> &Comment {
        &self.lasting
    }

    /// For a text that is sent for one execution.
    pub fn once(&self, query: Id) -> Comment {
        self.comment(Some(&query.to_string()))
    }

    fn comment(&self, query: Option<&str>) -> Comment {
        let pairs = [
            ("pgveil_on_behalf_of", self.on_behalf_of.as_deref()),
            ("pgveil_principal", Some(&*self.label)),
            ("pgveil_query", query),
            ("pgveil_session", Some(&*self.session)),
        ];
        let pairs: Vec<_> = pairs
            .into_iter()
            .filter_map(|(key, value)| Some((key, value?)))
            .collect();
        Comment::of(&pairs)
    }

    /// Who is asking: `agent:trainer`.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// What Postgres is told as `application_name`: the identity, then what the
    /// client calls itself, as far as there is room.
    pub fn application_name(&self, claim: Option<&str>) -> String {
        let mut name = self.shown.to_string();
        if let Some(claim) = claim.filter(|claim| !claim.is_empty()) {
            name.push(' ');
            name.push_str(&printable(claim));
        }
        name.truncate(APPLICATION_NAME);
        name
    }
}

/// Characters of a name that stay: RFC 3986's unreserved ones but `~`, which says
/// that a name has been cut.
const PLAIN: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_');

/// Who is asking, and for whom: `agent:trainer/human:analyst`. No two identities
/// look alike in it.
fn shown(principal: &Principal) -> String {
    match &principal.on_behalf_of {
        None => bounded(principal, ALONE),
        Some(human) => format!("{}/{}", bounded(principal, EACH), bounded(human, EACH)),
    }
}

fn bounded(principal: &Principal, most: usize) -> String {
    let (label, name) = (principal.label(), &*principal.name);
    let kind = label.strip_suffix(name).unwrap_or_default();
    let mut text = format!("{kind}{}", utf8_percent_encode(name, PLAIN));
    if text.len() > most {
        let digest = digest(&SHA256, label.as_bytes());
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        let end = format!("~{:08x}", u32::from_be_bytes(first));
        text.truncate(most - end.len());
        text.push_str(&end);
    }
    text
}

/// As Postgres's own `pg_clean_ascii` does with `application_name`.
fn printable(text: &str) -> String {
    text.chars()
        .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Kind, Method};

    fn principal(name: &str) -> Principal {
        Principal {
            name: name.into(),
            kind: Kind::Agent,
            roles: vec![],
            owner: None,
            on_behalf_of: None,
            method: Method::Scram,
            mfa: None,
            verifier: None,
            token: None,
            certificate: None,
        }
    }

    #[test]
    fn keys_are_sorted_and_values_encoded() {
        let mut agent = principal("trainer");
        agent.on_behalf_of = Some(Box::new(Principal {
            kind: Kind::Human,
            ..principal("analyst")
        }));
        let (session, query) = (Id::next(), Id::next());
        let tag = Tag::new(&agent, session);
        assert_eq!(
            tag.once(query).as_str(),
            format!(
                " /*pgveil_on_behalf_of='human%3Aanalyst',pgveil_principal='agent%3Atrainer',\
                 pgveil_query='{query}',pgveil_session='{session}'*/"
            )
        );
        assert!(!tag.lasting().as_str().contains("pgveil_query"));
    }

    #[test]
    fn nothing_breaks_out() {
        for name in ["x'*/; DROP TABLE t --", "a\0b", "/* /*", "%27", "ü\\'\n"] {
            let tag = Tag::new(&principal(name), Id::next());
            let text = tag.lasting().as_str();
            let inner = &text[3..text.len() - 2];
            assert!(!inner.contains("*/") && !inner.contains("/*"), "{text}");
            assert_eq!(inner.matches('\'').count(), 4, "{text}");
            assert!(text.is_ascii() && !text.contains('\0'));
        }
    }

    fn named(name: &str, claim: Option<&str>) -> String {
        Tag::new(&principal(name), Id::next()).application_name(claim)
    }

    #[test]
    fn the_identity_comes_first_in_application_name() {
        assert_eq!(named("trainer", None), "agent:trainer");
        assert_eq!(named("trainer", Some("psql")), "agent:trainer psql");
        let long = named("trainer", Some(&"ö".repeat(90)));
        assert_eq!(long.len(), 63);
        assert!(long.starts_with("agent:trainer ???"));
        let mut agent = principal("trainer");
        agent.on_behalf_of = Some(Box::new(Principal {
            kind: Kind::Human,
            ..principal("analyst")
        }));
        let tag = Tag::new(&agent, Id::next());
        assert_eq!(
            tag.application_name(Some("psql")),
            "agent:trainer/human:analyst psql"
        );
    }

    #[test]
    fn no_name_looks_like_another_with_a_claim() {
        assert_eq!(named("bob smith", None), "agent:bob%20smith");
        assert_eq!(named("bob", Some("smith")), "agent:bob smith");
        assert_eq!(named("jörg", None), "agent:j%C3%B6rg");
        assert_eq!(named("a/human:b", None), "agent:a%2Fhuman%3Ab");
        // Names of the greatest length, the same up to the last byte.
        let (one, other) = ("n".repeat(62) + "1", "n".repeat(62) + "2");
        assert_ne!(named(&one, None), named(&other, None));
        let name = named(&one, Some("a claim that stays"));
        assert_eq!(name.len(), 63);
        let (identity, claim) = name.split_once(' ').unwrap();
        assert_eq!((identity.len(), claim), (ALONE, "a claim that st"));
        // What says that it was cut is nobody's own.
        assert!(identity.contains('~'));
        assert_eq!(named("n~1", None), "agent:n%7E1");
        let mut agent = principal(&one);
        agent.on_behalf_of = Some(Box::new(principal(&other)));
        let name = Tag::new(&agent, Id::next()).application_name(Some("psql"));
        assert_eq!(name.len(), 2 * EACH + 1 + 5);
    }
}
