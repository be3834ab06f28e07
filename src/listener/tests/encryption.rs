//! TLS and its absence: psql where the client is honest, raw bytes where it is not.

use std::sync::Arc;

use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::support::*;
use crate::config::ServerTls;

#[tokio::test]
async fn psql_in_plain_text() {
    let proxy = Proxy::start(|_| ()).await;
    let output = proxy
        .psql(
            "user=analyst dbname=shop sslmode=disable options='-c TimeZone=UTC'",
            PASSWORD,
        )
        .await;
    says(
        &output,
        "human:analyst Scram plain V3_0 shop {\"application_name\": \"psql\"",
    );
    says(&output, "human:analyst Scram plain V3_0 shop");
    assert!(String::from_utf8_lossy(&output.stdout).contains("\"timezone\": \"UTC\""));
    let output = proxy.psql("user=analyst sslmode=prefer", PASSWORD).await;
    says(&output, "human:analyst Scram plain V3_0 analyst");
    let output = proxy.psql("user=analyst sslmode=require", PASSWORD).await;
    fails(&output, "server does not support SSL");
    proxy.refusals(&[]);
}

#[tokio::test]
async fn psql_verifies_and_binds() {
    for algorithm in [
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ] {
        let (proxy, certificate) = Proxy::with_tls(algorithm).await;
        let root = certificate.pem();
        let verify = format!(
            "user=analyst dbname=shop sslmode=verify-full sslrootcert={}",
            root.display()
        );
        let bound = format!("{verify} channel_binding=require");
        says(
            &proxy.psql(&bound, PASSWORD).await,
            "human:analyst ScramPlus TLSv1.3 V3_0 shop",
        );
        let older = format!("{bound} ssl_max_protocol_version=TLSv1.2");
        says(
            &proxy.psql(&older, PASSWORD).await,
            "human:analyst ScramPlus TLSv1.2",
        );
        let unbound = format!("{verify} channel_binding=disable");
        says(
            &proxy.psql(&unbound, PASSWORD).await,
            "human:analyst Scram TLSv1.3",
        );
        fails(
            &proxy.psql(&bound, "wrong").await,
            "password authentication failed",
        );
    }
}

#[tokio::test]
async fn binding_is_not_offered_where_it_is_undefined() {
    let (proxy, _certificate) = Proxy::with_tls(&rcgen::PKCS_ED25519).await;
    let output = proxy.psql("user=analyst sslmode=require", PASSWORD).await;
    says(&output, "human:analyst Scram TLSv1.3");
    let output = proxy
        .psql(
            "user=analyst sslmode=require channel_binding=require",
            PASSWORD,
        )
        .await;
    fails(&output, "channel binding");
}

#[tokio::test]
async fn bytes_before_tls_end_the_connection() {
    let (proxy, certificate) = Proxy::with_tls(&rcgen::PKCS_ECDSA_P256_SHA256).await;
    // In one piece with the request: refused by name (CVE-2021-23214).
    let stuffed = proxy.answer(&[SSL_REQUEST, &analyst()].concat()).await;
    is_error(&stuffed, "08P01", "unencrypted data");
    // A TLS hello in that place is no better.
    let stuffed = proxy.answer(&[SSL_REQUEST, b"\x16\x03\x01"].concat()).await;
    is_error(&stuffed, "08P01", "unencrypted data");
    // After the answer: taken for TLS, which it is not.
    let mut stream = proxy.connect().await;
    stream.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    stream.write_all(&analyst()).await.unwrap();
    let answer = rest(&mut stream).await;
    assert!(!answer.contains(&b'R'), "{answer:?}");
    // And TLS itself works, once.
    let mut stream = proxy.connect().await;
    stream.write_all(SSL_REQUEST).await.unwrap();
    assert_eq!(stream.read_u8().await.unwrap(), b'S');
    let mut stream = certificate.connect(stream, &[]).await.unwrap();
    stream.write_all(SSL_REQUEST).await.unwrap();
    is_error(
        &rest(&mut stream).await,
        "08P01",
        "encryption was requested twice",
    );
}

#[tokio::test]
async fn direct_tls_needs_the_protocol_by_name() {
    let (proxy, certificate) = Proxy::with_tls(&rcgen::PKCS_ECDSA_P256_SHA256).await;
    let connect = async |alpn: &[&[u8]]| certificate.connect(proxy.connect().await, alpn).await;
    let mut stream = connect(&[b"postgresql"]).await.unwrap();
    log_in(&mut stream, &analyst(), b"").await;
    // Without a name the handshake completes, and the connection ends.
    let mut stream = connect(&[]).await.unwrap();
    let _sent = stream.write_all(&analyst()).await;
    assert_eq!(rest(&mut stream).await, b"");
    // By another name it does not even complete.
    assert!(connect(&[b"http/1.1"]).await.is_err());
    // Without a certificate there is none.
    let plain = Proxy::start(|_| ()).await;
    assert!(
        certificate
            .connect(plain.connect().await, &[b"postgresql"])
            .await
            .is_err()
    );
}

#[tokio::test]
async fn encryption_that_is_not_there_is_declined() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    for request in [GSS_REQUEST, SSL_REQUEST] {
        stream.write_all(request).await.unwrap();
        assert_eq!(stream.read_u8().await.unwrap(), b'N');
    }
    log_in(&mut stream, &analyst(), b"").await;
    for (request, length) in [(SSL_REQUEST, 1), (GSS_REQUEST, 1)] {
        let twice = proxy.answer(&[request, request].concat()).await;
        assert_eq!(&twice[..length], b"N");
        is_error(&twice[length..], "08P01", "requested twice");
    }
}

/// Shows what it was not given the key of, or what is no certificate.
#[derive(Debug)]
struct Impostor(Arc<rustls::sign::CertifiedKey>);

impl rustls::client::ResolvesClientCert for Impostor {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[rustls::SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        Some(self.0.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_ends_tls_and_is_on_record() {
    let own = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let proxy = Proxy::start(|listen| {
        listen.tls = Some(ServerTls {
            client_ca: Some(own.pem()),
            ..own.files()
        });
    })
    .await;
    // One who shows none is asked for a password.
    let mut stream = own
        .connect(proxy.connect().await, &[b"postgresql"])
        .await
        .unwrap();
    log_in(&mut stream, &analyst(), b"").await;
    proxy.refusals(&[]);

    let key = rcgen::KeyPair::generate().unwrap();
    let key = rustls::crypto::ring::sign::any_ecdsa_type(&key.serialize_der().try_into().unwrap());
    let key = key.unwrap();
    let stolen = rustls::pki_types::CertificateDer::from_pem_file(own.pem()).unwrap();
    for certificate in [stolen.clone(), b"0\x03abc".to_vec().into()] {
        let shown = rustls::sign::CertifiedKey::new(vec![certificate], key.clone());
        let mut roots = rustls::RootCertStore::empty();
        roots.add(stolen.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::new(Impostor(shown.into())));
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        let name = "localhost".try_into().unwrap();
        // In TLS 1.3 the client is done before the server has looked.
        if let Ok(mut stream) = connector.connect(name, proxy.connect().await).await {
            let _sent = stream.write_all(&analyst()).await;
            assert_eq!(rest(&mut stream).await, b"");
        }
    }
    // TLS has gone by the time that it is on record.
    let recorded = || proxy.echo.refusals.lock().unwrap().len();
    for _ in 0..100 {
        if recorded() < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }
    proxy.refusals(&[
        (None, "28000 tls ends at the client's certificate"),
        (None, "28000 tls ends at the client's certificate"),
    ]);
}

/// A session that is resumed brings its client's certificate back, which nobody verifies.
#[tokio::test]
async fn no_tls_session_is_resumed() {
    let (proxy, certificate) = Proxy::with_tls(&rcgen::PKCS_ECDSA_P256_SHA256).await;
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let mut roots = rustls::RootCertStore::empty();
        let own = rustls::pki_types::CertificateDer::from_pem_file(certificate.pem()).unwrap();
        roots.add(own).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![b"postgresql".to_vec()];
        let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
        for _ in 0..2 {
            let name = "localhost".try_into().unwrap();
            let stream = connector.connect(name, proxy.connect().await).await;
            let mut stream = stream.unwrap();
            log_in(&mut stream, &analyst(), b"X\0\0\0\x04").await;
            rest(&mut stream).await;
            let kind = stream.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full));
        }
    }
}
