//! Certificates held against policy: whose one is, and who needs one beside.
//!
//! Knows nothing about how a certificate is verified. Invariants: a certificate is at most
//! one identity's; one of whose names is listed is nobody's but that identity's, be it
//! disabled; who is listed nowhere connects by the name in their certificate, in full, and
//! no listed identity has a name of that form.

use std::sync::Arc;

use jiff::Timestamp;

use super::Policy;
use crate::identity::certificate::{
    Certificate, CertificateError, Name, Presented, Template, Trust,
};
use crate::identity::{Method, Principal};

impl Policy {
    /// With what certificates are verified by.
    pub fn certified_by(mut self, trust: Option<Arc<Trust>>) -> Self {
        self.trust = trust;
        self
    }

    /// What certificates are verified by, if those of clients are asked for.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.trust.as_ref()
    }

    /// What a client has shown, verified.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    pub fn verify(
        &self,
        presented: &Presented,
        now: Timestamp,
    ) -> Result<Certificate, CertificateError> {
        let trust = self.trust.as_ref().ok_or(CertificateError::None)?;
        trust.verify(presented, now)
    }

    /// What was taken once, verified again.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    pub fn verify_again(
        &self,
        shown: &Certificate,
        now: Timestamp,
    ) -> Result<Certificate, CertificateError> {
        let trust = self.trust.as_ref().ok_or(CertificateError::None)?;
        trust.again(shown, now)
    }

    /// Whose certificate it is, by that name.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    pub fn certified(
        &self,
        name: &str,
        shown: &Certificate,
    ) -> Result<Principal, CertificateError> {
        let mut listed = shown
            .names
            .iter()
            .filter_map(|own| self.certificates.get_key_value(own));
        if let Some((own, identity)) = listed.next() {
            if listed.any(|(_, other)| other != identity) {
                return Err(CertificateError::Ambiguous);
            }
            if **identity != *name {
                return Err(CertificateError::Subject);
            }
            let principal = self.principal(name, Method::Certificate);
            return Ok(Principal {
                certificate: Some(shown.by(own)),
                ..principal.ok_or(CertificateError::Disabled)?
            });
        }
        let rule_of = |own: &Name| self.certified.iter().find(|rule| rule.names.matches(own));
        let own = shown.names.iter().find(|own| own.as_str() == name);
        let Some(own) = own else {
            let known = shown.names.iter().any(|own| rule_of(own).is_some());
            return Err(match known {
                true => CertificateError::Subject,
                false => CertificateError::Unknown,
            });
        };
        let rule = rule_of(own).ok_or(CertificateError::Unknown)?;
        Ok(Principal {
            name: own.text(),
            kind: rule.kind,
            roles: rule.roles.clone(),
            owner: rule.owner.clone(),
            on_behalf_of: None,
            method: Method::Certificate,
            mfa: None,
            verifier: None,
            token: None,
            certificate: Some(shown.by(own)),
        })
    }

    /// What keeps a name out for want of the right certificate, as far as that can be told
    /// before anything else has been proved.
    pub fn lacks(&self, name: &str, shown: Option<&Certificate>) -> Option<CertificateError> {
        let identity = self.identities.get(name).filter(|one| !one.disabled);
        let by_certificate = match identity {
            Some(identity) => identity.certificate.is_some(),
            None => Name::is_form_of(name),
        };
        if by_certificate {
            let shown = shown.ok_or(CertificateError::Missing);
            return shown.and_then(|shown| self.certified(name, shown)).err();
        }
        let identity = identity?;
        // A token's may be fewer.
        let roles = match identity.tokens {
            true => &[],
            false => identity.roles.as_slice(),
        };
        let wanted = self.wanted(name, roles);
        beside(name, &wanted, shown).err()
    }

    /// Somebody who has proved who they are, with the certificate that they need beside.
    ///
    /// # Errors
    /// As [`CertificateError`] says.
    pub fn bound(
        &self,
        principal: Principal,
        shown: Option<&Certificate>,
    ) -> Result<Principal, CertificateError> {
        // Theirs has been shown.
        if principal.method == Method::Certificate {
            return Ok(principal);
        }
        let wanted = self.wanted(&principal.name, &principal.roles);
        let certificate = beside(&principal.name, &wanted, shown)?;
        Ok(Principal {
            certificate,
            ..principal
        })
    }

    /// What somebody with those roles must show beside.
    fn wanted(&self, name: &str, roles: &[Arc<str>]) -> Vec<&Template> {
        let identity = self.identities.get(name);
        let own = identity.and_then(|identity| identity.clientcert.as_ref());
        let roles = roles.iter().filter_map(|role| self.clientcerts.get(role));
        own.into_iter().chain(roles).collect()
    }

    /// The identities that connect by certificates or need one beside.
    pub fn certificate_identities(&self) -> impl Iterator<Item = &Arc<str>> {
        let of = |role: &Arc<str>| self.clientcerts.contains_key(role);
        let all = self.identities.iter().filter(|(_, one)| !one.disabled);
        let needs = all.filter(move |(_, one)| {
            one.certificate.is_some() || one.clientcert.is_some() || one.roles.iter().any(of)
        });
        needs.map(|(name, _)| name)
    }
}

/// The certificate that has all the names that are wanted, if any is.
fn beside(
    name: &str,
    wanted: &[&Template],
    shown: Option<&Certificate>,
) -> Result<Option<Arc<Certificate>>, CertificateError> {
    if wanted.is_empty() {
        return Ok(None);
    }
    let shown = shown.ok_or(CertificateError::Missing)?;
    let mut counted = None;
    for template in wanted {
        let own = template.of(name).filter(|own| shown.names.contains(own));
        counted = Some(own.ok_or(CertificateError::Subject)?);
    }
    Ok(counted.map(|own| shown.by(&own)))
}
