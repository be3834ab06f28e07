//! What both kinds of TCP connections are set to: those from clients, and those to
//! upstreams.
//!
//! Knows nothing about what passes over them. Invariant: a peer that has vanished
//! without a word (a machine switched off, a firewall that forgot the connection)
//! is noticed within two minutes, so that it holds no session, lock or slot.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;

/// How long nothing is said before the peer is asked whether it is there, how often
/// it is asked again, and how many times. Not by TCP_USER_TIMEOUT as well: that would
/// end the connections of clients that are there and do not read, a pager's say.
const QUIET: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_secs(10);
const TIMES: u32 = 6;

/// Sends what is written at once, for the protocol is a conversation, and watches
/// whether the peer is still there.
///
/// # Errors
/// Where the system refuses, on a connection that is gone already.
pub(crate) fn tune(tcp: &TcpStream) -> io::Result<()> {
    tcp.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new()
        .with_time(QUIET)
        .with_interval(AGAIN)
        .with_retries(TIMES);
    SockRef::from(tcp).set_tcp_keepalive(&keepalive)
}
