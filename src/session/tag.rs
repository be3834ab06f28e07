//! The identity tag: what each statement sent upstream says of who is behind it.
//!
//! Knows nothing about SQL. Invariant: nothing that a client controls is in it
//! but as the value of a [`Comment`], which encodes it.

use std::sync::Arc;

use crate::audit::Id;
use crate::identity::Principal;
use crate::upstream::frame::frontend::Comment;

/// The longest value of `application_name` (NAMEDATALEN - 1).
const APPLICATION_NAME: usize = 63;

/// A session's tag.
#[derive(Clone, Debug)]
pub struct Tag {
    label: Arc<str>,
    on_behalf_of: Option<Arc<str>>,
    session: Arc<str>,
    lasting: Comment,
}

impl Tag {
    /// The tag of a session.
    pub fn new(principal: &Principal, session: Id) -> Self {
        let mut tag = Self {
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
        let mut name = printable(&self.label);
        if let Some(claim) = claim.filter(|claim| !claim.is_empty()) {
            name.push(' ');
            name.push_str(&printable(claim));
        }
        name.truncate(APPLICATION_NAME);
        name
    }
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
            mfa: false,
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

    #[test]
    fn the_identity_comes_first_in_application_name() {
        let tag = Tag::new(&principal("trainer"), Id::next());
        assert_eq!(tag.application_name(None), "agent:trainer");
        assert_eq!(tag.application_name(Some("psql")), "agent:trainer psql");
        let long = tag.application_name(Some(&"ö".repeat(90)));
        assert_eq!(long.len(), 63);
        assert!(long.starts_with("agent:trainer ???"));
    }
}
