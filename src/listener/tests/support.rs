//! A listener with nothing behind it, and clients honest or not.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Mutex;

use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::config::{Failures, ServerTls};
use crate::identity::Kind;
use crate::identity::certificate::{self as identity, CertificateError, Presented};
use crate::identity::oauth::Discovery;
use crate::identity::scram::tests::client_final;
use crate::identity::stand_in::StandIns;
use crate::identity::verifier::Verifier;
use crate::listener::*;

/// As `pgveil identity verifier --iterations 10000` would have it.
pub(super) const ITERATIONS: u32 = 10_000;

pub(super) const GRACE: Duration = Duration::from_millis(1500);

pub(super) const PASSWORD: &str = "correct horse";

pub(super) const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";

pub(super) const GSS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

pub(super) struct OneAnalyst(pub(super) Verifier);

impl Identities for OneAnalyst {
    fn verifier(&self, name: &str) -> Option<&Verifier> {
        matches!(name, "analyst" | "ghost").then_some(&self.0)
    }

    fn stand_in(&self, name: &str) -> Verifier {
        StandIns::after([&self.0], []).of(name)
    }

    fn by_token(&self, name: &str) -> bool {
        name.starts_with("job")
    }

    fn discovery(&self, name: &str) -> Option<Discovery> {
        name.starts_with("job").then(|| Discovery {
            document: "https://login.corp.example/.well-known/openid-configuration".into(),
            scope: "openid".into(),
        })
    }

    fn bearer(&self, name: &str, _: &str, token: &str) -> Result<Principal, TokenError> {
        match (name, token) {
            ("job", "a token" | "abc") => Ok(Principal {
                name: name.into(),
                kind: Kind::Agent,
                method: Method::Token,
                ..self.principal("analyst", Method::Token).unwrap()
            }),
            ("job", _) => Err(TokenError::Signature),
            _ => Err(TokenError::Identity),
        }
    }

    fn principal(&self, name: &str, method: Method) -> Option<Principal> {
        (name == "analyst").then(|| Principal {
            name: name.into(),
            kind: Kind::Human,
            roles: Vec::new(),
            owner: None,
            on_behalf_of: None,
            method,
            mfa: None,
            verifier: None,
            token: None,
            certificate: None,
        })
    }

    fn verify(&self, _: &Presented) -> Result<identity::Certificate, CertificateError> {
        Err(CertificateError::None)
    }

    fn certified(&self, _: &str, _: &identity::Certificate) -> Result<Principal, CertificateError> {
        Err(CertificateError::Unknown)
    }

    fn lacks(&self, _: &str, _: Option<&identity::Certificate>) -> Option<CertificateError> {
        None
    }

    fn bound(
        &self,
        principal: Principal,
        _: Option<&identity::Certificate>,
    ) -> Result<Principal, CertificateError> {
        Ok(principal)
    }
}

/// Answers every query with what the listener found out.
pub(super) struct Echo {
    pub(super) identities: Arc<OneAnalyst>,
    pub(super) cancels: Mutex<Vec<(i32, Vec<u8>)>>,
    pub(super) refusals: Mutex<Vec<(Option<String>, String)>>,
}

impl Accept for Echo {
    type Identities = OneAnalyst;

    fn identities(&self) -> Arc<OneAnalyst> {
        self.identities.clone()
    }

    async fn serve(&self, mut client: Client) {
        let socket = socket2::SockRef::from(client.stream.tcp());
        assert!(socket.keepalive().unwrap());
        let what = format!(
            "{} {:?} {} {:?} {} {:?}",
            client.principal.label(),
            client.principal.method,
            client.tls.as_ref().map_or("plain", |tls| tls.version),
            client.protocol,
            client.dataset,
            client.parameters
        );
        let mut out = Vec::new();
        message(&mut out, b'S', b"server_version\x0015.0\0");
        message(&mut out, b'S', b"client_encoding\0UTF8\0");
        message(&mut out, b'Z', b"I");
        let mut stage = client.stage.clone();
        loop {
            client.stream.write_all(&out).await.unwrap();
            client.stream.flush().await.unwrap();
            let query = tokio::select! {
                query = read_message(&mut client.stream) => query,
                () = Stage::Draining.reached(&mut stage) => return,
            };
            let Some((b'Q', text)) = query else { return };
            match &*text {
                b"work\0" => {
                    Stage::Ending.reached(&mut stage).await;
                    return client.stream.close_with(b"the end").await;
                }
                b"hang\0" => return std::future::pending().await,
                _ => {}
            }
            out.clear();
            message(
                &mut out,
                b'T',
                b"\0\x01x\0\0\0\0\0\0\0\0\0\0\x19\xff\xff\xff\xff\xff\xff\0\0",
            );
            let length = u32::try_from(what.len()).unwrap().to_be_bytes();
            message(
                &mut out,
                b'D',
                &[b"\0\x01", &length[..], what.as_bytes()].concat(),
            );
            message(&mut out, b'C', b"SELECT 1\0");
            message(&mut out, b'Z', b"I");
        }
    }

    async fn cancel(&self, pid: i32, secret: &[u8]) {
        self.cancels.lock().unwrap().push((pid, secret.to_vec()));
    }

    async fn refused(&self, refusal: &Refusal<'_>) {
        let user = refusal.user.map(str::to_owned);
        let what = format!("{} {}", refusal.told.state.0, refusal.told.message);
        self.refusals.lock().unwrap().push((user, what));
    }
}

pub(super) struct Proxy {
    pub(super) address: SocketAddr,
    pub(super) echo: Arc<Echo>,
    pub(super) stage: watch::Sender<Stage>,
    /// What connections are given.
    pub(super) tls: watch::Sender<Option<Arc<Tls>>>,
    pub(super) running: tokio::task::JoinHandle<()>,
    pub(super) folder: tempfile::TempDir,
}

impl Proxy {
    pub(super) async fn start(change: impl FnOnce(&mut Listen)) -> Self {
        let verifier = Verifier::derive(PASSWORD, ITERATIONS).unwrap();
        Self::with(Arc::new(OneAnalyst(verifier)), change).await
    }

    pub(super) async fn with(
        identities: Arc<OneAnalyst>,
        change: impl FnOnce(&mut Listen),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut listen = Listen {
            address: vec!["127.0.0.1:0".parse().unwrap()],
            failures: Failures {
                per_source: u32::MAX,
                per_identity: u32::MAX,
                ..Failures::default()
            },
            ..Listen::default()
        };
        change(&mut listen);
        let tls = listen
            .tls
            .as_ref()
            .map(|files| Tls::load(files, None).unwrap());
        let tls = watch::Sender::new(tls.map(Arc::new));
        let workers = Workers::start(1 << 20).unwrap();
        let listener = Listener::bind(&listen, tls.subscribe(), workers)
            .await
            .unwrap();
        let address = listener.addresses()[0];
        let echo = Arc::new(Echo {
            identities,
            cancels: Mutex::default(),
            refusals: Mutex::default(),
        });
        let stage = watch::Sender::new(Stage::Serving);
        let running = tokio::spawn(listener.run(echo.clone(), stage.clone(), GRACE));
        Self {
            address,
            echo,
            stage,
            tls,
            running,
            folder,
        }
    }

    pub(super) async fn with_tls(
        algorithm: &'static rcgen::SignatureAlgorithm,
    ) -> (Self, Certificate) {
        let certificate = Certificate::new(algorithm);
        let proxy = Self::start(|listen| listen.tls = Some(certificate.files())).await;
        (proxy, certificate)
    }

    /// What psql says to one query, by this connection string beside host and port.
    pub(super) async fn psql(&self, connection: &str, password: &str) -> Output {
        let port = self.address.port();
        let connection = format!("host=localhost hostaddr=127.0.0.1 port={port} {connection}");
        let psql = tokio::process::Command::new("psql")
            .args(["-X", "-w", "-A", "-t", "-d", &connection, "-c", "select"])
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.folder.path())
            .env("PGPASSWORD", password)
            .output();
        let output = tokio::time::timeout(Duration::from_secs(20), psql).await;
        output.unwrap().expect("psql is to be installed")
    }

    #[track_caller]
    pub(super) fn refusals(&self, expected: &[(Option<&str>, &str)]) {
        let found = self.echo.refusals.lock().unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((user, what), expected) in found.iter().zip(expected) {
            assert_eq!(user.as_deref(), expected.0);
            assert!(what.starts_with(expected.1), "{what}");
        }
    }

    pub(super) async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All that is answered to these bytes until the connection closes.
    pub(super) async fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }
}

pub(super) struct Certificate {
    pub(super) folder: tempfile::TempDir,
}

impl Certificate {
    pub(super) fn new(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let names = vec!["localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    pub(super) fn pem(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    pub(super) fn der(&self) -> Vec<u8> {
        let own = rustls::pki_types::CertificateDer::from_pem_file(self.pem());
        own.unwrap().to_vec()
    }

    pub(super) fn files(&self) -> ServerTls {
        ServerTls {
            certificate: self.pem(),
            key: self.folder.path().join("key.pem"),
            client_ca: None,
            client_crls: Vec::new(),
        }
    }

    /// TLS from the client's side, offering these protocols.
    pub(super) async fn connect(
        &self,
        tcp: TcpStream,
        alpn: &[&[u8]],
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let mut roots = rustls::RootCertStore::empty();
        let own = rustls::pki_types::CertificateDer::from_pem_file(self.pem()).unwrap();
        roots.add(own).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
        let name = "localhost".try_into().unwrap();
        tokio_rustls::TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }
}

pub(super) async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

/// All that still comes, until the connection closes or a test has waited enough.
pub(super) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset after the last bytes is as good as an end.
    let _end = tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the connection is to be closed");
    bytes
}

#[track_caller]
pub(super) fn is_error(answer: &[u8], state: &str, message: &str) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with('E'), "{text}");
    assert!(text.contains("SFATAL\0"), "{text}");
    assert!(text.contains(&format!("C{state}\0")), "{text}");
    assert!(text.contains(message), "{text}");
}

pub(super) fn startup(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in pairs {
        body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes(), &*body].concat()
}

pub(super) fn analyst() -> Vec<u8> {
    startup(0x3_0000, &[("user", "analyst"), ("database", "shop")])
}

pub(super) fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
    let length = u32::try_from(data.len()).unwrap().to_be_bytes();
    let mut out = Vec::new();
    message(
        &mut out,
        b'p',
        &[mechanism.as_bytes(), &[0], &length, data].concat(),
    );
    out
}

/// Logs in by hand, up to having read AuthenticationOk; `after` is sent in one
/// piece with the last message.
pub(super) async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(
    stream: &mut S,
    startup: &[u8],
    after: &[u8],
) {
    stream.write_all(startup).await.unwrap();
    let (kind, offer) = read_message(stream).await.unwrap();
    assert_eq!((kind, &offer[..4]), (b'R', &[0, 0, 0, 10][..]));
    let first = sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc");
    stream.write_all(&first).await.unwrap();
    let (_, body) = read_message(stream).await.unwrap();
    let server_first = std::str::from_utf8(&body[4..]).unwrap();
    let last = client_final(PASSWORD, "n=,r=abc", server_first, b"n,,");
    let mut out = Vec::new();
    message(&mut out, b'p', last.as_bytes());
    out.extend_from_slice(after);
    stream.write_all(&out).await.unwrap();
    let (_, body) = read_message(stream).await.unwrap();
    assert_eq!(body[..4], [0, 0, 0, 12]);
    assert_eq!(read_message(stream).await.unwrap(), (b'R', vec![0; 4]));
}

#[track_caller]
pub(super) fn says(output: &Output, expected: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with(expected), "{text}{error}");
}

#[track_caller]
pub(super) fn fails(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains(expected),
        "{error}"
    );
}

/// A message of the test server's own.
pub(super) fn message(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
}
