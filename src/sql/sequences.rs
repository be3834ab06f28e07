//! Sequences: nextval, setval and currval, which name one by a text.
//!
//! A sequence is written by who may write the relation whose column it belongs to;
//! one that belongs to none, by who may write a relation of its name.

use std::sync::Arc;

use crate::catalog::{Catalog, Oid, Relation, RelationKind};
use crate::policy::Action;

use super::names::lookup;
use super::{Context, Denial, Reason};

/// Whether a function may be called on a sequence; none: it is not a constant.
pub(super) fn allow(
    function: &str,
    sequence: Option<&str>,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let Some(text) = sequence else {
        // Which it is will be known when it runs: it has to be allowed of all.
        let mut all = context.catalog.relations.values();
        return match all.find(|one| is_sequence(one) && !writable(one, context)) {
            None => Ok(()),
            Some(_) => Err(Denial::new(
                Reason::Policy,
                format!("{function} is allowed only with the sequence's name as a constant"),
            )
            .hint(format!(
                "write the name as a literal: {function}('orders_id_seq')"
            ))),
        };
    };
    let found = named(text, context).filter(|relation| is_sequence(relation));
    let Some(found) = found else {
        exists(text, context)?;
        return Err(Denial::new(
            Reason::UnknownText,
            format!("\"{text}\" is not a sequence"),
        ));
    };
    match writable(found, context) {
        true => Ok(()),
        false => {
            let label = found.label();
            Err(Denial::new(
                Reason::Policy,
                format!("{function} of {label} is refused: no grant allows write of it"),
            )
            .hint("ask for a grant with the action `write` on the sequence, or on the relation that it belongs to"))
        }
    }
}

fn is_sequence(relation: &Relation) -> bool {
    relation.kind == RelationKind::Sequence && !relation.is_system()
}

fn writable(sequence: &Relation, context: &Context<'_>) -> bool {
    let may = |relation: &Relation| {
        let access = context.rights.access(relation, context.catalog);
        access.actions.contains(&Action::Write)
    };
    let owner = context.catalog.owners.get(&sequence.oid);
    match owner.and_then(|owner| context.catalog.relations.get(owner)) {
        Some(owner) => may(owner),
        // Policy grants tables: what it would grant on one of that name.
        None => may(&Relation {
            kind: RelationKind::Table,
            columns: Vec::new(),
            ..sequence.clone()
        }),
    }
}

/// Whether a function of Postgres's own names a sequence by a text.
pub(super) fn concerns(function: &str) -> bool {
    matches!(function, "nextval" | "setval" | "currval")
}

/// Whether a text names a relation.
pub(super) fn exists(text: &str, context: &Context<'_>) -> Result<(), Denial> {
    match named(text, context) {
        Some(_) => Ok(()),
        None => {
            let name = parts(text).map_or_else(|| text.to_owned(), |parts| parts.join("."));
            Err(Denial::new(
                Reason::UnknownText,
                format!("relation \"{name}\" does not exist"),
            ))
        }
    }
}

/// Whether the search_path decides what `regclass` makes of a text.
pub(super) fn is_unqualified(text: &str) -> bool {
    let is_oid = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    !is_oid && parts(text).is_some_and(|parts| parts.len() == 1)
}

/// What `regclass` makes of a text (regclassin and stringToQualifiedNameList): an OID,
/// or a name, folded where it is not quoted.
pub(super) fn named<'c>(text: &str, context: &Context<'c>) -> Option<&'c Arc<Relation>> {
    let catalog: &Catalog = context.catalog;
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return catalog.relations.get(&text.parse::<Oid>().ok()?);
    }
    let path = &context.scope.search_path;
    match parts(text)?.as_slice() {
        [name] => lookup(catalog, path, None, name),
        [schema, name] => lookup(catalog, path, Some(schema), name),
        _ => None,
    }
}

fn parts(text: &str) -> Option<Vec<String>> {
    let mut rest = text.trim();
    let mut parts = Vec::new();
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => {
                let end = rest
                    .find(|c: char| c == '.' || c.is_whitespace())
                    .unwrap_or(rest.len());
                let (part, after) = rest.split_at_checked(end)?;
                (part.to_ascii_lowercase(), after)
            }
        };
        // Longer names are cut, which is nobody's business here.
        if part.is_empty() || part.len() > 63 {
            return None;
        }
        parts.push(part);
        rest = after.trim_start();
        match rest.strip_prefix('.') {
            Some(more) => rest = more.trim_start(),
            None if rest.is_empty() => return Some(parts),
            None => return None,
        }
    }
}

/// What stands before the closing quote, and what after it.
fn quoted_part(text: &str) -> Option<(String, &str)> {
    let mut part = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        let after = text.get(at + c.len_utf8()..)?;
        match c {
            '"' if after.starts_with('"') => {
                part.push('"');
                chars.next();
            }
            '"' => return Some((part, after)),
            other => part.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_regclass_reads_them() {
        let read = |text: &str| parts(text).map(|parts| parts.join("|"));
        assert_eq!(read("Orders_Seq").as_deref(), Some("orders_seq"));
        assert_eq!(
            read(" public . \"Odd \"\"x\"\"\" ").as_deref(),
            Some("public|Odd \"x\"")
        );
        assert_eq!(read("a.b.c").as_deref(), Some("a|b|c"));
        for none in ["", "a.", ".a", "a b", "\"a", "a.\"\""] {
            assert_eq!(read(none), None, "{none}");
        }
    }
}
