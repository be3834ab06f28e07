//! The listener on a real socket: psql where the client is honest, raw bytes where
//! it is not.

use std::path::PathBuf;
use std::process::Output;
use std::sync::Mutex;

use rustls::pki_types::pem::PemObject as _;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::*;
use crate::config::ServerTls;
use crate::identity::Kind;
use crate::identity::scram::tests::client_final;
use crate::identity::stand_in::StandIns;
use crate::identity::verifier::Verifier;

/// As `pgveil identity verifier --iterations 10000` would have it.
const ITERATIONS: u32 = 10_000;
const GRACE: Duration = Duration::from_millis(1500);
const PASSWORD: &str = "correct horse";
const SSL_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x2f";
const GSS_REQUEST: &[u8] = b"\0\0\0\x08\x04\xd2\x16\x30";

struct OneAnalyst(Verifier);

impl Identities for OneAnalyst {
    fn verifier(&self, name: &str) -> Option<&Verifier> {
        matches!(name, "analyst" | "ghost").then_some(&self.0)
    }

    fn stand_in(&self, name: &str) -> Verifier {
        StandIns::after([&self.0]).of(name)
    }

    fn principal(&self, name: &str, method: Method) -> Option<Principal> {
        (name == "analyst").then(|| Principal {
            name: name.into(),
            kind: Kind::Human,
            roles: Vec::new(),
            owner: None,
            on_behalf_of: None,
            method,
            mfa: false,
        })
    }
}

/// Answers every query with what the listener found out.
struct Echo {
    identities: Arc<OneAnalyst>,
    cancels: Mutex<Vec<(i32, Vec<u8>)>>,
    refusals: Mutex<Vec<(Option<String>, String)>>,
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

struct Proxy {
    address: SocketAddr,
    echo: Arc<Echo>,
    stage: watch::Sender<Stage>,
    running: tokio::task::JoinHandle<()>,
    folder: tempfile::TempDir,
}

impl Proxy {
    async fn start(change: impl FnOnce(&mut Listen)) -> Self {
        let verifier = Verifier::derive(PASSWORD, ITERATIONS).unwrap();
        Self::with(Arc::new(OneAnalyst(verifier)), change).await
    }

    async fn with(identities: Arc<OneAnalyst>, change: impl FnOnce(&mut Listen)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut listen = Listen {
            address: vec!["127.0.0.1:0".parse().unwrap()],
            ..Listen::default()
        };
        change(&mut listen);
        let listener = Listener::bind(&listen).await.unwrap();
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
            running,
            folder,
        }
    }

    async fn with_tls(algorithm: &'static rcgen::SignatureAlgorithm) -> (Self, Certificate) {
        let certificate = Certificate::new(algorithm);
        let proxy = Self::start(|listen| listen.tls = Some(certificate.files())).await;
        (proxy, certificate)
    }

    /// What psql says to one query, by this connection string beside host and port.
    async fn psql(&self, connection: &str, password: &str) -> Output {
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
    fn refusals(&self, expected: &[(Option<&str>, &str)]) {
        let found = self.echo.refusals.lock().unwrap();
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((user, what), expected) in found.iter().zip(expected) {
            assert_eq!(user.as_deref(), expected.0);
            assert!(what.starts_with(expected.1), "{what}");
        }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// All that is answered to these bytes until the connection closes.
    async fn answer(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = self.connect().await;
        stream.write_all(bytes).await.unwrap();
        rest(&mut stream).await
    }
}

struct Certificate {
    folder: tempfile::TempDir,
}

impl Certificate {
    fn new(algorithm: &'static rcgen::SignatureAlgorithm) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let names = vec!["localhost".to_owned()];
        let certificate = rcgen::CertificateParams::new(names).unwrap();
        let certificate = certificate.self_signed(&key).unwrap();
        std::fs::write(folder.path().join("cert.pem"), certificate.pem()).unwrap();
        std::fs::write(folder.path().join("key.pem"), key.serialize_pem()).unwrap();
        Self { folder }
    }

    fn pem(&self) -> PathBuf {
        self.folder.path().join("cert.pem")
    }

    fn files(&self) -> ServerTls {
        ServerTls {
            certificate: self.pem(),
            key: self.folder.path().join("key.pem"),
        }
    }

    /// TLS from the client's side, offering these protocols.
    async fn connect(
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

async fn read_message(stream: &mut (impl AsyncRead + Unpin)) -> Option<(u8, Vec<u8>)> {
    let kind = stream.read_u8().await.ok()?;
    let length = stream.read_u32().await.ok()?;
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body).await.ok()?;
    Some((kind, body))
}

/// All that still comes, until the connection closes or a test has waited enough.
async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> Vec<u8> {
    let mut bytes = Vec::new();
    let reading = stream.read_to_end(&mut bytes);
    // A reset after the last bytes is as good as an end.
    let _end = tokio::time::timeout(Duration::from_secs(10), reading)
        .await
        .expect("the connection is to be closed");
    bytes
}

#[track_caller]
fn is_error(answer: &[u8], state: &str, message: &str) {
    let text = String::from_utf8_lossy(answer);
    assert!(text.starts_with('E'), "{text}");
    assert!(text.contains("SFATAL\0"), "{text}");
    assert!(text.contains(&format!("C{state}\0")), "{text}");
    assert!(text.contains(message), "{text}");
}

fn startup(version: u32, pairs: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in pairs {
        body.extend([name.as_bytes(), &[0], value.as_bytes(), &[0]].concat());
    }
    body.push(0);
    let length = u32::try_from(body.len() + 4).unwrap();
    [&length.to_be_bytes(), &*body].concat()
}

fn analyst() -> Vec<u8> {
    startup(0x3_0000, &[("user", "analyst"), ("database", "shop")])
}

fn sasl_initial(mechanism: &str, data: &[u8]) -> Vec<u8> {
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
async fn log_in<S: AsyncRead + AsyncWrite + Unpin>(stream: &mut S, startup: &[u8], after: &[u8]) {
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
fn says(output: &Output, expected: &str) {
    let text = String::from_utf8_lossy(&output.stdout);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(text.starts_with(expected), "{text}{error}");
}

#[track_caller]
fn fails(output: &Output, expected: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains(expected),
        "{error}"
    );
}

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
async fn unknown_and_wrong_get_one_answer() {
    let proxy = Proxy::start(|_| ()).await;
    let mut answers = Vec::new();
    // `ghost` has a verifier and no identity: not even its password helps.
    for (user, password) in [
        ("analyst", "wrong"),
        ("nobody", PASSWORD),
        ("ghost", PASSWORD),
    ] {
        let output = proxy
            .psql(&format!("user={user} sslmode=disable"), password)
            .await;
        fails(
            &output,
            &format!("FATAL:  password authentication failed for user \"{user}\""),
        );
        let error = String::from_utf8_lossy(&output.stderr).into_owned();
        answers.push(error.replace(user, "?"));
    }
    assert!(
        answers.iter().all(|answer| *answer == answers[0]),
        "{answers:?}"
    );
    proxy.refusals(&[
        (Some("analyst"), "28P01"),
        (Some("nobody"), "28P01"),
        (Some("ghost"), "28P01"),
    ]);
}

/// What a name is challenged with, and how long both answers take.
async fn challenge(proxy: &Proxy, user: &str) -> (String, Duration) {
    let began = std::time::Instant::now();
    let mut stream = proxy.connect().await;
    stream
        .write_all(&startup(0x3_0000, &[("user", user)]))
        .await
        .unwrap();
    assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
    let first = sasl_initial("SCRAM-SHA-256", b"n,,n=,r=abc");
    stream.write_all(&first).await.unwrap();
    let (_, body) = read_message(&mut stream).await.unwrap();
    let first = String::from_utf8(body[4..].to_vec()).unwrap();
    let (nonce, rest) = first.split_once(',').unwrap();
    let proof = "A".repeat(43);
    let mut last = Vec::new();
    message(
        &mut last,
        b'p',
        format!("c=biws,{nonce},p={proof}=").as_bytes(),
    );
    stream.write_all(&last).await.unwrap();
    let answer = read_message(&mut stream).await.unwrap();
    let took = began.elapsed();
    assert_eq!(answer.0, b'E');
    (rest.to_owned(), took)
}

#[tokio::test]
async fn unknown_names_are_challenged_like_known_ones() {
    let one = Proxy::start(|_| ()).await;
    let other = Proxy::with(one.echo.identities.clone(), |_| ()).await;
    let known = challenge(&one, "analyst").await.0;
    let unknown = challenge(&one, "nobody").await.0;
    assert!(known.ends_with(",i=10000"), "{known}");
    assert!(unknown.ends_with(",i=10000"), "{unknown}");
    assert_eq!(known.len(), unknown.len());
    assert_eq!(unknown, challenge(&one, "nobody").await.0);
    // As after a restart, or at another replica.
    assert_eq!(unknown, challenge(&other, "nobody").await.0);
    assert_ne!(unknown, challenge(&one, "somebody").await.0);
}

#[tokio::test]
async fn unknown_names_are_refused_as_fast_as_known_ones() {
    let proxy = Proxy::start(|_| ()).await;
    let (mut known, mut unknown) = (Vec::new(), Vec::new());
    for _ in 0..200 {
        known.push(challenge(&proxy, "analyst").await.1);
        unknown.push(challenge(&proxy, "nobody").await.1);
    }
    known.sort();
    unknown.sort();
    let ratio = known[100].as_secs_f64() / unknown[100].as_secs_f64();
    // Deriving a key from a password, say, would make it ten times more.
    assert!(
        (0.5..2.0).contains(&ratio),
        "{:?} {:?}",
        known[100],
        unknown[100]
    );
}

#[tokio::test]
async fn plain_text_is_refused_where_it_is_not_served() {
    let certificate = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let proxy = Proxy::start(|listen| {
        listen.plaintext = Plaintext::Never;
        listen.tls = Some(certificate.files());
    })
    .await;
    let output = proxy.psql("user=analyst sslmode=disable", PASSWORD).await;
    fails(&output, "the connection from 127.0.0.1 is not encrypted");
    fails(&output, "sslmode=require");
    says(
        &proxy.psql("user=analyst sslmode=prefer", PASSWORD).await,
        "human:analyst ScramPlus",
    );
    proxy.refusals(&[(Some("analyst"), "28000")]);
}

/// An address of this machine by which others reach it; none on a machine without
/// a network.
fn own_address() -> Option<std::net::IpAddr> {
    // Connecting a datagram socket sends nothing: it only chooses a way. The other
    // end is one of RFC 5737's, which nobody has.
    let socket = std::net::UdpSocket::bind("0.0.0.0:0").ok()?;
    socket.connect("192.0.2.1:9").ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_loopback() && !own.is_unspecified()).then_some(own)
}

#[tokio::test]
async fn plain_text_is_for_this_machine_alone() {
    let Some(own) = own_address() else {
        eprintln!("skipped: this machine has no address but loopback's");
        return;
    };
    let certificate = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    for (tls, hint) in [(false, "`listen.tls`"), (true, "sslmode=require")] {
        let proxy = Proxy::start(|listen| {
            listen.address = vec!["0.0.0.0:0".parse().unwrap()];
            listen.tls = tls.then(|| certificate.files());
        })
        .await;
        let port = proxy.address.port();
        let mut stream = TcpStream::connect((own, port)).await.unwrap();
        stream.write_all(&analyst()).await.unwrap();
        // The first thing said: nobody is asked for a password in plain text.
        let answer = rest(&mut stream).await;
        is_error(&answer, "28000", &format!("from {own} is not encrypted"));
        assert!(String::from_utf8_lossy(&answer).contains(hint));
        proxy.refusals(&[(Some("analyst"), "28000")]);
        let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        log_in(&mut stream, &analyst(), b"").await;
        if tls {
            let mut stream = TcpStream::connect((own, port)).await.unwrap();
            stream.write_all(SSL_REQUEST).await.unwrap();
            assert_eq!(stream.read_u8().await.unwrap(), b'S');
            let mut stream = certificate.connect(stream, &[]).await.unwrap();
            log_in(&mut stream, &analyst(), b"").await;
        }
    }
}

#[test]
fn loopback_is_this_machine_alone() {
    let serves = |plain: Plaintext, peer: &str| plain.serves(peer.parse().unwrap());
    assert!(serves(Plaintext::Loopback, "127.0.0.1"));
    assert!(serves(Plaintext::Loopback, "127.8.0.1"));
    assert!(serves(Plaintext::Loopback, "::1"));
    assert!(serves(Plaintext::Loopback, "::ffff:127.0.0.1"));
    assert!(!serves(Plaintext::Loopback, "10.0.0.1"));
    assert!(!serves(Plaintext::Loopback, "::ffff:10.0.0.1"));
    assert!(!serves(Plaintext::Loopback, "fe80::1"));
    assert!(serves(Plaintext::Anywhere, "10.0.0.1"));
    assert!(!serves(Plaintext::Never, "127.0.0.1"));
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

#[tokio::test]
async fn grease_is_negotiated_down() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    let grease = [("user", "analyst"), ("_pq_.test_protocol_negotiation", "")];
    stream.write_all(&startup(0x3_270f, &grease)).await.unwrap();
    let (kind, body) = read_message(&mut stream).await.unwrap();
    assert_eq!(kind, b'v');
    assert_eq!(
        body,
        b"\0\x03\0\x02\0\0\0\x01_pq_.test_protocol_negotiation\0"
    );
    assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
    let mut stream = proxy.connect().await;
    log_in(&mut stream, &startup(0x3_0002, &grease[..1]), b"").await;
}

#[tokio::test]
async fn bad_startups_end_with_a_reason() {
    let proxy = Proxy::start(|_| ()).await;
    let check = async |bytes: &[u8], state: &str, message: &str| {
        is_error(&proxy.answer(bytes).await, state, message);
    };
    check(b"GET / HTTP/1.1\r\n\r\n", "08P01", "invalid length").await;
    check(b"\0\0\0\x04", "08P01", "invalid length").await;
    check(b"\xff\xff\xff\xff", "08P01", "invalid length").await;
    check(
        b"\0\0\x27\x11",
        "08P01",
        "invalid length of startup packet: 10001",
    )
    .await;
    check(
        b"\0\0\0\x08\0\x02\0\0",
        "0A000",
        "unsupported frontend protocol 2.0",
    )
    .await;
    check(b"\0\0\0\x08\0\x03\0\0", "08P01", "malformed startup packet").await;
    check(
        &startup(0x3_0000, &[("database", "shop")]),
        "28000",
        "no user name",
    )
    .await;
    let with = |name, value| startup(0x3_0000, &[("user", "analyst"), (name, value)]);
    check(&with("replication", "database"), "0A000", "replication").await;
    check(&with("replication", "true"), "0A000", "replication").await;
    check(&with("options", "-d 5"), "0A000", "`-d`").await;
    check(&with("options", "-c geqo"), "42601", "requires a value").await;
    check(b"\0\0\0\x10\0\x03\0\0user\0\xff\0\0", "22021", "UTF-8").await;
    // A flood after the mistake does not keep the reason from being read.
    let flood = [b"\xff\xff\xff\xff".to_vec(), vec![b'x'; 1 << 16]].concat();
    check(&flood, "08P01", "invalid length").await;
    // The largest that may be is read.
    let filler = "x".repeat(10_000 - 4 - 4 - "user\0analyst\0application_name\0\0\0".len());
    let mut stream = proxy.connect().await;
    let largest = with("application_name", &filler);
    assert_eq!(largest.len(), 10_000);
    log_in(&mut stream, &largest, b"").await;
}

#[tokio::test]
async fn bad_sasl_ends_with_a_reason() {
    let proxy = Proxy::start(|_| ()).await;
    let check = async |bytes: &[u8], state: &str, message: &str| {
        let mut stream = proxy.connect().await;
        stream.write_all(&analyst()).await.unwrap();
        assert_eq!(read_message(&mut stream).await.unwrap().0, b'R');
        stream.write_all(bytes).await.unwrap();
        is_error(&rest(&mut stream).await, state, message);
    };
    check(
        b"Q\0\0\0\x0dselect 1\0",
        "08P01",
        "expected a SASL response",
    )
    .await;
    check(b"p\0\0\0\0", "08P01", "invalid length of a SASL response").await;
    check(b"p\xff\xff\xff\xff", "08P01", "invalid length").await;
    check(b"p\0\0\x08\0", "08P01", "invalid length").await;
    check(b"p\0\0\0\x06pw", "08P01", "malformed SASL response").await;
    check(&sasl_initial("PLAIN", b"x"), "08P01", "not offered").await;
    check(
        &sasl_initial("SCRAM-SHA-256-PLUS", b"p=tls-server-end-point,,n=,r=a"),
        "08P01",
        "not offered",
    )
    .await;
    check(
        &sasl_initial("SCRAM-SHA-256", b"n,,n=,r="),
        "08P01",
        "malformed SCRAM",
    )
    .await;
    check(
        &sasl_initial("SCRAM-SHA-256", b"n,a=auditor,n=,r=a"),
        "0A000",
        "authorization identity",
    )
    .await;
    check(
        &sasl_initial("SCRAM-SHA-256", b"\xff"),
        "08P01",
        "malformed SCRAM",
    )
    .await;
    // Truncated, and then nothing: the deadline's matter, or the client's.
    let mut stream = proxy.connect().await;
    stream
        .write_all(&[&analyst()[..], b"p\0\0\0\x40SCRAM"].concat())
        .await
        .unwrap();
    stream.shutdown().await.unwrap();
    let answer = rest(&mut stream).await;
    assert_eq!(answer.first(), Some(&b'R'));
    assert!(!answer.contains(&b'E'), "{answer:?}");
}

#[tokio::test]
async fn an_initial_response_may_come_later() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    stream.write_all(&analyst()).await.unwrap();
    read_message(&mut stream).await.unwrap();
    let mut out = Vec::new();
    message(&mut out, b'p', b"SCRAM-SHA-256\0\xff\xff\xff\xff");
    stream.write_all(&out).await.unwrap();
    assert_eq!(
        read_message(&mut stream).await.unwrap(),
        (b'R', vec![0, 0, 0, 11])
    );
    out.clear();
    message(&mut out, b'p', b"n,,n=,r=abc");
    stream.write_all(&out).await.unwrap();
    assert!(
        read_message(&mut stream)
            .await
            .unwrap()
            .1
            .starts_with(b"\0\0\0\x0br=abc")
    );
}

#[tokio::test]
async fn what_follows_authentication_reaches_the_session() {
    let proxy = Proxy::start(|_| ()).await;
    let mut stream = proxy.connect().await;
    log_in(&mut stream, &analyst(), b"Q\0\0\0\x05\0").await;
    let mut kinds = Vec::new();
    while kinds.iter().filter(|&&kind| kind == b'Z').count() < 2 {
        kinds.push(read_message(&mut stream).await.unwrap().0);
    }
    assert_eq!(kinds, b"SSZTDCZ");
}

#[tokio::test]
async fn the_slow_are_dropped() {
    let proxy = Proxy::start(|listen| listen.handshake_timeout = Duration::from_millis(150)).await;
    // Nothing at all, and a byte at a time: both end without a word.
    let mut stream = proxy.connect().await;
    assert_eq!(rest(&mut stream).await, b"");
    let mut stream = proxy.connect().await;
    stream.write_all(b"\0\0").await.unwrap();
    assert_eq!(rest(&mut stream).await, b"");
    // One that was asked to authenticate hears why.
    let answer = proxy.answer(&analyst()).await;
    let error = answer.iter().position(|&byte| byte == b'E').unwrap();
    assert!(answer.starts_with(b"R"));
    is_error(&answer[error..], "57014", "took too long");
    // An authenticated one is no longer timed.
    let mut stream = proxy.connect().await;
    log_in(&mut stream, &analyst(), b"").await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    stream.write_all(b"Q\0\0\0\x05\0").await.unwrap();
    let mut kinds = Vec::new();
    while kinds.iter().filter(|&&kind| kind == b'Z').count() < 2 {
        kinds.push(read_message(&mut stream).await.unwrap().0);
    }
    proxy.refusals(&[(Some("analyst"), "57014")]);
}

#[tokio::test]
async fn one_too_many_hears_it_and_cancels_pass() {
    let proxy = Proxy::start(|listen| listen.max_connections = 1.try_into().unwrap()).await;
    let mut held = proxy.connect().await;
    log_in(&mut held, &analyst(), b"").await;
    is_error(&proxy.answer(&analyst()).await, "53300", "the limit is 1");
    let secret = [9; 32];
    let cancel = [&[0, 0, 0, 44, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 7], &secret[..]].concat();
    assert_eq!(proxy.answer(&cancel).await, b"", "nothing is answered");
    assert_eq!(*proxy.echo.cancels.lock().unwrap(), [(7, secret.to_vec())]);
    // The place is free again once it is left.
    held.write_all(b"X\0\0\0\x04").await.unwrap();
    rest(&mut held).await;
    let mut next = proxy.connect().await;
    log_in(&mut next, &analyst(), b"").await;
    proxy.refusals(&[(Some("analyst"), "53300")]);
}

#[tokio::test]
async fn shutdown_drains() {
    let proxy = Proxy::start(|_| ()).await;
    let mut told = proxy.connect().await;
    log_in(&mut told, &analyst(), b"").await;
    let mut busy = proxy.connect().await;
    log_in(&mut busy, &analyst(), b"Q\0\0\0\x09work\0").await;
    let mut deaf = proxy.connect().await;
    log_in(&mut deaf, &analyst(), b"Q\0\0\0\x09hang\0").await;
    let mut early = proxy.connect().await;
    early.write_all(b"\0").await.unwrap();
    let mut proving = proxy.connect().await;
    proving.write_all(&analyst()).await.unwrap();
    assert_eq!(read_message(&mut proving).await.unwrap().0, b'R');
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = std::time::Instant::now();
    Stage::Draining.reach(&proxy.stage);
    // The idle one ends at once, and who comes now hears why not.
    rest(&mut told).await;
    is_error(&rest(&mut proving).await, "57P03", "shutting down");
    is_error(&proxy.answer(&analyst()).await, "57P03", "shutting down");
    // What still runs can be cancelled.
    let cancel = [0, 0, 0, 16, 4, 0xd2, 0x16, 0x2e, 0, 0, 0, 7, 9, 9, 9, 9];
    assert_eq!(proxy.answer(&cancel).await, b"");
    assert_eq!(*proxy.echo.cancels.lock().unwrap(), [(7, vec![9; 4])]);
    assert!(!proxy.running.is_finished());
    // After the grace period the busy one may say so, the deaf one is dropped.
    let words = rest(&mut busy).await;
    assert!(words.ends_with(b"the end"), "{words:?}");
    assert!(began.elapsed() >= GRACE);
    assert!(TcpStream::connect(proxy.address).await.is_err());
    rest(&mut early).await;
    rest(&mut deaf).await;
    assert!(began.elapsed() >= GRACE + LAST_WORDS);
    proxy.running.await.unwrap();
}

#[tokio::test]
async fn shutdown_waits_for_nobody_who_is_not_there() {
    for stage in [Stage::Draining, Stage::Ending] {
        let proxy = Proxy::start(|_| ()).await;
        let mut early = proxy.connect().await;
        early.write_all(b"\0").await.unwrap();
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = std::time::Instant::now();
        if stage == Stage::Ending {
            let mut busy = proxy.connect().await;
            log_in(&mut busy, &analyst(), b"Q\0\0\0\x09work\0").await;
            stage.reach(&proxy.stage);
            assert!(rest(&mut busy).await.ends_with(b"the end"));
        } else {
            stage.reach(&proxy.stage);
        }
        proxy.running.await.unwrap();
        assert!(began.elapsed() < GRACE, "{stage:?}");
    }
}

#[tokio::test]
async fn bad_files_and_addresses_are_named() {
    let bind = async |listen: Listen| Listener::bind(&listen).await.unwrap_err().to_string();
    let one = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let other = Certificate::new(&rcgen::PKCS_ECDSA_P256_SHA256);
    let tls = |certificate: PathBuf, key: PathBuf| Listen {
        tls: Some(ServerTls { certificate, key }),
        ..Listen::default()
    };
    let missing = one.folder.path().join("none.pem");
    assert!(
        bind(tls(missing, one.files().key))
            .await
            .contains("none.pem: ")
    );
    let error = bind(tls(one.files().key, one.files().key)).await;
    assert!(error.contains("key.pem: no certificate in it"), "{error}");
    let error = bind(tls(one.pem(), one.pem())).await;
    assert!(error.contains("cert.pem: "), "{error}");
    let error = bind(tls(one.pem(), other.files().key)).await;
    assert!(error.contains("cert.pem: "), "{error}");
    let taken = Proxy::start(|_| ()).await;
    let error = bind(Listen {
        address: vec![taken.address],
        ..Listen::default()
    })
    .await;
    assert!(
        error.contains(&format!("cannot listen on {}", taken.address)),
        "{error}"
    );
}

/// A message of the test server's own.
fn message(out: &mut Vec<u8>, kind: u8, body: &[u8]) {
    out.push(kind);
    out.extend_from_slice(&u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    out.extend_from_slice(body);
}
