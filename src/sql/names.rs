//! Names as Postgres writes and looks them up.
//!
//! Knows nothing about statements. Rules: the documentation's "Lexical
//! Structure" (identifiers, folding) and "The Schema Search Path".

use std::sync::Arc;

use crate::catalog::{Catalog, Relation};

/// The identifier, always quoted: no keyword, fold or escape can change it.
pub(crate) fn quote(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `"schema"."name"`.
pub(crate) fn qualified(schema: &str, name: &str) -> String {
    format!("{}.{}", quote(schema), quote(name))
}

/// The end of a possibly dotted name that starts at a byte of canonical text;
/// `None` if no name starts there.
pub(super) fn name_end(text: &str, start: usize) -> Option<usize> {
    let mut end = identifier_end(text, start)?;
    while text.get(end..)?.starts_with('.') {
        match identifier_end(text, end + 1) {
            Some(next) => end = next,
            None => break,
        }
    }
    Some(end)
}

/// Where the second part of a dotted name begins.
pub(super) fn after_first(text: &str, start: usize) -> Option<usize> {
    let end = identifier_end(text, start)?;
    text.get(end..)?.starts_with('.').then_some(end + 1)
}

fn identifier_end(text: &str, start: usize) -> Option<usize> {
    let rest = text.get(start..)?;
    if let Some(quoted) = rest.strip_prefix('"') {
        let mut bytes = quoted.bytes().enumerate().peekable();
        while let Some((at, byte)) = bytes.next() {
            if byte == b'"' && bytes.next_if(|(_, next)| *next == b'"').is_none() {
                return Some(start + 1 + at + 1);
            }
        }
        return None;
    }
    let first = rest.chars().next()?;
    if !(first.is_ascii_alphabetic() || first == '_' || !first.is_ascii()) {
        return None;
    }
    let length = rest
        .find(|c: char| c.is_ascii() && !c.is_ascii_alphanumeric() && c != '_' && c != '$')
        .unwrap_or(rest.len());
    Some(start + length)
}

/// The end of `( … )` that begins at a byte of canonical text, where quotes
/// inside quotes are doubled.
pub(super) fn parenthesis_end(text: &str, start: usize) -> Option<usize> {
    let mut depth = 0_usize;
    let mut quote = None;
    for (at, byte) in text.bytes().enumerate().skip(start) {
        match (quote, byte) {
            (Some(open), _) if byte == open => quote = None,
            (Some(_), _) => {}
            (None, b'\'' | b'"') => quote = Some(byte),
            (None, b'(') => depth += 1,
            (None, b')') if depth == 1 => return Some(at + 1),
            (None, b')') => depth = depth.checked_sub(1)?,
            (None, _) if depth == 0 => return None,
            (None, _) => {}
        }
    }
    None
}

/// The schemas that an unqualified name is looked up in, in order: `pg_catalog`
/// first unless the path itself names it.
pub(super) fn effective_path<'a>(path: &'a [Arc<str>], catalog: &'a Catalog) -> Vec<&'a str> {
    let mut schemas: Vec<&str> = Vec::with_capacity(path.len() + 1);
    if !path.iter().any(|schema| &**schema == "pg_catalog") {
        schemas.push("pg_catalog");
    }
    for schema in path {
        let schema = if &**schema == "$user" {
            &*catalog.session_user
        } else {
            &**schema
        };
        if catalog.schemas.contains(schema) && !schemas.contains(&schema) {
            schemas.push(schema);
        }
    }
    schemas
}

/// The relation that a name means with this search path.
pub(super) fn lookup<'a>(
    catalog: &'a Catalog,
    path: &[Arc<str>],
    schema: Option<&str>,
    name: &str,
) -> Option<&'a Arc<Relation>> {
    match schema {
        Some(schema) => catalog.relation(schema, name),
        None => effective_path(path, catalog)
            .into_iter()
            .find_map(|schema| catalog.relation(schema, name)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_of_names() {
        let end = |text: &str, start| name_end(text, start);
        assert_eq!(end("a.b c", 0), Some(3));
        assert_eq!(end(r#""x""y".z)"#, 0), Some(8));
        assert_eq!(end("größe, b", 0), Some(7));
        assert_eq!(end("t.* from", 0), Some(1));
        assert_eq!(end(r#""open"#, 0), None);
        assert_eq!(end("(x)", 0), None);
    }

    #[test]
    fn ends_of_parentheses() {
        assert_eq!(parenthesis_end("f(1, ')', (2)) x", 1), Some(14));
        assert_eq!(parenthesis_end("(open", 0), None);
        assert_eq!(parenthesis_end("x()", 0), None);
    }

    #[test]
    fn quoting_doubles_quotes() {
        assert_eq!(qualified("a\"b", "c"), r#""a""b"."c""#);
    }
}
