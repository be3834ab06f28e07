//! Keyed pseudonyms: HMAC-SHA-256 (RFC 2104) of the raw value, cut to the
//! column's own type. Equal values of equal type give equal pseudonyms, in every
//! table, so that they join; without the key they cannot be tried out.
//!
//! The key never stands in SQL text. Its two padded halves are settings of the
//! upstream session (set in its startup packet), which no caller can read or
//! change: `sql` refuses to name them, and the scan reads them itself.

use super::{bytewise, collated, constant, is_text};
use crate::catalog::{Column, TypeClass};

/// The setting that holds the inner pad of the masking key, in hex. Set in the
/// upstream's startup packet; never in SQL text.
pub const KEY_INNER: &str = "pgveil.key_inner";
/// The setting that holds the outer pad of the masking key, in hex.
pub const KEY_OUTER: &str = "pgveil.key_outer";

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;

/// The settings, by name, that make masks use a key.
///
/// Source: RFC 2104, section 2: a key longer than a block is hashed first.
pub fn key_settings(key: &[u8]) -> [(&'static str, String); 2] {
    let hashed;
    let key = if key.len() > BLOCK {
        hashed = ring::digest::digest(&ring::digest::SHA256, key);
        hashed.as_ref()
    } else {
        key
    };
    let padded = |pad: u8| -> String {
        key.iter()
            .copied()
            .chain(std::iter::repeat(0))
            .take(BLOCK)
            .map(|byte| format!("{:02x}", byte ^ pad))
            .collect()
    };
    [(KEY_INNER, padded(0x36)), (KEY_OUTER, padded(0x5c))]
}

pub(super) fn expression(reference: &str, column: &Column) -> Option<String> {
    let digest = hmac(&payload(reference, column.class)?);
    let hex = format!("pg_catalog.encode({digest}, {})", constant("hex", "text"));
    Some(match column.class {
        TypeClass::Text | TypeClass::Char => collated(&hex, column),
        TypeClass::Bytea => digest,
        TypeClass::Uuid => format!("CAST(pg_catalog.\"left\"({hex}, 32) AS pg_catalog.uuid)"),
        TypeClass::Int2 => format!("CAST({} AS pg_catalog.int2)", bits(&hex, 15)),
        TypeClass::Int4 => format!("CAST({} AS pg_catalog.int4)", bits(&hex, 31)),
        TypeClass::Int8 => bits(&hex, 60),
        TypeClass::Numeric => numeric(&hex, column.typmod),
        // As many bits as the mantissa holds exactly.
        TypeClass::Float4 => format!("CAST({} AS pg_catalog.float4)", bits(&hex, 24)),
        TypeClass::Float8 => format!("CAST({} AS pg_catalog.float8)", bits(&hex, 52)),
        // Days and seconds of about fifty years from 1970.
        TypeClass::Date => format!(
            "({} OPERATOR(pg_catalog.+) CAST({} OPERATOR(pg_catalog.%) {} AS pg_catalog.int4))",
            constant("1970-01-01", "date"),
            bits(&hex, 60),
            constant("20000", "int8"),
        ),
        TypeClass::Timestamp => moment(&hex, "1970-01-01 00:00:00", "timestamp"),
        TypeClass::Timestamptz => moment(&hex, "1970-01-01 00:00:00+00", "timestamptz"),
        TypeClass::Inet => address(reference, &hex),
        TypeClass::Cidr => format!("CAST({} AS pg_catalog.cidr)", address(reference, &hex)),
        TypeClass::Bool
        | TypeClass::Json
        | TypeClass::Jsonb
        | TypeClass::Domain
        | TypeClass::Enum
        | TypeClass::Other => return None,
    })
}

/// The bytes that stand for a value: equal for values that Postgres holds equal,
/// and independent of settings (a date's or float's text is not). `SQL_ASCII`
/// means the bytes as they are stored: a conversion could fail on some.
fn payload(reference: &str, class: TypeClass) -> Option<String> {
    let bytes = |text: &str| {
        format!(
            "pg_catalog.convert_to({text}, {})",
            constant("SQL_ASCII", "name")
        )
    };
    Some(match class {
        class if is_text(class) => bytes(&bytewise(reference)),
        TypeClass::Int2
        | TypeClass::Int4
        | TypeClass::Int8
        | TypeClass::Uuid
        | TypeClass::Inet
        | TypeClass::Cidr => bytes(&format!("CAST({reference} AS pg_catalog.text)")),
        // 1.0 and 1.00 are one value.
        TypeClass::Numeric => {
            format!("pg_catalog.numeric_send(pg_catalog.trim_scale({reference}))")
        }
        TypeClass::Float4 | TypeClass::Float8 => {
            // -0 is 0, and every NaN is one value to Postgres.
            let raw = format!("CAST({reference} AS pg_catalog.float8)");
            let nan = constant("NaN", "float8");
            format!(
                "pg_catalog.float8send(CASE WHEN {raw} OPERATOR(pg_catalog.=) {nan} THEN {nan} \
                 ELSE {raw} OPERATOR(pg_catalog.+) {} END)",
                constant("0", "float8")
            )
        }
        TypeClass::Date => format!("pg_catalog.date_send({reference})"),
        TypeClass::Timestamp => format!("pg_catalog.timestamp_send({reference})"),
        TypeClass::Timestamptz => format!("pg_catalog.timestamptz_send({reference})"),
        TypeClass::Bytea => reference.to_owned(),
        _ => return None,
    })
}

/// HMAC-SHA-256. A missing or emptied key gives NULL or an error, never a hash
/// without a key. Beyond 16 MB the message is its own hash first: joined to the
/// pad it could leave the 1 GB that a value may have.
fn hmac(payload: &str) -> String {
    let pad = |setting: &str| {
        format!(
            "pg_catalog.decode(CASE WHEN pg_catalog.current_setting({name}) \
             OPERATOR(pg_catalog.=) {empty} THEN NULL \
             ELSE pg_catalog.current_setting({name}) END, {hex})",
            name = constant(setting, "text"),
            empty = constant("", "text"),
            hex = constant("hex", "text"),
        )
    };
    let message = format!(
        "(CASE WHEN pg_catalog.octet_length({payload}) OPERATOR(pg_catalog.>) {} \
         THEN pg_catalog.sha256({payload}) ELSE {payload} END)",
        super::SEARCHABLE
    );
    format!(
        "pg_catalog.sha256({} OPERATOR(pg_catalog.||) \
         pg_catalog.sha256({} OPERATOR(pg_catalog.||) {message}))",
        pad(KEY_OUTER),
        pad(KEY_INNER)
    )
}

/// The first `count` (at most 60) bits of a digest as a number that is never
/// negative.
fn bits(hex: &str, count: u32) -> String {
    let digits = count.div_ceil(4);
    let length = digits * 4;
    let whole = format!(
        "CAST(CAST({} OPERATOR(pg_catalog.||) pg_catalog.\"left\"({hex}, {digits}) \
         AS pg_catalog.bit({length})) AS pg_catalog.int8)",
        constant("x", "text")
    );
    let mask = (1u64 << count) - 1;
    format!(
        "({whole} OPERATOR(pg_catalog.&) {})",
        constant(&mask.to_string(), "int8")
    )
}

/// `numeric(p, s)` has `p` digits in units of `10^-s`, whatever the scale's sign.
fn numeric(hex: &str, typmod: i32) -> String {
    let Some((precision, scale)) = super::number::precision_and_scale(typmod) else {
        return format!("CAST({} AS pg_catalog.numeric)", bits(hex, 60));
    };
    let digits = u32::try_from(precision.clamp(1, 17)).unwrap_or(1);
    let unit = match usize::try_from(scale) {
        Ok(0) => "1".to_owned(),
        Ok(scale) => format!("0.{}1", "0".repeat(scale - 1)),
        Err(_) => format!("1{}", "0".repeat(scale.unsigned_abs() as usize)),
    };
    format!(
        "(CAST({} OPERATOR(pg_catalog.%) {} AS pg_catalog.numeric) OPERATOR(pg_catalog.*) {})",
        bits(hex, 60),
        constant(&10u64.pow(digits).to_string(), "int8"),
        constant(&unit, "numeric")
    )
}

/// An interval of seconds alone adds the same in every time zone.
fn moment(hex: &str, epoch: &str, type_name: &str) -> String {
    format!(
        "({} OPERATOR(pg_catalog.+) (CAST({} OPERATOR(pg_catalog.%) {} AS pg_catalog.float8) \
         OPERATOR(pg_catalog.*) {}))",
        constant(epoch, type_name),
        bits(hex, 60),
        constant("1728000000", "int8"),
        constant("1 second", "interval")
    )
}

/// An address of a private network, of the raw value's family.
fn address(reference: &str, hex: &str) -> String {
    format!(
        "(CASE WHEN pg_catalog.family({reference}) OPERATOR(pg_catalog.=) 4 \
         THEN {} OPERATOR(pg_catalog.+) {} ELSE {} OPERATOR(pg_catalog.+) {} END)",
        constant("10.0.0.0", "inet"),
        bits(hex, 24),
        constant("fd00::", "inet"),
        bits(hex, 60)
    )
}
