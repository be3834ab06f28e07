//! The fields of a certificate that count here (RFC 5280, section 4.1).
//!
//! Knows nothing about whether they are true: rustls verifies the certificate, signature
//! included, and this reads the same bytes. What cannot be read for certain is an error.

use jiff::Timestamp;
use ring::digest::{SHA256, digest};

use super::{CertificateError, Name};
use crate::der::{
    BIT_STRING, BOOLEAN, INTEGER, OCTET_STRING, OID, SEQUENCE, SET, any, element, time,
};

/// `[0]`, `[1]`, `[2]`, `[3]` of `TBSCertificate`.
const VERSION: u8 = 0xa0;
const ISSUER_ID: u8 = 0x81;
const SUBJECT_ID: u8 = 0x82;
const EXTENSIONS: u8 = 0xa3;
/// `id-ce-subjectAltName`: 2.5.29.17.
const ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
/// `id-ce-nameConstraints`: 2.5.29.30.
const CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];
/// `id-at-commonName`: 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// `GeneralName`s: `rfc822Name`, `dNSName`, `uniformResourceIdentifier`.
const EMAIL: u8 = 0x81;
const DNS: u8 = 0x82;
const URI: u8 = 0x86;
/// `UTF8String`, `PrintableString`, `IA5String`.
const TEXTS: [u8; 3] = [0x0c, 0x13, 0x16];

/// What a certificate says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fields {
    pub(super) serial: String,
    pub(super) fingerprint: String,
    pub(super) expires: Timestamp,
    pub(super) names: Vec<Name>,
}

impl Fields {
    pub(super) fn read(der: &[u8]) -> Result<Self, CertificateError> {
        let head = Head::read(der).ok_or(CertificateError::Malformed("its fields"))?;
        let (subject, extensions) = head.rest()?;
        let alternatives = extensions.map(alternatives).transpose()?.flatten();
        Ok(Self {
            serial: hex(head.serial),
            fingerprint: sha256(der),
            expires: head.expires,
            names: names(subject, alternatives)?,
        })
    }
}

/// When a certificate ends.
pub(super) fn expires(der: &[u8]) -> Option<Timestamp> {
    Head::read(der).map(|head| head.expires)
}

/// Its serial number, in hex, if it is not too long (RFC 5280, section 4.1.2.2: 20 octets,
/// and one for those that count the sign apart).
pub(super) fn serial(der: &[u8]) -> Option<String> {
    let serial = Head::read(der)?.serial;
    (serial.len() <= 21).then(|| hex(serial))
}

/// Whether an authority may vouch for some names alone, as far as can be told.
pub(super) fn is_constrained(der: &[u8]) -> bool {
    let extensions = Head::read(der).and_then(|head| head.rest().ok());
    match extensions {
        Some((_, Some(all))) => !matches!(extension(all, CONSTRAINTS), Ok(None)),
        Some((_, None)) => false,
        None => true,
    }
}

/// `TBSCertificate` up to its validity.
struct Head<'a> {
    serial: &'a [u8],
    expires: Timestamp,
    /// From the subject on.
    rest: &'a [u8],
}

impl<'a> Head<'a> {
    fn read(der: &'a [u8]) -> Option<Self> {
        let (certificate, []) = element(der, SEQUENCE)? else {
            return None;
        };
        let (tbs, _) = element(certificate, SEQUENCE)?;
        let tbs = element(tbs, VERSION).map_or(tbs, |(_, rest)| rest);
        let (serial, rest) = element(tbs, INTEGER)?;
        let (_signature, rest) = element(rest, SEQUENCE)?;
        let (_issuer, rest) = element(rest, SEQUENCE)?;
        let (validity, rest) = element(rest, SEQUENCE)?;
        let (_from, until) = time(validity)?;
        let (expires, _) = time(until)?;
        Some(Self {
            serial,
            expires,
            rest,
        })
    }

    /// The subject, and the extensions if there are any.
    fn rest(&self) -> Result<(&'a [u8], Option<&'a [u8]>), CertificateError> {
        let malformed = CertificateError::Malformed;
        let skip = |rest, tag| element(rest, tag).map_or(rest, |(_, rest)| rest);
        let (subject, rest) = element(self.rest, SEQUENCE).ok_or(malformed("no subject"))?;
        let (_key, rest) = element(rest, SEQUENCE).ok_or(malformed("no key"))?;
        let rest = skip(skip(rest, ISSUER_ID), SUBJECT_ID);
        match element(rest, EXTENSIONS) {
            Some((extensions, [])) => Ok((subject, Some(extensions))),
            None if rest.is_empty() => Ok((subject, None)),
            _ => Err(malformed("its extensions")),
        }
    }
}

/// A list of revocations.
pub(super) struct List<'a> {
    /// Whose it is.
    pub(super) issuer: &'a [u8],
    /// Of when it is.
    pub(super) written: Timestamp,
    /// When there is to be another.
    pub(super) next: Option<Timestamp>,
    signed: &'a [u8],
    algorithm: &'a [u8],
    signature: &'a [u8],
}

impl<'a> List<'a> {
    /// `TBSCertList ::= SEQUENCE { version, signature, issuer, thisUpdate, nextUpdate, … }`
    pub(super) fn read(der: &'a [u8]) -> Option<Self> {
        let (list, _) = element(der, SEQUENCE)?;
        let (tbs, rest) = element(list, SEQUENCE)?;
        let signed = list.get(..list.len().checked_sub(rest.len())?)?;
        let (algorithm, rest) = element(rest, SEQUENCE)?;
        let signature = bits(rest)?;
        let tbs = element(tbs, INTEGER).map_or(tbs, |(_, rest)| rest);
        let (_signature, rest) = element(tbs, SEQUENCE)?;
        let (issuer, rest) = element(rest, SEQUENCE)?;
        let (written, rest) = time(rest)?;
        Some(Self {
            issuer,
            written,
            next: time(rest).map(|(next, _)| next),
            signed,
            algorithm,
            signature,
        })
    }

    /// Whether whoever has that key, the content of a `SubjectPublicKeyInfo`, signed it.
    pub(super) fn is_signed_by(&self, key: &[u8]) -> bool {
        let key = element(key, SEQUENCE).and_then(|(kind, rest)| Some((kind, bits(rest)?)));
        let Some((kind, key)) = key else {
            return false;
        };
        let all = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        all.all.iter().any(|one| {
            one.signature_alg_id().as_ref() == self.algorithm
                && one.public_key_alg_id().as_ref() == kind
                && one
                    .verify_signature(key, self.signed, self.signature)
                    .is_ok()
        })
    }
}

/// Whole bytes in a `BIT STRING`.
fn bits(der: &[u8]) -> Option<&[u8]> {
    let (content, _) = element(der, BIT_STRING)?;
    content.strip_prefix(&[0])
}

/// The content of the extension `subjectAltName`, if there is one.
fn alternatives(extensions: &[u8]) -> Result<Option<&[u8]>, CertificateError> {
    let Some(value) = extension(extensions, ALT_NAME)? else {
        return Ok(None);
    };
    match element(value, SEQUENCE) {
        Some((names, [])) => Ok(Some(names)),
        _ => Err(CertificateError::Malformed("its extensions")),
    }
}

/// The value of an extension, if there is one.
fn extension<'a>(
    extensions: &'a [u8],
    wanted: &[u8],
) -> Result<Option<&'a [u8]>, CertificateError> {
    let malformed = || CertificateError::Malformed("its extensions");
    let (mut rest, end) = element(extensions, SEQUENCE).ok_or_else(malformed)?;
    if !end.is_empty() {
        return Err(malformed());
    }
    let mut found = None;
    while !rest.is_empty() {
        let (extension, after) = element(rest, SEQUENCE).ok_or_else(malformed)?;
        rest = after;
        let (oid, value) = element(extension, OID).ok_or_else(malformed)?;
        if oid != wanted {
            continue;
        }
        let value = element(value, BOOLEAN).map_or(value, |(_, value)| value);
        let (Some((value, [])), None) = (element(value, OCTET_STRING), found) else {
            return Err(malformed());
        };
        found = Some(value);
    }
    Ok(found)
}

/// The names that count. One that has a SPIFFE ID is known by that alone: what else stands
/// in such a certificate its workload may have chosen.
fn names(subject: &[u8], alternatives: Option<&[u8]>) -> Result<Vec<Name>, CertificateError> {
    let malformed = || CertificateError::Malformed("its alternative names");
    let mut names = Vec::new();
    let mut uris = Vec::new();
    let mut rest = alternatives.unwrap_or_default();
    while !rest.is_empty() {
        let (tag, content, after) = any(rest).ok_or_else(malformed)?;
        rest = after;
        if !matches!(tag, EMAIL | DNS | URI) {
            continue;
        }
        let text = std::str::from_utf8(content).map_err(|_| malformed())?;
        if !text.is_ascii() || text.contains(char::is_control) {
            return Err(malformed());
        }
        match tag {
            EMAIL => names.extend(Name::email(text)),
            DNS => names.extend(Name::dns(text)),
            _ => uris.push(text),
        }
    }
    // SPIFFE's X509-SVID.md, section 2: exactly one; two of any scheme are refused.
    if uris.len() > 1 {
        return Err(CertificateError::Uris);
    }
    let is_spiffe = |uri: &&str| {
        let scheme = uri.get(.."spiffe:".len());
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
    };
    if let Some(uri) = uris.first().filter(|uri| is_spiffe(uri)) {
        let name = Name::spiffe(uri).ok_or(CertificateError::Spiffe)?;
        return Ok(vec![name]);
    }
    names.extend(common_name(subject));
    names.sort();
    names.dedup();
    Ok(names)
}

/// The only common name of a subject, if it is text.
fn common_name(subject: &[u8]) -> Option<Name> {
    let mut found = None;
    let mut rest = subject;
    while !rest.is_empty() {
        let (mut set, after) = element(rest, SET)?;
        rest = after;
        while !set.is_empty() {
            let (attribute, after) = element(set, SEQUENCE)?;
            set = after;
            let (oid, value) = element(attribute, OID)?;
            if oid != COMMON_NAME {
                continue;
            }
            let (tag, text, _) = any(value)?;
            let text = std::str::from_utf8(text).ok();
            let text = text.filter(|_| TEXTS.contains(&tag) && found.is_none())?;
            found = Some(text);
        }
    }
    Name::common(found?)
}

/// SHA-256, in hex.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex(digest(&SHA256, bytes).as_ref())
}

/// Digits, two for each byte.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
