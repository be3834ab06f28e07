-- Indexes, and of those that are read row by row, in whose order rows can come, the
-- numbers of their key columns, 0 for an expression; and of those on expressions or on
-- some rows only, the numbers of all columns that these are of. (BRIN and GIN give
-- bitmaps only.)
SELECT i.indexrelid, i.indrelid,
    CASE WHEN a.amname NOT IN ('brin', 'gin') THEN
        pg_catalog.array_to_string((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1], ',') END,
    CASE WHEN i.indexprs IS NOT NULL OR i.indpred IS NOT NULL THEN (
        SELECT coalesce(pg_catalog.string_agg(DISTINCT d.refobjsubid::pg_catalog.text, ','), '')
        FROM pg_catalog.pg_depend d
        WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = i.indexrelid
            AND d.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.refobjid = i.indrelid
            AND d.refobjsubid > 0) END
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE i.indrelid >= 16384
