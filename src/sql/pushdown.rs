//! Conditions that may run inside a row filter's fence.
//!
//! The fence keeps the client's expressions off hidden rows, and the index with
//! them. A comparison of a clear column of a built-in type with a constant or a
//! parameter can tell nothing: it cannot raise and calls nothing of the
//! client's, so a copy of it goes inside, where Postgres can use the index. The
//! original stays where it was.
//!
//! Invariant: only comparisons that are false for NULL are copied, so that it
//! does not matter whether the relation stands on the nullable side of a join.

use std::collections::{BTreeMap, HashMap};

use pg_raw_parse::{Node, deparse, make, nodes};

use crate::catalog::TypeClass;

use super::depth;
use super::names::quote;

/// A column reference that certainly means a column of a relation named in the
/// same SELECT: by the reference's byte, the relation's byte and the column.
pub(super) type Bound = BTreeMap<usize, (usize, String)>;

/// Whether comparing values of this class with each other can neither raise nor
/// call anything but Postgres's own code.
pub(super) fn comparable(class: TypeClass) -> bool {
    match class {
        TypeClass::Text
        | TypeClass::Int2
        | TypeClass::Int4
        | TypeClass::Int8
        | TypeClass::Numeric
        | TypeClass::Float4
        | TypeClass::Float8
        | TypeClass::Bool
        | TypeClass::Date
        | TypeClass::Timestamp
        | TypeClass::Timestamptz
        | TypeClass::Uuid => true,
        TypeClass::Char
        | TypeClass::Bytea
        | TypeClass::Inet
        | TypeClass::Cidr
        | TypeClass::Json
        | TypeClass::Jsonb
        | TypeClass::Domain
        | TypeClass::Other => false,
    }
}

/// The class of a column, if its caller sees it in clear.
pub(super) type Open<'o> = &'o dyn Fn(usize, &str) -> Option<TypeClass>;

/// The copies that may go inside, by the relation's byte.
pub(super) fn conditions(
    query: Node<'_>,
    bound: &Bound,
    open: Open<'_>,
) -> HashMap<usize, Vec<String>> {
    let mut found: HashMap<usize, Vec<String>> = HashMap::new();
    let visit = |node: Node<'_>| {
        if let Node::SelectStmt(select) = node {
            for condition in conjuncts(select.where_clause()) {
                if let Some((site, text)) = copy(condition, bound, open) {
                    found.entry(site).or_default().push(text);
                }
            }
        }
    };
    // The statement has been walked before, and was not too deep.
    let _ = depth::walk(query, visit);
    found
}

fn conjuncts(condition: Node<'_>) -> Vec<Node<'_>> {
    match condition {
        Node::BoolExpr(all) if all.boolop == nodes::BoolExprType::AND_EXPR => {
            all.args().iter().flat_map(conjuncts).collect()
        }
        Node::None => Vec::new(),
        one => vec![one],
    }
}

fn copy(condition: Node<'_>, bound: &Bound, open: Open<'_>) -> Option<(usize, String)> {
    let Node::A_Expr(expression) = condition else {
        return None;
    };
    let operator = operator(expression)?;
    let Node::ColumnRef(column) = expression.lexpr() else {
        return None;
    };
    let (site, name) = bound.get(&usize::try_from(column.location).ok()?)?;
    let class = open(*site, name).filter(|class| comparable(*class))?;
    let column = quote(name);
    let compare = |operator: &str, value: Node<'_>| {
        Some(format!(
            "{column} OPERATOR(pg_catalog.{operator}) {}",
            constant(value, class)?
        ))
    };
    let text = match (expression.kind, expression.rexpr()) {
        (nodes::A_Expr_Kind::AEXPR_OP, value) => compare(operator, value)?,
        (nodes::A_Expr_Kind::AEXPR_IN, Node::NodeList(values)) if operator == "=" => values
            .iter()
            .map(|value| compare("=", value))
            .collect::<Option<Vec<_>>>()?
            .join(" OR "),
        (nodes::A_Expr_Kind::AEXPR_BETWEEN, Node::NodeList(bounds)) => {
            let (low, high) = (bounds.get(0)?, bounds.get(1)?);
            format!("{} AND {}", compare(">=", low)?, compare("<=", high)?)
        }
        _ => return None,
    };
    Some((*site, text))
}

fn operator(expression: &nodes::A_Expr) -> Option<&str> {
    let mut name = expression.name().iter().filter_map(Node::as_str);
    match (name.next()?, name.next()) {
        (operator @ ("=" | "<" | ">" | "<=" | ">=" | "BETWEEN"), None) => Some(operator),
        _ => None,
    }
}

/// The text of a constant or parameter, by the grammar's own printing; none
/// where comparing it with a column of that class could convert either of them
/// at run time. A conversion can raise, and would do so on hidden rows.
fn constant(node: Node<'_>, class: TypeClass) -> Option<String> {
    let plain = |node: Node<'_>| matches!(node, Node::A_Const(value) if !value.isnull);
    let servable = match node {
        // A constant's cast is done before anything runs, once its type is the
        // column's.
        Node::TypeCast(cast) => plain(cast.arg()) && of_class(cast.type_name(), class),
        // A parameter has a type of the client's choosing: where one that Postgres
        // would compare at all might be converted, it stays outside.
        Node::ParamRef(_) => !matches!(
            class,
            TypeClass::Numeric | TypeClass::Float4 | TypeClass::Float8
        ),
        other => plain(other),
    };
    if !servable {
        return None;
    }
    let statement = make::owned(|memory| {
        let value = memory.make_unique(node);
        let target = memory.make_res_target(None, memory.empty(), value);
        let mut select = memory.make_node::<nodes::SelectStmt>();
        select.as_mut().set_target_list(memory.make_list(&[target]));
        select
    });
    let printed = deparse(&*statement).ok()?;
    printed
        .as_str()
        .strip_prefix("SELECT ")
        .map(|text| format!("({text})"))
}

/// Whether a type's name means the class, so that nothing is converted.
fn of_class(name: Option<&nodes::TypeName>, class: TypeClass) -> bool {
    let Some(name) = name.filter(|name| name.array_bounds().is_empty()) else {
        return false;
    };
    let mut parts = name
        .names()
        .iter()
        .map(|part| part.sval().unwrap_or_default());
    let last = match (parts.next(), parts.next()) {
        (Some("pg_catalog"), Some(last)) | (Some(last), None) => last,
        _ => return false,
    };
    match class {
        TypeClass::Text => matches!(last, "text" | "varchar"),
        TypeClass::Int2 | TypeClass::Int4 | TypeClass::Int8 => {
            matches!(last, "int2" | "int4" | "int8")
        }
        TypeClass::Numeric => last == "numeric",
        TypeClass::Float4 | TypeClass::Float8 => matches!(last, "float4" | "float8"),
        TypeClass::Bool => last == "bool",
        TypeClass::Date => last == "date",
        TypeClass::Timestamp => last == "timestamp",
        TypeClass::Timestamptz => last == "timestamptz",
        TypeClass::Uuid => last == "uuid",
        _ => false,
    }
}
