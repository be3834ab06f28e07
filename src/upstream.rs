//! The way to Postgres: connects, and sends SQL only as a [`crate::sql::Plan`].
//!
//! Knows nothing about policy or callers.

pub mod connect;
pub mod frame;
