//! Multiples of a step instead of numbers: the next one towards zero, which is never
//! larger in magnitude than the raw value and so fits wherever that did; or the
//! nearest one, where that fits the type, and otherwise the former.

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

pub(super) fn expression(
    reference: &str,
    column: &Column,
    step: &Step,
    nearest: bool,
) -> Option<String> {
    match column.class {
        TypeClass::Int2 => integer(reference, step, nearest, "int2", i16::MAX.into()),
        TypeClass::Int4 => integer(reference, step, nearest, "int4", i32::MAX.into()),
        TypeClass::Int8 => integer(reference, step, nearest, "int8", i64::MAX),
        TypeClass::Numeric => Some(numeric(reference, column, step, nearest)),
        TypeClass::Float4 => Some(float(reference, step, nearest, "float4")),
        TypeClass::Float8 => Some(float(reference, step, nearest, "float8")),
        _ => None,
    }
}

/// The multiple towards zero: `x - x % s` overflows nowhere, for the remainder has
/// the sign of `x`.
fn cut(reference: &str, step: &str) -> String {
    format!("({reference} OPERATOR(pg_catalog.-) ({reference} OPERATOR(pg_catalog.%) {step}))")
}

fn integer(
    reference: &str,
    step: &Step,
    nearest: bool,
    type_name: &str,
    max: i64,
) -> Option<String> {
    let size: i64 = step.0.parse().ok()?;
    if size > max {
        let zero = constant("0", type_name);
        return Some(format!(
            "(CASE WHEN {reference} IS NULL THEN NULL ELSE {zero} END)"
        ));
    }
    let value = |value: i64| constant(&value.to_string(), type_name);
    let cut = cut(reference, &value(size));
    Some(match nearest {
        false => cut,
        true => away(
            reference,
            &cut,
            &value(size),
            &value(size / 2 + size % 2),
            // One more step fits.
            Some((&value(-(max - size)), &value(max - size))),
        ),
    })
}

/// One step further from zero, where the remainder is half a step or more and the
/// multiple towards zero lies within bounds.
fn away(
    reference: &str,
    cut: &str,
    step: &str,
    half: &str,
    bounds: Option<(&str, &str)>,
) -> String {
    let remainder = format!("({reference} OPERATOR(pg_catalog.%) {step})");
    let within = |operator: &str, bound: Option<&str>| {
        bound.map_or_else(String::new, |bound| {
            format!(" AND {cut} OPERATOR(pg_catalog.{operator}) {bound}")
        })
    };
    format!(
        "(CASE WHEN {remainder} OPERATOR(pg_catalog.>=) {half}{} \
         THEN {cut} OPERATOR(pg_catalog.+) {step} \
         WHEN {remainder} OPERATOR(pg_catalog.<=) (OPERATOR(pg_catalog.-) {half}){} \
         THEN {cut} OPERATOR(pg_catalog.-) {step} \
         ELSE {cut} END)",
        within("<=", bounds.map(|(_, most)| most)),
        within(">=", bounds.map(|(least, _)| least)),
    )
}

/// An infinity becomes NaN, which is larger than any number; neither raises. A
/// difference has the scale of the raw value, so that without a scale of the column's
/// own it is trimmed.
fn numeric(reference: &str, column: &Column, step: &Step, nearest: bool) -> String {
    let multiple = multiple(reference, column, step, nearest);
    match precision_and_scale(column.typmod) {
        Some(_) => multiple,
        None => format!("pg_catalog.trim_scale({multiple})"),
    }
}

fn multiple(reference: &str, column: &Column, step: &Step, nearest: bool) -> String {
    let size = constant(&step.0, "numeric");
    let cut = cut(reference, &size);
    if !nearest {
        return cut;
    }
    let half = format!(
        "({size} OPERATOR(pg_catalog./) {})",
        constant("2", "numeric")
    );
    // numeric(p, s) holds less than 10^(p - s).
    let digits = precision_and_scale(column.typmod).map(|(precision, scale)| precision - scale);
    let end = digits.map(|digits| constant(&format!("1e{digits}"), "numeric"));
    let bounds = end.map(|end| {
        (
            format!("({size} OPERATOR(pg_catalog.-) {end} OPERATOR(pg_catalog.+) {size})"),
            format!("({end} OPERATOR(pg_catalog.-) {size} OPERATOR(pg_catalog.-) {size})"),
        )
    });
    let bounds = bounds
        .as_ref()
        .map(|(least, most)| (least.as_str(), most.as_str()));
    away(reference, &cut, &size, &half, bounds)
}

/// `trunc(x / s) * s`, kept away from where the division overflows (`x` so
/// large, 10^16 > 2^53 steps, that neighbouring floats are further apart than a
/// step: there is nothing to cut) or underflows
/// (`x` far below the step: zero). NaN is larger than any number to Postgres, and
/// it and the infinities stay as they are.
fn float(reference: &str, step: &Step, nearest: bool, type_name: &str) -> String {
    let raw = format!("CAST({reference} AS pg_catalog.float8)");
    let magnitude = format!("pg_catalog.abs({raw})");
    let size = constant(&step.0, "float8");
    let large = constant(&format!("{step}e16"), "float8");
    let zero = constant("0", "float8");
    // A zero has the sign of what it was rounded from, until something is added.
    let (rounds, small, unsigned) = match nearest {
        true => (
            "round",
            constant(&format!("{step}e-1"), "float8"),
            format!(" OPERATOR(pg_catalog.+) {zero}"),
        ),
        false => ("trunc", size.clone(), String::new()),
    };
    format!(
        "CAST(CASE WHEN {reference} IS NULL THEN NULL \
         WHEN {magnitude} OPERATOR(pg_catalog.>=) {large} THEN {raw} \
         WHEN {magnitude} OPERATOR(pg_catalog.<) {small} THEN {zero} \
         ELSE pg_catalog.{rounds}({raw} OPERATOR(pg_catalog./) {size}) \
         OPERATOR(pg_catalog.*) {size}{unsigned} END AS pg_catalog.{type_name})"
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
