-- What can run where a value of a type comes into being, is cast or compared, beyond
-- what Postgres comes with: the type (0: of any), and a function's schema and name, or
-- an expression. OIDs below 16384 are Postgres's own (FirstNormalObjectId).
, member AS (
    -- Of families of operator classes: what sorts, hashes, and finds rows.
    SELECT m.amprocfamily AS family, m.amproclefttype AS one, m.amprocrighttype AS other,
           m.amproc::pg_catalog.oid AS function
    FROM pg_catalog.pg_amproc m
    WHERE m.oid >= 16384
    UNION ALL
    SELECT m.amopfamily, m.amoplefttype, m.amoprighttype, o.oprcode::pg_catalog.oid
    FROM pg_catalog.pg_amop m
    JOIN pg_catalog.pg_operator o ON o.oid = m.amopopr
    WHERE m.oid >= 16384
), anywhere AS (
    -- With an operator of Postgres's own in the family, the planner may sort by it
    -- wherever that operator stands.
    SELECT DISTINCT m.amopfamily AS family
    FROM pg_catalog.pg_amop m
    WHERE m.oid >= 16384 AND m.amopopr < 16384
), runs(type, function) AS (
    -- A cast is met where one of its types is named or read. Between two of Postgres's
    -- own, an explicit cast names its target, and an implicit one is met anywhere.
    SELECT CASE WHEN e.type < 16384 AND c.castcontext = 'i' THEN 0 ELSE e.type END,
           c.castfunc::pg_catalog.oid
    FROM pg_catalog.pg_cast c
    CROSS JOIN LATERAL (VALUES (c.castsource), (c.casttarget)) e(type)
    WHERE c.oid >= 16384
        AND CASE WHEN GREATEST(c.castsource, c.casttarget) >= 16384 THEN e.type >= 16384
                 ELSE e.type = c.casttarget END
    UNION
    -- A default operator class: ORDER BY, DISTINCT, GROUP BY, comparisons of rows.
    SELECT CASE WHEN k.opcintype < 16384 THEN 0 ELSE k.opcintype END, m.function
    FROM pg_catalog.pg_opclass k
    JOIN member m ON m.family = k.opcfamily
    WHERE k.oid >= 16384 AND k.opcdefault
    UNION
    SELECT 0, m.function
    FROM member m
    JOIN anywhere a ON a.family = m.family
    UNION
    -- What was added to a family of Postgres's own.
    SELECT CASE WHEN e.type < 16384 THEN 0 ELSE e.type END, m.function
    FROM member m
    CROSS JOIN LATERAL (VALUES (m.one), (m.other)) e(type)
    WHERE m.family < 16384 AND (GREATEST(m.one, m.other) < 16384 OR e.type >= 16384)
    UNION
    SELECT r.rngtypid, f.function
    FROM pg_catalog.pg_range r
    CROSS JOIN LATERAL (VALUES (r.rngcanonical::pg_catalog.oid), (r.rngsubdiff::pg_catalog.oid)) f(function)
    WHERE r.rngtypid >= 16384
    UNION
    SELECT r.rngtypid, m.function
    FROM pg_catalog.pg_range r
    JOIN pg_catalog.pg_opclass k ON k.oid = r.rngsubopc
    JOIN member m ON m.family = k.opcfamily
    UNION
    -- How its values are read and written; Postgres's own functions do that for most.
    SELECT t.oid, f.function
    FROM pg_catalog.pg_type t
    CROSS JOIN LATERAL (VALUES
        (t.typinput::pg_catalog.oid), (t.typoutput::pg_catalog.oid), (t.typreceive::pg_catalog.oid),
        (t.typsend::pg_catalog.oid), (t.typmodin::pg_catalog.oid), (t.typmodout::pg_catalog.oid),
        (t.typanalyze::pg_catalog.oid), (t.typsubscript::pg_catalog.oid)) f(function)
    WHERE t.oid >= 16384 AND f.function >= 16384
)
SELECT r.type, s.nspname, s.proname, NULL
FROM runs r
JOIN suspect s ON s.oid = r.function
UNION ALL
SELECT c.contypid, NULL, NULL, pg_catalog.pg_get_expr(c.conbin, 0)
FROM pg_catalog.pg_constraint c
WHERE c.contypid >= 16384 AND c.contype = 'c'
UNION ALL
SELECT t.oid, NULL, NULL, pg_catalog.pg_get_expr(t.typdefaultbin, 0)
FROM pg_catalog.pg_type t
WHERE t.oid >= 16384 AND t.typdefaultbin IS NOT NULL
