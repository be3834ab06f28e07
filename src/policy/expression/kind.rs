//! What an expression gives, once its columns' types are known, and whether its
//! parts go together: what this lets through, Postgres neither refuses nor
//! reads differently under another setting of the session.

use super::Expr;
use super::Expression;
use crate::catalog::TypeClass;
use crate::policy::mask::fits;

/// What kind of value an expression gives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text of any length.
    Text,
    /// A whole number or `numeric`.
    Number,
    /// A float.
    Float,
    /// True or false.
    Bool,
    /// A value of just this type, which can be compared.
    Of(TypeClass),
    /// A string whose type its neighbour decides.
    Literal,
    /// NULL.
    Null,
}

type Classes<'a> = dyn Fn(&str) -> Option<TypeClass> + 'a;

impl Expression {
    /// What it gives over columns of these classes.
    ///
    /// # Errors
    /// With what does not go together, or a column that is not there.
    pub fn kind(&self, classes: &Classes<'_>) -> Result<Kind, String> {
        self.root.kind(classes)
    }
}

fn of(class: TypeClass) -> Kind {
    match class {
        TypeClass::Text | TypeClass::Char => Kind::Text,
        TypeClass::Int2 | TypeClass::Int4 | TypeClass::Int8 | TypeClass::Numeric => Kind::Number,
        TypeClass::Float4 | TypeClass::Float8 => Kind::Float,
        TypeClass::Bool => Kind::Bool,
        other => Kind::Of(other),
    }
}

impl Expr {
    fn kind(&self, classes: &Classes<'_>) -> Result<Kind, String> {
        match self {
            Self::Column(name) => match classes(name) {
                Some(class) => Ok(of(class)),
                None => Err(format!("there is no column `{name}`")),
            },
            Self::Null => Ok(Kind::Null),
            Self::Bool(_) => Ok(Kind::Bool),
            Self::Number(_) => Ok(Kind::Number),
            Self::Literal(_) => Ok(Kind::Literal),
            Self::Typed(_, constant) => Ok(of(constant.class)),
            Self::Text(one) => match one.kind(classes)? {
                // Their text depends on DateStyle, TimeZone, extra_float_digits
                // or bytea_output, or is not known.
                Kind::Float => Err(unsteady(one)),
                Kind::Of(TypeClass::Uuid | TypeClass::Inet | TypeClass::Cidr) => Ok(Kind::Text),
                Kind::Of(_) => Err(unsteady(one)),
                _ => Ok(Kind::Text),
            },
            Self::Call(function, args) => {
                for arg in args {
                    match arg.kind(classes)? {
                        Kind::Text | Kind::Literal | Kind::Null => {}
                        Kind::Number if matches!(arg, Self::Number(_)) => {}
                        _ => return Err(format!("`{}` takes text: add ::text", function.name)),
                    }
                }
                Ok(if function.gives_text {
                    Kind::Text
                } else {
                    Kind::Number
                })
            }
            Self::Concat(one, two) => {
                for side in [one, two] {
                    if !matches!(side.kind(classes)?, Kind::Text | Kind::Literal | Kind::Null) {
                        return Err("`||` takes text: add ::text".into());
                    }
                }
                Ok(Kind::Text)
            }
            Self::Compare(_, one, two) => {
                comparable(one, &one.kind(classes)?, two, &two.kind(classes)?, classes)?;
                Ok(Kind::Bool)
            }
            Self::Match(_, one, _) => match one.kind(classes)? {
                Kind::Text | Kind::Literal | Kind::Null => Ok(Kind::Bool),
                _ => Err("a pattern is matched against text: add ::text".into()),
            },
            Self::And(all) | Self::Or(all) => {
                for one in all {
                    truth(one, classes)?;
                }
                Ok(Kind::Bool)
            }
            Self::Not(one) => truth(one, classes),
            Self::Is(what, one) => match one.kind(classes)? {
                _ if what.ends_with("NULL") => Ok(Kind::Bool),
                _ => truth(one, classes),
            },
            Self::Case(whens, default) => {
                let mut kind = default.kind(classes)?;
                for (condition, result) in whens {
                    truth(condition, classes)?;
                    kind = common(kind, result.kind(classes)?)?;
                }
                Ok(kind)
            }
            Self::Coalesce(all) => all
                .iter()
                .try_fold(Kind::Null, |kind, one| common(kind, one.kind(classes)?)),
        }
    }
}

fn unsteady(of: &Expr) -> String {
    let what = match of {
        Expr::Column(name) => format!("column `{name}`"),
        _ => "this".into(),
    };
    format!("{what} cannot be taken as text: its text depends on settings that a caller may change")
}

fn truth(one: &Expr, classes: &Classes<'_>) -> Result<Kind, String> {
    match one.kind(classes)? {
        Kind::Bool | Kind::Null => Ok(Kind::Bool),
        _ => Err("a condition is true or false".into()),
    }
}

fn common(one: Kind, two: Kind) -> Result<Kind, String> {
    match (one, two) {
        (one, two) if one == two => Ok(one),
        (Kind::Null, other) | (other, Kind::Null) => Ok(other),
        (Kind::Text, Kind::Literal) | (Kind::Literal, Kind::Text) => Ok(Kind::Text),
        (Kind::Number, Kind::Float) | (Kind::Float, Kind::Number) => Ok(Kind::Float),
        _ => Err("results of different types".into()),
    }
}

fn comparable(
    one: &Expr,
    kind: &Kind,
    two: &Expr,
    other: &Kind,
    classes: &Classes<'_>,
) -> Result<(), String> {
    match (kind, other) {
        (_, Kind::Null) | (Kind::Null, _) => Ok(()),
        (Kind::Literal, Kind::Literal) => Ok(()),
        (_, Kind::Literal) => constant_fits(one, kind, two, classes),
        (Kind::Literal, _) => constant_fits(two, other, one, classes),
        (Kind::Number | Kind::Float, Kind::Number | Kind::Float) => Ok(()),
        // An address and a network compare as addresses.
        (
            Kind::Of(TypeClass::Inet | TypeClass::Cidr),
            Kind::Of(TypeClass::Inet | TypeClass::Cidr),
        ) => Ok(()),
        // Of unknown types only that they are the same kind of unknown is known.
        (Kind::Of(TypeClass::Domain | TypeClass::Enum | TypeClass::Other), _)
        | (_, Kind::Of(TypeClass::Domain | TypeClass::Enum | TypeClass::Other)) => {
            Err("such columns compare with a constant alone".into())
        }
        (one, two) if one == two => Ok(()),
        _ => Err("a comparison of different types".into()),
    }
}

/// Times must say their offset, and dates be ISO: else the caller's TimeZone and
/// DateStyle would decide which rows match.
fn constant_fits(
    beside: &Expr,
    kind: &Kind,
    constant: &Expr,
    classes: &Classes<'_>,
) -> Result<(), String> {
    let Expr::Literal(text) = constant else {
        return Err("a comparison of different types".into());
    };
    let class = match (kind, beside) {
        (Kind::Text | Kind::Literal | Kind::Null, _) => return Ok(()),
        (_, Expr::Column(name)) => classes(name).unwrap_or(TypeClass::Other),
        (_, Expr::Typed(_, constant)) => constant.class,
        (Kind::Number, _) => TypeClass::Int4,
        (Kind::Float, _) => TypeClass::Float8,
        (Kind::Bool, _) => TypeClass::Bool,
        (Kind::Of(class), _) => *class,
    };
    let infinite = matches!(&**text, "infinity" | "-infinity");
    let fine = match class {
        // Its label; Postgres reads it when it plans.
        TypeClass::Enum => true,
        // What Postgres makes of the constant can depend on settings: intervalstyle,
        // timezone, lc_monetary, array_nulls, xmloption, search_path …
        TypeClass::Domain | TypeClass::Other => {
            return Err(format!(
                "a comparison with `{text}` of a type whose constants depend on settings that a caller may change, or is not known to have none"
            ));
        }
        TypeClass::Json => false,
        TypeClass::Date | TypeClass::Timestamp | TypeClass::Timestamptz if infinite => true,
        class => fits(class, -1, text),
    };
    let form = match class {
        TypeClass::Date => ": write 2024-01-31",
        TypeClass::Timestamp => ": write 2024-01-31 00:00:00",
        TypeClass::Timestamptz => ": write 2024-01-31T00:00:00Z",
        _ => "",
    };
    if fine {
        Ok(())
    } else {
        Err(format!(
            "`{text}` does not fit the type it is compared with{form}"
        ))
    }
}
