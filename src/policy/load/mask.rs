//! A mask's name and parameters → [`Mask`].

use std::sync::Arc;

use super::check::Fault;
use super::meant;
use crate::policy::expression::Expression;
use crate::policy::file::{At, MaskFields};
use crate::policy::mask::{Mask, NAMES};

/// Checks that every parameter given is one of this mask's.
pub(super) fn mask(fields: &MaskFields, line: u64) -> Result<Mask, Fault> {
    let name = match &fields.mask {
        None => return Err(Fault::new(line, "`mask` is missing", None)),
        Some(None) => "null",
        Some(Some(name)) => name.value.as_str(),
    };
    let line_of = match &fields.mask {
        Some(Some(name)) => name.line,
        _ => line,
    };
    let takes: &[&'static str] = match name {
        "null" | "email" | "hash" | "redact" => &[],
        "constant" => &["value"],
        "partial" => &["keep_first", "keep_last", "with"],
        "date" => &["to"],
        "number" => &["step", "nearest"],
        "ip" => &["prefix", "prefix6"],
        "sql" => &["expression"],
        other => {
            return Err(Fault::new(
                line_of,
                &format!("unknown mask `{other}`"),
                meant(other, NAMES),
            ));
        }
    };
    given_are(name, fields, takes)?;
    let required = |key: &str| Fault::new(line_of, &format!("mask `{name}` wants `{key}`"), None);
    Ok(match name {
        "null" => Mask::Null,
        "email" => Mask::Email,
        "hash" => Mask::Hash,
        "redact" => Mask::Redact,
        "constant" => {
            let value = fields.value.as_ref().ok_or_else(|| required("value"))?;
            Mask::Constant {
                value: plain(value)?,
            }
        }
        "partial" => partial(fields, line_of)?,
        "date" => Mask::Date {
            to: fields.to.as_ref().ok_or_else(|| required("to"))?.value,
        },
        "number" => {
            let step = fields.step.as_ref().ok_or_else(|| required("step"))?;
            Mask::Number {
                step: step
                    .value
                    .parse()
                    .map_err(|what: &str| Fault::new(step.line, what, None))?,
                nearest: fields.nearest.as_ref().is_some_and(|at| at.value),
            }
        }
        "ip" => Mask::Ip {
            prefix: bits(fields.prefix.as_ref(), 24, 32)?,
            prefix6: bits(fields.prefix6.as_ref(), 48, 128)?,
        },
        _ => {
            let text = fields
                .expression
                .as_ref()
                .ok_or_else(|| required("expression"))?;
            let expression = Expression::mask(&text.value)
                .map_err(|error| Fault::new(text.line, &error.0, None))?;
            Mask::Sql {
                expression: Arc::new(expression),
            }
        }
    })
}

fn given_are(name: &str, fields: &MaskFields, takes: &[&'static str]) -> Result<(), Fault> {
    fn line<T>(at: &Option<At<T>>) -> Option<u64> {
        at.as_ref().map(|at| at.line)
    }
    let given = [
        ("value", line(&fields.value)),
        ("keep_first", line(&fields.keep_first)),
        ("keep_last", line(&fields.keep_last)),
        ("with", line(&fields.with)),
        ("to", line(&fields.to)),
        ("step", line(&fields.step)),
        ("nearest", line(&fields.nearest)),
        ("prefix", line(&fields.prefix)),
        ("prefix6", line(&fields.prefix6)),
        ("expression", line(&fields.expression)),
    ];
    for (key, line) in given {
        let Some(line) = line else { continue };
        if !takes.contains(&key) {
            let hint = match takes {
                [] => Some("it takes no parameter".into()),
                takes => Some(format!("it takes {}", takes.join(", "))),
            };
            return Err(Fault::new(
                line,
                &format!("mask `{name}` takes no `{key}`"),
                hint,
            ));
        }
    }
    Ok(())
}

fn partial(fields: &MaskFields, line: u64) -> Result<Mask, Fault> {
    let count = |at: &Option<At<u16>>| match at {
        None => Ok(0),
        Some(at) if at.value <= 1000 => Ok(at.value),
        Some(at) => Err(Fault::new(
            at.line,
            "at most 1000 characters are kept",
            None,
        )),
    };
    let (keep_first, keep_last) = (count(&fields.keep_first)?, count(&fields.keep_last)?);
    if keep_first == 0 && keep_last == 0 {
        return Err(Fault::new(
            line,
            "mask `partial` wants `keep_first` or `keep_last`",
            Some("a mask that keeps nothing is `constant`".into()),
        ));
    }
    let with = match &fields.with {
        None => "***".into(),
        Some(with) if with.value.chars().count() <= 100 => plain(with)?,
        Some(with) => return Err(Fault::new(with.line, "at most 100 characters", None)),
    };
    Ok(Mask::Partial {
        keep_first,
        keep_last,
        with,
    })
}

/// No text of Postgres holds a NUL.
fn plain(at: &At<String>) -> Result<Arc<str>, Fault> {
    if at.value.contains('\0') || at.value.len() > 10_000 {
        return Err(Fault::new(at.line, "this is no value to show", None));
    }
    Ok(at.value.as_str().into())
}

fn bits(at: Option<&At<u8>>, default: u8, most: u8) -> Result<u8, Fault> {
    match at {
        None => Ok(default),
        Some(at) if at.value <= most => Ok(at.value),
        Some(at) => Err(Fault::new(at.line, &format!("at most {most} bits"), None)),
    }
}
