//! `tls-server-end-point` (RFC 5929 section 4.1): the hash of our certificate by
//! which a SCRAM proof is bound to the TLS channel.
//!
//! Knows nothing about TLS or SCRAM. The hash is that of the certificate's own
//! signature algorithm, MD5 and SHA-1 replaced by SHA-256. Where the algorithm
//! names none (Ed25519) the channel binding is undefined: libpq and Postgres fail
//! there too, so it must not be offered.

use ring::digest;

use crate::der::{OID, SEQUENCE, element};

/// `[0]`, constructed: RSASSA-PSS's hashAlgorithm (RFC 4055 section 3.1).
const CONTEXT_0: u8 = 0xa0;

/// The hash of a DER certificate, if it is defined.
pub(super) fn hash(certificate: &[u8]) -> Option<Vec<u8>> {
    let algorithm = signature_hash(certificate)?;
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// `Certificate ::= SEQUENCE { tbsCertificate, signatureAlgorithm, signature }`
fn signature_hash(certificate: &[u8]) -> Option<&'static digest::Algorithm> {
    let (fields, _) = element(certificate, SEQUENCE)?;
    let (_tbs, rest) = element(fields, SEQUENCE)?;
    let (algorithm, _) = element(rest, SEQUENCE)?;
    let (oid, parameters) = element(algorithm, OID)?;
    match oid {
        // 1.2.840.113549.1.1.10: RSASSA-PSS names its hash in the parameters.
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10] => pss_hash(parameters),
        // 1.2.840.113549.1.1.*: RSA with …
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, with] => match with {
            4 | 5 | 11 => Some(&digest::SHA256), // MD5, SHA-1, SHA-256
            12 => Some(&digest::SHA384),
            13 => Some(&digest::SHA512),
            _ => None,
        },
        // 1.2.840.10045.4.1: ECDSA with SHA-1
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 1] => Some(&digest::SHA256),
        // 1.2.840.10045.4.3.*: ECDSA with …
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, with] => match with {
            2 => Some(&digest::SHA256),
            3 => Some(&digest::SHA384),
            4 => Some(&digest::SHA512),
            _ => None,
        },
        _ => None,
    }
}

fn pss_hash(parameters: &[u8]) -> Option<&'static digest::Algorithm> {
    let (parameters, _) = element(parameters, SEQUENCE)?;
    let Some((hash, _)) = element(parameters, CONTEXT_0) else {
        return Some(&digest::SHA256); // the default is SHA-1
    };
    let (hash, _) = element(hash, SEQUENCE)?;
    let (oid, _) = element(hash, OID)?;
    match oid {
        [0x2b, 0x0e, 3, 2, 26] => Some(&digest::SHA256), // SHA-1
        // 2.16.840.1.101.3.4.2.*: SHA-…
        [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, which] => match which {
            1 => Some(&digest::SHA256),
            2 => Some(&digest::SHA384),
            3 => Some(&digest::SHA512),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A certificate's bones: as much of one as is looked into.
    fn bones(algorithm: &[u8]) -> Vec<u8> {
        let wrap = |tag: u8, content: &[u8]| {
            let mut out = vec![tag, 0x82];
            out.extend_from_slice(&u16::try_from(content.len()).unwrap().to_be_bytes());
            out.extend_from_slice(content);
            out
        };
        let mut fields = wrap(SEQUENCE, &[0x02, 1, 1]);
        fields.extend(wrap(SEQUENCE, algorithm));
        fields.extend([0x03, 1, 0]);
        wrap(SEQUENCE, &fields)
    }

    fn length(algorithm: &[u8]) -> Option<usize> {
        hash(&bones(algorithm)).map(|hash| hash.len())
    }

    #[test]
    fn takes_the_hash_of_the_signature() {
        let rsa = |with| [OID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, with, 5, 0];
        let ecdsa = |with| [OID, 8, 0x2a, 0x86, 0x48, 0xce, 0x3d, 4, 3, with];
        assert_eq!(length(&rsa(4)), Some(32), "MD5 becomes SHA-256");
        assert_eq!(length(&rsa(5)), Some(32), "SHA-1 becomes SHA-256");
        assert_eq!(length(&rsa(11)), Some(32));
        assert_eq!(length(&rsa(12)), Some(48));
        assert_eq!(length(&rsa(13)), Some(64));
        assert_eq!(length(&rsa(14)), None, "SHA-224 is not served");
        assert_eq!(length(&ecdsa(2)), Some(32));
        assert_eq!(length(&ecdsa(3)), Some(48));
        assert_eq!(length(&ecdsa(4)), Some(64));
        assert_eq!(length(&[OID, 3, 0x2b, 0x65, 0x70]), None, "Ed25519");
    }

    #[test]
    fn reads_the_hash_of_pss() {
        let pss = |parameters: &[u8]| {
            let mut out = vec![OID, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
            out.extend_from_slice(parameters);
            length(&out)
        };
        assert_eq!(pss(&[SEQUENCE, 0]), Some(32));
        let sha512 = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 3];
        let mut parameters = vec![SEQUENCE, 15, CONTEXT_0, 13, SEQUENCE, 11, OID, 9];
        parameters.extend_from_slice(&sha512);
        assert_eq!(pss(&parameters), Some(64));
        assert_eq!(pss(&[]), None);
    }

    #[test]
    fn never_reads_past_the_end() {
        let whole = bones(&[OID, 3, 0x2b, 0x65, 0x70]);
        for end in 0..whole.len() {
            let _ = hash(&whole[..end]);
        }
        assert_eq!(hash(&[SEQUENCE, 0x84, 255, 255, 255, 255]), None);
        assert_eq!(
            hash(&[SEQUENCE, 0x88, 255, 255, 255, 255, 255, 255, 255, 255]),
            None
        );
        assert_eq!(hash(&[SEQUENCE, 0x80, 0]), None);
    }
}
