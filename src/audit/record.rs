//! The typed events and their JSON form.

/// Something that is recorded.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Event;
