//! Masks: SQL expressions that never raise, never widen, and keep the type.

use crate::catalog::Column;

/// The setting that holds the inner pad of the masking key, in hex. Set in the
/// upstream's startup packet; never in SQL text.
pub const KEY_INNER: &str = "pgveil.key_inner";
/// The setting that holds the outer pad of the masking key, in hex.
pub const KEY_OUTER: &str = "pgveil.key_outer";

/// A mask, as policy configures it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Mask {
    /// NULL.
    Null,
}

impl Mask {
    /// As in policy and record: `email`.
    pub fn name(&self) -> &'static str {
        "null"
    }

    /// The expression over a column, to be cast to the column's type by the
    /// scan; `reference` is the quoted column as it is to be written. `None`:
    /// this mask cannot serve a column of this type, which is then blocked.
    pub fn expression(&self, _reference: &str, _column: &Column) -> Option<String> {
        todo!()
    }
}
