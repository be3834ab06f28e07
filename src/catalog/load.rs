//! Reads a [`Catalog`] from the upstream.
//!
//! Knows nothing about policy. The invariant: a catalog is one moment's (a single
//! REPEATABLE READ transaction), and no text in it depends on a `search_path` other
//! than pg_catalog's own place in it.

use std::collections::{HashMap, HashSet};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::named::close;
use super::{
    Catalog, Column, ForeignKey, Function, Index, Oid, OnChange, Operator, OperatorClass, Relation,
    RelationKind, Runs, SERVED, Type, TypeClass, Volatility,
};
use crate::upstream::connect::{Cause, ConnectError, Target, connect};
use crate::upstream::inquiry::{Inquiry, InquiryError, Row};

/// Why a catalog could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The upstream could not be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// It answered otherwise than expected.
    #[error("the catalog of {dataset} could not be read: {what}")]
    Answer {
        /// Which dataset
        dataset: String,
        /// What was wrong
        what: String,
    },
}

impl LoadError {
    /// Whether it may pass by itself.
    pub fn may_pass(&self) -> bool {
        match self {
            Self::Connect(error) => error.may_pass(),
            Self::Answer { .. } => false,
        }
    }

    /// Whether the proxy's role there is one that it must not use.
    pub fn is_unfit(&self) -> bool {
        match self {
            Self::Connect(error) => matches!(
                error.cause,
                Cause::Superuser | Cause::BypassesRows | Cause::OtherRole
            ),
            Self::Answer { .. } => false,
        }
    }
}

/// How long reading may take; a database of 100,000 relations takes seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// What decides how Postgres prints names and types, whatever the role or the
/// database is set to.
const SETTINGS: [(&str, &str); 7] = [
    ("application_name", "pgveil catalog"),
    ("client_encoding", "UTF8"),
    ("search_path", ""),
    ("quote_all_identifiers", "off"),
    ("standard_conforming_strings", "on"),
    ("statement_timeout", "60s"),
    // What the recursion over types might cost is overestimated: compiling it took
    // 20 times as long as reading the whole catalog.
    ("jit", "off"),
];

/// Reads the catalog over a connection of its own.
///
/// # Errors
/// As [`LoadError`] says; the caller keeps the catalog it has.
pub async fn load(target: &Target, epoch: u64) -> Result<Catalog, LoadError> {
    let settings = SETTINGS.map(|(name, value)| (name.to_owned(), value.to_owned()));
    let mut inquiry = Inquiry::over(connect(target, &settings).await?);
    let read = tokio::time::timeout(TIMEOUT, read(&mut inquiry, epoch)).await;
    let wrong = |what| LoadError::Answer {
        dataset: target.dataset.clone(),
        what,
    };
    match read {
        Ok(Ok((_, Some(cause)))) if !target.allow_superuser => Err(cause.at(target).into()),
        Ok(Ok((catalog, _))) => {
            inquiry.close().await;
            Ok(catalog)
        }
        Ok(Err(fault)) => Err(wrong(fault.to_string())),
        Err(_) => Err(wrong(format!("no end within {TIMEOUT:?}"))),
    }
}

/// What can be wrong with an answer.
#[derive(Debug, thiserror::Error)]
enum Fault {
    #[error(transparent)]
    Inquiry(#[from] InquiryError),
    #[error("a row without its {0}")]
    Cell(&'static str),
    #[error(
        "its server_version_num is {0}, and statements are checked by a grammar that fits {from} to {to} only",
        from = SERVED.start,
        to = SERVED.end - 1
    )]
    Version(u32),
}

/// A query that goes on where the list of what is suspicious ends.
macro_rules! suspicious {
    ($rest:literal) => {
        concat!(include_str!("load/suspect.sql"), include_str!($rest))
    };
}

/// Whether DISCARD ALL leaves a session the role that ALTER ROLE … SET role gives it: before,
/// it becomes the role that logged in. (In 15.9, 16.5 and 17.1 such a setting does nothing.)
///
/// CVE-2024-10978, and <https://www.postgresql.org/docs/release/17.2/>
fn keeps_role(version: u32) -> bool {
    let fixed = match version / 10_000 {
        ..=15 => 150_010,
        16 => 160_006,
        17 => 170_002,
        _ => 0,
    };
    version >= fixed
}

/// The catalog, and why who reads it is none to be used.
async fn read(inquiry: &mut Inquiry, epoch: u64) -> Result<(Catalog, Option<Cause>), Fault> {
    inquiry
        .fetch("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
        .await?;
    let session = inquiry.fetch(include_str!("load/session.sql")).await?;
    let schemas = inquiry.fetch(include_str!("load/schemas.sql")).await?;
    let relations = inquiry.fetch(include_str!("load/relations.sql")).await?;
    let columns = inquiry.fetch(include_str!("load/columns.sql")).await?;
    let parents = inquiry.fetch(include_str!("load/parents.sql")).await?;
    let indexes = inquiry.fetch(include_str!("load/indexes.sql")).await?;
    let keys = inquiry.fetch(include_str!("load/keys.sql")).await?;
    let sequences = inquiry.fetch(include_str!("load/sequences.sql")).await?;
    let functions = inquiry.fetch(include_str!("load/functions.sql")).await?;
    let fields = inquiry.fetch(include_str!("load/fields.sql")).await?;
    let operators = inquiry.fetch(suspicious!("load/operators.sql")).await?;
    let classes_of_indexes = inquiry.fetch(suspicious!("load/opclasses.sql")).await?;
    let types = inquiry.fetch(include_str!("load/types.sql")).await?;
    let runs = inquiry.fetch(suspicious!("load/runs.sql")).await?;
    inquiry.fetch("COMMIT").await?;

    let mut texts = Texts::default();
    let mut catalog = Catalog {
        epoch,
        ..Catalog::default()
    };
    let mut unfit = None;
    for row in session {
        let mut row = Cells::of(row);
        catalog.version = row.value("version")?;
        if !SERVED.contains(&catalog.version) {
            return Err(Fault::Version(catalog.version));
        }
        catalog.session_user = texts.shared(row.text("session user")?);
        if row.flag("role set")? && !keeps_role(catalog.version) {
            unfit = Some(Cause::OtherRole);
        }
        if row.flag("row security")? {
            unfit = Some(Cause::BypassesRows);
        }
        catalog.writes = row.flag("privilege to write")?;
        catalog.unguarded = texts.shared(row.cell().unwrap_or_default());
    }
    for row in schemas {
        let name = Cells::of(row).text("schema")?;
        catalog.schemas.insert(texts.shared(name));
    }
    let classes = Classes::of(&types)?;
    let mut columns = by_relation(columns, &classes, &mut texts)?;
    let mut parents = by_child(parents)?;
    for row in relations {
        if let Some(mut relation) = relation(row, &mut texts)? {
            relation.columns = columns.remove(&relation.oid).unwrap_or_default();
            relation.parents = parents.remove(&relation.oid).unwrap_or_default();
            let names = relation.columns.iter().map(|column| column.name.clone());
            catalog.fields.extend(names);
            catalog.insert(relation);
        }
    }
    for row in indexes {
        index(row, &mut catalog)?;
    }
    for relation in catalog.relations.values() {
        if relation.kind == RelationKind::ForeignTable {
            catalog.indexes.insert(relation.oid, Index::Remote);
        }
    }
    catalog.indexes.inherit(&catalog.relations);
    for row in keys {
        if let Some(key) = key(row, &catalog)? {
            catalog.keys.insert(key);
        }
    }
    for row in sequences {
        let mut row = Cells::of(row);
        let sequence = row.value("sequence")?;
        catalog.owners.insert(sequence, row.value("owner")?);
    }
    for row in functions {
        let function = function(row, &mut texts)?;
        let name = function.name.clone();
        catalog.functions.entry(name).or_default().push(function);
    }
    for row in fields {
        let name = Cells::of(row).text("field")?;
        catalog.fields.insert(texts.shared(name));
    }
    for row in operators {
        let mut row = Cells::of(row);
        let (schema, name) = (row.text("schema")?, row.text("operator")?);
        let operator = Operator {
            schema: texts.shared(schema),
            over: row.oids()?,
            runs: row.runs(&mut texts).into_iter().collect(),
        };
        let all = catalog.operators.entry(texts.shared(name)).or_default();
        all.push(operator);
    }
    for row in classes_of_indexes {
        let mut row = Cells::of(row);
        let (schema, name) = (row.text("schema")?, row.text("operator class")?);
        let class = OperatorClass {
            schema: texts.shared(schema),
            runs: row.runs(&mut texts).into_iter().collect(),
        };
        let all = catalog.classes.entry(texts.shared(name)).or_default();
        all.push(class);
    }
    types_of(&mut catalog, types, runs, &mut texts)?;
    Ok((catalog, unfit))
}

/// An index of a relation that is in the catalog.
fn index(row: Row, catalog: &mut Catalog) -> Result<(), Fault> {
    let mut row = Cells::of(row);
    let (own, of) = (row.value("index")?, row.value("relation")?);
    catalog.owners.insert(own, of);
    let Some(numbers) = row.cell() else {
        return Ok(());
    };
    let Some(relation) = catalog.relations.get(&of) else {
        return Ok(());
    };
    let name = |number: &str| -> Result<_, Fault> {
        let number: i16 = number.parse().map_err(|_| Fault::Cell("keys"))?;
        let mut columns = relation.columns.iter();
        let column = columns.find(|column| column.attnum == number);
        Ok(column.map(|column| column.name.clone()))
    };
    let names = |numbers: &str| -> Result<Vec<_>, Fault> {
        let numbers = numbers.split(',').filter(|number| !number.is_empty());
        numbers.map(name).collect()
    };
    let index = Index::Local {
        keys: names(&numbers)?,
        of: row.cell().as_deref().map(names).transpose()?,
    };
    catalog.indexes.insert(of, index);
    Ok(())
}

/// None between relations that are not in the catalog.
fn key(row: Row, catalog: &Catalog) -> Result<Option<ForeignKey>, Fault> {
    let mut row = Cells::of(row);
    let from = side(&mut row, catalog)?;
    let to = side(&mut row, catalog)?;
    let mut change = || -> Result<OnChange, Fault> {
        Ok(match row.text("action")?.as_str() {
            "a" | "r" => OnChange::Fail,
            "c" => OnChange::Cascade,
            "n" | "d" => OnChange::Set,
            _ => return Err(Fault::Cell("action")),
        })
    };
    let (on_delete, on_update) = (change()?, change()?);
    let (Some((of, columns)), Some((to, to_columns))) = (from, to) else {
        return Ok(None);
    };
    Ok(Some(ForeignKey {
        of,
        columns,
        by_default: row.flag("default")?,
        to,
        to_columns,
        on_delete,
        on_update,
    }))
}

/// One side of a foreign key: a relation and its columns.
type Side = (Oid, Vec<Arc<str>>);

fn side(row: &mut Cells, catalog: &Catalog) -> Result<Option<Side>, Fault> {
    let relation: Oid = row.value("relation")?;
    let numbers = row.text("columns")?;
    let Some(relation) = catalog.relations.get(&relation) else {
        return Ok(None);
    };
    let name = |number: &str| {
        let number: i16 = number.parse().ok()?;
        let mut columns = relation.columns.iter();
        let column = columns.find(|column| column.attnum == number);
        column.map(|column| column.name.clone())
    };
    let names: Option<Vec<_>> = numbers.split(',').map(name).collect();
    let names = names.ok_or(Fault::Cell("columns"))?;
    Ok(Some((relation.oid, names)))
}

/// Types, each with what runs behind it and all that it is made of.
fn types_of(
    catalog: &mut Catalog,
    types: Vec<Row>,
    runs: Vec<Row>,
    texts: &mut Texts,
) -> Result<(), Fault> {
    let mut own: HashMap<Oid, Vec<Runs>> = HashMap::new();
    for row in runs {
        let mut row = Cells::of(row);
        let of: Oid = row.value("type")?;
        let runs = row.runs(texts).ok_or(Fault::Cell("function"))?;
        match of {
            0 => catalog.everywhere.push(runs),
            of => own.entry(of).or_default().push(runs),
        }
    }
    let mut over: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for row in types {
        let mut row = Cells::of(row);
        let oid = row.value("oid")?;
        let (schema, name) = (row.text("schema")?, row.text("type's name")?);
        let mut parts = row.oids()?;
        let relation: Oid = row.value("relation")?;
        if let Some(relation) = catalog.relations.get(&relation) {
            parts.extend(relation.columns.iter().map(|column| column.type_oid));
        }
        over.insert(oid, parts);
        catalog.insert_type(Type {
            oid,
            schema: texts.shared(schema),
            name: texts.shared(name),
        });
    }
    catalog.runs = close(own, &over);
    Ok(())
}

/// None for a kind that this version does not know: what is not in the catalog is
/// refused.
fn relation(row: Row, texts: &mut Texts) -> Result<Option<Relation>, Fault> {
    let mut row = Cells::of(row);
    let (oid, schema, name) = (row.value("oid")?, row.text("schema")?, row.text("name")?);
    let kind = match row.text("kind")?.as_str() {
        "r" => RelationKind::Table,
        "p" => RelationKind::PartitionedTable,
        "v" => RelationKind::View,
        "m" => RelationKind::MaterializedView,
        "f" => RelationKind::ForeignTable,
        "S" => RelationKind::Sequence,
        "t" => RelationKind::Toast,
        "c" => RelationKind::CompositeType,
        "i" | "I" => RelationKind::Index,
        _ => return Ok(None),
    };
    Ok(Some(Relation {
        oid,
        schema: texts.shared(schema),
        name: texts.shared(name),
        kind,
        columns: Vec::new(),
        parents: Vec::new(),
        has_children: row.flag("children")?,
        definition: row.cell().map(Arc::from),
    }))
}

/// Columns come in attribute order.
fn by_relation(
    rows: Vec<Row>,
    classes: &Classes,
    texts: &mut Texts,
) -> Result<HashMap<Oid, Vec<Column>>, Fault> {
    let mut columns: HashMap<Oid, Vec<Column>> = HashMap::new();
    for row in rows {
        let mut row = Cells::of(row);
        let relation = row.value("relation")?;
        let name = row.text("column")?;
        let attnum = row.value("number")?;
        let type_oid = row.value("type")?;
        let typmod = row.value("type modifier")?;
        let type_sql = row.text("type's name")?;
        let collation = row.cell();
        columns.entry(relation).or_default().push(Column {
            name: texts.shared(name),
            attnum,
            type_oid,
            typmod,
            type_sql: texts.shared(type_sql),
            class: classes.class(type_oid),
            base: classes.base(type_oid),
            collation: collation.map(|name| texts.shared(name)),
            generated: row.flag("generation")?,
            made_of: row.numbers("sources")?,
            computed: row.flag("computation")?,
        });
    }
    Ok(columns)
}

/// What types are, as far as a mask must know.
struct Classes {
    enums: HashSet<Oid>,
    /// Domains, and what each is over.
    domains: HashMap<Oid, Oid>,
}

impl Classes {
    fn of(types: &[Row]) -> Result<Self, Fault> {
        let (mut enums, mut domains) = (HashSet::new(), HashMap::new());
        for row in types {
            let cell = |at: usize| row.get(at).and_then(Option::as_deref);
            let oid = |at: usize| cell(at).and_then(|oid| oid.parse().ok());
            let (Some(one), Some(kind), Some(base)) = (oid(0), cell(5), oid(6)) else {
                return Err(Fault::Cell("type's kind"));
            };
            match kind {
                "e" => {
                    enums.insert(one);
                }
                "d" => {
                    domains.insert(one, base);
                }
                _ => {}
            }
        }
        Ok(Self { enums, domains })
    }

    fn class(&self, oid: Oid) -> TypeClass {
        match self.domains.contains_key(&oid) {
            true => TypeClass::Domain,
            false => self.base(oid),
        }
    }

    /// Beneath all domains; no domain is over itself.
    fn base(&self, mut oid: Oid) -> TypeClass {
        while let Some(base) = self.domains.get(&oid) {
            oid = *base;
        }
        match self.enums.contains(&oid) {
            true => TypeClass::Enum,
            false => class(oid),
        }
    }
}

/// By the OIDs of the built-in types, which never change (`pg_type.dat`).
fn class(type_oid: Oid) -> TypeClass {
    match type_oid {
        19 | 25 | 1043 => TypeClass::Text,
        1042 => TypeClass::Char,
        21 => TypeClass::Int2,
        23 => TypeClass::Int4,
        20 => TypeClass::Int8,
        1700 => TypeClass::Numeric,
        700 => TypeClass::Float4,
        701 => TypeClass::Float8,
        16 => TypeClass::Bool,
        1082 => TypeClass::Date,
        1114 => TypeClass::Timestamp,
        1184 => TypeClass::Timestamptz,
        2950 => TypeClass::Uuid,
        17 => TypeClass::Bytea,
        869 => TypeClass::Inet,
        650 => TypeClass::Cidr,
        114 => TypeClass::Json,
        3802 => TypeClass::Jsonb,
        _ => TypeClass::Other,
    }
}

fn by_child(rows: Vec<Row>) -> Result<HashMap<Oid, Vec<Oid>>, Fault> {
    let mut parents: HashMap<Oid, Vec<Oid>> = HashMap::new();
    for row in rows {
        let mut row = Cells::of(row);
        let child = row.value("child")?;
        parents.entry(child).or_default().push(row.value("parent")?);
    }
    Ok(parents)
}

fn function(row: Row, texts: &mut Texts) -> Result<Function, Fault> {
    let mut row = Cells::of(row);
    Ok(Function {
        oid: row.value("oid")?,
        schema: texts.shared(row.text("schema")?),
        name: texts.shared(row.text("name")?),
        volatility: match row.text("volatility")?.as_str() {
            "i" => Volatility::Immutable,
            "s" => Volatility::Stable,
            _ => Volatility::Volatile,
        },
        native: row.flag("language")?,
        over: row.oids()?,
    })
}

/// A row's cells, from left to right.
struct Cells(std::vec::IntoIter<Option<String>>);

impl Cells {
    fn of(row: Row) -> Self {
        Self(row.into_iter())
    }

    fn cell(&mut self) -> Option<String> {
        self.0.next().flatten()
    }

    /// Numbers with commas between them; none for NULL.
    fn numbers(&mut self, what: &'static str) -> Result<Vec<i16>, Fault> {
        let all = self.cell().unwrap_or_default();
        let numbers = all.split(',').filter(|number| !number.is_empty());
        numbers
            .map(|number| number.parse().map_err(|_| Fault::Cell(what)))
            .collect()
    }

    fn text(&mut self, what: &'static str) -> Result<String, Fault> {
        self.cell().ok_or(Fault::Cell(what))
    }

    fn value<T: FromStr>(&mut self, what: &'static str) -> Result<T, Fault> {
        self.text(what)?.parse().map_err(|_| Fault::Cell(what))
    }

    /// A list of OIDs; none where there is none.
    fn oids(&mut self) -> Result<Vec<Oid>, Fault> {
        let list = self.cell().unwrap_or_default();
        let oids = list.split(',').filter(|oid| !oid.is_empty());
        oids.map(|oid| oid.parse().map_err(|_| Fault::Cell("types")))
            .collect()
    }

    /// A function's schema and name, or else an expression.
    fn runs(&mut self, texts: &mut Texts) -> Option<Runs> {
        match (self.cell(), self.cell()) {
            (Some(schema), Some(name)) => Some(Runs::Function {
                schema: texts.shared(schema),
                name: texts.shared(name),
            }),
            _ => self.cell().map(|text| Runs::Expression(text.into())),
        }
    }

    fn flag(&mut self, what: &'static str) -> Result<bool, Fault> {
        match self.text(what)?.as_str() {
            "t" => Ok(true),
            "f" => Ok(false),
            _ => Err(Fault::Cell(what)),
        }
    }
}

/// Names and types repeat: each is held once.
#[derive(Default)]
struct Texts(HashSet<Arc<str>>);

impl Texts {
    fn shared(&mut self, text: String) -> Arc<str> {
        if let Some(known) = self.0.get(text.as_str()) {
            return known.clone();
        }
        let text: Arc<str> = text.into();
        self.0.insert(text.clone());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::keeps_role;

    #[test]
    fn servers_before_a_fix_give_up_a_role_that_a_setting_gives() {
        for version in [150_009, 160_005, 170_001] {
            assert!(!keeps_role(version), "{version}");
            assert!(keeps_role(version + 1), "{version}");
        }
        assert!(keeps_role(180_000));
    }
}
