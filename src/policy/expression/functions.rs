//! The functions and constant types that an expression may name.
//!
//! A function stands here if it returns for every text, given constants as
//! listed for its other arguments, whatever the session's settings are.

use super::{Expr, default_collation, literal, pattern};
use crate::catalog::TypeClass;

/// A function that never raises.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct Function {
    pub(super) name: &'static str,
    args: &'static [Arg],
    optional: &'static [Arg],
    /// Searches its text by its bytes (a nondeterministic collation would
    /// raise), rather than by the default collation's letters.
    bytewise: bool,
    pub(super) gives_text: bool,
}

/// What an argument may be.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) enum Arg {
    /// Any text.
    Text,
    /// A constant whole number within bounds.
    Whole(i64, i64),
    /// A constant string.
    Constant,
    /// A constant string, not empty and not shorter than the one after it: what
    /// is replaced does not grow.
    NotShorter,
    /// A constant string of at most this many bytes.
    Short(usize),
    /// A constant regular expression.
    Pattern,
    /// `g`, `i` or both.
    Flags,
}

use Arg::{Constant, Flags, NotShorter, Pattern, Short, Text, Whole};

const fn function(
    name: &'static str,
    args: &'static [Arg],
    optional: &'static [Arg],
    bytewise: bool,
    gives_text: bool,
) -> Function {
    Function {
        name,
        args,
        optional,
        bytewise,
        gives_text,
    }
}

const LENGTH: Arg = Whole(0, 10_000);
const START: Arg = Whole(1, 1_000_000);

pub(super) const FUNCTIONS: &[Function] = &[
    function("lower", &[Text], &[], false, true),
    function("upper", &[Text], &[], false, true),
    function("initcap", &[Text], &[], false, true),
    function("reverse", &[Text], &[], false, true),
    function("md5", &[Text], &[], false, true),
    function("length", &[Text], &[], false, false),
    function("char_length", &[Text], &[], false, false),
    function("character_length", &[Text], &[], false, false),
    function("octet_length", &[Text], &[], false, false),
    function("btrim", &[Text], &[Constant], true, true),
    function("ltrim", &[Text], &[Constant], true, true),
    function("rtrim", &[Text], &[Constant], true, true),
    function("left", &[Text, Whole(-10_000, 10_000)], &[], false, true),
    function("right", &[Text, Whole(-10_000, 10_000)], &[], false, true),
    function("substr", &[Text, START], &[LENGTH], false, true),
    function("substring", &[Text, START], &[LENGTH], false, true),
    function("lpad", &[Text, LENGTH], &[Short(100)], false, true),
    function("rpad", &[Text, LENGTH], &[Short(100)], false, true),
    function("replace", &[Text, NotShorter, Constant], &[], true, true),
    function("translate", &[Text, NotShorter, Constant], &[], true, true),
    function("split_part", &[Text, Constant, START], &[], true, true),
    function("strpos", &[Text, Constant], &[], true, false),
    function("position", &[Text, Constant], &[], true, false),
    function(
        "regexp_replace",
        &[Text, Pattern, Short(8)],
        &[Flags],
        true,
        true,
    ),
];

impl Function {
    /// Checks arguments.
    pub(super) fn check(&self, args: &[Expr]) -> Result<(), String> {
        let most = self.args.len() + self.optional.len();
        if args.len() < self.args.len() || args.len() > most {
            return Err(format!(
                "`{}` does not take {} arguments here",
                self.name,
                args.len()
            ));
        }
        let takes = self.args.iter().chain(self.optional);
        for (place, (arg, takes)) in args.iter().zip(takes).enumerate() {
            let fault = |wants: &str| {
                Err(format!(
                    "argument {} of `{}` must be {wants}",
                    place + 1,
                    self.name
                ))
            };
            match (takes, arg) {
                (Text, _) | (Constant, Expr::Literal(_)) => {}
                (Constant, _) => return fault("a constant string"),
                (Whole(low, high), Expr::Number(digits))
                    if digits
                        .parse()
                        .is_ok_and(|n: i64| (*low..=*high).contains(&n)) => {}
                (Whole(low, high), _) => {
                    return fault(&format!("a whole number from {low} to {high}"));
                }
                (NotShorter, Expr::Literal(from)) => match args.get(place + 1) {
                    Some(Expr::Literal(to)) if !from.is_empty() && to.len() <= from.len() => {}
                    _ => return fault("a constant string not shorter than its replacement"),
                },
                (NotShorter, _) => return fault("a constant string"),
                (Short(most), Expr::Literal(text)) if text.len() <= *most => {}
                (Short(most), _) => {
                    return fault(&format!("a constant string of at most {most} bytes"));
                }
                (Pattern, Expr::Literal(text)) => pattern::regular(text)?,
                (Pattern, _) => return fault("a constant regular expression"),
                (Flags, Expr::Literal(flags)) if matches!(&**flags, "g" | "i" | "gi" | "ig") => {}
                (Flags, _) => return fault("`g`, `i` or `gi`"),
            }
        }
        Ok(())
    }

    pub(super) fn sql(&self, args: &[Expr], column: &dyn Fn(&str) -> String) -> String {
        let collation = if self.bytewise {
            "\"C\""
        } else {
            "\"default\""
        };
        let takes = self.args.iter().chain(self.optional);
        let args: Vec<String> = args
            .iter()
            .zip(takes)
            .map(|(arg, takes)| match (takes, arg) {
                (Text, arg) => arg.text(column, collation),
                (_, Expr::Literal(text)) => format!("CAST({} AS pg_catalog.text)", literal(text)),
                (_, arg) => format!("CAST({} AS pg_catalog.int4)", arg.sql(column)),
            })
            .collect();
        let call = format!("pg_catalog.\"{}\"({})", self.name, args.join(", "));
        if self.gives_text {
            default_collation(&call)
        } else {
            call
        }
    }
}

/// A type that a constant may be cast to.
#[derive(Debug, PartialEq, Eq, Hash)]
pub(super) struct ConstantType {
    pub(super) name: &'static str,
    pub(super) class: TypeClass,
}

const fn of(name: &'static str, class: TypeClass) -> ConstantType {
    ConstantType { name, class }
}

pub(super) const TYPES: &[ConstantType] = &[
    of("text", TypeClass::Text),
    of("varchar", TypeClass::Text),
    of("int2", TypeClass::Int2),
    of("int4", TypeClass::Int4),
    of("int8", TypeClass::Int8),
    of("numeric", TypeClass::Numeric),
    of("float4", TypeClass::Float4),
    of("float8", TypeClass::Float8),
    of("bool", TypeClass::Bool),
    of("date", TypeClass::Date),
    of("timestamp", TypeClass::Timestamp),
    of("timestamptz", TypeClass::Timestamptz),
    of("uuid", TypeClass::Uuid),
    of("inet", TypeClass::Inet),
    of("cidr", TypeClass::Cidr),
];
