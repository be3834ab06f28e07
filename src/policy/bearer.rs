//! Tokens held against policy: what one says of an identity must be so.
//!
//! Knows nothing about how a token is signed. Invariant: nobody is more by a token than
//! policy makes them, when they connect and for as long as they stay.

use std::sync::Arc;

use jiff::Timestamp;

use super::Policy;
use crate::identity::certificate::Name;
use crate::identity::token::{Token, TokenError, Tokens};
use crate::identity::{Kind, Method, Principal};

impl Policy {
    /// With what tokens are verified by.
    pub fn trusting(mut self, tokens: Arc<Tokens>) -> Self {
        self.tokens = tokens;
        self
    }

    /// What tokens are verified by.
    pub fn tokens(&self) -> &Arc<Tokens> {
        &self.tokens
    }

    /// The identities that connect by tokens.
    pub fn token_identities(&self) -> impl Iterator<Item = &Arc<str>> {
        let all = self.identities.iter();
        all.filter(|(_, one)| one.tokens).map(|(name, _)| name)
    }

    /// Whether a name is asked for a token, not for a password.
    pub fn by_token(&self, name: &str) -> bool {
        // Whether it is listed or not must not show. The forms of certificates' names are
        // nobody else's.
        if self.tokens.names(name) && !Name::is_form_of(name) {
            return true;
        }
        match self.identities.get(name).filter(|one| !one.disabled) {
            Some(identity) if identity.tokens => true,
            Some(identity) if identity.verifier.is_some() => false,
            _ => self.stand_ins.by_token(name),
        }
    }

    /// Who has a token, under that name, for that dataset.
    ///
    /// # Errors
    /// As [`TokenError`] says.
    pub fn bearer(
        &self,
        name: &str,
        dataset: &str,
        token: &str,
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        let verified = self.tokens.verify(token, now)?;
        let (actor, kind) = verified.actor;
        if *actor != *name {
            return Err(TokenError::Subject);
        }
        if verified.token.issuer.is_some() {
            return self.grouped(&actor, kind, verified.token.into());
        }
        let own = self.by_its_token(name)?;
        if own.kind != kind {
            return Err(TokenError::Kind);
        }
        let mut chosen = verified.token.roles.iter().flatten();
        if !chosen.all(|role| own.roles.contains(role)) {
            return Err(TokenError::Roles);
        }
        let on_behalf_of = match verified.on_behalf_of {
            None => None,
            Some((human, _)) if *human == *name => return Err(TokenError::Delegation),
            Some((human, kind)) => Some(Box::new(self.delegating(&human, kind)?)),
        };
        let principal = Principal {
            on_behalf_of,
            ..own.carrying(verified.token.into())
        };
        match principal.may_ask(dataset) {
            true => Ok(principal),
            false => Err(TokenError::Dataset),
        }
    }

    /// Somebody who came with a token, as policy now has them.
    ///
    /// # Errors
    /// Where they may not be here any longer.
    pub(crate) fn still(
        &self,
        known: &Principal,
        token: &Arc<Token>,
        now: Timestamp,
    ) -> Result<Principal, TokenError> {
        self.tokens.admits(token, known.names(), now)?;
        if token.issuer.is_some() {
            return self.grouped(&known.name, known.kind, token.clone());
        }
        let human = known.on_behalf_of.as_deref();
        let human = human.map(|human| self.delegating(&human.name, human.kind));
        Ok(Principal {
            on_behalf_of: human.transpose()?.map(Box::new),
            ..self.by_its_token(&known.name)?.carrying(token.clone())
        })
    }

    /// Somebody whom an issuer names and policy does not, with the roles of their groups.
    /// An identity that is listed is nobody else's to name.
    fn grouped(
        &self,
        name: &Arc<str>,
        kind: Kind,
        token: Arc<Token>,
    ) -> Result<Principal, TokenError> {
        if self.identities.contains_key(name) || Name::is_form_of(name) {
            return Err(TokenError::Identity);
        }
        let mut roles: Vec<Arc<str>> = Vec::new();
        let own = self
            .groups
            .iter()
            .filter(|(group, _)| token.groups.contains(group));
        for role in own.flat_map(|(_, roles)| roles) {
            if !roles.contains(role) {
                roles.push(role.clone());
            }
        }
        Ok(Principal {
            name: name.clone(),
            kind,
            roles,
            owner: None,
            on_behalf_of: None,
            method: Method::Token,
            mfa: false,
            token: Some(token),
            certificate: None,
        })
    }

    fn by_its_token(&self, name: &str) -> Result<Principal, TokenError> {
        let identity = self.identities.get(name).filter(|one| one.tokens);
        let principal = identity.and_then(|_| self.principal(name, Method::Token));
        principal.ok_or(TokenError::Identity)
    }

    /// Somebody on whose behalf others act: they prove nothing themselves.
    fn delegating(&self, name: &str, kind: Kind) -> Result<Principal, TokenError> {
        let human = self.principal(name, Method::Token);
        human
            .filter(|human| human.kind == Kind::Human && kind == Kind::Human)
            .ok_or(TokenError::Delegation)
    }
}

impl Principal {
    /// With that token, and of its roles those that the token uses.
    fn carrying(self, token: Arc<Token>) -> Self {
        let mut carrying = Self {
            token: Some(token),
            ..self
        };
        let mut roles = std::mem::take(&mut carrying.roles);
        roles.retain(|role| carrying.uses(role));
        Self { roles, ..carrying }
    }

    /// Whether its token, if it has one, is for that dataset.
    fn may_ask(&self, dataset: &str) -> bool {
        let only = self.token.as_ref().and_then(|token| token.dataset.as_ref());
        only.is_none_or(|only| **only == *dataset)
    }
}
