//! Which built-in types a column can be compared with, so that no comparison
//! raises, whatever the column's value is.

use pg_raw_parse::nodes;

use crate::catalog::{Column, Oid, TypeClass};

/// OIDs of a built-in type and of its arrays, which never change, and its name
/// (`pg_type.dat`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::sql) struct BuiltIn {
    pub(in crate::sql) oid: Oid,
    pub(in crate::sql) array: Oid,
    pub(in crate::sql) name: &'static str,
}

const fn built_in(oid: Oid, array: Oid, name: &'static str) -> BuiltIn {
    BuiltIn { oid, array, name }
}

const BUILT_IN: [BuiltIn; 18] = [
    built_in(16, 1000, "bool"),
    built_in(17, 1001, "bytea"),
    built_in(19, 1003, "name"),
    built_in(20, 1016, "int8"),
    built_in(21, 1005, "int2"),
    built_in(23, 1007, "int4"),
    built_in(25, 1009, "text"),
    built_in(650, 651, "cidr"),
    built_in(700, 1021, "float4"),
    built_in(701, 1022, "float8"),
    built_in(869, 1041, "inet"),
    built_in(1042, 1014, "bpchar"),
    built_in(1043, 1015, "varchar"),
    built_in(1082, 1182, "date"),
    built_in(1114, 1115, "timestamp"),
    built_in(1184, 1185, "timestamptz"),
    built_in(1700, 1231, "numeric"),
    built_in(2950, 2951, "uuid"),
];

/// A built-in type or an array of it, by the name that a statement gives it.
///
/// A bare name means pg_catalog's, which is first in every search_path but for
/// temporary tables' row types; one of those is compared with nothing, and the
/// statement fails before it runs.
pub(in crate::sql) fn named(name: Option<&nodes::TypeName>) -> Option<Named> {
    let name = name.filter(|name| !name.setof && !name.pct_type)?;
    let mut parts = name.names().iter().map(|part| part.sval());
    let last = match (parts.next()??, parts.next(), parts.next()) {
        ("pg_catalog", Some(Some(last)), None) | (last, None, None) => last,
        _ => return None,
    };
    let of = BUILT_IN.into_iter().find(|known| known.name == last)?;
    let array = match name.array_bounds().len() {
        0 => false,
        1 => true,
        _ => return None,
    };
    let plain = name.typmods().is_empty();
    Some(Named { of, array, plain })
}

/// What a type's name means.
#[derive(Clone, Copy, Debug)]
pub(in crate::sql) struct Named {
    pub(in crate::sql) of: BuiltIn,
    pub(in crate::sql) array: bool,
    /// Without a modifier such as a length.
    pub(in crate::sql) plain: bool,
}

impl Named {
    pub(in crate::sql) fn oid(self) -> Oid {
        if self.array {
            self.of.array
        } else {
            self.of.oid
        }
    }
}

/// The built-in type of that OID.
pub(in crate::sql) fn by_oid(oid: Oid) -> Option<BuiltIn> {
    BUILT_IN.into_iter().find(|known| known.oid == oid)
}

/// The element's type of an array of that OID.
pub(in crate::sql) fn element(oid: Oid) -> Option<BuiltIn> {
    BUILT_IN.into_iter().find(|known| known.array == oid)
}

/// Whether a column's values are of a built-in type whose comparisons with each
/// other cannot raise. That leaves out domains and enums, whose own types the
/// catalog does not tell, and json and jsonb, arrays and ranges; and `name` of
/// another collation than its own, which every value of it has.
pub(in crate::sql) fn comparable(column: &Column) -> bool {
    by_oid(column.type_oid).is_some_and(|own| own.oid != NAME || column.collation.is_none())
}

const NAME: Oid = 19;

/// Whether comparing a column with values of that type cannot raise.
///
/// What the column itself would be converted to decides: `bigint = oid` compares
/// OIDs, which not every bigint is, and `numeric = double precision` compares
/// double precision, which not every numeric is. Integers of all sizes have
/// operators between them. Dates and timestamps have too, and those compare what
/// is out of the other's range since Postgres 13 ([`crosses`]; shown on 15 and 18).
/// Text of a built-in type has the default collation, which gives way to the
/// column's own, so the two never conflict; `name` has another, and meets itself
/// only.
pub(in crate::sql) fn compares(column: &Column, with: Oid) -> bool {
    match column.class {
        TypeClass::Int2 | TypeClass::Int4 | TypeClass::Int8 => matches!(with, 20 | 21 | 23),
        TypeClass::Numeric => matches!(with, 20 | 21 | 23 | 1700),
        TypeClass::Float4 | TypeClass::Float8 => matches!(with, 20 | 21 | 23 | 700 | 701),
        TypeClass::Text if with == NAME => column.type_oid == NAME && comparable(column),
        TypeClass::Text => matches!(with, 25 | 1043),
        TypeClass::Char => matches!(with, 25 | 1042 | 1043),
        TypeClass::Date | TypeClass::Timestamp | TypeClass::Timestamptz => {
            matches!(with, 1082 | 1114 | 1184)
        }
        TypeClass::Inet | TypeClass::Cidr => matches!(with, 650 | 869),
        TypeClass::Bool | TypeClass::Uuid | TypeClass::Bytea => with == column.type_oid,
        TypeClass::Json
        | TypeClass::Jsonb
        | TypeClass::Domain
        | TypeClass::Enum
        | TypeClass::Other => false,
    }
}

/// Whether a comparison is of a date with a timestamp, or of timestamps with and
/// without a time zone.
pub(in crate::sql) fn crosses(column: &Column, with: Oid) -> bool {
    let moment = matches!(
        column.class,
        TypeClass::Date | TypeClass::Timestamp | TypeClass::Timestamptz
    );
    moment && with != column.type_oid
}

/// Whether a value of one built-in type is of another after a cast that cannot
/// raise.
pub(in crate::sql) fn widens(from: Oid, to: Oid) -> bool {
    match to {
        _ if from == to => true,
        23 => from == 21,
        20 => matches!(from, 21 | 23),
        1700 => matches!(from, 20 | 21 | 23),
        701 => matches!(from, 20 | 21 | 23 | 700),
        25 | 1043 => matches!(from, 25 | 1043),
        _ => false,
    }
}
