//! A client that hides nothing: it sends messages as told and gives back every
//! message of the answer as it came.
//!
//! Source: <https://www.postgresql.org/docs/current/protocol-flow.html>

use std::io::{BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use postgres_protocol::authentication::sasl::{ChannelBinding, ScramSha256};

/// A message of the backend: tag and body.
pub type Message = (u8, Vec<u8>);

/// A session.
pub struct Client {
    stream: BufReader<TcpStream>,
    /// What came at startup, but for BackendKeyData and authentication.
    pub greeting: Vec<Message>,
}

/// By which protocol a statement is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    /// Query
    Simple,
    /// Parse, Describe, Bind, Describe, Execute, Sync; results as text
    Extended,
    /// The same; results in binary
    Binary,
}

impl Client {
    /// Logs in by SCRAM.
    pub fn connect(address: SocketAddr, user: &str, password: &str, database: &str) -> Self {
        Self::with(address, &[("user", user), ("database", database)], password)
            .unwrap_or_else(|error| panic!("{user} cannot connect: {error}"))
    }

    /// Logs in by SCRAM, or by the password in clear text where it is asked for, with these
    /// startup parameters.
    ///
    /// # Errors
    /// The SQLSTATE with which that is refused.
    pub fn with(
        address: SocketAddr,
        parameters: &[(&str, &str)],
        password: &str,
    ) -> Result<Self, String> {
        let stream = TcpStream::connect(address).expect("the proxy listens");
        stream.set_nodelay(true).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(180)))
            .unwrap();
        let mut client = Self {
            stream: BufReader::with_capacity(1 << 16, stream),
            greeting: Vec::new(),
        };
        let mut packet: String = parameters
            .iter()
            .map(|(name, value)| format!("{name}\0{value}\0"))
            .collect();
        packet.push('\0');
        let mut startup = (packet.len() as u32 + 8).to_be_bytes().to_vec();
        startup.extend_from_slice(&196_608_i32.to_be_bytes());
        startup.extend_from_slice(packet.as_bytes());
        client.send(&startup);
        client.authenticate(password)?;
        client.greeting = client.answer();
        if let Some(state) = refusal(&client.greeting) {
            return Err(state);
        }
        client.greeting.retain(|(tag, _)| *tag != b'K');
        Ok(client)
    }

    /// How long to wait for an answer.
    pub fn patience(&self, time: Duration) {
        self.stream.get_ref().set_read_timeout(Some(time)).unwrap();
    }

    fn authenticate(&mut self, password: &str) -> Result<(), String> {
        let mut scram = ScramSha256::new(password.as_bytes(), ChannelBinding::unsupported());
        loop {
            let (tag, body) = self.receive();
            if let Some(state) = refusal(&[(tag, body.clone())]) {
                return Err(state);
            }
            assert_eq!(tag, b'R', "{}", String::from_utf8_lossy(&body));
            match body[3] {
                0 => return Ok(()),
                3 => self.send(&frame(b'p', &[password.as_bytes(), b"\0"])),
                10 => {
                    let first = scram.message();
                    let length = (first.len() as u32).to_be_bytes();
                    let reply = frame(b'p', &[b"SCRAM-SHA-256\0", &length, first]);
                    self.send(&reply);
                }
                11 => {
                    scram.update(&body[4..]).unwrap();
                    let reply = frame(b'p', &[scram.message()]);
                    self.send(&reply);
                }
                12 => scram.finish(&body[4..]).unwrap(),
                other => panic!("authentication by {other}"),
            }
        }
    }

    /// Sends bytes.
    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends one statement.
    pub fn ask(&mut self, statement: &str, by: By) {
        let text = statement.as_bytes();
        match by {
            By::Simple => self.send(&frame(b'Q', &[text, b"\0"])),
            By::Extended | By::Binary => {
                let parameters: &[u8] = match statement.contains("$1") {
                    true if !statement.contains("PREPARE") => b"\0\0\0\x01\0\0\0\x011",
                    _ => b"\0\0\0\0",
                };
                let format: &[u8] = match by {
                    By::Binary => b"\0\x01\0\x01",
                    _ => b"\0\0",
                };
                let all = [
                    frame(b'P', &[b"\0", text, b"\0\0\0"]),
                    frame(b'D', &[b"S\0"]),
                    frame(b'B', &[b"\0\0", parameters, format]),
                    frame(b'D', &[b"P\0"]),
                    frame(b'E', &[b"\0\0\0\0\0"]),
                    frame(b'S', &[]),
                ];
                self.send(&all.concat());
            }
        }
    }

    /// Reads up to ReadyForQuery, or the end of the session. Whoever waits for a COPY's data gets none.
    pub fn answer(&mut self) -> Vec<Message> {
        let mut all = Vec::new();
        loop {
            let (tag, body) = self.receive();
            if tag == b'G' {
                self.send(&frame(b'f', &[b"none\0"]));
                // By the extended protocol, the Sync that was sent is eaten by COPY.
                self.send(&frame(b'S', &[]));
            }
            let fatal = tag == b'E' && body.starts_with(b"SFATAL\0");
            all.push((tag, body));
            if tag == b'Z' || fatal {
                return all;
            }
        }
    }

    /// Sends a statement and reads its answer.
    pub fn run(&mut self, statement: &str, by: By) -> Vec<Message> {
        self.ask(statement, by);
        self.answer()
    }

    /// The connection, of which nothing is left unread.
    pub fn into_stream(self) -> TcpStream {
        assert!(self.stream.buffer().is_empty());
        self.stream.into_inner()
    }

    /// Reads one message.
    pub fn receive(&mut self) -> Message {
        receive(&mut self.stream).expect("an answer")
    }
}

/// Reads one message of a stream.
pub fn receive(stream: &mut impl Read) -> std::io::Result<Message> {
    let mut header = [0; 5];
    stream.read_exact(&mut header)?;
    let length = u32::from_be_bytes(header[1..].try_into().unwrap());
    let mut body = vec![0; length as usize - 4];
    stream.read_exact(&mut body)?;
    Ok((header[0], body))
}

/// The SQLSTATE of the first error in an answer.
pub fn refusal(answer: &[Message]) -> Option<String> {
    let (_, body) = answer.iter().find(|(tag, _)| *tag == b'E')?;
    body.split(|byte| *byte == 0)
        .find_map(|field| field.strip_prefix(b"C"))
        .map(|state| String::from_utf8_lossy(state).into_owned())
}

/// An answer, to be read by people.
pub fn show(answer: &[Message]) -> String {
    answer
        .iter()
        .map(|(tag, body)| format!("  {} {}\n", *tag as char, body.escape_ascii()))
        .collect()
}

/// A message, its body in pieces.
pub fn frame(tag: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut out = vec![tag];
    out.extend_from_slice(&(body.len() as u32 + 4).to_be_bytes());
    out.extend_from_slice(&body);
    out
}
