//! What a call's first argument is.

use pg_raw_parse::{ConstValue, Node, nodes};

use super::Argument;
use super::walk::part;
use crate::sql::settings;

/// What the first argument of a call is, as far as it decides about the call.
pub(super) fn first(call: &nodes::FuncCall) -> Argument {
    match call.args().first() {
        Some(node) if is_parameter(node) => Argument::Parameter,
        Some(node) if is_screened(node) => Argument::Screened,
        Some(node) => {
            constant(named(node)).map_or(Argument::Other, |text| Argument::Literal(text.to_owned()))
        }
        None => Argument::Other,
    }
}

/// A text that is cast to the name of a relation, which it is either way.
fn named(node: Node<'_>) -> Node<'_> {
    match node {
        Node::TypeCast(cast) => {
            let mut parts = cast
                .type_name()
                .into_iter()
                .flat_map(|of| of.names().iter());
            let is = parts.next_back().and_then(|part| part.sval()) == Some("regclass");
            let plain = cast
                .type_name()
                .is_some_and(|of| of.array_bounds().is_empty());
            if is && plain { cast.arg() } else { node }
        }
        node => node,
    }
}

fn constant(node: Node<'_>) -> Option<&str> {
    match node {
        Node::A_Const(value) => match value.val() {
            Some(ConstValue::String(text)) => Some(text),
            _ => None,
        },
        _ => None,
    }
}

fn is_parameter(node: Node<'_>) -> bool {
    match node {
        Node::ParamRef(_) => true,
        Node::TypeCast(cast) => matches!(cast.arg(), Node::ParamRef(_)),
        _ => false,
    }
}

/// `pg_catalog.replace(pg_catalog.lower(…), own, screened)`, to the letter.
fn is_screened(node: Node<'_>) -> bool {
    let called = |node: Node<'_>, expected: &str| match node {
        Node::FuncCall(call) => {
            let mut name = call.funcname().iter().map(part);
            let is = |found: Option<Result<String, super::Unknown>>, expected: &str| {
                found.and_then(Result::ok).as_deref() == Some(expected)
            };
            is(name.next(), "pg_catalog") && is(name.next(), expected) && name.next().is_none()
        }
        _ => false,
    };
    let Node::FuncCall(call) = node else {
        return false;
    };
    let mut arguments = call.args().iter();
    let (Some(inner), Some(from), Some(to), None) = (
        arguments.next(),
        arguments.next(),
        arguments.next(),
        arguments.next(),
    ) else {
        return false;
    };
    called(node, "replace")
        && called(inner, "lower")
        && constant(from) == Some(settings::OWN)
        && constant(to) == Some(settings::NOT_OWN)
}
