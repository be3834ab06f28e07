//! Governs a query: names → relations → scans, spliced into canonical text.
//!
//! Knows nothing about sessions. Invariant: each relation site that Postgres's
//! grammar sees is replaced, by a scan or by the relation's full name; where
//! sqlparser sees other sites than Postgres does, a statement that touches
//! anything governed is refused.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::catalog::{Relation, RelationKind};
use crate::policy::{Action, RelationAccess, Treatment};

use super::canonical::{Canonical, ONLY_MARK, query_of};
use super::names::{lookup, name_end, parenthesis_end, qualified, quote};
use super::referee::{self, Decided};
use super::resolve::{self, Reading};
use super::scan::{self, Wants};
use super::splice::{Edit, apply};
use super::statement::Kind;
use super::survey::{self, FunctionSite, RelationSite, Role, Survey};
use super::{
    ColumnUse, Context, Denial, Reason, RelationUse, Scope, functions, pushdown, system, temporary,
};

/// Views inside views, at most.
const VIEW_DEPTH: usize = 16;

/// A query, governed.
#[derive(Debug)]
pub(super) struct Governed {
    /// The final text, not yet seen by the referee.
    pub(super) text: String,
    pub(super) touched: Vec<RelationUse>,
    pub(super) decided: Decided,
    /// Whether anything stands behind a scan.
    pub(super) governed: bool,
    pub(super) writes: bool,
}

/// A relation as the statement reaches it.
struct Reached {
    site: RelationSite,
    only: bool,
    relation: Arc<Relation>,
    /// None for Postgres's own relations.
    access: Option<RelationAccess>,
    /// The bytes of its TABLESAMPLE clause.
    sample: Option<(usize, usize)>,
    standing: Standing,
    /// What a view's expansion touches.
    beneath: Vec<RelationUse>,
}

enum Standing {
    /// As stored, under its full name.
    Clear,
    /// To be replaced by a scan, once it is known which columns are used.
    Governed,
    /// A view whose own columns are masked, over this governed expansion.
    Masked(String),
    /// Replaced by this canonical SELECT.
    Scan(String),
}

/// Governs the query that a canonical statement is or wraps.
pub(super) fn govern(canonical: &Canonical, context: &Context<'_>) -> Result<Governed, Denial> {
    govern_nested(canonical, context, 0)
}

fn govern_nested(
    canonical: &Canonical,
    context: &Context<'_>,
    depth: usize,
) -> Result<Governed, Denial> {
    let Some(query) = query_of(canonical.node()) else {
        return Err(Denial::new(Reason::Unsupported, "statement holds no query"));
    };
    let surveyed = survey::survey(query, &|_| false).map_err(|unknown| {
        Denial::new(
            Reason::Unsupported,
            format!("syntax `{unknown}` is not served"),
        )
    })?;
    bounded(&surveyed)?;
    if surveyed.into {
        return Err(
            Denial::new(Reason::Unsupported, "SELECT INTO is not served")
                .hint("use CREATE TEMP TABLE … AS where policy grants the action `temp`"),
        );
    }
    let mut decided = Decided::default();
    let mut reached = Vec::new();
    for site in surveyed.relations.iter().filter(|site| !site.cte) {
        reached.push(reach(
            site,
            canonical,
            &surveyed,
            context,
            &mut decided,
            depth,
        )?);
    }
    let governed = reached
        .iter()
        .any(|one| !matches!(one.standing, Standing::Clear));
    locks(&surveyed, governed, context)?;
    operators(&surveyed, context)?;

    let reading = read(canonical, query, &surveyed, &reached);
    let reading = match (reading, governed) {
        (Ok(reading), _) => Some(reading),
        // Nothing here is governed: Postgres's own reading is enough.
        (Err(_), false) => None,
        (Err(why), true) => return Err(unread(&why, &reached)),
    };
    if let Some(reading) = &reading {
        settle(&mut reached, canonical, &surveyed, reading, &mut decided)?;
    }
    if depth > 0 {
        hidden(&reached, &surveyed)?;
    }
    let touched = touched(&reached, reading.as_ref());
    blocked(&reached, &touched)?;
    let edits = edits(canonical, &surveyed, &reached, reading.as_ref(), context)
        .map_err(|denial| denial.touching(touched.clone()))?;
    let text = apply(&canonical.text, edits)
        .ok_or_else(|| Denial::new(Reason::Referee, "the rewriter's edits overlap"))?;
    Ok(Governed {
        text,
        touched,
        decided,
        governed,
        writes: surveyed
            .relations
            .iter()
            .any(|site| site.role == Role::Target),
    })
}

fn reach(
    site: &RelationSite,
    canonical: &Canonical,
    surveyed: &Survey,
    context: &Context<'_>,
    decided: &mut Decided,
    depth: usize,
) -> Result<Reached, Denial> {
    let (only, schema) = match site
        .schema
        .as_deref()
        .map(|schema| (schema, schema.strip_prefix(ONLY_MARK)))
    {
        Some((_, Some(""))) => (true, None),
        Some((_, Some(schema))) => (true, Some(schema)),
        Some((schema, None)) => (site.only, Some(schema)),
        None => (site.only, None),
    };
    if site.catalog.is_some() {
        return Err(Denial::new(
            Reason::Unsupported,
            "names with a database in front are not served",
        )
        .hint("leave the database out: schema.relation"));
    }
    if let Some(relation) = temporary::lookup(context, schema, &site.name) {
        let key = (temporary::SCHEMA.to_owned(), site.name.clone());
        match site.role {
            Role::Read => decided.clear.insert(key),
            Role::Target => decided.targets.insert(key),
        };
        return Ok(Reached {
            site: site.clone(),
            only,
            relation,
            access: None,
            sample: None,
            standing: Standing::Clear,
            beneath: Vec::new(),
        });
    }
    let Some(relation) = lookup(
        context.catalog,
        &context.scope.search_path,
        schema,
        &site.name,
    ) else {
        let name = schema.map_or_else(
            || site.name.clone(),
            |schema| format!("{schema}.{}", site.name),
        );
        return Err(Denial::new(
            Reason::UnknownRelation,
            format!("relation \"{name}\" does not exist"),
        ));
    };
    let key = (relation.schema.to_string(), relation.name.to_string());
    let mut reached = Reached {
        site: site.clone(),
        only,
        relation: relation.clone(),
        access: None,
        sample: sample(site, &canonical.text, surveyed)?,
        standing: Standing::Clear,
        beneath: Vec::new(),
    };
    if relation.is_system() {
        if site.role == Role::Target {
            return Err(Denial::new(
                Reason::Policy,
                format!("{} cannot be written to", relation.label()),
            ));
        }
        match system::standing(relation, context, &names_system(surveyed))? {
            system::Standing::Clear => {
                decided.clear.insert(key);
            }
            system::Standing::Scan(text) => {
                decided.scans.insert(text.clone());
                reached.standing = Standing::Scan(text);
            }
            system::Standing::Expand => expand(&mut reached, None, context, decided, depth)?,
        }
        return Ok(reached);
    }
    let access = context.rights.access(relation, context.catalog);
    match site.role {
        Role::Target => {
            target(relation, &access)?;
            decided.targets.insert(key);
        }
        Role::Read => {
            permitted(relation, &access, Action::Read)?;
            match relation.kind {
                RelationKind::View => expand(&mut reached, Some(&access), context, decided, depth)?,
                RelationKind::Table
                | RelationKind::PartitionedTable
                | RelationKind::ForeignTable
                | RelationKind::MaterializedView => {
                    if access.is_clear() {
                        decided.clear.insert(key);
                    } else {
                        reached.standing = Standing::Governed;
                    }
                }
                RelationKind::Sequence
                | RelationKind::Toast
                | RelationKind::CompositeType
                | RelationKind::Index => {
                    return Err(Denial::new(
                        Reason::Policy,
                        format!(
                            "{} is not a table or a view, and is not read through the proxy",
                            relation.label()
                        ),
                    ));
                }
            }
        }
    }
    reached.access = Some(access);
    Ok(reached)
}

/// What one statement may hold: planning must not keep a thread from others.
fn bounded(surveyed: &Survey) -> Result<(), Denial> {
    let counts = [
        ("relations", surveyed.relations.len(), 500),
        ("column references", surveyed.columns.len(), 20_000),
        ("calls", surveyed.functions.len(), 20_000),
        ("field selections", surveyed.fields.len(), 1_000),
    ];
    match counts.into_iter().find(|(_, count, limit)| count > limit) {
        None => Ok(()),
        Some((what, count, limit)) => Err(Denial::new(
            Reason::TooComplex,
            format!("statement has {count} {what}, too many to plan (limit {limit})"),
        )
        .hint("split the statement")),
    }
}

/// Writes the scans, now that it is known what the statement uses.
fn settle(
    reached: &mut [Reached],
    canonical: &Canonical,
    surveyed: &Survey,
    reading: &Reading,
    decided: &mut Decided,
) -> Result<(), Denial> {
    let inside = inside(reached, canonical, reading);
    let nothing = BTreeSet::new();
    for one in reached.iter_mut() {
        let Some(access) = &one.access else { continue };
        let wants = Wants {
            only: one.only,
            ctid: matches!(one.standing, Standing::Governed) && ctid(surveyed)?,
            sample: one
                .sample
                .and_then(|(start, end)| canonical.text.get(start..end)),
            inside: inside.get(&one.site.start).map_or(&[], Vec::as_slice),
            used: match reading.uncertain {
                true => None,
                false => Some(reading.uses.get(&one.site.start).unwrap_or(&nothing)),
            },
        };
        let text = match &one.standing {
            Standing::Governed => scan::table(&one.relation, access, wants)?,
            Standing::Masked(expansion) => scan::view(&one.relation, access, expansion, wants)?,
            Standing::Clear | Standing::Scan(_) => continue,
        };
        decided.scans.insert(text.clone());
        one.standing = Standing::Scan(text);
    }
    Ok(())
}

/// The client's harmless conditions, by the fenced relation they are about.
fn inside(
    reached: &[Reached],
    canonical: &Canonical,
    reading: &Reading,
) -> HashMap<usize, Vec<String>> {
    let fenced = |one: &&Reached| {
        matches!(one.standing, Standing::Governed)
            && one
                .access
                .as_ref()
                .is_some_and(|access| access.filter.is_some())
    };
    let Some(query) = query_of(canonical.node()).filter(|_| reached.iter().any(|one| fenced(&one)))
    else {
        return HashMap::new();
    };
    let open = |site: usize, name: &str| {
        let mut sites = reached.iter().filter(fenced);
        let one = sites.find(|one| one.site.start == site)?;
        let accesses = one.access.iter().flat_map(|access| &access.columns);
        let mut columns = one.relation.columns.iter().zip(accesses);
        columns
            .find(|(column, _)| &*column.name == name)
            .filter(|(_, access)| access.treatment.is_clear())
            .map(|(column, _)| column.class)
    };
    pushdown::conditions(query, &reading.bound, &open)
}

/// Where the TABLESAMPLE clause of a relation stands.
fn sample(
    site: &RelationSite,
    text: &str,
    surveyed: &Survey,
) -> Result<Option<(usize, usize)>, Denial> {
    const KEYWORD: &str = "TABLESAMPLE ";
    const REPEATABLE: &str = " REPEATABLE ";
    let Some(found) = surveyed
        .samples
        .iter()
        .find(|sample| sample.relation == site.start)
    else {
        return Ok(None);
    };
    let lost = || {
        Denial::new(
            Reason::Unsupported,
            "TABLESAMPLE is served with constants only",
        )
    };
    let start = found.method.checked_sub(KEYWORD.len()).ok_or_else(lost)?;
    if !found.plain || text.get(start..found.method) != Some(KEYWORD) {
        return Err(lost());
    }
    let arguments = name_end(text, found.method).ok_or_else(lost)?;
    let mut end = parenthesis_end(text, arguments).ok_or_else(lost)?;
    if text
        .get(end..)
        .is_some_and(|rest| rest.starts_with(REPEATABLE))
    {
        end = parenthesis_end(text, end + REPEATABLE.len()).ok_or_else(lost)?;
    }
    Ok(Some((start, end)))
}

/// A view is governed like the query it is.
fn expand(
    reached: &mut Reached,
    access: Option<&RelationAccess>,
    context: &Context<'_>,
    decided: &mut Decided,
    depth: usize,
) -> Result<(), Denial> {
    let relation = reached.relation.clone();
    let relation = &relation;
    let in_view = |mut denial: Denial| {
        denial.message = format!("view {}: {}", relation.label(), denial.message);
        denial
    };
    if depth >= VIEW_DEPTH {
        return Err(Denial::new(
            Reason::TooComplex,
            format!("view {} nests too deeply", relation.label()),
        ));
    }
    let Some(definition) = &relation.definition else {
        return Err(Denial::new(
            Reason::Unsupported,
            format!("view {} has no definition", relation.label()),
        ));
    };
    // Definitions are loaded with every name qualified.
    let nowhere = Scope::default();
    let inside = Context {
        scope: &nowhere,
        ..*context
    };
    let canonical = Canonical::one(definition).map_err(in_view)?;
    let governed = govern_nested(&canonical, &inside, depth + 1).map_err(in_view)?;
    reached.beneath = governed.touched;
    let masked = access.is_some_and(|access| !access.is_clear());
    if !governed.governed && !masked {
        let key = (relation.schema.to_string(), relation.name.to_string());
        decided.clear.insert(key);
        return Ok(());
    }
    reached.standing = match masked {
        true => {
            // The referee takes what it finds in `scans` as a whole, so it sees
            // what is inside here.
            referee::check(&governed.text, Kind::Select, &governed.decided, context)
                .map_err(in_view)?;
            Standing::Masked(governed.text)
        }
        false => Standing::Scan(governed.text),
    };
    decided.clear.extend(governed.decided.clear);
    decided.scans.extend(governed.decided.scans);
    Ok(())
}

fn permitted(relation: &Relation, access: &RelationAccess, action: Action) -> Result<(), Denial> {
    match access.actions.contains(&action) {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Policy,
            format!(
                "no {} of {}: {}",
                action.as_str(),
                relation.label(),
                access.rule
            ),
        )
        .hint("ask for a grant, or select from a relation that your roles name")),
    }
}

fn target(relation: &Relation, access: &RelationAccess) -> Result<(), Denial> {
    permitted(relation, access, Action::Write)?;
    if !matches!(
        relation.kind,
        RelationKind::Table | RelationKind::PartitionedTable
    ) {
        return Err(Denial::new(
            Reason::Unsupported,
            format!(
                "{} is not a table: writes go to tables only",
                relation.label()
            ),
        ));
    }
    match access.is_clear() {
        true => Ok(()),
        false => Err(Denial::new(
            Reason::Policy,
            format!(
                "no write of {}: a column or row of it is masked for this role, and a write would tell of it",
                relation.label()
            ),
        )
        .hint("write through an identity that sees the whole relation in clear")),
    }
}

fn locks(surveyed: &Survey, governed: bool, context: &Context<'_>) -> Result<(), Denial> {
    if !surveyed.locks || (!governed && context.rights.allows(Action::Write).is_some()) {
        return Ok(());
    }
    Err(Denial::new(
        Reason::Policy,
        "FOR UPDATE and FOR SHARE lock rows, which takes a grant to write and relations in clear",
    )
    .hint("leave the locking clause out"))
}

fn operators(surveyed: &Survey, context: &Context<'_>) -> Result<(), Denial> {
    match surveyed
        .operators
        .iter()
        .find(|name| context.catalog.foreign_operators.contains(name.as_str()))
    {
        None => Ok(()),
        Some(name) => Err(Denial::new(
            Reason::Policy,
            format!("operator {name} is overloaded by a function that policy does not know"),
        )
        .hint("write the comparison with a built-in function instead")),
    }
}

/// Which system columns the statement names, so that scans serve them.
fn names_system(surveyed: &Survey) -> Vec<&'static str> {
    ["tableoid", "ctid"]
        .into_iter()
        .filter(|name| {
            surveyed
                .columns
                .iter()
                .any(|site| site.parts.last().is_some_and(|part| part == name))
        })
        .collect()
}

fn ctid(surveyed: &Survey) -> Result<bool, Denial> {
    if !names_system(surveyed).contains(&"ctid") {
        return Ok(false);
    }
    // `*` never shows it, and a scan that serves it would make `*` do so.
    match surveyed
        .columns
        .iter()
        .any(|site| site.parts.last().is_some_and(|part| part == "*"))
    {
        false => Ok(true),
        true => Err(Denial::new(
            Reason::Unsupported,
            "ctid beside `*` is not served on a masked relation",
        )
        .hint("name the columns instead of `*`")),
    }
}

/// sqlparser's reading, if it agrees with Postgres's about what stands where.
fn read(
    canonical: &Canonical,
    query: pg_raw_parse::Node<'_>,
    surveyed: &Survey,
    reached: &[Reached],
) -> Result<Reading, String> {
    let inner = pg_raw_parse::deparse(query).map_err(|error| error.to_string())?;
    let inner = inner.as_str();
    let shift = shift(&canonical.text, inner).ok_or("the query inside could not be located")?;
    let names: Vec<(usize, Vec<String>)> = reached
        .iter()
        // A temporary table's columns are not known.
        .filter(|one| one.relation.oid != 0)
        .filter_map(|one| Some((one.site.start.checked_sub(shift)?, visible(one))))
        .collect();
    let known: HashMap<usize, &[String]> = names
        .iter()
        .map(|(start, columns)| (*start, columns.as_slice()))
        .collect();
    let reading = resolve::read(inner, &known).map_err(|unread| unread.to_string())?;

    let theirs: BTreeSet<(usize, bool)> = surveyed
        .relations
        .iter()
        .filter_map(|site| Some((site.start.checked_sub(shift)?, site.cte)))
        .collect();
    let ours: BTreeSet<(usize, bool)> = reading
        .relations
        .iter()
        .map(|(start, _, cte)| (*start, *cte))
        .collect();
    if ours != theirs {
        return Err("the two parsers see relations at different places".into());
    }
    if let Some(site) = surveyed.columns.iter().find(|site| {
        !site
            .start
            .checked_sub(shift)
            .is_some_and(|start| reading.columns.contains(&start))
    }) {
        return Err(format!(
            "the two parsers differ about `{}`",
            site.parts.join(".")
        ));
    }
    Ok(reading.shifted(shift))
}

/// Where the text of a wrapped query begins: `COPY (` is followed by it, and
/// every other wrapper ends in it.
fn shift(outer: &str, inner: &str) -> Option<usize> {
    if outer == inner {
        return Some(0);
    }
    const COPY: &str = "COPY (";
    if outer
        .strip_prefix(COPY)
        .is_some_and(|rest| rest.starts_with(inner))
    {
        return Some(COPY.len());
    }
    let outer = outer
        .strip_suffix(" WITH NO DATA")
        .map_or(outer, str::trim_end);
    outer.ends_with(inner).then(|| outer.len() - inner.len())
}

/// The columns this caller can name, in order.
fn visible(reached: &Reached) -> Vec<String> {
    let hidden = |at: usize| {
        reached
            .access
            .as_ref()
            .and_then(|access| access.columns.get(at))
            .is_some_and(|column| matches!(column.treatment, Treatment::Hide))
    };
    reached
        .relation
        .columns
        .iter()
        .enumerate()
        .filter(|(at, _)| !hidden(*at))
        .map(|(_, column)| column.name.to_string())
        .collect()
}

fn unread(why: &str, reached: &[Reached]) -> Denial {
    let name = reached
        .iter()
        .find(|one| !matches!(one.standing, Standing::Clear))
        .map_or_else(String::new, |one| one.relation.label());
    let why = why.strip_prefix("sql parser error: ").unwrap_or(why);
    if why.contains("recursion limit") {
        return Denial::new(Reason::TooComplex, "statement is nested too deeply to plan")
            .hint("split it, or use a temporary table for the inner part");
    }
    Denial::new(
        Reason::Unsupported,
        format!("syntax is not served over {name}, which is masked for this role: {why}"),
    )
    .hint("write it in plainer SQL, or ask for the columns in clear")
    .touching(touched(reached, None))
}

fn touched(reached: &[Reached], reading: Option<&Reading>) -> Vec<RelationUse> {
    let mut all: Vec<RelationUse> = Vec::new();
    for one in reached {
        let used = reading.map(|reading| reading.uses.get(&one.site.start));
        let columns = one
            .relation
            .columns
            .iter()
            .zip(one.access.iter().flat_map(|access| &access.columns))
            .filter(|(column, access)| match used {
                Some(Some(names)) => names.contains(&*column.name),
                Some(None) => false,
                // Not read: whatever exists for the caller may have been used.
                None => !matches!(access.treatment, Treatment::Hide),
            })
            .map(|(column, access)| ColumnUse {
                column: column.name.clone(),
                treatment: scan::effective(column, access).label().into(),
                tag: access.tag.clone(),
                rule: access.rule.clone(),
            })
            .collect();
        let filter = one
            .access
            .as_ref()
            .and_then(|access| access.filter.as_ref());
        all.push(RelationUse {
            relation: one.relation.label().into(),
            columns,
            row_filter: filter.map(|filter| filter.rule.clone()),
            oid: one.relation.oid,
        });
        all.extend(one.beneath.iter().cloned());
    }
    merge(all)
}

/// One entry a relation.
fn merge(all: Vec<RelationUse>) -> Vec<RelationUse> {
    let mut merged: Vec<RelationUse> = Vec::new();
    for one in all {
        match merged
            .iter_mut()
            .find(|known| known.relation == one.relation)
        {
            None => merged.push(one),
            Some(known) => {
                for column in one.columns {
                    if !known.columns.contains(&column) {
                        known.columns.push(column);
                    }
                }
            }
        }
    }
    merged
}

/// Refuses a statement that refers to a blocked column, and says what would do.
fn blocked(reached: &[Reached], touched: &[RelationUse]) -> Result<(), Denial> {
    for one in reached {
        let Some(access) = &one.access else { continue };
        let Some(used) = touched.iter().find(|used| used.oid == one.relation.oid) else {
            continue;
        };
        let columns = || one.relation.columns.iter().zip(&access.columns);
        let is_blocked =
            |(column, access): &(&crate::catalog::Column, &crate::policy::ColumnAccess)| {
                matches!(scan::effective(column, access), Treatment::Block)
            };
        let Some((column, access)) = columns()
            .filter(is_blocked)
            .find(|(column, _)| used.columns.iter().any(|used| used.column == column.name))
        else {
            continue;
        };
        let rest: Vec<String> = columns()
            .filter(|pair| !is_blocked(pair) && !matches!(pair.1.treatment, Treatment::Hide))
            .map(|(column, _)| column.name.to_string())
            .collect();
        let why = match &access.treatment {
            Treatment::Mask(mask) => format!(
                "its mask `{}` cannot serve the type {}, {}",
                mask.name(),
                column.type_sql,
                access.rule
            ),
            Treatment::Clear | Treatment::Block | Treatment::Hide => access.rule.to_string(),
        };
        return Err(Denial::new(
            Reason::Policy,
            format!(
                "column {} of {} is blocked: {why}",
                column.name,
                one.relation.label()
            ),
        )
        .hint(match rest.is_empty() {
            true => "no column of this relation is open to your roles".to_owned(),
            false => format!("select {} from {}", rest.join(", "), one.relation.label()),
        })
        .touching(touched.to_vec()));
    }
    Ok(())
}

/// Inside a view, a name that would mean a hidden column is refused here: left to
/// Postgres, its error would speak of a relation the caller did not name.
fn hidden(reached: &[Reached], surveyed: &Survey) -> Result<(), Denial> {
    let names: BTreeSet<&str> = surveyed
        .columns
        .iter()
        .filter_map(|site| site.parts.last().map(String::as_str))
        .collect();
    for one in reached {
        let Some(access) = &one.access else { continue };
        for (column, access) in one.relation.columns.iter().zip(&access.columns) {
            if matches!(access.treatment, Treatment::Hide) && names.contains(&*column.name) {
                return Err(Denial::new(
                    Reason::Policy,
                    format!(
                        "it is built on a column that does not exist for this role: {}",
                        access.rule
                    ),
                )
                .hint("select from the tables beneath it instead"));
            }
        }
    }
    Ok(())
}

fn edits(
    canonical: &Canonical,
    surveyed: &Survey,
    reached: &[Reached],
    reading: Option<&Reading>,
    context: &Context<'_>,
) -> Result<Vec<Edit>, Denial> {
    let lost = || {
        Denial::new(
            Reason::Referee,
            "a name is not where the grammar says it is",
        )
    };
    let mut edits = Vec::new();
    for one in reached {
        let start = one.site.start;
        let end = name_end(&canonical.text, start).ok_or_else(lost)?;
        if reading.is_some_and(|reading| !reading.relations.contains(&(start, end, false))) {
            return Err(lost());
        }
        let text = match &one.standing {
            Standing::Clear => {
                let only = if one.only { "ONLY " } else { "" };
                format!(
                    "{only}{}",
                    qualified(&one.relation.schema, &one.relation.name)
                )
            }
            Standing::Scan(text) if one.site.aliased => format!("({text})"),
            Standing::Scan(text) => format!("({text}) AS {}", quote(&one.site.name)),
            Standing::Governed | Standing::Masked(_) => return Err(lost()),
        };
        edits.push(Edit { start, end, text });
        if let (Standing::Scan(_), Some((start, end))) = (&one.standing, one.sample) {
            edits.push(Edit {
                start,
                end,
                text: String::new(),
            });
        }
    }
    for site in &surveyed.functions {
        let schema = functions::allow(site, context)?;
        if site.schema.is_none() {
            let prefix = functions::prefix(&schema);
            edits.push(Edit {
                start: site.start,
                end: site.start,
                text: prefix,
            });
        }
    }
    attributes(surveyed, reading, context)?;
    for (start, after, site) in reading.iter().flat_map(|reading| &reading.long) {
        let scanned = reached
            .iter()
            .any(|one| one.site.start == *site && matches!(one.standing, Standing::Scan(_)));
        if scanned {
            edits.push(Edit {
                start: *start,
                end: *after,
                text: String::new(),
            });
        }
    }
    Ok(edits)
}

/// `row.f` is `f(row)` where the row has no such column: the function has to be
/// one that may be called.
fn attributes(
    surveyed: &Survey,
    reading: Option<&Reading>,
    context: &Context<'_>,
) -> Result<(), Denial> {
    let uncertain = surveyed
        .columns
        .iter()
        .filter(|site| site.parts.len() > 1)
        .filter(|site| !reading.is_some_and(|reading| reading.certain.contains(&site.start)))
        .filter_map(|site| site.parts.last());
    let names: BTreeSet<&String> = uncertain.chain(&surveyed.fields).collect();
    for name in names {
        if context.catalog.functions.contains_key(name.as_str()) {
            functions::allow(
                &FunctionSite {
                    start: 0,
                    schema: None,
                    name: name.clone(),
                    literal: None,
                },
                context,
            )?;
        }
    }
    Ok(())
}
