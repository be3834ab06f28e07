//! Dates and times cut down, in UTC whatever the session's time zone: a caller
//! who moves the zone would move the boundary, and find the raw time by it.

use super::constant;
use crate::catalog::{Column, TypeClass};

/// What a date is cut down to.
#[derive(
    Clone,
    Copy,
    Debug,
    PartialEq,
    Eq,
    PartialOrd,
    Ord,
    Hash,
    serde::Deserialize,
    schemars::JsonSchema,
)]
#[serde(rename_all = "lowercase")]
pub enum DatePart {
    /// January the 1st of its year.
    Year,
    /// The 1st of its month.
    Month,
    /// Midnight (UTC) of its day.
    Day,
}

impl DatePart {
    fn unit(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Month => "month",
            Self::Day => "day",
        }
    }
}

/// Outside the years 1 to 9999 truncation can leave the type's range, so what is
/// outside becomes the first or last year itself. Infinities stay.
pub(super) fn expression(reference: &str, column: &Column, to: DatePart) -> Option<String> {
    let (type_name, zone) = match column.class {
        TypeClass::Date => ("date", ""),
        TypeClass::Timestamp => ("timestamp", ""),
        TypeClass::Timestamptz => ("timestamptz", " 00:00:00+00"),
        _ => return None,
    };
    let unit = constant(to.unit(), "text");
    let cut = match column.class {
        TypeClass::Date => format!(
            "CAST(pg_catalog.date_trunc({unit}, CAST({reference} AS pg_catalog.timestamp)) \
             AS pg_catalog.date)"
        ),
        TypeClass::Timestamp => format!("pg_catalog.date_trunc({unit}, {reference})"),
        _ => format!(
            "pg_catalog.date_trunc({unit}, {reference}, {})",
            constant("UTC", "text")
        ),
    };
    let first = constant(&format!("0001-01-01{zone}"), type_name);
    let last = constant(&format!("9999-01-01{zone}"), type_name);
    let end = constant(&format!("9999-12-31{zone}"), type_name);
    Some(format!(
        "(CASE WHEN {reference} IS NULL THEN NULL \
         WHEN NOT pg_catalog.isfinite({reference}) THEN {reference} \
         WHEN {reference} OPERATOR(pg_catalog.<) {first} THEN {first} \
         WHEN {reference} OPERATOR(pg_catalog.>) {end} THEN {last} \
         ELSE {cut} END)"
    ))
}
