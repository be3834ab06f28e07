-- Types whose values can run a function that is not native: by a cast from or to
-- them, or by a domain's check; and every type that is made of such a one.
WITH RECURSIVE foreign_function AS (
    SELECT p.oid
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace AND l.lanname NOT IN ('internal', 'c')
), own(oid) AS (
    SELECT t.oid
    FROM pg_catalog.pg_cast c
    JOIN foreign_function f ON f.oid = c.castfunc
    JOIN pg_catalog.pg_type t ON t.oid IN (c.castsource, c.casttarget)
    JOIN pg_catalog.pg_type other
        ON other.oid = CASE t.oid WHEN c.castsource THEN c.casttarget ELSE c.castsource END
    -- Both ends count where both are built in: there is nothing else to tell it by.
    WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
        OR other.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
    UNION
    SELECT c.contypid
    FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = c.oid
    LEFT JOIN foreign_function f
        ON d.refclassid = 'pg_catalog.pg_proc'::pg_catalog.regclass AND d.refobjid = f.oid
    LEFT JOIN pg_catalog.pg_operator o
        ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.refobjid = o.oid
    WHERE c.contypid <> 0
        AND (f.oid IS NOT NULL OR o.oprcode::pg_catalog.oid IN (SELECT oid FROM foreign_function))
    UNION
    -- Arrays of it, domains over it, rows and ranges with it.
    SELECT t.oid
    FROM own
    JOIN pg_catalog.pg_type t
        ON t.typelem = own.oid AND t.typcategory = 'A'
        OR t.typbasetype = own.oid
        OR t.typrelid IN (SELECT a.attrelid FROM pg_catalog.pg_attribute a WHERE a.atttypid = own.oid AND NOT a.attisdropped)
        OR t.oid IN (SELECT unnest(ARRAY[r.rngtypid, r.rngmultitypid]) FROM pg_catalog.pg_range r WHERE r.rngsubtype = own.oid)
    WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
)
SELECT t.oid, t.typname
FROM own
JOIN pg_catalog.pg_type t ON t.oid = own.oid
ORDER BY t.oid
