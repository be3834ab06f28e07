//! Masks that keep part of a text.

use super::{bytewise, collated, constant, is_text};
use crate::catalog::Column;

/// First and last characters; a value without a middle is replaced whole, so
/// that short values are not shown by their ends. What stands for the middle is
/// of fixed length: the length of the raw value does not show.
pub(super) fn partial(
    reference: &str,
    column: &Column,
    keep_first: u16,
    keep_last: u16,
    with: &str,
) -> Option<String> {
    if !is_text(column.class) {
        return None;
    }
    let text = bytewise(reference);
    let with = constant(with, "text");
    let ends = i32::from(keep_first) + i32::from(keep_last);
    Some(collated(
        &format!(
            "CASE WHEN {reference} IS NULL THEN NULL \
             WHEN pg_catalog.length({text}) OPERATOR(pg_catalog.<=) {ends} THEN {with} \
             ELSE pg_catalog.\"left\"({text}, {keep_first}) OPERATOR(pg_catalog.||) {with} \
             OPERATOR(pg_catalog.||) pg_catalog.\"right\"({text}, {keep_last}) END"
        ),
        column,
    ))
}

/// `j***@example.com`; the first letter only where two more follow it. What is
/// not one plain address shows nothing.
pub(super) fn email(reference: &str, column: &Column) -> Option<String> {
    if !is_text(column.class) {
        return None;
    }
    let text = bytewise(reference);
    let hidden = constant("***", "text");
    let address = constant("^[^@[:space:]]+@[A-Za-z0-9.-]+$", "text");
    let at = format!("pg_catalog.strpos({text}, {})", constant("@", "text"));
    // An address has 254 bytes at most (RFC 5321, 4.5.3.1.3).
    Some(collated(
        &format!(
            "CASE WHEN {reference} IS NULL THEN NULL \
             WHEN pg_catalog.octet_length({text}) OPERATOR(pg_catalog.>) 1000 THEN {hidden} \
             WHEN NOT ({text} OPERATOR(pg_catalog.~) {address}) THEN {hidden} \
             WHEN {at} OPERATOR(pg_catalog.>) 3 \
             THEN pg_catalog.\"left\"({text}, 1) OPERATOR(pg_catalog.||) {hidden} \
             OPERATOR(pg_catalog.||) pg_catalog.substr({text}, {at}) \
             ELSE {hidden} OPERATOR(pg_catalog.||) pg_catalog.substr({text}, {at}) END"
        ),
        column,
    ))
}
