//! TLS towards clients: rustls with ring, TLS 1.2 and 1.3.
//!
//! Knows nothing about the Postgres protocol but its ALPN name. Invariants: the
//! certificate that is presented is the one whose hash SCRAM binds to; of a client's own,
//! the handshake proves that the client has its key, and nothing more: whether it holds is
//! asked afterwards, of each connection, as it is asked again while the session lasts. So
//! no session is resumed, which would bring back a certificate that nobody looks at, and a
//! client hears in words that its certificate is not taken.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use ring::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use rustls::server::NoServerSessionStorage;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    DigitallySignedStruct, DistinguishedName, ProtocolVersion, ServerConfig, ServerConnection,
    SignatureScheme,
};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::endpoint;
use crate::config::ServerTls;
use crate::identity::certificate::{Presented, Trust, TrustError};

/// The protocol's name in ALPN, required for direct TLS.
///
/// Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>
pub(super) const ALPN: &[u8] = b"postgresql";

/// A certificate with its key, and whose certificates are taken: ready to serve.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    /// `tls-server-end-point` of the certificate, where it is defined.
    endpoint: Option<Arc<[u8]>>,
    fingerprint: String,
    trust: Option<Arc<Trust>>,
}

/// What was negotiated with a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsInfo {
    /// As Postgres names it: `TLSv1.3`.
    pub version: &'static str,
    /// As IANA names it: `TLS_AES_256_GCM_SHA384`.
    pub cipher: String,
    /// The host name the client asked for (SNI), if any.
    pub server_name: Option<String>,
    /// `tls-server-end-point` of the certificate that this client was given, where it is
    /// defined.
    pub(super) endpoint: Option<Arc<[u8]>>,
    /// Whether the client was asked for a certificate of its own.
    pub(super) asked: bool,
    /// That, if it showed one.
    pub(super) presented: Option<Presented>,
}

/// Why the certificate or key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read as PEM.
    #[error("{path}: {source}")]
    Pem {
        /// Which file
        path: PathBuf,
        /// Why
        source: rustls::pki_types::pem::Error,
    },
    /// A file without a certificate.
    #[error("{0}: no certificate in it")]
    NoCertificate(PathBuf),
    /// The two do not fit, or are not supported.
    #[error("{path}: {source}")]
    Pair {
        /// The certificate's file
        path: PathBuf,
        /// Why
        source: rustls::Error,
    },
    /// The authorities of clients, or their lists of revocations.
    #[error(transparent)]
    Trust(#[from] TrustError),
}

impl Tls {
    /// Reads a certificate chain (the server's own first) and its key, and the authorities
    /// of clients, all as PEM; in place of those `before`, if there were any.
    ///
    /// # Errors
    /// As [`TlsError`] says.
    pub fn load(files: &ServerTls, before: Option<&Self>) -> Result<Self, TlsError> {
        let (certificate, key) = (&files.certificate, &files.key);
        let pem = |path: &PathBuf| {
            let path = path.to_owned();
            move |source| TlsError::Pem { path, source }
        };
        let chain = CertificateDer::pem_file_iter(certificate)
            .map_err(pem(certificate))?
            .collect::<Result<Vec<_>, _>>()
            .map_err(pem(certificate))?;
        let Some(own) = chain.first() else {
            return Err(TlsError::NoCertificate(certificate.to_owned()));
        };
        let endpoint = endpoint::hash(own).map(Into::into);
        let fingerprint = digest(&SHA256, own);
        let digits = |byte: &u8| format!("{byte:02x}");
        let fingerprint = fingerprint.as_ref().iter().map(digits).collect();
        let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;

        let pair = |source| TlsError::Pair {
            path: certificate.to_owned(),
            source,
        };
        // Named here, and not the process's default: whoever links this crate may
        // have another one.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(pair)?;
        let trust = match &files.client_ca {
            Some(ca) => {
                let before = before.and_then(|before| before.trust.as_deref());
                Some(Arc::new(Trust::load(ca, &files.client_crls, before)?))
            }
            None => None,
        };
        let config = match &trust {
            Some(trust) => config.with_client_cert_verifier(Arc::new(KeyAlone(trust.clone()))),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_single_cert(chain, key).map_err(pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            endpoint,
            fingerprint,
            trust,
        })
    }

    /// The same, with what its clients' authorities have revoked meanwhile, as far as those
    /// files can be read; nothing, where that is the same.
    pub fn revoking(&self, files: &ServerTls) -> Option<Self> {
        let trust = self.trust.as_ref()?.revoking(&files.client_crls)?;
        Some(Self {
            trust: Some(Arc::new(trust)),
            ..self.clone()
        })
    }

    /// Whose certificates are taken, if those of clients are asked for.
    pub fn trust(&self) -> Option<&Arc<Trust>> {
        self.trust.as_ref()
    }

    /// SHA-256 of the certificate, in hex.
    pub fn fingerprint(&self) -> &str {
        &self.fingerprint
    }

    /// What was negotiated on one of its connections.
    pub(super) fn info(&self, connection: &ServerConnection) -> TlsInfo {
        let presented = connection.peer_certificates().and_then(Presented::new);
        TlsInfo {
            endpoint: self.endpoint.clone(),
            asked: self.trust.is_some(),
            presented,
            ..TlsInfo::of(connection)
        }
    }

    /// Negotiates TLS with a client.
    ///
    /// # Errors
    /// Where the client does not speak it, or goes.
    pub(super) async fn accept(&self, tcp: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.acceptor.accept(tcp).await
    }
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tls").finish_non_exhaustive()
    }
}

impl TlsInfo {
    fn of(connection: &ServerConnection) -> Self {
        let version = match connection.protocol_version() {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "unknown",
        };
        let cipher = connection.negotiated_cipher_suite().map_or_else(
            || "unknown".to_owned(),
            // rustls writes the suites of TLS 1.3 as `TLS13_…`.
            |suite| format!("{:?}", suite.suite()).replacen("TLS13_", "TLS_", 1),
        );
        Self {
            version,
            cipher,
            server_name: connection.server_name().map(ToString::to_string),
            endpoint: None,
            asked: false,
            presented: None,
        }
    }

    /// The certificate that the client showed, if it did: it need not hold.
    pub fn shown(&self) -> Option<&Presented> {
        self.presented.as_ref()
    }

    /// Whether the client could have shown a certificate, and has not.
    pub(super) fn may_show(&self) -> bool {
        self.asked && self.presented.is_none()
    }
}

/// Asks for a certificate, of which the client must have the key: the rest is asked once
/// the handshake is over.
#[derive(Debug)]
struct KeyAlone(Arc<Trust>);

impl ClientCertVerifier for KeyAlone {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.0.handshake().root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let own = self.0.handshake();
        own.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let own = self.0.handshake();
        own.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.handshake().supported_verify_schemes()
    }
}
