-- Operator classes: schema and name, and a row for each function that is not harmless by
-- itself (see suspect.sql) and that an index of the class runs.
, member(family, function) AS (
    SELECT m.amprocfamily, m.amproc::pg_catalog.oid
    FROM pg_catalog.pg_amproc m
    WHERE m.oid >= 16384
    UNION
    SELECT m.amopfamily, o.oprcode::pg_catalog.oid
    FROM pg_catalog.pg_amop m
    JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
    WHERE m.oid >= 16384
)
SELECT DISTINCT n.nspname, k.opcname, s.nspname, s.proname, NULL
FROM pg_catalog.pg_opclass k
JOIN pg_catalog.pg_namespace n ON n.oid = k.opcnamespace
LEFT JOIN (member m JOIN suspect s ON s.oid = m.function) ON m.family = k.opcfamily
