//! One value for every row, checked here to be one that its type takes: a
//! constant that Postgres could not read would fail every query.

use std::net::IpAddr;

use super::super::expression::literal;
use super::collated;
use crate::catalog::{Column, TypeClass};

pub(super) fn expression(reference: &str, column: &Column, value: &str) -> Option<String> {
    if !fits(column.class, column.typmod, value) {
        return None;
    }
    let type_name = match column.class {
        TypeClass::Text | TypeClass::Char => "pg_catalog.text",
        _ => &column.type_sql,
    };
    let constant = format!(
        "CASE WHEN {reference} IS NULL THEN NULL ELSE CAST({} AS {type_name}) END",
        literal(value)
    );
    Some(match column.class {
        TypeClass::Text | TypeClass::Char => collated(&constant, column),
        _ => format!("({constant})"),
    })
}

/// Whether Postgres reads the text as a value of the type, and alike under every
/// setting of the session.
pub(in crate::policy) fn fits(class: TypeClass, typmod: i32, value: &str) -> bool {
    match class {
        TypeClass::Text | TypeClass::Char => true,
        TypeClass::Int2 => value.parse::<i16>().is_ok(),
        TypeClass::Int4 => value.parse::<i32>().is_ok(),
        TypeClass::Int8 => value.parse::<i64>().is_ok(),
        TypeClass::Numeric => numeric(value, typmod),
        TypeClass::Float4 => plain_decimal(value) && value.parse().is_ok_and(f32::is_finite),
        TypeClass::Float8 => plain_decimal(value) && value.parse().is_ok_and(f64::is_finite),
        TypeClass::Bool => matches!(value, "true" | "false"),
        TypeClass::Date => date(value),
        TypeClass::Timestamp => timestamp(value),
        TypeClass::Timestamptz => common_era(value) && value.parse::<jiff::Timestamp>().is_ok(),
        TypeClass::Uuid => uuid(value),
        TypeClass::Bytea => value.strip_prefix("\\x").is_some_and(hex),
        TypeClass::Inet => network(value).is_some(),
        TypeClass::Cidr => network(value).is_some_and(|exact| exact),
        // Postgres reads \u0000 into no jsonb, and no number beyond its own
        // range; the Rust parser's range is smaller.
        TypeClass::Json | TypeClass::Jsonb => {
            serde_json::from_str::<serde_json::Value>(value).is_ok() && !value.contains("\\u0000")
        }
        TypeClass::Domain | TypeClass::Enum | TypeClass::Other => false,
    }
}

/// `-?digits(.digits)?`, and not longer than any value needs.
fn plain_decimal(value: &str) -> bool {
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let all_digits = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    all_digits(whole) && all_digits(fraction) && value.len() <= 60
}

/// Within `numeric(precision, scale)`, without rounding up out of it.
fn numeric(value: &str, typmod: i32) -> bool {
    if !plain_decimal(value) {
        return false;
    }
    let Some((precision, scale)) = super::number::precision_and_scale(typmod) else {
        return true;
    };
    let digits = value.strip_prefix('-').unwrap_or(value);
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let whole = whole.trim_start_matches('0').len();
    let fraction = fraction.trim_end_matches('0').len();
    let fits = |length: usize, room: i32| i32::try_from(length).is_ok_and(|length| length <= room);
    // A scale below zero or above the precision is more than a constant needs.
    scale >= 0 && fits(whole, precision - scale) && fits(fraction, scale)
}

/// `2024-01-31…`: read alike under every DateStyle.
fn common_era(value: &str) -> bool {
    value.bytes().take(4).all(|byte| byte.is_ascii_digit()) && !value.starts_with("0000")
}

fn date(value: &str) -> bool {
    value.len() == 10 && common_era(value) && value.parse::<jiff::civil::Date>().is_ok()
}

fn timestamp(value: &str) -> bool {
    common_era(value)
        && value
            .bytes()
            .all(|byte| byte.is_ascii_digit() || b"-: .T".contains(&byte))
        && value.parse::<jiff::civil::DateTime>().is_ok()
}

fn hex(value: &str) -> bool {
    value.len().is_multiple_of(2) && value.bytes().all(|byte| byte.is_ascii_hexdigit())
}

fn uuid(value: &str) -> bool {
    let lengths: Vec<usize> = value.split('-').map(str::len).collect();
    lengths == [8, 4, 4, 4, 12] && hex(&value.replace('-', ""))
}

/// An address with or without a prefix length; `true` if no bit is set beyond
/// the prefix, as `cidr` demands.
fn network(value: &str) -> Option<bool> {
    let (address, length) = match value.split_once('/') {
        Some((address, length)) => (address, Some(length.parse::<u32>().ok()?)),
        None => (value, None),
    };
    let (bits, width) = match address.parse::<IpAddr>().ok()? {
        IpAddr::V4(address) => (u128::from(u32::from(address)) << 96, 32),
        IpAddr::V6(address) => (u128::from(address), 128),
    };
    let length = length.unwrap_or(width);
    (length <= width).then(|| bits.checked_shl(length).unwrap_or(0) == 0)
}
