//! The name that Postgres gives an output column without an alias.
//!
//! Knows nothing about types. Rule: `FigureColname` of Postgres's parse_target.c,
//! version 18; where older versions differ (the functions of SQL/JSON are theirs
//! by another syntax or not at all) there is nothing that they would read.

use pg_raw_parse::{Node, nodes};

/// What a column is called that has no better name.
const UNNAMED: &str = "?column?";

/// How sure a name is: a cast's own gives way to that of what is cast.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Strength {
    Weak,
    Strong,
}

/// The output column's name.
pub(super) fn name(node: Node<'_>) -> &str {
    figure(node).map_or(UNNAMED, |(name, _)| name)
}

fn figure(node: Node<'_>) -> Option<(&str, Strength)> {
    let strong = |name| Some((name, Strength::Strong));
    match node {
        Node::ColumnRef(column) => last(column.fields()).and_then(strong),
        Node::A_Indirection(indirection) => match last(indirection.indirection()) {
            Some(name) => strong(name),
            None => figure(indirection.arg()),
        },
        Node::FuncCall(call) => last(call.funcname()).and_then(strong),
        Node::A_Expr(expression) if expression.kind == nodes::A_Expr_Kind::AEXPR_NULLIF => {
            strong("nullif")
        }
        Node::TypeCast(cast) => match figure(cast.arg()) {
            Some((name, Strength::Strong)) => strong(name),
            weaker => cast
                .type_name()
                .and_then(|name| name.names().iter().next_back()?.sval())
                .map(|name| (name, Strength::Weak))
                .or(weaker),
        },
        Node::CollateClause(collate) => figure(collate.arg()),
        Node::GroupingFunc(_) => strong("grouping"),
        Node::MergeSupportFunc(_) => strong("merge_action"),
        Node::SubLink(link) => match link.sub_link_type {
            nodes::SubLinkType::EXISTS_SUBLINK => strong("exists"),
            nodes::SubLinkType::ARRAY_SUBLINK => strong("array"),
            nodes::SubLinkType::EXPR_SUBLINK => first_output(link.subselect()).and_then(strong),
            _ => None,
        },
        Node::CaseExpr(case) => match figure(case.defresult()) {
            Some((name, Strength::Strong)) => strong(name),
            _ => Some(("case", Strength::Weak)),
        },
        Node::A_ArrayExpr(_) => strong("array"),
        Node::RowExpr(_) => strong("row"),
        Node::CoalesceExpr(_) => strong("coalesce"),
        Node::MinMaxExpr(of) => strong(match of.op {
            nodes::MinMaxOp::IS_GREATEST => "greatest",
            _ => "least",
        }),
        Node::SQLValueFunction(function) => value_function(function).and_then(strong),
        Node::XmlExpr(xml) => xml_function(xml).and_then(strong),
        Node::XmlSerialize(_) => strong("xmlserialize"),
        Node::JsonParseExpr(_) => strong("json"),
        Node::JsonScalarExpr(_) => strong("json_scalar"),
        Node::JsonSerializeExpr(_) => strong("json_serialize"),
        Node::JsonObjectConstructor(_) => strong("json_object"),
        Node::JsonArrayConstructor(_) | Node::JsonArrayQueryConstructor(_) => strong("json_array"),
        Node::JsonObjectAgg(_) => strong("json_objectagg"),
        Node::JsonArrayAgg(_) => strong("json_arrayagg"),
        Node::JsonFuncExpr(json) => match json.op {
            nodes::JsonExprOp::JSON_EXISTS_OP => strong("json_exists"),
            nodes::JsonExprOp::JSON_QUERY_OP => strong("json_query"),
            nodes::JsonExprOp::JSON_VALUE_OP => strong("json_value"),
            _ => None,
        },
        // Operators, constants, parameters.
        _ => None,
    }
}

fn last(names: &pg_raw_parse::list::NodeList) -> Option<&str> {
    names.iter().filter_map(Node::as_str).next_back()
}

/// The name of a subquery's first column, which is that of its leftmost SELECT.
fn first_output(node: Node<'_>) -> Option<&str> {
    let Node::SelectStmt(mut select) = node else {
        return None;
    };
    while let Some(left) = select.larg() {
        select = left;
    }
    if !select.values_lists().is_empty() {
        return Some("column1");
    }
    let target = select.target_list().iter().next()?;
    match target.name() {
        Some(name) => Some(name),
        None => Some(name(target.val())),
    }
}

fn value_function(function: &nodes::SQLValueFunction) -> Option<&'static str> {
    use nodes::SQLValueFunctionOp as Is;
    Some(match function.op {
        Is::SVFOP_CURRENT_DATE => "current_date",
        Is::SVFOP_CURRENT_TIME | Is::SVFOP_CURRENT_TIME_N => "current_time",
        Is::SVFOP_CURRENT_TIMESTAMP | Is::SVFOP_CURRENT_TIMESTAMP_N => "current_timestamp",
        Is::SVFOP_LOCALTIME | Is::SVFOP_LOCALTIME_N => "localtime",
        Is::SVFOP_LOCALTIMESTAMP | Is::SVFOP_LOCALTIMESTAMP_N => "localtimestamp",
        Is::SVFOP_CURRENT_ROLE => "current_role",
        Is::SVFOP_CURRENT_USER => "current_user",
        Is::SVFOP_USER => "user",
        Is::SVFOP_SESSION_USER => "session_user",
        Is::SVFOP_CURRENT_CATALOG => "current_catalog",
        Is::SVFOP_CURRENT_SCHEMA => "current_schema",
        _ => return None,
    })
}

fn xml_function(xml: &nodes::XmlExpr) -> Option<&'static str> {
    use nodes::XmlExprOp as Is;
    Some(match xml.op {
        Is::IS_XMLCONCAT => "xmlconcat",
        Is::IS_XMLELEMENT => "xmlelement",
        Is::IS_XMLFOREST => "xmlforest",
        Is::IS_XMLPARSE => "xmlparse",
        Is::IS_XMLPI => "xmlpi",
        Is::IS_XMLROOT => "xmlroot",
        Is::IS_XMLSERIALIZE => "xmlserialize",
        _ => return None,
    })
}
