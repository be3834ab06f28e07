//! What is in the upstream database: an immutable snapshot with an epoch.
//!
//! Knows nothing about policy or callers. Names are as Postgres stores them
//! (folded and truncated); types are printed with their schema, so that no text
//! built from a snapshot depends on a `search_path`.

mod indexes;
mod keys;
pub mod load;
mod named;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

pub use indexes::{Index, Indexes};
pub use keys::{ForeignKey, ForeignKeys, OnChange};
pub use named::{Operator, OperatorClass, Runs, Type};

/// `server_version_num` of the servers that are served: statements are checked by
/// Postgres 18's grammar, of which is known where an older one differs.
pub const SERVED: std::ops::Range<u32> = 150_000..190_000;

/// An object identifier of the upstream database.
pub type Oid = u32;

/// A relation's kind, from `pg_class.relkind`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RelationKind {
    /// `r`
    Table,
    /// `p`
    PartitionedTable,
    /// `v`
    View,
    /// `m`
    MaterializedView,
    /// `f`
    ForeignTable,
    /// `S`
    Sequence,
    /// `t`
    Toast,
    /// `c`
    CompositeType,
    /// `i`, `I`
    Index,
}

/// What a type is, as far as a mask must know.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TypeClass {
    /// `text`, `varchar`, `name`
    Text,
    /// `bpchar`: trailing blanks do not count
    Char,
    /// `int2`
    Int2,
    /// `int4`
    Int4,
    /// `int8`
    Int8,
    /// `numeric`
    Numeric,
    /// `float4`
    Float4,
    /// `float8`
    Float8,
    /// `bool`
    Bool,
    /// `date`
    Date,
    /// `timestamp`
    Timestamp,
    /// `timestamptz`
    Timestamptz,
    /// `uuid`
    Uuid,
    /// `bytea`
    Bytea,
    /// `inet`
    Inet,
    /// `cidr`
    Cidr,
    /// `json`
    Json,
    /// `jsonb`
    Jsonb,
    /// A domain: its constraints can raise, so no mask is cast to it.
    Domain,
    /// An enum
    Enum,
    /// Anything else: arrays, ranges, composites, extensions' types.
    Other,
}

/// A column, in attribute order; dropped ones are left out.
#[derive(Clone, Debug)]
pub struct Column {
    /// `pg_attribute.attname`
    pub name: Arc<str>,
    /// `pg_attribute.attnum`
    pub attnum: i16,
    /// `pg_attribute.atttypid`
    pub type_oid: Oid,
    /// `pg_attribute.atttypmod`; -1 without
    pub typmod: i32,
    /// As `format_type` prints it with an empty `search_path`, typmod included:
    /// `character varying(20)`, `public.citext`.
    pub type_sql: Arc<str>,
    /// What a mask may do with it.
    pub class: TypeClass,
    /// Of a domain, what it is over in the end; of any other type, its class.
    pub base: TypeClass,
    /// The collation as `"schema"."name"`, where it differs from the type's own.
    pub collation: Option<Arc<str>>,
    /// `GENERATED ALWAYS AS (…)`: COPY leaves these out.
    pub generated: bool,
    /// Of such a column, those that its expression reads, by `attnum`.
    pub made_of: Vec<i16>,
    /// Whether that is computed when it is read (VIRTUAL), which can raise.
    pub computed: bool,
}

/// A relation of the upstream database.
#[derive(Clone, Debug)]
pub struct Relation {
    /// `pg_class.oid`
    pub oid: Oid,
    /// Its schema's name
    pub schema: Arc<str>,
    /// `pg_class.relname`
    pub name: Arc<str>,
    /// What kind of relation it is.
    pub kind: RelationKind,
    /// In attribute order, without dropped ones.
    pub columns: Vec<Column>,
    /// Direct parents by inheritance or partitioning (`pg_inherits`).
    pub parents: Vec<Oid>,
    /// Whether it has children (`pg_class.relhassubclass`).
    pub has_children: bool,
    /// `pg_get_viewdef` with an empty `search_path`, for views and materialized
    /// views.
    pub definition: Option<Arc<str>>,
}

impl Relation {
    /// `schema.name`, for messages and records (not quoted: not for SQL).
    pub fn label(&self) -> String {
        format!("{}.{}", self.schema, self.name)
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| &*column.name == name)
    }

    /// Whether it belongs to Postgres itself.
    pub fn is_system(&self) -> bool {
        matches!(
            &*self.schema,
            "pg_catalog" | "information_schema" | "pg_toast"
        )
    }
}

/// `pg_proc.provolatile`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Volatility {
    /// Depends on its arguments alone.
    Immutable,
    /// May read the database.
    Stable,
    /// May do anything.
    Volatile,
}

/// A function, aggregate, window function or procedure.
#[derive(Clone, Debug)]
pub struct Function {
    /// `pg_proc.oid`
    pub oid: Oid,
    /// Its schema's name
    pub schema: Arc<str>,
    /// `pg_proc.proname`
    pub name: Arc<str>,
    /// `pg_proc.provolatile`
    pub volatility: Volatility,
    /// Written in C or part of the server, which only an administrator can add.
    pub native: bool,
    /// The types it takes and gives; none for one of Postgres's own.
    pub over: Vec<Oid>,
}

/// An immutable snapshot of the upstream's catalog.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Increases by one with every refresh.
    pub epoch: u64,
    /// `server_version_num`, such as 150018.
    pub version: u32,
    /// All schemas this session may use, by name.
    pub schemas: HashSet<Arc<str>>,
    /// By OID.
    pub relations: HashMap<Oid, Arc<Relation>>,
    /// By schema, then name.
    pub names: HashMap<Arc<str>, HashMap<Arc<str>, Oid>>,
    /// Indexes
    pub indexes: Indexes,
    /// Foreign keys
    pub keys: ForeignKeys,
    /// Sequences that belong to a relation's column, and indexes, and the relation.
    pub owners: HashMap<Oid, Oid>,
    /// Functions by name, over all schemas.
    pub functions: HashMap<Arc<str>, Vec<Function>>,
    /// Names that a field of a row can have: of columns, and of functions' results.
    pub fields: HashSet<Arc<str>>,
    /// Operators by name, over all schemas.
    pub operators: HashMap<Arc<str>, Vec<Operator>>,
    /// Operator classes by name, over all schemas and access methods.
    pub classes: HashMap<Arc<str>, Vec<OperatorClass>>,
    /// Types by OID; [`Catalog::insert_type`] keeps `type_names` with it.
    pub types: HashMap<Oid, Type>,
    /// By type, if anything: what can run where a value of it, or of a type that it is
    /// made of, comes into being, is cast or compared.
    pub runs: HashMap<Oid, Arc<[Runs]>>,
    /// Types by name, over all schemas.
    pub type_names: HashMap<Arc<str>, Vec<Oid>>,
    /// What can run in any expression, named or not: implicit casts between types of
    /// Postgres's own, and orders of them or by their operators, that somebody has added.
    pub everywhere: Vec<Runs>,
    /// What `"$user"` in a search_path stands for.
    pub session_user: Arc<str>,
    /// Whether who reads it may write to any relation.
    pub writes: bool,
    /// Tables whose row security does not hold for who reads it, as their owner's.
    pub unguarded: Arc<str>,
}

impl Catalog {
    /// The relation of that exact name.
    pub fn relation(&self, schema: &str, name: &str) -> Option<&Arc<Relation>> {
        let oid = self.names.get(schema)?.get(name)?;
        self.relations.get(oid)
    }

    /// The type of that exact name.
    pub fn type_named(&self, schema: &str, name: &str) -> Option<&Type> {
        let mut all = self.type_names.get(name)?.iter();
        all.find_map(|oid| self.types.get(oid).filter(|one| &*one.schema == schema))
    }

    /// Adds a type under its name and OID.
    pub fn insert_type(&mut self, one: Type) {
        let name = one.name.clone();
        self.type_names.entry(name).or_default().push(one.oid);
        self.types.insert(one.oid, one);
    }

    /// Adds a relation under its name and OID.
    pub fn insert(&mut self, relation: Relation) {
        self.names
            .entry(relation.schema.clone())
            .or_default()
            .insert(relation.name.clone(), relation.oid);
        self.relations.insert(relation.oid, Arc::new(relation));
    }
}
