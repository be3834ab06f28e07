//! Sends records to a syslog collector: RFC 5424, in frames of RFC 6587 section 3.4.1 over
//! TCP, or of RFC 5425 over TLS.
//!
//! Knows nothing about the log. Syslog has no answer to what is sent, so what a connection
//! has not delivered when it breaks would be lost silently. Each batch therefore has a
//! connection of its own: when all is sent, this side of it is closed, and the batch has
//! arrived once the collector, which has then read to that end, closes the other. UDP has
//! nothing of the kind and is not served.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream, ToSocketAddrs as _};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::batch::{Batch, Record};
use super::{Deliver, Fault, PATIENCE};
use crate::config;
use crate::roots;

/// Facility 13, log audit.
const FACILITY: u8 = 13;
/// What a collector that answers may say at most; it is not listened to.
const ANSWER: u64 = 64 << 10;

pub(super) struct Collector {
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    own: String,
}

impl Collector {
    pub(super) fn new(config: &config::Syslog) -> Result<Self, Fault> {
        let tls = match &config.ca {
            Some(ca) => Some(Arc::new(trusting(&std::fs::read(ca)?)?)),
            None => None,
        };
        let own = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        Ok(Self {
            host: config.host.clone(),
            port: config.port,
            tls,
            own: word(own.trim(), 255),
        })
    }

    fn connect(&self) -> Result<TcpStream, Fault> {
        let mut last = None;
        for address in (self.host.as_str(), self.port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, PATIENCE) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(PATIENCE))?;
                    stream.set_write_timeout(Some(PATIENCE))?;
                    return Ok(stream);
                }
                Err(error) => last = Some(error),
            }
        }
        Err(last.map_or_else(|| "its name has no address".into(), Into::into))
    }
}

impl Deliver for Collector {
    fn deliver(&mut self, batch: &Batch<'_>) -> Result<(), Fault> {
        let mut all = String::new();
        for (record, text) in batch.texts() {
            let message = message(&self.own, record, &text);
            all.push_str(&format!("{} {message}", message.len()));
        }
        if all.is_empty() {
            return Ok(());
        }
        let mut stream = self.connect()?;
        let Some(config) = &self.tls else {
            stream.write_all(all.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            return to_the_end(&mut stream);
        };
        let name = ServerName::try_from(self.host.clone())?;
        let session = ClientConnection::new(config.clone(), name)?;
        let mut tls = rustls::StreamOwned::new(session, stream);
        tls.write_all(all.as_bytes())?;
        tls.conn.send_close_notify();
        tls.flush()?;
        tls.sock.shutdown(Shutdown::Write)?;
        // Without the collector's own close_notify, anybody on the way could have said so.
        to_the_end(&mut tls)
    }
}

/// Until the other side has closed.
fn to_the_end(stream: &mut impl Read) -> Result<(), Fault> {
    let said = std::io::copy(&mut stream.take(ANSWER), &mut std::io::sink());
    match said.map_err(|error| format!("whether the collector has all is not known: {error}"))? {
        ANSWER => Err("the collector says more than any has to say".into()),
        _ => Ok(()),
    }
}

/// RFC 5424, section 6.
fn message(host: &str, record: &Record, text: &str) -> String {
    let fields: serde_json::Value = serde_json::from_str(&record.line).unwrap_or_default();
    let field = |name: &str| fields.get(name).and_then(serde_json::Value::as_str);
    let event = field("event").unwrap_or_default();
    let severity = match event {
        "tripwire" => 1,
        "denial" | "authentication_failure" => 4,
        _ => 6,
    };
    let priority = FACILITY * 8 + severity;
    let time = field("time").unwrap_or("-");
    let (id, process) = (word(event, 32), std::process::id());
    format!("<{priority}>1 {time} {host} pgveil {process} {id} - {text}")
}

/// As much of a text as a field of the header may hold; `-` for nothing.
fn word(text: &str, most: usize) -> String {
    let fits = |c: &char| c.is_ascii_graphic();
    let word: String = text.chars().filter(fits).take(most).collect();
    match word.is_empty() {
        true => "-".into(),
        false => word,
    }
}

fn trusting(pem: &[u8]) -> Result<ClientConfig, Fault> {
    let roots = roots::store(pem).map_err(|error| format!("its `ca` {error}"))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    Ok(ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_no_client_auth())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use rustls::pki_types::PrivateKeyDer;

    use super::*;
    use crate::config::Format;

    /// A collector over TLS that has read to the end, and then says so or not.
    fn deliver(says: bool) -> (Result<(), Fault>, String) {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let key = PrivateKeyDer::try_from(own.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let collecting = std::thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let session = rustls::ServerConnection::new(server.into()).unwrap();
            let mut tls = rustls::StreamOwned::new(session, stream);
            let mut all = String::new();
            tls.read_to_string(&mut all).unwrap();
            if says {
                tls.conn.send_close_notify();
                tls.flush().unwrap();
            }
            all
        });
        let directory = tempfile::tempdir().unwrap();
        let ca = directory.path().join("ca.pem");
        std::fs::write(&ca, own.cert.pem()).unwrap();
        let mut collector = Collector::new(&config::Syslog {
            host: "localhost".into(),
            port,
            ca: Some(ca),
        })
        .unwrap();
        let line = "{\"event\":\"denial\",\"time\":\"2026-11-25T10:00:00.000000Z\"}";
        let batch = Batch {
            log: "a",
            records: vec![Record {
                position: 7,
                line: line.into(),
            }],
            format: Format::Native,
            signed: 8,
            checkpoint: "",
        };
        let delivered = collector.deliver(&batch);
        (delivered, collecting.join().unwrap())
    }

    #[test]
    fn a_batch_has_arrived_when_the_collector_says_so_by_tls() {
        let (delivered, all) = deliver(true);
        delivered.unwrap();
        let (length, message) = all.split_once(' ').unwrap();
        assert_eq!(length.parse(), Ok(message.len()));
        assert!(
            message.starts_with("<108>1 2026-11-25T10:00:00.000000Z "),
            "{message}"
        );
        assert!(
            message.ends_with(" denial - {\"log\":\"a\",\"position\":7,\"record\":{\"event\":\"denial\",\"time\":\"2026-11-25T10:00:00.000000Z\"}}"),
            "{message}"
        );
        let (delivered, _) = deliver(false);
        let error = delivered.unwrap_err().to_string();
        assert!(
            error.contains("whether the collector has all is not known"),
            "{error}"
        );
    }

    #[test]
    fn a_field_of_the_header_is_one_word() {
        assert_eq!(word("a b\nc\u{1}é", 255), "abc");
        assert_eq!(word("", 5), "-");
        assert_eq!(word("abcdef", 5), "abcde");
    }
}
