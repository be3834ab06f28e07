//! TLS to Postgres, in libpq's modes.
//!
//! Knows nothing about authentication beyond what SCRAM binds to. The invariant: the
//! byte that answers SSLRequest is read alone, so that nothing sent in clear is ever
//! taken for something that came through TLS (CVE-2021-23222).
//!
//! <https://www.postgresql.org/docs/current/libpq-ssl.html>

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use ring::digest;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::connect::{Target, TlsMode, send};
use super::frame::frontend::put_ssl_request;
use super::refusal::Cause;
use super::stream::Stream;
use crate::roots;

/// TLS over a fresh connection, as the target's mode says.
pub(super) async fn negotiate(target: &Target, tcp: TcpStream) -> Result<Stream, Cause> {
    let mut stream = Stream::Tcp(tcp);
    if target.tls == TlsMode::Disable {
        return Ok(stream);
    }
    send(&mut stream, |out| {
        put_ssl_request(out);
        Ok(())
    })
    .await?;
    let answer = stream.read_u8().await?;
    let Stream::Tcp(tcp) = stream else {
        return Ok(stream);
    };
    match answer {
        b'S' => Ok(Stream::Tls(Box::new(handshake(target, tcp).await?))),
        b'N' if target.tls == TlsMode::Prefer => Ok(Stream::Tcp(tcp)),
        b'N' => Err(Cause::NoTls(target.tls.as_str())),
        // An error in clear could come from anybody on the way: it is not passed on
        // (CVE-2024-10977).
        b'E' => Err(Cause::Protocol("an error before TLS".into())),
        _ => Err(Cause::Protocol("SSLRequest is not answered".into())),
    }
}

async fn handshake(target: &Target, tcp: TcpStream) -> Result<TlsStream<TcpStream>, Cause> {
    let name = server_name(target, tcp.peer_addr()?)?;
    let config = config(target).await?;
    TlsConnector::from(Arc::new(config))
        .connect(name, tcp)
        .await
        .map_err(
            |error| match error.to_string().contains("CaUsedAsEndEntity") {
                true => Cause::Authority,
                false => Cause::Tls(error),
            },
        )
}

fn server_name(target: &Target, peer: SocketAddr) -> Result<ServerName<'static>, Cause> {
    match ServerName::try_from(target.host.clone()) {
        Ok(name) => Ok(name),
        Err(_) if target.tls == TlsMode::VerifyFull => Err(Cause::Setup(format!(
            "`{}` is not a name that a certificate can hold",
            target.host
        ))),
        Err(_) => Ok(ServerName::from(peer.ip())),
    }
}

async fn config(target: &Target) -> Result<ClientConfig, Cause> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let algorithms = provider.signature_verification_algorithms;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| Cause::Setup(error.to_string()))?;
    let roots = match (target.tls, &target.ca) {
        (TlsMode::Disable | TlsMode::Prefer, _) | (TlsMode::Require, None) => None,
        // As libpq: whoever names a CA means it, in `require` too.
        (TlsMode::Require | TlsMode::VerifyCa | TlsMode::VerifyFull, Some(ca)) => {
            Some(roots(ca).await?)
        }
        (TlsMode::VerifyCa | TlsMode::VerifyFull, None) => {
            let mode = target.tls.as_str();
            return Err(Cause::Setup(format!("`tls: {mode}` needs a `ca` file")));
        }
    };
    let mut config = match (target.tls, roots) {
        (TlsMode::VerifyFull, Some(roots)) => builder.with_root_certificates(roots),
        (_, roots) => builder
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Lenient { roots, algorithms })),
    }
    .with_no_client_auth();
    // Names the protocol, so that a server of another kind refuses (ALPACA).
    config.alpn_protocols = vec![b"postgresql".to_vec()];
    Ok(config)
}

async fn roots(path: &Path) -> Result<RootCertStore, Cause> {
    let wrong = |what: String| Cause::Setup(format!("the CA file `{}` {what}", path.display()));
    let pem = tokio::fs::read(path)
        .await
        .map_err(|error| wrong(format!("cannot be read: {error}")))?;
    roots::store(&pem).map_err(|error| wrong(error.to_string()))
}

/// Checks less than the host's name: the chain only (`verify-ca`), or, without
/// roots, nothing (`prefer`, `require`), as those modes are defined.
#[derive(Debug)]
struct Lenient {
    roots: Option<RootCertStore>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Lenient {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if let Some(roots) = &self.roots {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            verify_server_cert_signed_by_trust_anchor(
                &certificate,
                roots,
                intermediates,
                now,
                self.algorithms.all,
            )?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// The `tls-server-end-point` channel binding of this connection, where it has one.
pub(super) fn end_point(tls: &TlsStream<TcpStream>) -> Option<Vec<u8>> {
    let (_, connection) = tls.get_ref();
    certificate_hash(connection.peer_certificates()?.first()?)
}

/// The certificate's hash by the algorithm that signed it, where MD5 and SHA-1 give
/// way to SHA-256 (RFC 5929 §4.1). Undefined for signatures without such a hash
/// (Ed25519); those that ring cannot compute, and RSA-PSS, count as undefined too:
/// then the channel is not bound, as libpq does with old OpenSSL.
fn certificate_hash(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
    const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];
    let oid = signature_algorithm(certificate)?;
    let algorithm = match (oid.strip_prefix(RSA), oid.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => &digest::SHA256,
        (Some([12]), _) | (_, Some([3, 3])) => &digest::SHA384,
        (Some([13]), _) | (_, Some([3, 4])) => &digest::SHA512,
        _ => return None,
    };
    Some(digest::digest(algorithm, certificate).as_ref().to_vec())
}

/// The OID in `signatureAlgorithm`, the second field of a Certificate (RFC 5280
/// §4.1.1.2).
fn signature_algorithm(certificate: &[u8]) -> Option<&[u8]> {
    const SEQUENCE: u8 = 0x30;
    const OID: u8 = 0x06;
    let (fields, _) = der(SEQUENCE, certificate)?;
    let (_to_be_signed, fields) = der(SEQUENCE, fields)?;
    let (algorithm, _) = der(SEQUENCE, fields)?;
    Some(der(OID, algorithm)?.0)
}

/// Content of the first DER value, which must have this tag, and what follows it.
fn der(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, bytes) = bytes.split_first()?;
    let (&first, bytes) = bytes.split_first()?;
    let (len, bytes) = match first {
        0..=0x7f => (usize::from(first), bytes),
        0x81..=0x84 => {
            let (len, bytes) = bytes.split_at_checked(usize::from(first & 0x7f))?;
            let len = len
                .iter()
                .fold(0usize, |len, byte| len << 8 | usize::from(*byte));
            (len, bytes)
        }
        _ => return None,
    };
    (found == tag).then(|| bytes.split_at_checked(len))?
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upstream::noise::Noise;

    #[test]
    fn the_hash_follows_the_signature() {
        for (algorithm, hash) in [
            (&rcgen::PKCS_ECDSA_P256_SHA256, Some(&digest::SHA256)),
            (&rcgen::PKCS_ECDSA_P384_SHA384, Some(&digest::SHA384)),
            (&rcgen::PKCS_ED25519, None),
        ] {
            let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
            let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
                .unwrap()
                .self_signed(&key)
                .unwrap();
            let der = certificate.der();
            assert_eq!(
                certificate_hash(der),
                hash.map(|hash| digest::digest(hash, der).as_ref().to_vec())
            );
        }
    }

    #[test]
    fn noise_never_panics() {
        let mut noise = Noise::new(21);
        for _ in 0..50_000 {
            let mut bytes = noise.bytes(40);
            if let Some(first) = bytes.first_mut() {
                *first = 0x30;
            }
            let _ = certificate_hash(&bytes);
        }
    }

    /// What `openssl req -x509` makes unless told otherwise.
    #[tokio::test]
    async fn an_authority_is_no_server_and_that_is_said() {
        let mut params = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let key = rcgen::KeyPair::generate().unwrap();
        let own = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("server.crt");
        std::fs::write(&ca, own.pem()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![own.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let tcp = TcpStream::connect(listener.local_addr().unwrap())
            .await
            .unwrap();
        let served = tokio::spawn(async move {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            acceptor.accept(tcp).await.err()
        });
        let target = Target {
            dataset: "shop".into(),
            host: "localhost".into(),
            port: 0,
            dbname: "shop".into(),
            user: "pgveil".into(),
            password: None,
            tls: TlsMode::VerifyFull,
            ca: Some(ca),
            allow_superuser: false,
            timeout: std::time::Duration::from_secs(5),
        };
        let cause = handshake(&target, tcp).await.unwrap_err();
        assert!(cause.to_string().contains("CA:FALSE"), "{cause}");
        served.await.unwrap();
    }
}
