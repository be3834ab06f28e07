//! Accepts, negotiates TLS and startup, authenticates, within deadlines and limits.
