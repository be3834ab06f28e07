//! Says of a described result which columns it shows, where a scan kept Postgres
//! from it.
//!
//! Knows nothing about SQL. Invariant: a description is changed only after the
//! tripwire has read what upstream says, in the table and column of a field alone,
//! and only where the catalog has that column, of the field's very type.

use crate::catalog::{Catalog, TypeClass};
use crate::sql::origins::{Origin, Origins};
use crate::upstream::frame::backend::{Field, Shape};

/// The description with its columns' origins; none where it stays as it is.
pub(super) fn restored(
    frame: &[u8],
    body: &[u8],
    origins: &Origins,
    catalog: &Catalog,
) -> Option<Vec<u8>> {
    let fields: Vec<Field<'_>> = Shape::of(body).ok()?.collect::<Result<_, _>>().ok()?;
    if fields.len() != origins.len() {
        return None;
    }
    let mut restored = frame.to_vec();
    // What is before the first field: the header and the fields' count.
    let mut at = frame.len().checked_sub(body.len())? + 2;
    for (field, origin) in fields.iter().zip(origins) {
        at += field.name.len() + 1;
        if let Some((relation, attnum)) = origin.filter(|origin| is(field, *origin, catalog)) {
            let place = restored.get_mut(at..at + 6)?;
            let (first, second) = place.split_at_mut(4);
            first.copy_from_slice(&relation.to_be_bytes());
            second.copy_from_slice(&attnum.to_be_bytes());
        }
        // Table, column, type, its length and modifier, format.
        at += 18;
    }
    Some(restored)
}

/// Whether a field can be that column. Of a domain, Postgres names the type beneath.
fn is(field: &Field<'_>, (relation, attnum): Origin, catalog: &Catalog) -> bool {
    let relation = catalog.relations.get(&relation);
    let mut columns = relation.iter().flat_map(|relation| &relation.columns);
    columns
        .find(|column| column.attnum == attnum)
        .is_some_and(|column| {
            column.class == TypeClass::Domain
                || (column.type_oid, column.typmod) == (field.type_oid, field.typmod)
        })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::catalog::{Column, Relation, RelationKind};

    fn field(name: &str, origin: Origin, type_oid: u32) -> Vec<u8> {
        let mut bytes = [name.as_bytes(), b"\0"].concat();
        bytes.extend(origin.0.to_be_bytes());
        bytes.extend(origin.1.to_be_bytes());
        bytes.extend(type_oid.to_be_bytes());
        bytes.extend([0, 4, 255, 255, 255, 255, 0, 1]);
        bytes
    }

    fn described(fields: &[Vec<u8>]) -> Vec<u8> {
        let body = fields.concat();
        let mut frame = vec![b'T'];
        frame.extend((body.len() as u32 + 6).to_be_bytes());
        frame.extend((fields.len() as u16).to_be_bytes());
        frame.extend(body);
        frame
    }

    fn catalog() -> Catalog {
        let column = |attnum, type_oid| Column {
            name: format!("c{attnum}").into(),
            attnum,
            type_oid,
            typmod: -1,
            type_sql: "".into(),
            class: TypeClass::Other,
            collation: None,
            generated: false,
            made_of: Vec::new(),
            computed: false,
            base: TypeClass::Other,
        };
        let relation = Relation {
            oid: 20_000,
            schema: "public".into(),
            name: "customers".into(),
            kind: RelationKind::Table,
            columns: vec![column(1, 23), column(3, 25)],
            parents: Vec::new(),
            has_children: false,
            definition: None,
        };
        let mut catalog = Catalog::default();
        catalog.relations.insert(20_000, Arc::new(relation));
        catalog
    }

    #[test]
    fn only_the_origin_changes_and_only_where_it_fits() {
        let before = [
            field("id", (0, 0), 23),
            field("an", (0, 0), 25),
            field("of another type", (0, 0), 26),
            field("", (7, 1), 23),
            field("unknown", (0, 0), 25),
            field("gone", (0, 0), 25),
        ];
        let origins = [
            Some((20_000, 1)),
            Some((20_000, 3)),
            Some((20_000, 1)),
            None,
            Some((20_000, 2)),
            Some((20_001, 3)),
        ];
        let mut after = before.clone();
        after[0] = field("id", (20_000, 1), 23);
        after[1] = field("an", (20_000, 3), 25);
        let frame = described(&before);
        let all = |origins: &Origins| restored(&frame, &frame[5..], origins, &catalog());
        assert_eq!(all(&origins), Some(described(&after)));
        assert_eq!(all(&origins[1..]), None);
        assert_eq!(all(&[]), None);
    }
}
