//! Attribute notation: `row.name`, where the row has no such column.
//!
//! It is a call of a function, or a cast to a type, that no other syntax shows.

use super::survey::{Argument, FunctionSite, Survey};
use super::{Context, Denial, Reason, functions, temporary, types};

/// `row.name` is `name(row)` where the row has no such column, and a cast to a type of
/// that name: which would run is Postgres's to say, so all of them must be allowed. A
/// name that is neither, and no field's, may be newer than the catalog.
pub(super) fn allow(name: &str, is_field: bool, context: &Context<'_>) -> Result<(), Denial> {
    let catalog = context.catalog;
    let (functions, types) = (catalog.functions.get(name), catalog.type_names.get(name));
    if functions.is_none() && types.is_none() && !is_field {
        return Err(Denial::new(
            Reason::UnknownColumn,
            format!("column {name} does not exist"),
        ));
    }
    for function in functions.into_iter().flatten() {
        let site = FunctionSite {
            start: 0,
            schema: Some(function.schema.to_string()),
            name: name.to_owned(),
            argument: Argument::Other,
            constant: None,
            projects: false,
        };
        functions::allow(&site, context)?;
    }
    let mut types = types.into_iter().flatten();
    types.try_for_each(|oid| types::harmless(*oid, context))
}

/// Whether a field can have that name: one that the catalog knows, or that the
/// statement or Postgres gives. What columns a temporary table has is not known here.
pub(super) fn may_be_field(name: &str, found: &Survey, context: &Context<'_>) -> bool {
    let temporary =
        |(schema, name): (Option<&str>, &str)| temporary::lookup(context, schema, name).is_some();
    let mut sites = found.relations.iter();
    name == "*"
        || context.catalog.fields.contains(name)
        || found.names.contains(name)
        || is_default(name)
        || sites.any(|site| temporary((site.qualifier().1, &site.name)))
}

/// Names that Postgres gives to columns: every table's own, and those of a row or a
/// query which has none for them (FigureColname, parse_target.c, where it is not a name
/// written in the statement).
fn is_default(name: &str) -> bool {
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    numbered("f")
        || numbered("column")
        || matches!(
            name,
            "?column?"
                | "array"
                | "case"
                | "coalesce"
                | "exists"
                | "greatest"
                | "least"
                | "nullif"
                | "grouping"
                | "merge_action"
                | "ordinality"
                | "row"
                | "ctid"
                | "tableoid"
                | "xmin"
                | "xmax"
                | "cmin"
                | "cmax"
        )
        || name.starts_with("current_")
        || name.starts_with("xml")
        || name.starts_with("json")
        || matches!(
            name,
            "localtime" | "localtimestamp" | "session_user" | "user"
        )
}
