-- Operators: schema and name, of Postgres's own no more. Of others, the types they take
-- and give, and a row for each function that is not harmless by itself (see suspect.sql)
-- and may run where they stand: their own, that of the operator which the planner may
-- put in their place, those of the families that sort by them.
, runs(operator, function) AS (
    SELECT o.oid, f.oprcode::pg_catalog.oid
    FROM pg_catalog.pg_operator o
    JOIN pg_catalog.pg_operator f ON f.oid IN (o.oid, o.oprcom, o.oprnegate)
    WHERE o.oid >= 16384
    UNION
    SELECT m.amopopr, p.amproc::pg_catalog.oid
    FROM pg_catalog.pg_amop m
    JOIN pg_catalog.pg_amproc p ON p.amprocfamily = m.amopfamily
    WHERE m.oid >= 16384 AND p.oid >= 16384
)
SELECT DISTINCT n.nspname, o.oprname, '', NULL, NULL
FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
WHERE o.oid < 16384
UNION ALL
SELECT n.nspname, o.oprname, pg_catalog.concat_ws(',', NULLIF(o.oprleft, 0), o.oprright, o.oprresult),
       s.nspname, s.proname
FROM pg_catalog.pg_operator o
JOIN pg_catalog.pg_namespace n ON n.oid = o.oprnamespace
LEFT JOIN (runs r JOIN suspect s ON s.oid = r.function) ON r.operator = o.oid
WHERE o.oid >= 16384
