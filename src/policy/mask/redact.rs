//! Takes addresses and long digit groups (phone and card numbers, national ids)
//! out of free text and out of JSON.
//!
//! In doubt it takes out too much: names and addresses of places it does not
//! know, and a column whose text must not show at all wants another mask.

use super::{SEARCHABLE, bytewise, collated, constant};
use crate::catalog::{Column, TypeClass};

/// What a mail address does not hold: blanks, quotes, brackets, separators,
/// backslashes, and the mark that [`json`] sets behind every escape.
const NOT_ADDRESS: &str = r#"[^][[:space:]@,;:=<>(){}|"\\\u007f]"#;

/// A digit, of the scripts that write phone numbers with digits of their own:
/// Arabic, Persian, Devanagari, full width.
const DIGIT: &str = r"[0-9\u0660-\u0669\u06f0-\u06f9\u0966-\u096f\uff10-\uff19]";

/// What may stand between two of them: at most three of blank, tab, line break, point,
/// hyphen, slash, bracket, no-break space or dash, the breaks also as [`scrubbed`]
/// has marked them.
const BETWEEN: &str = r"(?:[ \t\n\r()./\u00a0\u2010-\u2015-]|\\[nrt]\u007f){0,3}";

/// Seven digits or more.
fn digits() -> String {
    format!("[+(]{{0,2}}{DIGIT}(?:{BETWEEN}{DIGIT}){{6,}}")
}

/// Letters and digits in one word, at least eight of both, five of these and one of
/// those no E (passports, tax codes), and two letters, three pairs of digits and a
/// letter with blanks in between (British national insurance).
const MIXED: &str = r"\m(?:(?=[0-9Ee]*[A-DF-Za-df-z])(?=(?:[A-Za-z]*[0-9]){5})[A-Za-z0-9]{8,}|[A-Za-z]{2}(?: [0-9]{2}){3} [A-Za-z])\M";

fn address() -> String {
    format!("{NOT_ADDRESS}+(?:@{NOT_ADDRESS}+)+")
}

pub(super) fn expression(reference: &str, column: &Column) -> Option<String> {
    match column.class {
        TypeClass::Text | TypeClass::Char => Some(text(reference, column)),
        TypeClass::Jsonb => Some(jsonb(reference)),
        TypeClass::Json => Some(json(reference)),
        _ => None,
    }
}

fn replaced(text: &str, pattern: &str, with: &str) -> String {
    format!(
        "pg_catalog.regexp_replace({text}, {}, {with}, {})",
        constant(pattern, "text"),
        constant("g", "text")
    )
}

fn text(reference: &str, column: &Column) -> String {
    let text = bytewise(reference);
    let addresses = replaced(&text, &address(), &constant("[email]", "text"));
    let mixed = replaced(&addresses, MIXED, &constant("[number]", "text"));
    let digits = replaced(&mixed, &digits(), &constant("[number]", "text"));
    collated(
        &format!(
            "CASE WHEN {reference} IS NULL THEN NULL \
             WHEN pg_catalog.octet_length({text}) OPERATOR(pg_catalog.>) {SEARCHABLE} THEN {} \
             ELSE {digits} END",
            constant("[redacted]", "text")
        ),
        column,
    )
}

/// JSON text with its strings redacted, which is JSON text again:
///
/// 1. A backslash stands only inside a string, as the start of an escape. The
///    first pass reads escapes from left to right, one at a time, so it takes
///    each whole (`\\` never pairs its second half with what follows), and sets
///    a DEL behind it. No later match holds a backslash or a DEL, so none
///    begins or ends inside an escape: `\nbob@x` has `bob@x` taken out, not
///    `nbob@x`. DEL is legal in a JSON string unescaped, and taken out last.
/// 2. No match holds a quote, so each lies within one string or outside all.
///    `[email]` is sound within a string, and outside of strings there is no `@`.
/// 3. Outside of strings, a digit group lies within one number, for between two
///    numbers stands a comma, colon or bracket, which no match holds. It begins
///    at a digit (or at an exponent's sign: `1e+1234567` becomes `1e0`), so the
///    number's own sign stays, and being the longest match it ends only at the
///    number's end, or at an exponent's letter, or after an exponent; `0` in its
///    place leaves a number: `-0`, `0e5`, `1e0`. A group that begins with a
///    fraction's point does not exist: the digit before the point belongs to it.
/// 4. Outside of strings, no word has digits and a letter other than E. Within one, no
///    word reaches over an escape, for each ends in a DEL, and a break's escape lies
///    within a group of digits as a whole.
fn scrubbed(text: &str) -> String {
    let mark = "pg_catalog.chr(127)";
    let marked = replaced(
        text,
        r"\\(u[0-9a-fA-F]{4}|.)",
        &format!(
            "({} OPERATOR(pg_catalog.||) {mark})",
            constant(r"\\\1", "text")
        ),
    );
    let addresses = replaced(&marked, &address(), &constant("[email]", "text"));
    let mixed = replaced(&addresses, MIXED, &constant("0", "text"));
    let digits = replaced(&mixed, &digits(), &constant("0", "text"));
    format!(
        "pg_catalog.replace({digits}, {mark}, {})",
        constant("", "text")
    )
}

/// The text of `jsonb` is canonical: only control characters, quotes and
/// backslashes are escaped, numbers have no exponent.
fn jsonb(reference: &str) -> String {
    let text = bytewise(reference);
    format!(
        "(CASE WHEN {reference} IS NULL THEN NULL \
         WHEN pg_catalog.octet_length({text}) OPERATOR(pg_catalog.>) {SEARCHABLE} THEN {} \
         ELSE CAST({} AS pg_catalog.jsonb) END)",
        constant("\"[redacted]\"", "jsonb"),
        scrubbed(&text)
    )
}

/// `json` is stored as it was written, where `\u0040` is an `@` that no pattern
/// sees. A document that spells plain characters so is replaced whole, and so is
/// one that has both an `@` and any such escape (a letter of the address may be
/// one).
fn json(reference: &str) -> String {
    let text = bytewise(reference);
    let whole = constant("\"[redacted]\"", "json");
    format!(
        "(CASE WHEN {reference} IS NULL THEN NULL \
         WHEN pg_catalog.octet_length({text}) OPERATOR(pg_catalog.>) {SEARCHABLE} THEN {whole} \
         WHEN {text} OPERATOR(pg_catalog.~) {plain} THEN {whole} \
         WHEN pg_catalog.strpos({text}, {at}) OPERATOR(pg_catalog.>) 0 \
         AND pg_catalog.strpos({text}, {escape}) OPERATOR(pg_catalog.>) 0 THEN {whole} \
         ELSE CAST({scrubbed} AS pg_catalog.json) END)",
        plain = constant(r"\\u00[2-7]", "text"),
        at = constant("@", "text"),
        escape = constant("\\u", "text"),
        scrubbed = scrubbed(&text)
    )
}
