//! An authority of a test's own, and certificates and lists of revocations by it.

use std::ops::Deref;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertificateRevocationListParams, CertifiedIssuer, DnType,
    DnValue, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, KeyIdMethod, KeyPair, KeyUsagePurpose,
    NameConstraints, RevokedCertParams, SanType, SerialNumber, date_time_ymd,
};

/// Seconds from now, before it where negative.
pub type Seconds = i64;

const HOUR: Seconds = 3600;

/// Who issues certificates.
pub struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate with its key, PEM.
#[derive(Clone)]
pub struct Issued {
    pub certificate: String,
    pub key: String,
    pub der: Vec<u8>,
}

/// What is unusual about a certificate.
pub struct Unusual {
    pub from: Seconds,
    pub until: Seconds,
    pub serial: u64,
    pub for_servers: bool,
}

impl Default for Unusual {
    fn default() -> Self {
        Self {
            from: -HOUR,
            until: HOUR,
            serial: 7,
            for_servers: false,
        }
    }
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let ca = parameters(name);
        Self(CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap())
    }

    /// One that is one until then.
    pub fn until(name: &str, until: Seconds) -> Self {
        let mut ca = parameters(name);
        ca.not_after = date_time_ymd(1970, 1, 1) + at(until);
        Self(CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap())
    }

    /// One that this one vouches for.
    pub fn below(&self, name: &str) -> Self {
        let ca = parameters(name);
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(ca, key, &self.0).unwrap())
    }

    /// One that this one lets vouch for hosts of that domain.
    pub fn within(&self, name: &str, domain: &str) -> Self {
        let mut ca = parameters(name);
        ca.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(domain.into())],
            excluded_subtrees: Vec::new(),
        });
        let key = KeyPair::generate().unwrap();
        Self(CertifiedIssuer::signed_by(ca, key, &self.0).unwrap())
    }

    pub fn pem(&self) -> String {
        self.0.pem()
    }

    pub fn der(&self) -> Vec<u8> {
        self.0.der().to_vec()
    }

    /// With names as policy writes them, and `uri:` for any URI.
    pub fn issue(&self, names: &[&str]) -> Issued {
        self.unusual(names, &Unusual::default())
    }

    pub fn unusual(&self, names: &[&str], unusual: &Unusual) -> Issued {
        let mut leaf = CertificateParams::default();
        leaf.distinguished_name = rcgen::DistinguishedName::new();
        leaf.not_before = date_time_ymd(1970, 1, 1) + at(unusual.from);
        leaf.not_after = date_time_ymd(1970, 1, 1) + at(unusual.until);
        leaf.serial_number = Some(SerialNumber::from(unusual.serial));
        leaf.extended_key_usages = vec![match unusual.for_servers {
            true => ExtendedKeyUsagePurpose::ServerAuth,
            false => ExtendedKeyUsagePurpose::ClientAuth,
        }];
        for name in names {
            let (kind, text) = name.split_once(':').unwrap();
            let ia5 = |text: &str| text.try_into().unwrap();
            leaf.subject_alt_names.push(match kind {
                "spiffe" => SanType::URI(ia5(name)),
                "uri" => SanType::URI(ia5(text)),
                "dns" => SanType::DnsName(ia5(text)),
                "email" => SanType::Rfc822Name(ia5(text)),
                "cn" | "also" | "bmp" => {
                    let kind = match kind {
                        "cn" => DnType::CommonName,
                        // The same, once more.
                        _ => DnType::CustomDnType(vec![2, 5, 4, 3]),
                    };
                    let text = match name.starts_with("bmp:") {
                        true => DnValue::BmpString(text.try_into().unwrap()),
                        false => text.into(),
                    };
                    leaf.distinguished_name.push(kind, text);
                    continue;
                }
                other => panic!("{other}"),
            });
        }
        let key = KeyPair::generate().unwrap();
        let certificate = leaf.signed_by(&key, self.0.deref()).unwrap();
        Issued {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
            der: certificate.der().to_vec(),
        }
    }

    /// A list of what it has revoked, until there is to be another.
    pub fn list(&self, serials: &[u64], until: Seconds) -> String {
        self.list_of(-HOUR, serials, until)
    }

    /// The same, as it was then.
    pub fn list_of(&self, then: Seconds, serials: &[u64], until: Seconds) -> String {
        let list = CertificateRevocationListParams {
            this_update: date_time_ymd(1970, 1, 1) + at(then),
            next_update: date_time_ymd(1970, 1, 1) + at(until),
            crl_number: SerialNumber::from(1),
            issuing_distribution_point: None,
            revoked_certs: serials
                .iter()
                .map(|serial| RevokedCertParams {
                    serial_number: SerialNumber::from(*serial),
                    revocation_time: date_time_ymd(1970, 1, 1) + at(-60),
                    reason_code: None,
                    invalidity_date: None,
                })
                .collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        list.signed_by(self.0.deref()).unwrap().pem().unwrap()
    }
}

fn parameters(name: &str) -> CertificateParams {
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    ca.distinguished_name = rcgen::DistinguishedName::new();
    ca.distinguished_name.push(DnType::CommonName, name);
    ca
}

/// Since 1970.
fn at(seconds: Seconds) -> Duration {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Duration::from_secs(now.unwrap().as_secs().saturating_add_signed(seconds))
}
