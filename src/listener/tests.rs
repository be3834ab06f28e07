//! The listener on a real socket: psql where the client is honest, raw bytes where
//! it is not.

mod encryption;
mod limits;
mod names;
mod oauth;
mod startup;
mod support;
