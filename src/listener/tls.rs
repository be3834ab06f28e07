//! TLS towards clients: rustls with ring, TLS 1.2 and 1.3.
//!
//! Knows nothing about the Postgres protocol but its ALPN name. Invariant: the
//! certificate that is presented is the one whose hash SCRAM binds to.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ProtocolVersion, ServerConfig, ServerConnection};
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::endpoint;

/// The protocol's name in ALPN, required for direct TLS.
///
/// Source: <https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL>
pub(super) const ALPN: &[u8] = b"postgresql";

/// A certificate with its key, ready to serve.
#[derive(Clone)]
pub struct Tls {
    acceptor: TlsAcceptor,
    /// `tls-server-end-point` of the certificate, where it is defined.
    pub(super) endpoint: Option<Arc<[u8]>>,
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
}

impl Tls {
    /// Reads a certificate chain (the server's own first) and its key, as PEM.
    ///
    /// # Errors
    /// As [`TlsError`] says.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let pem = |path: &Path| {
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
        let key = PrivateKeyDer::from_pem_file(key).map_err(pem(key))?;

        let pair = |source| TlsError::Pair {
            path: certificate.to_owned(),
            source,
        };
        // Named here, and not the process's default: whoever links this crate may
        // have another one.
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
            .map_err(pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(pair)?;
        config.alpn_protocols = vec![ALPN.to_vec()];
        Ok(Self {
            acceptor: TlsAcceptor::from(Arc::new(config)),
            endpoint,
        })
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
    pub(super) fn of(connection: &ServerConnection) -> Self {
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
        }
    }
}
