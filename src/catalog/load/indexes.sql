-- What rows can come in the order of: indexes that are read row by row, by the numbers
-- of their key columns, 0 for an expression. (BRIN and GIN give bitmaps only.)
SELECT i.indrelid, pg_catalog.array_to_string((i.indkey::pg_catalog.int2[])[0:i.indnkeyatts - 1], ',')
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid
JOIN pg_catalog.pg_am a ON a.oid = c.relam
WHERE i.indrelid >= 16384 AND a.amname NOT IN ('brin', 'gin')
