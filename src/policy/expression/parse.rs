//! Text → [`Expr`], by Postgres's grammar. Every kind of node that is served is
//! named; any other is refused.

use pg_raw_parse::nodes::{A_Expr, FuncCall, SelectStmt, TypeCast, TypeName};
use pg_raw_parse::{ConstValue, Node};

use super::functions::{ConstantType, FUNCTIONS, TYPES};
use super::{Expr, ExpressionError, pattern};
use crate::policy::mask::fits;

/// Nested deeper, or longer, nobody reads it any more.
const DEPTH: usize = 50;
const LENGTH: usize = 4000;
/// A text counts up to 1 MB (see [`Expr::text`]), a regular expression's
/// replacement has up to 8 bytes for one: 13 * 8 * 8 MB stays below the 1 GB at
/// which Postgres raises.
const CONCATENATIONS: usize = 12;
const REPLACEMENTS: usize = 2;

pub(super) fn parse(text: &str) -> Result<Expr, ExpressionError> {
    read(text).map_err(ExpressionError)
}

fn read(text: &str) -> Result<Expr, String> {
    if text.len() > LENGTH {
        return Err(format!("an expression has at most {LENGTH} bytes"));
    }
    // The line break ends a comment that would swallow the bracket.
    let parsed = pg_raw_parse::parse(&format!("SELECT ({text}\n)")).map_err(|error| {
        let message = error.to_string();
        let message = message.trim_start_matches("Invalid statement: ");
        message.to_owned()
    })?;
    let mut statements = parsed.stmts();
    let (Some(Node::SelectStmt(select)), None) = (statements.next(), statements.next()) else {
        return Err("one expression is wanted".into());
    };
    let expr = convert(alone(select).ok_or("one expression is wanted")?, 0)?;
    let (mut joined, mut replaced) = (0, 0);
    expr.each(&mut |expr| match expr {
        Expr::Concat(..) => joined += 1,
        Expr::Call(function, _) if function.name == "regexp_replace" => replaced += 1,
        _ => {}
    });
    if joined > CONCATENATIONS || replaced > REPLACEMENTS {
        return Err(format!(
            "an expression holds at most {CONCATENATIONS} `||` and {REPLACEMENTS} regexp_replace"
        ));
    }
    Ok(expr)
}

/// The only expression of a SELECT that has nothing else.
fn alone(select: &SelectStmt) -> Option<Node<'_>> {
    let empty = select.distinct_clause().is_empty()
        && select.into_clause().is_none()
        && select.from_clause().is_empty()
        && matches!(select.where_clause(), Node::None)
        && select.group_clause().is_empty()
        && matches!(select.having_clause(), Node::None)
        && select.window_clause().is_empty()
        && select.values_lists().is_empty()
        && select.sort_clause().is_empty()
        && matches!(select.limit_offset(), Node::None)
        && matches!(select.limit_count(), Node::None)
        && select.locking_clause().is_empty()
        && select.with_clause().is_none()
        && select.larg().is_none()
        && select.rarg().is_none();
    let mut targets = select.target_list().iter();
    let (Some(target), None) = (targets.next(), targets.next()) else {
        return None;
    };
    (empty && target.name().is_none() && target.indirection().is_empty()).then(|| target.val())
}

fn convert(node: Node<'_>, depth: usize) -> Result<Expr, String> {
    if depth > DEPTH {
        return Err(format!("an expression nests at most {DEPTH} deep"));
    }
    let deeper = |node| convert(node, depth + 1);
    let boxed = |node| convert(node, depth + 1).map(Box::new);
    match node {
        Node::A_Const(constant) if constant.isnull => Ok(Expr::Null),
        Node::A_Const(constant) => match constant.val() {
            Some(value) => self::constant(value),
            None => Ok(Expr::Null),
        },
        Node::ColumnRef(column) => {
            let mut fields = column.fields().iter();
            match (fields.next(), fields.next()) {
                (Some(Node::String(name)), None) => {
                    Ok(Expr::Column(name.sval().unwrap_or_default().into()))
                }
                _ => Err("a column is named without its table".into()),
            }
        }
        Node::TypeCast(cast) => self::cast(cast, depth),
        Node::FuncCall(call) => self::call(call, depth),
        Node::A_Expr(expr) => operator(expr, depth),
        Node::BoolExpr(expr) => {
            let mut args = expr
                .args()
                .iter()
                .map(deeper)
                .collect::<Result<Vec<_>, _>>()?;
            match expr.boolop {
                0 => Ok(Expr::And(args)),
                1 => Ok(Expr::Or(args)),
                2 => match (args.pop(), args.pop()) {
                    (Some(one), None) => Ok(Expr::Not(Box::new(one))),
                    _ => Err("NOT takes one condition".into()),
                },
                _ => Err("an operator that is not served".into()),
            }
        }
        Node::NullTest(test) if !test.argisrow => match test.nulltesttype {
            0 => Ok(Expr::Is("NULL", boxed(test.arg())?)),
            1 => Ok(Expr::Is("NOT NULL", boxed(test.arg())?)),
            _ => Err("a test that is not served".into()),
        },
        Node::BooleanTest(test) => {
            let what = match test.booltesttype {
                0 => "TRUE",
                1 => "NOT TRUE",
                2 => "FALSE",
                3 => "NOT FALSE",
                4 => "UNKNOWN",
                5 => "NOT UNKNOWN",
                _ => return Err("a test that is not served".into()),
            };
            Ok(Expr::Is(what, boxed(test.arg())?))
        }
        Node::CaseExpr(case) => {
            let subject = match case.arg() {
                Node::None => None,
                arg => Some(deeper(arg)?),
            };
            let mut whens = Vec::new();
            for when in case.args() {
                let Node::CaseWhen(when) = when else {
                    return Err("CASE has WHEN branches".into());
                };
                let condition = deeper(when.expr())?;
                // `CASE x WHEN y` would look for `=` by the search path.
                let condition = match &subject {
                    Some(subject) => equal(subject.clone(), condition),
                    None => condition,
                };
                whens.push((condition, deeper(when.result())?));
            }
            let default = match case.defresult() {
                Node::None => Expr::Null,
                default => deeper(default)?,
            };
            Ok(Expr::Case(whens, Box::new(default)))
        }
        Node::CoalesceExpr(coalesce) => Ok(Expr::Coalesce(
            coalesce
                .args()
                .iter()
                .map(deeper)
                .collect::<Result<_, _>>()?,
        )),
        Node::SubLink(_) => Err("subqueries are not served here".into()),
        Node::ParamRef(_) => Err("parameters are not served here".into()),
        Node::SQLValueFunction(_) => {
            Err("the current time, user and the like are not served here".into())
        }
        _ => Err("syntax that is not served here".into()),
    }
}

fn constant(value: ConstValue<'_>) -> Result<Expr, String> {
    match value {
        ConstValue::Integer(number) => Ok(Expr::Number(number.to_string())),
        ConstValue::Float(digits) if fits(crate::catalog::TypeClass::Numeric, -1, digits) => {
            Ok(Expr::Number(digits.to_owned()))
        }
        ConstValue::Boolean(value) => Ok(Expr::Bool(value)),
        ConstValue::String(text) => Ok(Expr::Literal(text.to_owned())),
        _ => Err("a constant that is not served".into()),
    }
}

/// Of a constant: to any type that takes it. Of anything else: to text.
fn cast(cast: &TypeCast, depth: usize) -> Result<Expr, String> {
    let (of, length) = type_name(cast.type_name().ok_or("a cast names a type")?)?;
    let arg = convert(cast.arg(), depth + 1)?;
    match arg {
        Expr::Bool(value) if of.name == "bool" => Ok(Expr::Bool(value)),
        Expr::Literal(text) | Expr::Number(text) if length.is_none() => {
            let text_like = matches!(of.name, "text" | "varchar");
            if text_like || fits(of.class, -1, &text) {
                Ok(Expr::Typed(text, of))
            } else {
                Err(format!("`{text}` is no value of {} here", of.name))
            }
        }
        arg if matches!(of.name, "text" | "varchar") => {
            let text = Expr::Text(Box::new(arg));
            match length {
                None => Ok(text),
                Some(length) => called("left", vec![text, Expr::Number(length.to_string())]),
            }
        }
        _ => Err(format!(
            "a cast to {} could fail on some value; only constants are cast to other types \
             than text",
            of.name
        )),
    }
}

fn type_name(name: &TypeName) -> Result<(&'static ConstantType, Option<i64>), String> {
    let names: Vec<&str> = name
        .names()
        .iter()
        .map(|part| part.sval().unwrap_or_default())
        .collect();
    let (["pg_catalog", bare] | [bare]) = *names.as_slice() else {
        return Err("a type that is not served".into());
    };
    let of = TYPES.iter().find(|of| of.name == bare);
    let of = of.ok_or_else(|| format!("type `{bare}` is not served here"))?;
    if name.setof || name.pct_type || !name.array_bounds().is_empty() {
        return Err("a type that is not served".into());
    }
    let mut typmods = name.typmods().iter();
    match (typmods.next(), typmods.next()) {
        (None, _) => Ok((of, None)),
        (Some(Node::A_Const(constant)), None) if of.name == "varchar" => match constant.val() {
            Some(ConstValue::Integer(length)) => Ok((of, Some(length.into()))),
            _ => Err("a type that is not served".into()),
        },
        _ => Err(format!(
            "a length or precision of {bare} is not served here"
        )),
    }
}

fn call(call: &FuncCall, depth: usize) -> Result<Expr, String> {
    let names: Vec<&str> = call.funcname().iter().filter_map(Node::as_str).collect();
    let (["pg_catalog", name] | [name]) = *names.as_slice() else {
        return Err(format!("function `{}` is not served here", names.join(".")));
    };
    let plain = call.agg_order().is_empty()
        && matches!(call.agg_filter(), Node::None)
        && call.over().is_none()
        && !call.agg_within_group
        && !call.agg_star
        && !call.agg_distinct
        && !call.func_variadic;
    if !plain {
        return Err(format!("`{name}` is called plainly here"));
    }
    let args = call
        .args()
        .iter()
        .map(|arg| convert(arg, depth + 1))
        .collect::<Result<Vec<_>, _>>()?;
    called(name, args)
}

fn called(name: &str, args: Vec<Expr>) -> Result<Expr, String> {
    let Some(function) = FUNCTIONS.iter().find(|function| function.name == name) else {
        let names = FUNCTIONS.iter().map(|function| function.name);
        return Err(match crate::policy::load::nearest(name, names) {
            Some(near) => format!("function `{name}` is not served here; did you mean `{near}`?"),
            None => format!(
                "function `{name}` is not served here: it could fail on some value, or is not known"
            ),
        });
    };
    function.check(&args)?;
    Ok(Expr::Call(function, args))
}

fn equal(one: Expr, two: Expr) -> Expr {
    Expr::Compare("=", Box::new(one), Box::new(two))
}

/// Source: `A_Expr_Kind` in src/include/nodes/parsenodes.h.
mod kinds {
    pub(super) const OP: u32 = 0;
    pub(super) const DISTINCT: u32 = 3;
    pub(super) const NOT_DISTINCT: u32 = 4;
    pub(super) const NULLIF: u32 = 5;
    pub(super) const IN: u32 = 6;
    pub(super) const LIKE: u32 = 7;
    pub(super) const ILIKE: u32 = 8;
    pub(super) const BETWEEN: u32 = 10;
    pub(super) const NOT_BETWEEN: u32 = 11;
}

fn operator(expr: &A_Expr, depth: usize) -> Result<Expr, String> {
    let names: Vec<&str> = expr.name().iter().filter_map(Node::as_str).collect();
    let (["pg_catalog", name] | [name]) = *names.as_slice() else {
        return Err("an operator that is not served".into());
    };
    if matches!(expr.lexpr(), Node::None) {
        return Err(format!(
            "operator `{name}` is not served here: it could fail on some value"
        ));
    }
    let left = convert(expr.lexpr(), depth + 1)?;
    let side = |node| convert(node, depth + 1);
    match expr.kind {
        kinds::OP => match (name, side(expr.rexpr())?) {
            ("=", right) => Ok(equal(left, right)),
            ("<>" | "!=", right) => Ok(compare("<>", left, right)),
            ("<", right) => Ok(compare("<", left, right)),
            ("<=", right) => Ok(compare("<=", left, right)),
            (">", right) => Ok(compare(">", left, right)),
            (">=", right) => Ok(compare(">=", left, right)),
            ("||", right) => Ok(Expr::Concat(Box::new(left), Box::new(right))),
            ("~", right) => matches(&pattern::regular, "~", left, right),
            ("~*", right) => matches(&pattern::regular, "~*", left, right),
            ("!~", right) => matches(&pattern::regular, "!~", left, right),
            ("!~*", right) => matches(&pattern::regular, "!~*", left, right),
            _ => Err(format!(
                "operator `{name}` is not served here: it could fail on some value"
            )),
        },
        kinds::DISTINCT => Ok(distinct(left, side(expr.rexpr())?)),
        kinds::NOT_DISTINCT => Ok(Expr::Not(Box::new(distinct(left, side(expr.rexpr())?)))),
        kinds::NULLIF => Ok(Expr::Case(
            vec![(equal(left.clone(), side(expr.rexpr())?), Expr::Null)],
            Box::new(left),
        )),
        kinds::IN => {
            let Node::NodeList(list) = expr.rexpr() else {
                return Err("IN takes a list of constants".into());
            };
            let any = list
                .iter()
                .map(|item| Ok(equal(left.clone(), side(item)?)))
                .collect::<Result<Vec<_>, String>>()?;
            let any = Expr::Or(any);
            Ok(if name == "<>" {
                Expr::Not(Box::new(any))
            } else {
                any
            })
        }
        kinds::LIKE | kinds::ILIKE => {
            let operator = match name {
                "~~" => "~~",
                "!~~" => "!~~",
                "~~*" => "~~*",
                "!~~*" => "!~~*",
                _ => return Err("an operator that is not served".into()),
            };
            matches(&pattern::like, operator, left, side(expr.rexpr())?)
        }
        kinds::BETWEEN | kinds::NOT_BETWEEN => {
            let Node::NodeList(list) = expr.rexpr() else {
                return Err("BETWEEN takes two bounds".into());
            };
            let mut bounds = list.iter();
            let (Some(low), Some(high), None) = (bounds.next(), bounds.next(), bounds.next())
            else {
                return Err("BETWEEN takes two bounds".into());
            };
            let within = Expr::And(vec![
                compare(">=", left.clone(), side(low)?),
                compare("<=", left, side(high)?),
            ]);
            Ok(if expr.kind == kinds::NOT_BETWEEN {
                Expr::Not(Box::new(within))
            } else {
                within
            })
        }
        _ => Err("an operator that is not served".into()),
    }
}

fn compare(operator: &'static str, one: Expr, two: Expr) -> Expr {
    Expr::Compare(operator, Box::new(one), Box::new(two))
}

fn matches(
    check: &dyn Fn(&str) -> Result<(), String>,
    operator: &'static str,
    value: Expr,
    against: Expr,
) -> Result<Expr, String> {
    let Expr::Literal(text) = against else {
        return Err("a pattern is a constant string".into());
    };
    check(&text)?;
    Ok(Expr::Match(operator, Box::new(value), text))
}

/// `IS DISTINCT FROM` would look for `=` by the search path.
fn distinct(one: Expr, two: Expr) -> Expr {
    let present = |expr: &Expr| Expr::Is("NOT NULL", Box::new(expr.clone()));
    Expr::And(vec![
        Expr::Or(vec![present(&one), present(&two)]),
        Expr::Is("NOT TRUE", Box::new(equal(one, two))),
    ])
}
