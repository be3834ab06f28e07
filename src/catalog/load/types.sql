-- Types whose values can run a function that is not native: by a cast from or to
-- them, or by a domain's check; and every type that is made of such a one.
WITH RECURSIVE foreign_function AS (
    SELECT p.oid
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE p.pronamespace <> 'pg_catalog'::pg_catalog.regnamespace AND l.lanname NOT IN ('internal', 'c')
), made(oid, part) AS (
    -- Arrays of it, domains over it, rows and ranges with it.
    SELECT t.oid, t.typelem
    FROM pg_catalog.pg_type t
    WHERE t.typcategory = 'A'
    UNION ALL
    SELECT t.oid, t.typbasetype
    FROM pg_catalog.pg_type t
    WHERE t.typbasetype <> 0
    UNION ALL
    SELECT t.oid, a.atttypid
    FROM pg_catalog.pg_type t
    JOIN pg_catalog.pg_attribute a ON a.attrelid = t.typrelid AND NOT a.attisdropped
    WHERE t.typrelid <> 0
    UNION ALL
    SELECT unnest(ARRAY[r.rngtypid, r.rngmultitypid]), r.rngsubtype
    FROM pg_catalog.pg_range r
), own(oid, function) AS (
    SELECT t.oid, f.oid
    FROM pg_catalog.pg_cast c
    JOIN foreign_function f ON f.oid = c.castfunc
    JOIN pg_catalog.pg_type t ON t.oid IN (c.castsource, c.casttarget)
    JOIN pg_catalog.pg_type other
        ON other.oid = CASE t.oid WHEN c.castsource THEN c.casttarget ELSE c.castsource END
    -- Both ends count where both are built in: there is nothing else to tell it by.
    WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
        OR other.typnamespace = 'pg_catalog'::pg_catalog.regnamespace
    UNION
    SELECT c.contypid, f.oid
    FROM pg_catalog.pg_constraint c
    JOIN pg_catalog.pg_depend d
        ON d.classid = 'pg_catalog.pg_constraint'::pg_catalog.regclass AND d.objid = c.oid
    LEFT JOIN pg_catalog.pg_operator o
        ON d.refclassid = 'pg_catalog.pg_operator'::pg_catalog.regclass AND d.refobjid = o.oid
    JOIN foreign_function f
        ON f.oid = CASE d.refclassid
            WHEN 'pg_catalog.pg_proc'::pg_catalog.regclass THEN d.refobjid
            ELSE o.oprcode::pg_catalog.oid
        END
    WHERE c.contypid <> 0
    UNION
    SELECT made.oid, own.function
    FROM own
    JOIN made ON made.part = own.oid
    JOIN pg_catalog.pg_type t ON t.oid = made.oid
    WHERE t.typnamespace <> 'pg_catalog'::pg_catalog.regnamespace
)
SELECT t.oid, t.typname, n.nspname, p.proname
FROM own
JOIN pg_catalog.pg_type t ON t.oid = own.oid
JOIN pg_catalog.pg_proc p ON p.oid = own.function
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
ORDER BY t.oid, p.oid
