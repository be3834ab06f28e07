//! The messages that the proxy says in a server's own voice, as pgwire has them.
//!
//! Only outward: what comes in is split by its own header and read within it
//! (`upstream::frame`, `listener::startup`), because pgwire 0.42.1 may read past
//! a message's declared length and decodes text lossily.
//!
//! Source: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

use bytes::BytesMut;
use pgwire::messages::Message;

pub(crate) use pgwire::messages::response::{ErrorResponse, ReadyForQuery, TransactionStatus};
pub(crate) use pgwire::messages::startup::{
    Authentication, BackendKeyData, NegotiateProtocolVersion, ParameterStatus, SecretKey,
};

/// Appends a message, header included.
pub(crate) fn put(out: &mut Vec<u8>, message: &impl Message) {
    let mut bytes = BytesMut::new();
    match message.encode(&mut bytes) {
        Ok(()) => out.extend_from_slice(&bytes),
        // None of these messages has anything that could not be encoded.
        Err(error) => tracing::error!(%error, "a message could not be encoded"),
    }
}
