//! Postgres's own relations: what every caller may know of the catalog.
//!
//! psql, drivers and tools live by these. Invariant: what holds rows' values,
//! estimates of them, others' statements, secrets or the proxy's own texts is
//! refused or blanked, and a column hidden from the caller is absent.

use crate::catalog::{Column, Oid, Relation, RelationKind};
use crate::policy::Treatment;

use super::canonical;
use super::names::{qualified, quote};
use super::scan::opaque;
use super::step::{Step, wrong};
use super::{Context, Denial, Reason};

/// How a system relation is read.
pub(super) enum Standing {
    /// As it is.
    Clear,
    /// By a scan, with this condition on its rows.
    Scan(Option<String>),
    /// A view over a scanned one: expanded like any view.
    Expand,
}

/// Definitions only: no rows' values, no statements, no secrets.
const READABLE: &[&str] = &[
    "pg_aggregate",
    "pg_am",
    "pg_amop",
    "pg_amproc",
    "pg_attrdef",
    "pg_auth_members",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_cast",
    "pg_collation",
    "pg_constraint",
    "pg_conversion",
    "pg_database",
    "pg_db_role_setting",
    "pg_default_acl",
    "pg_depend",
    "pg_description",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_data_wrapper",
    "pg_foreign_table",
    "pg_group",
    "pg_index",
    "pg_indexes",
    "pg_inherits",
    "pg_init_privs",
    "pg_language",
    "pg_matviews",
    "pg_namespace",
    "pg_opclass",
    "pg_operator",
    "pg_opfamily",
    "pg_parameter_acl",
    "pg_partitioned_table",
    "pg_policies",
    "pg_policy",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_publication_tables",
    "pg_range",
    "pg_roles",
    "pg_rules",
    "pg_seclabel",
    "pg_seclabels",
    "pg_sequence",
    "pg_settings",
    "pg_shdepend",
    "pg_shdescription",
    "pg_shseclabel",
    "pg_statistic_ext",
    "pg_tables",
    "pg_tablespace",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_transform",
    "pg_trigger",
    "pg_ts_config",
    "pg_ts_config_map",
    "pg_ts_dict",
    "pg_ts_parser",
    "pg_ts_template",
    "pg_type",
    "pg_user",
    "pg_views",
];

/// Columns that are blanked wherever the relation is read, and by what.
const BLANKED: &[(&str, &str, &str)] = &[
    // Estimates of how many rows there are, hidden ones included.
    ("pg_class", "reltuples", "(-1)::pg_catalog.float4"),
    ("pg_class", "relpages", "0::pg_catalog.int4"),
    ("pg_class", "relallvisible", "0::pg_catalog.int4"),
    ("pg_class", "relallfrozen", "0::pg_catalog.int4"),
    // A default that was filled in when the column was added.
    ("pg_attribute", "attmissingval", "NULL::pg_catalog.anyarray"),
    // Bodies can hold anything.
    ("pg_proc", "prosrc", "''::pg_catalog.text"),
    ("pg_proc", "prosqlbody", "NULL::pg_catalog.pg_node_tree"),
    ("pg_foreign_server", "srvoptions", "NULL::pg_catalog.text[]"),
];

/// Views of the catalog that list columns: expanded where some are hidden.
const LISTS_COLUMNS: &[&str] = &[
    "column_column_usage",
    "column_domain_usage",
    "column_options",
    "column_privileges",
    "column_udt_usage",
    "columns",
    "constraint_column_usage",
    "element_types",
    "key_column_usage",
    "role_column_grants",
    "triggered_update_columns",
    "view_column_usage",
];

/// Views of the catalog that show bodies of functions: always expanded.
const SHOWS_BODIES: &[&str] = &["routines"];

/// How the caller reads one of Postgres's own relations.
pub(super) fn standing(relation: &Relation, context: &Context<'_>) -> Result<Standing, Denial> {
    match (&*relation.schema, &*relation.name) {
        // sequences.last_value and friends live in pg_sequences, not here.
        ("information_schema", name) if LISTS_COLUMNS.contains(&name) => {
            Ok(match hidden(context).is_empty() {
                true => Standing::Clear,
                false => Standing::Expand,
            })
        }
        ("information_schema", name) if SHOWS_BODIES.contains(&name) => Ok(Standing::Expand),
        ("information_schema", name)
            if name.starts_with("_pg_")
                || name.starts_with("user_mapping")
                || name.ends_with("_options") =>
        {
            Err(refused(relation))
        }
        ("information_schema", _) => Ok(Standing::Clear),
        ("pg_catalog", "pg_attribute") => {
            let pairs: Vec<String> = hidden(context)
                .iter()
                .map(|(oid, number)| format!("({oid}, {number})"))
                .collect();
            let filter = (!pairs.is_empty())
                .then(|| format!("(attrelid, attnum) NOT IN ({})", pairs.join(", ")));
            Ok(Standing::Scan(filter))
        }
        // Their definitions name columns.
        ("pg_catalog", "pg_index") => Ok(names_columns(context, "indrelid", "indkey")),
        ("pg_catalog", "pg_constraint") => Ok(names_columns(context, "conrelid", "conkey")),
        ("pg_catalog", "pg_indexes") if !hidden(context).is_empty() => Ok(Standing::Expand),
        ("pg_catalog", name) if BLANKED.iter().any(|(of, _, _)| *of == name) => {
            Ok(Standing::Scan(None))
        }
        ("pg_catalog", name) if READABLE.contains(&name) => Ok(Standing::Clear),
        _ if context.rights.all_clear()
            && relation.kind == RelationKind::View
            && is_statistics(&relation.name) =>
        {
            Ok(Standing::Clear)
        }
        _ => Err(refused(relation)),
    }
}

/// A catalog whose rows are about some columns of a relation: those about a
/// hidden one are left out.
fn names_columns(context: &Context<'_>, of: &str, columns: &str) -> Standing {
    let about: Vec<String> = hidden(context)
        .iter()
        .map(|(oid, number)| {
            format!("({of} = {oid} AND {number}::pg_catalog.int2 = ANY ({columns}::pg_catalog.int2[])) IS NOT TRUE")
        })
        .collect();
    match about.is_empty() {
        true => Standing::Clear,
        false => Standing::Scan(Some(about.join(" AND "))),
    }
}

/// Statistics views show estimates of values: for those who see the values.
fn is_statistics(name: &str) -> bool {
    matches!(name, "pg_stats" | "pg_stats_ext" | "pg_stats_ext_exprs")
        || name.starts_with("pg_stat_user_")
        || name.starts_with("pg_stat_all_")
        || name.starts_with("pg_statio_")
}

fn refused(relation: &Relation) -> Denial {
    Denial::new(
        Reason::Policy,
        format!(
            "relation {} is not readable through the proxy: it can hold stored values, statements or secrets",
            relation.label()
        ),
    )
    .hint("definitions are in pg_class, pg_attribute, pg_type and information_schema")
}

/// What stands for a column wherever its relation is read; none: the column itself.
pub(super) fn blanked(relation: &Relation, column: &Column) -> Option<&'static str> {
    BLANKED
        .iter()
        .find(|(of, blanked, _)| *of == &*relation.name && *blanked == &*column.name)
        .map(|(_, _, with)| *with)
}

/// The canonical scan of one of Postgres's own relations.
pub(super) fn scan(
    relation: &Relation,
    filter: Option<&str>,
    named: &[&str],
) -> Result<String, Denial> {
    let mut outputs: Vec<String> = relation
        .columns
        .iter()
        .map(|column| {
            let name = quote(&column.name);
            match (blanked(relation, column), filter) {
                (Some(_), _) if wrong(Step::Blank) => name,
                (Some(with), _) => format!("{with} AS {name}"),
                // What is filtered out has statistics, too.
                (None, Some(_)) => format!("{} AS {name}", opaque(&name)),
                (None, None) => name,
            }
        })
        .collect();
    // Tools look comments up by the catalog's own OID: only where it is named.
    outputs.extend(named.iter().map(|&name| name.to_owned()));
    let mut text = format!(
        "SELECT {} FROM {}",
        outputs.join(", "),
        qualified(&relation.schema, &relation.name)
    );
    if let Some(filter) = filter.filter(|_| !wrong(Step::Filter)) {
        text.push_str(&format!(" WHERE {filter} OFFSET 0"));
    }
    canonical::printed(&text)
}

/// The columns that do not exist for this caller, by relation and number.
fn hidden(context: &Context<'_>) -> Vec<(Oid, i16)> {
    let mut found: Vec<(Oid, i16)> = context
        .catalog
        .relations
        .values()
        .filter(|relation| !relation.is_system())
        .flat_map(|relation| {
            let access = context.rights.access(relation, context.catalog);
            relation
                .columns
                .iter()
                .zip(access.columns)
                .filter(|(_, access)| matches!(access.treatment, Treatment::Hide))
                .map(|(column, _)| (relation.oid, column.attnum))
                .collect::<Vec<_>>()
        })
        .collect();
    found.sort_unstable();
    found
}
