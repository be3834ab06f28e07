//! What a call's first argument is.

use pg_raw_parse::{ConstValue, Node, nodes};

use super::Argument;
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

/// Byte offset of a call's first argument, if it is a string constant.
pub(super) fn place(call: &nodes::FuncCall) -> Option<usize> {
    match call.args().first().map(named) {
        Some(node @ Node::A_Const(value)) if constant(node).is_some() => {
            usize::try_from(value.location).ok()
        }
        _ => None,
    }
}

/// Whether anything but arguments stands in a call or behind it.
pub(super) fn is_decorated(call: &nodes::FuncCall) -> bool {
    !call.agg_order().is_empty()
        || !matches!(call.agg_filter(), Node::None)
        || call.over().is_some()
        || call.agg_star
        || call.agg_distinct
        || call.func_variadic
}

/// Whether a call can be a column's name in front of a row: `name(x.y)` is `(x.y).name`
/// where no function of that name fits (ParseFuncOrColumn, parse_func.c).
pub(super) fn projects(call: &nodes::FuncCall) -> bool {
    let mut arguments = call.args().iter();
    let one = matches!(
        (arguments.next(), arguments.next()),
        (
            Some(Node::ColumnRef(_) | Node::FuncCall(_) | Node::A_Indirection(_)),
            None
        )
    );
    one && !is_decorated(call) && call.funcname().len() == 1
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

/// What [`settings::screen`] writes, to the letter:
/// `pg_catalog.replace(pg_catalog.lower(CAST(… AS pg_catalog.text) COLLATE pg_catalog."C"), own, screened)`.
fn is_screened(node: Node<'_>) -> bool {
    let Some([inner, from, to]) = arguments(node, "replace") else {
        return false;
    };
    let Some([folded]) = arguments(inner, "lower") else {
        return false;
    };
    is_text(folded)
        && constant(from) == Some(settings::OWN)
        && constant(to) == Some(settings::NOT_OWN)
}

/// The arguments of a call of that function of Postgres's own, if it is one and has
/// that many.
fn arguments<'a, const N: usize>(node: Node<'a>, function: &str) -> Option<[Node<'a>; N]> {
    let Node::FuncCall(call) = node else {
        return None;
    };
    if !is_builtin(call.funcname().iter().map(word), function) {
        return None;
    }
    let all: Vec<Node<'a>> = call.args().iter().collect();
    all.try_into().ok()
}

/// `CAST(… AS pg_catalog.text) COLLATE pg_catalog."C"`: a text, whatever is cast.
fn is_text(node: Node<'_>) -> bool {
    let Node::CollateClause(collated) = node else {
        return false;
    };
    let Node::TypeCast(cast) = collated.arg() else {
        return false;
    };
    let is_text = |of: &nodes::TypeName| {
        is_builtin(of.names().iter().map(|name| name.sval()), "text")
            && of.array_bounds().is_empty()
            && of.typmods().is_empty()
            && !of.setof
            && !of.pct_type
    };
    is_builtin(collated.collname().iter().map(word), "C") && cast.type_name().is_some_and(is_text)
}

fn word(node: Node<'_>) -> Option<&str> {
    match node {
        Node::String(text) => text.sval(),
        _ => None,
    }
}

/// Whether a name is that one in `pg_catalog`.
fn is_builtin<'a>(parts: impl Iterator<Item = Option<&'a str>>, expected: &'a str) -> bool {
    parts.eq([Some("pg_catalog"), Some(expected)])
}
