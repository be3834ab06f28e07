//! Which functions may be called: default deny, by the catalog's own entry.
//!
//! An immutable function of pg_catalog computes from its arguments alone, and
//! the arguments are masked already. One that may read the database (stable) or
//! do anything (volatile) is allowed only if it stands in a list here. What
//! lives outside pg_catalog is allowed only if policy names it.

use std::borrow::Cow;
use std::collections::BTreeSet;

use crate::catalog::Volatility;

use super::names::{effective_path, qualified, quote};
use super::splice::Edit;
use super::survey::{Argument, FunctionSite};
use super::{Context, Denial, Reason, sequences, settings, storage, types};
use crate::policy::Action;

/// Stable or volatile, and yet neither reads rows nor changes anything that
/// matters.
const HARMLESS: &[&str] = &[
    // Time, chance.
    "age",
    "clock_timestamp",
    "date_part",
    "date_trunc",
    "extract",
    "gen_random_uuid",
    "generate_series",
    "make_timestamptz",
    "now",
    "pg_sleep",
    "pg_sleep_for",
    "pg_sleep_until",
    "random",
    "random_normal",
    "setseed",
    "statement_timestamp",
    "timeofday",
    "timezone",
    "to_char",
    "to_date",
    "to_number",
    "to_timestamp",
    "transaction_timestamp",
    "uuidv4",
    "uuidv7",
    "date_add",
    "date_subtract",
    // Casts by name, and names with one overload that is only stable.
    "convert",
    "convert_from",
    "convert_to",
    "date",
    "enum_first",
    "enum_last",
    "enum_range",
    "length",
    "money",
    "numeric",
    "overlaps",
    "regclass",
    "time",
    "timestamp",
    "timestamptz",
    "timetz",
    "xml",
    // Text, arrays, JSON.
    "array_sample",
    "array_shuffle",
    "array_to_json",
    "array_to_string",
    "concat",
    "concat_ws",
    "format",
    "json_agg",
    "json_agg_strict",
    "json_build_array",
    "json_build_object",
    "json_object_agg",
    "json_object_agg_strict",
    "json_object_agg_unique",
    "json_object_agg_unique_strict",
    "json_populate_record",
    "json_populate_recordset",
    "json_to_record",
    "json_to_recordset",
    "jsonb_agg",
    "jsonb_agg_strict",
    "jsonb_build_array",
    "jsonb_build_object",
    "jsonb_object_agg",
    "jsonb_object_agg_strict",
    "jsonb_object_agg_unique",
    "jsonb_object_agg_unique_strict",
    "jsonb_path_exists_tz",
    "jsonb_path_match_tz",
    "jsonb_path_query_array_tz",
    "jsonb_path_query_first_tz",
    "jsonb_path_query_tz",
    "jsonb_populate_record",
    "jsonb_populate_recordset",
    "jsonb_to_record",
    "jsonb_to_recordset",
    "pg_client_encoding",
    "quote_literal",
    "quote_nullable",
    "regexp_split_to_table",
    "row_to_json",
    "string_to_table",
    "to_json",
    "to_jsonb",
    "xml_is_well_formed",
    // Text search.
    "get_current_ts_config",
    "json_to_tsvector",
    "jsonb_to_tsvector",
    "phraseto_tsquery",
    "plainto_tsquery",
    "to_tsquery",
    "to_tsvector",
    "ts_debug",
    "ts_headline",
    "ts_parse",
    "ts_token_type",
    "websearch_to_tsquery",
    // Who and where.
    "current_database",
    "current_schema",
    "current_schemas",
    "getdatabaseencoding",
    "inet_client_addr",
    "inet_client_port",
    "inet_server_addr",
    "inet_server_port",
    "pg_backend_pid",
    "pg_conf_load_time",
    "pg_is_in_recovery",
    "pg_listening_channels",
    "pg_is_other_temp_schema",
    "pg_jit_available",
    "pg_my_temp_schema",
    "pg_postmaster_start_time",
    "pg_trigger_depth",
    "version",
    // Gives back what this session holds, if anything: pools send it on return.
    "pg_advisory_unlock_all",
    // Snapshots and transactions.
    "pg_current_snapshot",
    "pg_current_xact_id",
    "pg_current_xact_id_if_assigned",
    "pg_export_snapshot",
    "pg_xact_status",
    "txid_current",
    "txid_current_if_assigned",
    "txid_current_snapshot",
    "txid_status",
    // Privileges and visibility of names.
    "acldefault",
    "has_any_column_privilege",
    "has_column_privilege",
    "has_database_privilege",
    "has_foreign_data_wrapper_privilege",
    "has_function_privilege",
    "has_language_privilege",
    "has_parameter_privilege",
    "has_schema_privilege",
    "has_sequence_privilege",
    "has_server_privilege",
    "has_table_privilege",
    "has_tablespace_privilege",
    "has_type_privilege",
    "pg_collation_is_visible",
    "pg_conversion_is_visible",
    "pg_function_is_visible",
    "pg_has_role",
    "pg_opclass_is_visible",
    "pg_operator_is_visible",
    "pg_opfamily_is_visible",
    "pg_statistics_obj_is_visible",
    "pg_table_is_visible",
    "pg_ts_config_is_visible",
    "pg_ts_dict_is_visible",
    "pg_ts_parser_is_visible",
    "pg_ts_template_is_visible",
    "pg_type_is_visible",
    "row_security_active",
    // Definitions, as psql, drivers and tools ask for them.
    "amvalidate",
    "col_description",
    "format_type",
    "obj_description",
    "pg_available_extension_versions",
    "pg_available_extensions",
    "pg_char_to_encoding",
    "pg_collation_for",
    "pg_describe_object",
    "pg_encoding_max_length",
    "pg_encoding_to_char",
    "pg_get_constraintdef",
    "pg_get_expr",
    "pg_get_function_arg_default",
    "pg_get_function_arguments",
    "pg_get_function_identity_arguments",
    "pg_get_function_result",
    "pg_get_indexdef",
    "pg_get_keywords",
    "oidvectortypes",
    "pg_column_compression",
    "pg_get_object_address",
    "pg_get_partition_constraintdef",
    "pg_get_partkeydef",
    "pg_get_publication_tables",
    "pg_get_replica_identity_index",
    "pg_get_ruledef",
    "pg_get_serial_sequence",
    "pg_get_statisticsobjdef",
    "pg_get_statisticsobjdef_columns",
    "pg_get_statisticsobjdef_expressions",
    "pg_get_triggerdef",
    "pg_get_userbyid",
    "pg_get_viewdef",
    "pg_identify_object",
    "pg_identify_object_as_address",
    "pg_index_column_has_property",
    "pg_index_has_property",
    "pg_indexam_has_property",
    "pg_options_to_table",
    "pg_partition_ancestors",
    "pg_partition_root",
    "pg_partition_tree",
    "pg_relation_is_publishable",
    "pg_relation_is_updatable",
    "pg_column_is_updatable",
    "pg_column_size",
    "pg_sequence_parameters",
    "pg_settings_get_flags",
    "pg_tablespace_location",
    "pg_timezone_abbrevs",
    "pg_timezone_names",
    "pg_typeof",
    "shobj_description",
    "to_regclass",
    "to_regcollation",
    "to_regnamespace",
    "to_regoper",
    "to_regoperator",
    "to_regproc",
    "to_regprocedure",
    "to_regrole",
    "to_regtype",
    "to_regtypemod",
];

/// Sizes, estimates and bodies depend on what is stored: only for a caller who
/// sees all of it.
const WHERE_ALL_IS_CLEAR: &[&str] = &[
    "pg_database_size",
    "pg_get_functiondef",
    "pg_get_function_sqlbody",
    "pg_indexes_size",
    "pg_relation_filenode",
    "pg_relation_size",
    "pg_table_size",
    "pg_tablespace_size",
    "pg_total_relation_size",
];

/// For a caller who may write.
const FOR_WRITERS: &[&str] = &[
    "lastval",
    "pg_advisory_lock",
    "pg_advisory_lock_shared",
    "pg_advisory_unlock",
    "pg_advisory_unlock_shared",
    "pg_advisory_xact_lock",
    "pg_advisory_xact_lock_shared",
    "pg_try_advisory_lock",
    "pg_try_advisory_lock_shared",
    "pg_try_advisory_xact_lock",
    "pg_try_advisory_xact_lock_shared",
];

/// The schema that a call means, once it is allowed: the final text names it, so
/// that no search_path decides which function runs.
pub(super) fn allow(site: &FunctionSite, context: &Context<'_>) -> Result<String, Denial> {
    let candidates = context.catalog.functions.get(site.name.as_str());
    let in_schema = |schema: &str| {
        candidates.is_some_and(|all| all.iter().any(|function| &*function.schema == schema))
    };
    let schema = match &site.schema {
        Some(schema) => schema.clone(),
        None => match effective_path(&context.scope.search_path, context.catalog)
            .into_iter()
            .chain(["pg_catalog"])
            .find(|schema| in_schema(schema))
        {
            Some(schema) => schema.to_owned(),
            None => return cast(site, context),
        },
    };
    // Where no function of that name fits, a type of that name does.
    if let Some(one) = context.catalog.type_named(&schema, &site.name) {
        types::harmless(one.oid, context)?;
    }
    match schema.as_str() {
        _ if !in_schema(&schema) => cast(site, context),
        "pg_catalog" => builtin(site, context).map(|()| schema),
        "information_schema" => Ok(schema),
        _ if context.rights.trusts_function(&schema, &site.name) => {
            // Its arguments are cast to their types before it runs.
            let all = candidates.into_iter().flatten();
            for one in all.filter(|one| *one.schema == *schema) {
                for oid in &one.over {
                    types::harmless(*oid, context)?;
                }
            }
            Ok(schema)
        }
        _ => Err(Denial::new(
            Reason::Policy,
            format!("function {schema}.{} is not trusted by policy", site.name),
        )
        .hint(
            "an administrator can list it under `functions` of the dataset in the classification",
        )),
    }
}

/// Whether a call is left without a schema, for Postgres to choose by its arguments: the
/// path has the name in several schemas (an extension gives Postgres's own `max` or
/// `replace` a form for its type), and whichever is chosen, in whatever path, may be
/// called. So it is where the call can mean a column of a row.
pub(super) fn is_open(site: &FunctionSite, context: &Context<'_>) -> bool {
    if site.schema.is_some() {
        return false;
    }
    let all = context.catalog.functions.get(site.name.as_str());
    let schemas: BTreeSet<&str> = all.into_iter().flatten().map(|one| &*one.schema).collect();
    // A call of one argument can be a cast to the type of that name.
    let types = context.catalog.type_names.get(site.name.as_str());
    let types: Vec<_> = types.into_iter().flatten().collect();
    let harmless = types
        .iter()
        .all(|oid| types::harmless(**oid, context).is_ok());
    // Postgres has `name` as a function, a type and, often, a column's name. In views,
    // which have no path, a column is always written as one.
    if schemas.len() == 1 && schemas.contains("pg_catalog") {
        return site.projects
            && !context.scope.search_path.is_empty()
            && context.catalog.fields.contains(site.name.as_str())
            && !types.is_empty()
            && harmless
            && allow(site, context).is_ok();
    }
    if schemas.len() < 2 {
        return false;
    }
    let path = effective_path(&context.scope.search_path, context.catalog);
    let in_path = path.into_iter().chain(["pg_catalog"]);
    let meant: BTreeSet<&str> = in_path.filter(|schema| schemas.contains(schema)).collect();
    meant.len() > 1
        && harmless
        && schemas.into_iter().all(|schema| {
            let one = FunctionSite {
                schema: Some(schema.to_owned()),
                ..site.clone()
            };
            allow(&one, context).is_ok()
        })
}

/// `regtype('int4')`: where there is no such function, the type of that name, to which
/// the argument is cast (FuncNameAsType, parse_func.c).
fn cast(site: &FunctionSite, context: &Context<'_>) -> Result<String, Denial> {
    let path = match &site.schema {
        Some(schema) => vec![schema.as_str()],
        None => effective_path(&context.scope.search_path, context.catalog),
    };
    let mut path = path.into_iter();
    let found = path.find_map(|schema| context.catalog.type_named(schema, &site.name));
    // Attribute notation (`ssn(c)`) and typing errors end here too.
    let one = found.ok_or_else(|| unknown(site))?;
    types::harmless(one.oid, context)?;
    Ok(one.schema.to_string())
}

/// A setting named by a parameter, as SQLAlchemy does: its value is not known
/// until it runs, so the call is allowed with the name wrapped, and the edit that
/// wraps it. Any other call as it is.
pub(super) fn screened<'a>(
    site: &'a FunctionSite,
    text: &str,
) -> (Cow<'a, FunctionSite>, Option<Edit>) {
    let edit = (site.name == "current_setting" && site.argument == Argument::Parameter)
        .then(|| settings::screen(text, site.start))
        .flatten();
    match edit {
        None => (Cow::Borrowed(site), None),
        Some(edit) => {
            let site = FunctionSite {
                argument: Argument::Screened,
                ..site.clone()
            };
            (Cow::Owned(site), Some(edit))
        }
    }
}

/// Whether a call names a relation by a text that leaves the schema to the search_path:
/// when what is prepared runs, that may be another one.
pub(super) fn is_unpinned(site: &FunctionSite) -> bool {
    let of_a_relation = sequences::concerns(&site.name) || storage::concerns(&site.name);
    let own = site.schema.as_deref().is_none_or(|one| one == "pg_catalog");
    match &site.argument {
        Argument::Literal(text) => of_a_relation && own && sequences::is_unqualified(text),
        Argument::Parameter | Argument::Screened | Argument::Other => false,
    }
}

/// The edit that gives such a relation its full name, as it was decided on.
pub(super) fn pin(
    site: &FunctionSite,
    schema: &str,
    text: &str,
    context: &Context<'_>,
) -> Option<Edit> {
    let Argument::Literal(name) = &site.argument else {
        return None;
    };
    if schema != "pg_catalog" || !is_unpinned(site) {
        return None;
    }
    let relation = sequences::named(name, context)?;
    let start = site.constant?;
    let name = qualified(&relation.schema, &relation.name).replace('\'', "''");
    Some(Edit {
        start,
        end: literal_end(text, start)?,
        text: match name.contains('\\') {
            true => format!("E'{}'", name.replace('\\', "\\\\")),
            false => format!("'{name}'"),
        },
    })
}

/// The end of a string constant of canonical text.
fn literal_end(text: &str, start: usize) -> Option<usize> {
    let rest = text.get(start..)?;
    let escapes = rest.starts_with('E');
    let open = start + usize::from(escapes);
    let mut bytes = text.get(open..)?.strip_prefix('\'')?.bytes().enumerate();
    while let Some((at, byte)) = bytes.next() {
        match byte {
            b'\\' if escapes => {
                bytes.next();
            }
            b'\'' if text.as_bytes().get(open + at + 2) == Some(&b'\'') => {
                bytes.next();
            }
            b'\'' => return Some(open + at + 2),
            _ => {}
        }
    }
    None
}

/// Any schema that has such a function, for tests of what happens to one that is not
/// allowed.
pub(super) fn any(site: &FunctionSite, context: &Context<'_>) -> String {
    let candidates = context.catalog.functions.get(site.name.as_str());
    let found = candidates.and_then(|all| all.first());
    found.map_or_else(String::new, |function| function.schema.to_string())
}

fn builtin(site: &FunctionSite, context: &Context<'_>) -> Result<(), Denial> {
    let name = site.name.as_str();
    let literal = match &site.argument {
        Argument::Literal(text) => Some(text.as_str()),
        _ => None,
    };
    let refused = |why: &str, hint: &str| {
        Err(Denial::new(
            Reason::Policy,
            format!("function pg_catalog.{name} is not allowed: {why}"),
        )
        .hint(hint.to_owned()))
    };
    match name {
        "current_setting" if site.argument == Argument::Screened => return Ok(()),
        "current_setting" => return settings::readable(literal),
        "set_config" => return settings::configurable(literal),
        "nextval" | "setval" | "currval" => return sequences::allow(name, literal, context),
        "pg_notify" => {
            return match context.rights.allows(Action::Notify) {
                Some(_) => Ok(()),
                None => refused(
                    "no grant allows notify",
                    "ask for a grant with the action `notify`",
                ),
            };
        }
        _ => {}
    }
    if HARMLESS.contains(&name) {
        return Ok(());
    }
    let immutable = context.catalog.functions.get(name).is_some_and(|all| {
        all.iter()
            .filter(|function| &*function.schema == "pg_catalog")
            .all(|function| function.volatility == Volatility::Immutable)
    });
    if immutable {
        return Ok(());
    }
    if let (true, Some(text)) = (storage::concerns(name), literal) {
        sequences::exists(text, context)?;
    }
    if WHERE_ALL_IS_CLEAR.contains(&name) {
        return match context.rights.all_clear() || storage::allows(name, literal, context) {
            true => Ok(()),
            false => refused(
                "its result depends on stored data that is masked for this role",
                "count or sum over the relation itself instead",
            ),
        };
    }
    if storage::concerns(name) {
        return match storage::allows(name, literal, context) {
            true => Ok(()),
            false => refused(
                "it is for an index, named by a constant, of a table that this role may write and sees in clear",
                "ask whoever maintains the table",
            ),
        };
    }
    if FOR_WRITERS.contains(&name) {
        return match context.rights.allows(Action::Write) {
            Some(_) => Ok(()),
            None => refused(
                "no grant allows write",
                "ask for a grant with the action `write`",
            ),
        };
    }
    refused(
        "it can read or change more than its arguments",
        "use plain SQL over the relations you may read",
    )
}

fn unknown(site: &FunctionSite) -> Denial {
    let schema = site
        .schema
        .as_ref()
        .map_or_else(String::new, |schema| format!("{schema}."));
    Denial::new(
        Reason::UnknownFunction,
        format!("function {schema}{} does not exist", site.name),
    )
    .hint(format!(
        "if a column was meant, write it as relation.{}",
        site.name
    ))
}

/// What goes in front of an unqualified call.
pub(super) fn prefix(schema: &str) -> String {
    match schema {
        "pg_catalog" => "pg_catalog.".to_owned(),
        other => format!("{}.", quote(other)),
    }
}
