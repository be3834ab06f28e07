//! Numbers cut down to a multiple of a step, towards zero: the result is never
//! larger in magnitude than the raw value, so it fits wherever that did.

use std::fmt;
use std::str::FromStr;

use super::constant;
use crate::catalog::{Column, TypeClass};

/// A step above zero, as plain decimal digits without superfluous zeros.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Step(String);

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl FromStr for Step {
    type Err = &'static str;

    /// At most 15 digits before and 9 after the point: within what a float
    /// carries, and what `float` keeps clear of its ends.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const FAULT: &str = "a step is a number above zero, such as 1000 or 0.5";
        let (whole, fraction) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(fraction) {
            return Err(FAULT);
        }
        let whole = whole.trim_start_matches('0');
        let fraction = fraction.trim_end_matches('0');
        if whole.len() > 15 || fraction.len() > 9 {
            return Err("a step has at most 15 digits before the point and 9 after it");
        }
        match (whole, fraction) {
            ("", "") => Err(FAULT),
            (whole, "") => Ok(Self(whole.into())),
            ("", fraction) => Ok(Self(format!("0.{fraction}"))),
            (whole, fraction) => Ok(Self(format!("{whole}.{fraction}"))),
        }
    }
}

pub(super) fn expression(reference: &str, column: &Column, step: &Step) -> Option<String> {
    match column.class {
        TypeClass::Int2 => integer(reference, step, "int2", i16::MAX.into()),
        TypeClass::Int4 => integer(reference, step, "int4", i32::MAX.into()),
        TypeClass::Int8 => integer(reference, step, "int8", i64::MAX),
        TypeClass::Numeric => {
            // An infinity becomes NaN; neither raises.
            let step = constant(&step.0, "numeric");
            Some(format!(
                "({reference} OPERATOR(pg_catalog.-) \
                 ({reference} OPERATOR(pg_catalog.%) {step}))"
            ))
        }
        TypeClass::Float4 => Some(float(reference, step, "float4")),
        TypeClass::Float8 => Some(float(reference, step, "float8")),
        _ => None,
    }
}

/// `x - x % s` overflows nowhere: the remainder has the sign of `x`.
fn integer(reference: &str, step: &Step, type_name: &str, max: i64) -> Option<String> {
    let size: i64 = step.0.parse().ok()?;
    if size > max {
        let zero = constant("0", type_name);
        return Some(format!(
            "(CASE WHEN {reference} IS NULL THEN NULL ELSE {zero} END)"
        ));
    }
    let step = constant(&step.0, type_name);
    Some(format!(
        "({reference} OPERATOR(pg_catalog.-) ({reference} OPERATOR(pg_catalog.%) {step}))"
    ))
}

/// `trunc(x / s) * s`, kept away from where the division overflows (`x` so
/// large, 10^16 > 2^53 steps, that neighbouring floats are further apart than a
/// step: there is nothing to cut) or underflows
/// (`x` below the step: zero). NaN is larger than any number to Postgres, and
/// it and the infinities stay as they are.
fn float(reference: &str, step: &Step, type_name: &str) -> String {
    let raw = format!("CAST({reference} AS pg_catalog.float8)");
    let magnitude = format!("pg_catalog.abs({raw})");
    let small = constant(&step.0, "float8");
    let large = constant(&format!("{step}e16"), "float8");
    let zero = constant("0", "float8");
    format!(
        "CAST(CASE WHEN {reference} IS NULL THEN NULL \
         WHEN {magnitude} OPERATOR(pg_catalog.>=) {large} THEN {raw} \
         WHEN {magnitude} OPERATOR(pg_catalog.<) {small} THEN {zero} \
         ELSE pg_catalog.trunc({raw} OPERATOR(pg_catalog./) {small}) \
         OPERATOR(pg_catalog.*) {small} END AS pg_catalog.{type_name})"
    )
}

/// Precision and scale of `numeric(p, s)`; `None` without.
///
/// Source: `make_numeric_typmod` in src/backend/utils/adt/numeric.c (the scale
/// has eleven bits and a sign since Postgres 15).
pub(super) fn precision_and_scale(typmod: i32) -> Option<(i32, i32)> {
    let packed = typmod.checked_sub(4).filter(|packed| *packed >= 0)?;
    let scale = ((packed & 0x7ff) ^ 1024) - 1024;
    Some(((packed >> 16) & 0xffff, scale))
}
