//! The way from the proxy to its Postgres, with a back door: what a caller may not
//! do through the proxy is done in the very session that the proxy uses, so that
//! what comes next finds the state that it would find without a proxy.
//!
//! The proxy makes upstream fail a transaction in which it refuses a statement. Here
//! it does not come to that: the refusal is counted as such, and the transaction goes
//! on, so that one refusal counts once.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};

use crate::support::client::{Message, frame, receive};

/// How the name of the portal begins by which the proxy makes upstream fail.
const REFUSED: &[u8] = b"pgveil refused ";

/// A listener in front of a server.
pub struct Backdoor {
    /// Where the proxy is to connect to
    pub address: SocketAddr,
    sessions: Mutex<Receiver<Arc<Session>>>,
}

/// One session of the proxy's.
pub struct Session {
    proxy: Mutex<TcpStream>,
    server: Mutex<TcpStream>,
    /// Statements that came through the proxy.
    count: AtomicU64,
    last: Mutex<String>,
    /// As of the last ReadyForQuery.
    status: Mutex<u8>,
    /// Where the server's messages go while the back door is used.
    aside: Mutex<Option<Sender<Message>>>,
}

impl Backdoor {
    /// In front of a server on 127.0.0.1.
    pub fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (tell, sessions) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (proxy, tell) = (stream.unwrap(), tell.clone());
                let server = TcpStream::connect(("127.0.0.1", port)).unwrap();
                std::thread::spawn(move || relay(proxy, server, &tell));
            }
        });
        Self {
            address,
            sessions: Mutex::new(sessions),
        }
    }

    /// The next session that a caller's session has opened.
    pub fn next(&self) -> Arc<Session> {
        self.sessions.lock().unwrap().recv().unwrap()
    }
}

fn relay(mut proxy: TcpStream, mut server: TcpStream, tell: &Sender<Arc<Session>>) {
    proxy.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let mut length = [0; 4];
    if proxy.read_exact(&mut length).is_err() {
        return;
    }
    let mut startup = vec![0; u32::from_be_bytes(length) as usize - 4];
    proxy.read_exact(&mut startup).unwrap();
    server.write_all(&[&length[..], &startup].concat()).unwrap();
    let session = Arc::new(Session {
        proxy: Mutex::new(proxy.try_clone().unwrap()),
        server: Mutex::new(server.try_clone().unwrap()),
        count: AtomicU64::new(0),
        last: Mutex::default(),
        status: Mutex::new(b'I'),
        aside: Mutex::default(),
    });
    let names = |name: &str| {
        startup
            .windows(name.len())
            .any(|own| own == name.as_bytes())
    };
    if names("application_name\0") && !names("pgveil catalog") {
        tell.send(session.clone()).unwrap();
    }
    let back = session.clone();
    std::thread::spawn(move || back.answers(server));
    session.requests(proxy);
}

impl Session {
    fn requests(&self, mut proxy: TcpStream) {
        let mut refused = false;
        while let Ok((tag, body)) = receive(&mut proxy) {
            let ours = match tag {
                b'E' if body.starts_with(REFUSED) => {
                    refused = true;
                    Some(frame(b'E', &[b"SERROR\0VERROR\0C34000\0Mrefused\0\0"]))
                }
                b'S' if refused => {
                    refused = false;
                    Some(frame(b'Z', &[&[*self.status.lock().unwrap()]]))
                }
                _ => None,
            };
            match ours {
                Some(bytes) => self.proxy.lock().unwrap().write_all(&bytes).unwrap(),
                None => {
                    if matches!(tag, b'Q' | b'P') {
                        self.count.fetch_add(1, Ordering::SeqCst);
                        *self.last.lock().unwrap() = String::from_utf8_lossy(&body).into_owned();
                    }
                    let bytes = frame(tag, &[&body]);
                    if self.server.lock().unwrap().write_all(&bytes).is_err() {
                        return;
                    }
                }
            }
        }
        let _ = self
            .server
            .lock()
            .unwrap()
            .shutdown(std::net::Shutdown::Write);
    }

    fn answers(&self, mut server: TcpStream) {
        // Before it is authenticated, a server may speak otherwise than in frames.
        while let Ok((tag, body)) = receive(&mut server) {
            if tag == b'Z' {
                *self.status.lock().unwrap() = body[0];
            }
            let aside = self.aside.lock().unwrap().clone();
            match aside {
                Some(aside) => aside.send((tag, body)).unwrap(),
                None => {
                    let bytes = frame(tag, &[&body]);
                    if self.proxy.lock().unwrap().write_all(&bytes).is_err() {
                        return;
                    }
                }
            }
        }
        let _ = self
            .proxy
            .lock()
            .unwrap()
            .shutdown(std::net::Shutdown::Both);
    }

    /// How many statements have come through the proxy.
    pub fn count(&self) -> u64 {
        self.count.load(Ordering::SeqCst)
    }

    /// The last of them, as the proxy sent it.
    pub fn last(&self) -> String {
        self.last.lock().unwrap().clone()
    }

    /// Whether a transaction is open.
    pub fn in_transaction(&self) -> bool {
        *self.status.lock().unwrap() != b'I'
    }

    /// Runs messages past the proxy, which must not be waiting for anything; COPY is
    /// given these data.
    pub fn run(&self, messages: &[u8], copies: &[Vec<u8>]) -> Vec<Message> {
        let (tell, told) = channel();
        *self.aside.lock().unwrap() = Some(tell);
        let send = |bytes: &[u8]| self.server.lock().unwrap().write_all(bytes).unwrap();
        send(messages);
        let mut copies = copies.iter();
        let mut answer = Vec::new();
        loop {
            let (tag, body) = told.recv().unwrap();
            if tag == b'G' {
                let none = frame(b'f', &[b"none\0"]);
                send(copies.next().unwrap_or(&none));
            }
            answer.push((tag, body));
            if tag == b'Z' {
                break;
            }
        }
        *self.aside.lock().unwrap() = None;
        answer
    }
}
