//! Which settings a client may read and change.
//!
//! A setting that changes what a name or a literal means, who runs the
//! statement, or what is logged is not a client's to change freely.

use crate::policy::{Action, Rights};

use super::splice::Edit;
use super::{Denial, Reason};

/// Settings that change how values look or how a query is run, and nothing else.
const FREE: &[&str] = &[
    "array_nulls",
    "bytea_output",
    "commit_delay",
    "cpu_index_tuple_cost",
    "cpu_operator_cost",
    "cpu_tuple_cost",
    "cursor_tuple_fraction",
    "datestyle",
    "deadlock_timeout",
    "default_statistics_target",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "effective_cache_size",
    "effective_io_concurrency",
    "enable_async_append",
    "enable_bitmapscan",
    "enable_gathermerge",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_incremental_sort",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_parallel_append",
    "enable_parallel_hash",
    "enable_partition_pruning",
    "enable_partitionwise_aggregate",
    "enable_partitionwise_join",
    "enable_seqscan",
    "enable_sort",
    "enable_tidscan",
    "escape_string_warning",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "geqo_effort",
    "geqo_generations",
    "geqo_pool_size",
    "geqo_seed",
    "geqo_selection_bias",
    "geqo_threshold",
    "gin_fuzzy_search_limit",
    "idle_in_transaction_session_timeout",
    "idle_session_timeout",
    "intervalstyle",
    "jit",
    "jit_above_cost",
    "jit_inline_above_cost",
    "jit_optimize_above_cost",
    "join_collapse_limit",
    "lc_messages",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "min_parallel_index_scan_size",
    "min_parallel_table_scan_size",
    "parallel_leader_participation",
    "parallel_setup_cost",
    "parallel_tuple_cost",
    "plan_cache_mode",
    "quote_all_identifiers",
    "random_page_cost",
    "seed",
    "seq_page_cost",
    "synchronous_commit",
    "tcp_keepalives_count",
    "tcp_keepalives_idle",
    "tcp_keepalives_interval",
    "timezone",
    "timezone_abbreviations",
    "transaction_deferrable",
    "transaction_isolation",
    "vacuum_cost_delay",
    "xmlbinary",
    "xmloption",
    "row_security",
];

/// Whether a client may set a setting to a value, in its startup packet or by
/// SET; the value is as text, `None` for DEFAULT.
///
/// # Errors
/// Which rule is against it.
pub fn settable(name: &str, value: Option<&str>, rights: &Rights) -> Result<(), Denial> {
    let name = name.to_ascii_lowercase();
    let value = value.map(|value| value.trim().to_ascii_lowercase());
    match (name.as_str(), value.as_deref()) {
        ("search_path" | "application_name", _) => Ok(()),
        ("client_encoding" | "names", None | Some("utf8" | "utf-8" | "unicode")) => Ok(()),
        ("client_encoding" | "names", Some(other)) => Err(Denial::new(
            Reason::Setting,
            format!("client_encoding `{other}` is not served: statements are checked as UTF8"),
        )
        .hint("set client_encoding to UTF8")),
        ("standard_conforming_strings", None | Some("on" | "true" | "yes" | "1")) => Ok(()),
        ("standard_conforming_strings", Some(_)) => Err(Denial::new(
            Reason::Setting,
            "standard_conforming_strings stays on: it decides where a literal ends",
        )
        .hint("write E'…' for a literal with backslash escapes")),
        ("client_min_messages", None | Some("notice" | "warning" | "error")) => Ok(()),
        ("client_min_messages", Some(other)) => Err(Denial::new(
            Reason::Setting,
            format!(
                "client_min_messages `{other}` is not served: it would show what is sent upstream"
            ),
        )
        .hint("set client_min_messages to notice, warning or error")),
        ("backslash_quote", None | Some("off" | "safe_encoding")) => Ok(()),
        (
            "default_transaction_read_only" | "transaction_read_only",
            Some("on" | "true" | "yes" | "1"),
        ) => Ok(()),
        ("default_transaction_read_only" | "transaction_read_only", _) => writable(rights),
        ("statement_timeout", value) => timeout(value, rights),
        ("work_mem", None) => Ok(()),
        ("work_mem", Some(value)) => memory(value),
        (name, _) if FREE.contains(&name) => Ok(()),
        (name, _) => Err(Denial::new(
            Reason::Policy,
            format!("setting {name} cannot be changed through the proxy"),
        )
        .hint("settings that only change how values look or how a query is planned can be")),
    }
}

/// Whether a transaction may be made to write.
pub(super) fn writable(rights: &Rights) -> Result<(), Denial> {
    let may = [Action::Write, Action::Temp, Action::Ddl]
        .into_iter()
        .any(|action| rights.allows(action).is_some());
    match may {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Policy,
            "the transaction stays read only: no grant allows write",
        )
        .hint("ask for a grant with the action `write`")),
    }
}

fn timeout(value: Option<&str>, rights: &Rights) -> Result<(), Denial> {
    let Some(limit) = rights.limits().statement_timeout_ms else {
        return Ok(());
    };
    match value {
        None => Ok(()),
        Some(text) => match milliseconds(text) {
            Some(asked) if asked > 0 && asked <= limit => Ok(()),
            _ => Err(Denial::new(
                Reason::Policy,
                format!("statement_timeout exceeds the limit of {limit} ms that policy sets"),
            )
            .hint(format!("set it to between 1 and {limit} ms"))),
        },
    }
}

/// The most that work_mem may be set to, in kB.
const WORK_MEM: u64 = 1 << 20;

fn memory(text: &str) -> Result<(), Denial> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let asked = text.split_at_checked(digits).and_then(|(number, unit)| {
        let factor = match unit.trim() {
            "" | "kb" => 1,
            "mb" => 1 << 10,
            "gb" => 1 << 20,
            _ => return None,
        };
        number.parse::<u64>().ok()?.checked_mul(factor)
    });
    match asked {
        Some(asked) if asked <= WORK_MEM => Ok(()),
        _ => Err(Denial::new(
            Reason::Setting,
            format!("work_mem `{text}` is more than the proxy lets a session take"),
        )
        .hint("set it to at most 1GB")),
    }
}

/// `1500`, `1500ms`, `10s`, `2min`, `1h`, `1d`: as Postgres reads a duration.
fn milliseconds(text: &str) -> Option<u64> {
    let digits = text
        .find(|c: char| !c.is_ascii_digit())
        .unwrap_or(text.len());
    let (number, unit) = text.split_at_checked(digits)?;
    let factor = match unit.trim() {
        "" | "ms" => 1,
        "s" => 1_000,
        "min" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// How the names of the proxy's own settings begin; and what takes its place in
/// a name that is known only when the statement runs. No name that is replaced
/// holds the former again.
pub(super) const OWN: &str = "pgveil.";
/// See [`OWN`].
pub(super) const NOT_OWN: &str = "pgveil_";

/// Wraps the name of a setting, a parameter or a cast of one, in a call that
/// starts at that byte of canonical text, so that it is not the proxy's own
/// whatever the parameter says. Names of settings fold case, of ASCII alone (guc.c);
/// a text does so in the collation C. Without the cast the parameter's type would
/// choose the function: `lower` of a range is its bound.
pub(super) fn screen(text: &str, call: usize) -> Option<Edit> {
    let rest = text.get(call..)?;
    let name = rest.strip_prefix("pg_catalog.").unwrap_or(rest);
    let argument = name.strip_prefix("current_setting(")?;
    let start = text.len() - argument.len();
    let end = argument.find([',', ')'])?;
    let argument = argument.get(..end)?;
    let plain = |c: char| c.is_ascii_alphanumeric() || "$:._ ".contains(c);
    (argument.starts_with('$') && argument.chars().all(plain)).then(|| Edit {
        start,
        end: start + end,
        text: format!(
            "pg_catalog.replace(pg_catalog.lower(CAST({argument} AS pg_catalog.text) \
             COLLATE pg_catalog.\"C\"), '{OWN}', '{NOT_OWN}')"
        ),
    })
}

/// Whether a client may read a setting by `SHOW` or `current_setting`.
pub(super) fn readable(name: Option<&str>) -> Result<(), Denial> {
    match name {
        Some(name) if !name.to_ascii_lowercase().starts_with(OWN) => Ok(()),
        Some(_) => Err(
            Denial::new(Reason::Policy, "settings of the proxy's own cannot be read")
                .hint("read any other setting, or ask the operator of the proxy"),
        ),
        None => Err(Denial::new(
            Reason::Policy,
            "current_setting is allowed only with the setting's name as a constant",
        )
        .hint("write the name as a literal: current_setting('timezone')")),
    }
}

/// Whether `set_config` may be called on a setting: only where no value at all
/// could matter, because its value can come from anywhere.
pub(super) fn configurable(name: Option<&str>) -> Result<(), Denial> {
    match name.map(str::to_ascii_lowercase) {
        Some(name) if FREE.contains(&name.as_str()) => Ok(()),
        _ => Err(Denial::new(
            Reason::Policy,
            "set_config is allowed only for settings that change how values look or how a query is planned",
        )
        .hint("use SET, which the proxy can follow")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(milliseconds("250"), Some(250));
        assert_eq!(milliseconds("10s"), Some(10_000));
        assert_eq!(milliseconds("1 h"), Some(3_600_000));
        assert_eq!(milliseconds("-1"), None);
        assert_eq!(milliseconds("99999999999999999999"), None);
    }

    #[test]
    fn own_settings_are_not_readable() {
        assert!(readable(Some("TimeZone")).is_ok());
        assert!(readable(Some("PGVEIL.key_inner")).is_err());
        assert!(readable(None).is_err());
        assert!(configurable(Some("jit")).is_ok());
        assert!(configurable(Some("search_path")).is_err());
    }
}
