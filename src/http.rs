//! HTTP to what an operator names: an identity provider's keys, a vault, a webhook.
//!
//! Blocking: callers have a thread of their own for it. Knows nothing about what is asked.
//! The invariants: a URL is `https`, or of this machine; an answer is bounded in size and
//! time; no redirect is followed, since where it leads nobody configured. A proxy that the
//! environment names (`HTTPS_PROXY`, `ALL_PROXY`) is used for https alone.

use std::fmt;
use std::io::Read;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::CertificateDer;
use ureq::http::Uri;
use ureq::tls::{Certificate, RootCerts, TlsConfig};

use crate::roots;

/// An address that may be asked: `https`, or `http` of this machine (`localhost`,
/// `127.0.0.0/8`, `::1`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Url(Uri);

/// Why a text is no address that may be asked.
#[derive(Debug, thiserror::Error)]
pub enum UrlError {
    /// It is none at all.
    #[error("`{0}` is not a URL")]
    Malformed(String),
    /// Of another scheme.
    #[error("`{0}` is neither https nor http")]
    Scheme(String),
    /// `http`, and not of this machine.
    #[error("`{0}` is in clear: https is needed for another machine")]
    Clear(String),
    /// It holds a name or a password, which would be in logs.
    #[error("a URL must not hold a user or a password")]
    Credentials,
}

impl Url {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, UrlError> {
        let malformed = || UrlError::Malformed(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| malformed())?;
        let host = uri.host().filter(|host| !host.is_empty());
        let host = host.ok_or_else(malformed)?;
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(UrlError::Credentials);
        }
        match uri.scheme_str() {
            Some("https") => Ok(Self(uri)),
            Some("http") if is_of_this_machine(host) => Ok(Self(uri)),
            Some("http") => Err(UrlError::Clear(text.to_owned())),
            _ => Err(UrlError::Scheme(text.to_owned())),
        }
    }
}

impl Url {
    /// What is in clear is of this machine: no proxy may take it elsewhere.
    fn is_here(&self) -> bool {
        self.0.scheme_str() == Some("http")
    }
}

fn is_of_this_machine(host: &str) -> bool {
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl fmt::Display for Url {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What came back, whatever its status.
#[derive(Debug)]
pub struct Answer {
    /// 200 and the like.
    pub status: u16,
    /// Its body, whole.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// The authority's file does not hold one.
    #[error("the CA file `{}` {why}", path.display())]
    Ca {
        /// Which
        path: PathBuf,
        /// What is wrong with it
        why: String,
    },
    /// Nobody answers, or not in time, or not in HTTP or TLS.
    #[error("{url}: {why}")]
    Failed {
        /// Who was asked
        url: Url,
        /// What happened
        why: String,
    },
    /// A body beyond the bound.
    #[error("{url}: an answer of more than {limit} bytes")]
    TooLong {
        /// Who was asked
        url: Url,
        /// The bound, in bytes
        limit: usize,
    },
}

/// Asks. Keeps connections for the next request; cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    agent: ureq::Agent,
    limit: usize,
}

impl Client {
    /// Of which a request takes `timeout` at most, its answer `limit` bytes. Who answers
    /// proves itself to the authorities in `ca` (PEM), else to those of this machine.
    pub fn new(ca: Option<&Path>, timeout: Duration, limit: usize) -> Result<Self, HttpError> {
        let roots = match ca {
            Some(path) => named(path)?,
            None => rustls_native_certs::load_native_certs().certs,
        };
        let roots = roots
            .iter()
            .map(|root| Certificate::from_der(root).to_owned());
        let tls = TlsConfig::builder()
            .root_certs(RootCerts::Specific(Arc::new(roots.collect())))
            .unversioned_rustls_crypto_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .build();
        let config = ureq::Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(timeout))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .http_status_as_error(false)
            .user_agent(concat!("pgveil/", env!("CARGO_PKG_VERSION")))
            .build();
        let agent = config.new_agent();
        Ok(Self { agent, limit })
    }

    /// What is there.
    pub fn get(&self, url: &Url, headers: &[(&str, &str)]) -> Result<Answer, HttpError> {
        let mut request = self.agent.get(url.0.clone());
        if url.is_here() {
            request = request.config().proxy(None).build();
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.read(url, request.call())
    }

    /// What is answered to this.
    pub fn post(
        &self,
        url: &Url,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Result<Answer, HttpError> {
        let mut request = self.agent.post(url.0.clone());
        if url.is_here() {
            request = request.config().proxy(None).build();
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.read(url, request.send(body))
    }

    fn read(
        &self,
        url: &Url,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
    ) -> Result<Answer, HttpError> {
        let failed = |why: String| HttpError::Failed {
            url: url.clone(),
            why,
        };
        let mut response = response.map_err(|error| failed(error.to_string()))?;
        let status = response.status().as_u16();
        let mut body = Vec::new();
        let one_more = u64::try_from(self.limit)
            .unwrap_or(u64::MAX)
            .saturating_add(1);
        response
            .body_mut()
            .as_reader()
            .take(one_more)
            .read_to_end(&mut body)
            .map_err(|error| failed(error.to_string()))?;
        if body.len() > self.limit {
            return Err(HttpError::TooLong {
                url: url.clone(),
                limit: self.limit,
            });
        }
        Ok(Answer { status, body })
    }
}

fn named(path: &Path) -> Result<Vec<CertificateDer<'static>>, HttpError> {
    let wrong = |why: String| HttpError::Ca {
        path: path.to_owned(),
        why,
    };
    let pem = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    roots::certificates(&pem).map_err(|error| wrong(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader, Write};
    use std::net::TcpListener;
    use std::thread::{self, JoinHandle};

    use super::*;

    /// Answers one request in clear, and returns what was asked.
    fn once(answer: Vec<u8>) -> (Url, JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/keys", listener.local_addr().unwrap());
        let asked = thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let lines = BufReader::new(stream.try_clone().unwrap()).lines();
            let lines = lines.map(Result::unwrap);
            let head = lines.take_while(|line| !line.is_empty()).collect();
            // Who has heard enough closes.
            let _ = stream.write_all(&answer);
            head
        });
        (Url::parse(&url).unwrap(), asked)
    }

    fn client(limit: usize) -> Client {
        Client::new(None, Duration::from_secs(5), limit).unwrap()
    }

    #[test]
    fn only_https_or_this_machine() {
        for good in [
            "https://login.corp.example/keys",
            "http://127.0.0.1:8080/",
            "http://[::1]/keys",
            "http://localhost/keys",
        ] {
            Url::parse(good).unwrap();
        }
        for (bad, why) in [
            ("http://login.corp.example/", "in clear"),
            ("http://127.0.0.1.corp.example/", "in clear"),
            ("http://localhost.corp.example/", "in clear"),
            ("file:///etc/passwd", "not a URL"),
            ("ftp://127.0.0.1/", "neither https nor http"),
            ("/keys", "not a URL"),
            ("https://", "not a URL"),
            ("https://me:secret@corp.example/", "must not hold a user"),
            ("http://127.0.0.1@corp.example/", "must not hold a user"),
        ] {
            let said = Url::parse(bad).unwrap_err().to_string();
            assert!(said.contains(why), "{bad}: {said}");
            assert!(!said.contains("secret"), "{said}");
        }
    }

    #[test]
    fn any_status_is_an_answer_and_no_redirect_is_followed() {
        for (head, status) in [
            ("200 OK", 200),
            ("404 Not Found", 404),
            ("302 Found\r\nLocation: http://127.0.0.1:1/", 302),
        ] {
            let answer = format!("HTTP/1.1 {head}\r\nContent-Length: 2\r\n\r\nhi");
            let (url, asked) = once(answer.into());
            let answer = client(10).get(&url, &[("X-Id", "7")]).unwrap();
            assert_eq!(
                (answer.status, answer.body.as_slice()),
                (status, &b"hi"[..])
            );
            let asked = asked.join().unwrap();
            assert_eq!(asked[0], "GET /keys HTTP/1.1");
            assert!(
                asked
                    .iter()
                    .any(|line| line.eq_ignore_ascii_case("x-id: 7"))
            );
        }
    }

    #[test]
    fn an_answer_beyond_the_bound_is_none() {
        let answer = |bytes: usize| {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n");
            [head.into_bytes(), vec![b'x'; bytes]].concat()
        };
        let (url, asked) = once(answer(100));
        assert_eq!(client(100).get(&url, &[]).unwrap().body.len(), 100);
        asked.join().unwrap();
        let (url, asked) = once(answer(101));
        let said = client(100).get(&url, &[]).unwrap_err().to_string();
        assert!(said.ends_with("an answer of more than 100 bytes"), "{said}");
        asked.join().unwrap();
    }

    #[test]
    fn who_does_not_answer_is_not_waited_for() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = Url::parse(&format!("http://{}/", listener.local_addr().unwrap())).unwrap();
        let client = Client::new(None, Duration::from_millis(100), 10).unwrap();
        let said = client.post(&url, &[], b"{}").unwrap_err().to_string();
        assert!(said.contains("timeout"), "{said}");
    }

    #[test]
    fn who_cannot_prove_itself_is_not_heard() {
        let key = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let other = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![key.cert.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.signing_key.serialize_der())
                    .unwrap(),
            )
            .unwrap();
        let config = Arc::new(config);
        let directory = tempfile::tempdir().unwrap();
        let ask = |ca: &rcgen::Certificate| {
            let path = directory.path().join("ca.pem");
            std::fs::write(&path, ca.pem()).unwrap();
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            let config = Arc::clone(&config);
            let served = thread::spawn(move || {
                let (stream, _) = listener.accept().unwrap();
                let session = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::StreamOwned::new(session, stream);
                let mut asked = [0; 1024];
                if stream.read(&mut asked).is_ok() {
                    let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
                }
            });
            let url = Url::parse(&format!("https://localhost:{port}/")).unwrap();
            let client = Client::new(Some(&path), Duration::from_secs(5), 10).unwrap();
            let answer = client.get(&url, &[]);
            served.join().unwrap();
            answer
        };
        assert_eq!(ask(&key.cert).unwrap().body, b"hi");
        let said = ask(&other.cert).unwrap_err().to_string();
        assert!(said.contains("certificate"), "{said}");
    }

    #[test]
    fn a_file_of_authorities_must_hold_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ca.pem");
        let ask = || Client::new(Some(&path), Duration::from_secs(1), 1).unwrap_err();
        assert!(ask().to_string().contains("cannot be read"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(ask().to_string().ends_with("holds no certificate"));
    }
}
