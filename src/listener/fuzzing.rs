//! The first message of a connection, for tests/fuzz alone: there by the feature
//! `fuzzing`, which nothing that is shipped has.

use std::collections::BTreeMap;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use super::Refused;
use super::startup::Opening;

/// What a connection opens with, as the listener understood it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    /// SSLRequest
    Ssl,
    /// GSSENCRequest
    Gss,
    /// CancelRequest
    Cancel {
        /// Whose
        pid: i32,
        /// The key
        secret: Vec<u8>,
    },
    /// StartupMessage
    Start {
        /// The protocol spoken from here on
        version: u32,
        /// NegotiateProtocolVersion, where it is sent
        negotiation: Option<Vec<u8>>,
        /// Who
        user: String,
        /// What of
        dataset: String,
        /// Settings
        parameters: BTreeMap<String, String>,
    },
}

/// Reads one message from the front of some bytes; what is left of them is what was
/// not read.
///
/// # Errors
/// As the listener refuses it; none where it would wait for more, which it never
/// does where a stream has ended.
pub fn opening(bytes: &mut &[u8]) -> Option<Result<Opened, Refused>> {
    let read = pin!(Opening::read(bytes));
    match read.poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(opening) => Some(opening.map(Opened::of)),
        Poll::Pending => None,
    }
}

impl Opened {
    fn of(opening: Opening) -> Self {
        match opening {
            Opening::Ssl => Self::Ssl,
            Opening::Gss => Self::Gss,
            Opening::Cancel { pid, secret } => Self::Cancel { pid, secret },
            Opening::Start(startup) => Self::Start {
                version: startup.protocol.code(),
                negotiation: startup.negotiate.map(|negotiate| {
                    let mut message = Vec::new();
                    negotiate.encode(&mut message);
                    message
                }),
                user: startup.user,
                dataset: startup.dataset,
                parameters: startup.parameters,
            },
        }
    }
}
