//! The way to Postgres: connects, and sends SQL only as a [`crate::sql::Plan`].
//!
//! Knows nothing about policy or callers. What the proxy itself asks (its catalog
//! reads) is text that stands in this program, on a session of its own.

mod auth;
pub mod connect;
pub mod frame;
pub(crate) mod inquiry;
#[cfg(test)]
mod noise;
mod refusal;
pub(crate) mod step_up;
mod stream;
mod tls;

pub use stream::Stream;
