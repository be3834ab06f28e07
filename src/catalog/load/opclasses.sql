-- Operator classes: schema and name, and a row for each function that is not harmless by
-- itself (see runs.sql) and that an index of the class runs.
WITH suspect AS (
    SELECT p.oid, n.nspname, p.proname
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE CASE WHEN p.oid < 16384 THEN p.provolatile <> 'i' ELSE l.lanname NOT IN ('internal', 'c') END
), member(family, function) AS (
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
