//! Tokens held against policy: what one says of an identity must be so.
//!
//! Knows nothing about how a token is signed. Invariant: nobody is more by a token than
//! policy makes them, when they connect and for as long as they stay.

use std::sync::Arc;

use jiff::Timestamp;

use super::Policy;
use super::model::Identity;
use crate::identity::certificate::Name;
use crate::identity::token::{Token, TokenError, Tokens};
use crate::identity::totp::Sealed;
use crate::identity::verifier::Verifier;
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

    /// The sealed secret of a human's second factor.
    pub fn second_factor(&self, name: &str) -> Option<&Sealed> {
        let identity = self.identities.get(name).filter(|one| !one.disabled)?;
        identity.totp.as_ref()
    }

    /// Whether a name is asked for a token, not for a password.
    pub fn by_token(&self, name: &str) -> bool {
        // Whether it is listed or not must not show, nor take another time. The forms of
        // certificates' names are nobody else's.
        let issued = self.tokens.names(name) && !Name::is_form_of(name);
        let stand_in = self.stand_ins.by_token(name);
        let identity = self.identities.get(name).filter(|one| !one.disabled);
        let own = match identity {
            Some(identity) if identity.tokens => true,
            Some(identity) if identity.verifier.is_some() => false,
            _ => stand_in,
        };
        issued || own
    }

    /// Whether a name, which is asked for a token, is asked for it by OAUTHBEARER.
    pub fn by_oauth(&self, name: &str) -> bool {
        self.tokens.by_oauth(name)
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
            let token = Arc::new(verified.token);
            return match verified.on_behalf_of {
                None => self.grouped(&actor, kind, token),
                Some((human, kind)) => self.acting(&actor, (&human, kind), token),
            };
        }
        let human = verified.on_behalf_of.as_ref();
        self.unchanged(human.map_or(&actor, |(human, _)| human), &verified.token)?;
        let own = self.by_its_token(name, &verified.token, human.is_none())?;
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
            Some((human, kind)) => Some((human, kind)),
        };
        let token = Arc::new(verified.token);
        let human = on_behalf_of
            .map(|(human, kind)| self.delegating((&human, kind), name, &token))
            .transpose()?;
        let factor = self.proved(name, &token);
        let principal = own.carrying(token, factor, human);
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
        let human = known.on_behalf_of.as_deref();
        if token.issuer.is_some() {
            return match human {
                None => self.grouped(&known.name, known.kind, token.clone()),
                Some(human) => self.acting(&known.name, (&human.name, human.kind), token.clone()),
            };
        }
        self.unchanged(human.map_or(&known.name, |human| &human.name), token)?;
        let human =
            human.map(|human| self.delegating((&human.name, human.kind), &known.name, token));
        let own = self.by_its_token(&known.name, token, human.is_none())?;
        let factor = self.proved(&known.name, token);
        Ok(own.carrying(token.clone(), factor, human.transpose()?))
    }

    /// An agent of policy's that an issuer says acts on behalf of somebody whom it names.
    fn acting(
        &self,
        agent: &str,
        (human, kind): (&Arc<str>, Kind),
        token: Arc<Token>,
    ) -> Result<Principal, TokenError> {
        let own = self.by_its_token(agent, &token, false)?;
        if own.kind == Kind::Human || kind != Kind::Human {
            return Err(TokenError::Delegation);
        }
        let human = Principal {
            token: None,
            ..self.grouped(human, kind, token.clone())?
        };
        Ok(own.carrying(token, None, Some(human)))
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
            // Nobody but a human has a second factor.
            mfa: token.second_factor.filter(|_| kind == Kind::Human),
            verifier: None,
            token: Some(token),
            certificate: None,
        })
    }

    /// Whoever connects by tokens, or has one that was got by a password and a code.
    fn by_its_token(
        &self,
        name: &str,
        token: &Token,
        alone: bool,
    ) -> Result<Principal, TokenError> {
        let identity = self.identities.get(name);
        let stepped_up =
            |one: &Identity| alone && one.totp.is_some() && token.second_factor.is_some();
        let identity = identity.filter(|one| one.tokens || stepped_up(one));
        let principal = identity.and_then(|_| self.principal(name, Method::Token));
        principal.ok_or(TokenError::Identity)
    }

    /// What a token is bound to that somebody gets by a password and a code: to both, as long
    /// as the password is the one that they have proved.
    pub(crate) fn credential(&self, proved: &Principal) -> Option<Arc<str>> {
        let (verifier, sealed) = self.both(&proved.name)?;
        let own = proved.verifier == Some(verifier.fingerprint());
        own.then(|| sealed.beside(verifier))
    }

    fn both(&self, name: &str) -> Option<(&Verifier, &Sealed)> {
        let identity = self.identities.get(name).filter(|one| !one.disabled)?;
        identity.verifier.as_ref().zip(identity.totp.as_ref())
    }

    /// Whether the password and the second factor that a token was got by are still its
    /// subject's: whoever has others has taken back what was got by those.
    fn unchanged(&self, subject: &str, token: &Token) -> Result<(), TokenError> {
        let own = |(verifier, sealed): (&_, &Sealed)| Some(sealed.beside(verifier));
        let by_both = token.second_factor.is_some() || token.credential.is_some();
        match by_both && token.credential != self.both(subject).and_then(own) {
            true => Err(TokenError::Credential),
            false => Ok(()),
        }
    }

    /// When somebody proved a second factor, for as long as policy knows of it.
    fn proved(&self, name: &str, token: &Token) -> Option<Timestamp> {
        let identity = self.identities.get(name)?;
        token.second_factor.filter(|_| identity.totp.is_some())
    }

    /// Somebody on whose behalf others act: all that they have proved is what the token
    /// says of them.
    fn delegating(
        &self,
        (name, kind): (&str, Kind),
        actor: &str,
        token: &Token,
    ) -> Result<Principal, TokenError> {
        let human = self.principal(name, Method::Token);
        let human = human
            .filter(|human| human.kind == Kind::Human && kind == Kind::Human)
            .ok_or(TokenError::Delegation)?;
        let identity = self.identities.get(name);
        let may_act = identity.and_then(|identity| identity.may_act.as_ref());
        if may_act.is_some_and(|agents| !agents.contains(actor)) {
            return Err(TokenError::MayAct);
        }
        Ok(Principal {
            mfa: self.proved(name, token),
            ..human
        })
    }
}

impl Principal {
    /// With that token, on behalf of that human, and of its roles those that the token
    /// uses. Whatever the token's subject has proved, nobody else has.
    fn carrying(self, token: Arc<Token>, factor: Option<Timestamp>, human: Option<Self>) -> Self {
        let mut carrying = Self {
            mfa: factor.filter(|_| human.is_none()),
            on_behalf_of: human.map(Box::new),
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
