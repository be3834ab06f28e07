//! A way to a server that can be closed and opened: what a client, or the proxy,
//! sees of it is a server that goes down and comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// The way; closed when dropped.
pub struct Forwarder {
    /// Where it is entered
    pub address: SocketAddr,
    to: SocketAddr,
    open: Option<Open>,
}

struct Open {
    closing: Arc<AtomicBool>,
    streams: Arc<Mutex<Vec<TcpStream>>>,
    accepting: JoinHandle<()>,
}

impl Forwarder {
    /// A closed way to a server; its entrance is kept free for it as well as that can
    /// be.
    pub fn to(port: u16) -> Self {
        let entrance = TcpListener::bind("127.0.0.1:0").unwrap();
        Self {
            address: entrance.local_addr().unwrap(),
            to: SocketAddr::from(([127, 0, 0, 1], port)),
            open: None,
        }
    }

    /// Opens it.
    pub fn open(&mut self) {
        let entrance = TcpListener::bind(self.address).unwrap();
        let (closing, streams) = (
            Arc::<AtomicBool>::default(),
            Arc::<Mutex<Vec<_>>>::default(),
        );
        let (ends, kept, to) = (closing.clone(), streams.clone(), self.to);
        let accepting = std::thread::spawn(move || {
            for client in entrance.incoming() {
                if ends.load(Ordering::Acquire) {
                    return;
                }
                let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else {
                    continue;
                };
                let mut kept = kept.lock().unwrap();
                for (mut from, mut to) in [
                    (client.try_clone().unwrap(), server.try_clone().unwrap()),
                    (server.try_clone().unwrap(), client.try_clone().unwrap()),
                ] {
                    std::thread::spawn(move || pass(&mut from, &mut to));
                }
                kept.extend([client, server]);
            }
        });
        self.open = Some(Open {
            closing,
            streams,
            accepting,
        });
    }

    /// Closes it, and every connection that goes through it.
    pub fn close(&mut self) {
        let Some(open) = self.open.take() else { return };
        open.closing.store(true, Ordering::Release);
        // Wakes the thread that accepts, which then gives the entrance up.
        let _ = TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
        open.accepting.join().unwrap();
        for stream in open.streams.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(from: &mut TcpStream, to: &mut TcpStream) {
    let mut buffer = vec![0; 1 << 16];
    while let Ok(len) = from.read(&mut buffer) {
        if len == 0 || to.write_all(&buffer[..len]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.close();
    }
}
