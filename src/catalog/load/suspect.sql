-- How some of the catalog's queries begin: with the functions that are not harmless by
-- themselves. Native functions are an administrator's to add; of Postgres's own, those
-- that may read more than their arguments count. OIDs below 16384 are Postgres's own
-- (FirstNormalObjectId).
WITH suspect AS (
    SELECT p.oid, n.nspname, p.proname
    FROM pg_catalog.pg_proc p
    JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
    JOIN pg_catalog.pg_language l ON l.oid = p.prolang
    WHERE CASE WHEN p.oid < 16384 THEN p.provolatile <> 'i' ELSE l.lanname NOT IN ('internal', 'c') END
)
