-- Types, and what each is made of: the element of an array, the base of a domain, the
-- subtype of a range, the range of a multirange, the relation whose row it is.
SELECT t.oid, n.nspname, t.typname,
       pg_catalog.concat_ws(',', NULLIF(t.typelem, 0), NULLIF(t.typbasetype, 0), r.rngsubtype, m.rngtypid),
       t.typrelid, t.typtype, t.typbasetype
FROM pg_catalog.pg_type t
JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_range r ON r.rngtypid = t.oid
LEFT JOIN pg_catalog.pg_range m ON m.rngmultitypid = t.oid
WHERE n.nspname !~ '^pg_(toast_)?temp_'
