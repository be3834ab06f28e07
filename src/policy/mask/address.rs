//! A network instead of an address.

use super::{bytewise, collated, constant, is_text};
use crate::catalog::{Column, TypeClass};

/// An IPv4 address as Postgres reads it without fail.
const IPV4: &str = "^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}\
                    (25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$";

/// The prefix length is part of the result (`10.1.2.0/24`), so that it says
/// what it is; the raw value's own does not show.
pub(super) fn expression(
    reference: &str,
    column: &Column,
    prefix: u8,
    prefix6: u8,
) -> Option<String> {
    match column.class {
        TypeClass::Inet => Some(format!(
            "CAST({} AS pg_catalog.inet)",
            network(reference, prefix, prefix6)
        )),
        TypeClass::Cidr => Some(network(reference, prefix, prefix6)),
        class if is_text(class) => {
            let text = bytewise(reference);
            let address = format!("CAST({text} AS pg_catalog.inet)");
            Some(collated(
                &format!(
                    "CASE WHEN {reference} IS NULL THEN NULL \
                     WHEN pg_catalog.octet_length({text}) OPERATOR(pg_catalog.>) 15 THEN {hidden} \
                     WHEN {text} OPERATOR(pg_catalog.~) {pattern} \
                     THEN CAST({network} AS pg_catalog.text) ELSE {hidden} END",
                    hidden = constant("***", "text"),
                    pattern = constant(IPV4, "text"),
                    network = network(&address, prefix, prefix6),
                ),
                column,
            ))
        }
        _ => None,
    }
}

/// `network()` clears the bits beyond the length, and gives a `cidr`.
fn network(address: &str, prefix: u8, prefix6: u8) -> String {
    let cut = |length: u8| {
        format!(
            "pg_catalog.network(pg_catalog.set_masklen(CAST({address} AS pg_catalog.inet), {length}))"
        )
    };
    format!(
        "(CASE WHEN pg_catalog.family({address}) OPERATOR(pg_catalog.=) 4 THEN {} ELSE {} END)",
        cut(prefix.min(32)),
        cut(prefix6.min(128))
    )
}
