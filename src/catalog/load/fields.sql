-- What a function's result can have as fields. (Postgres takes unnest of several arrays
-- without its schema only.)
SELECT DISTINCT a.name
FROM pg_catalog.pg_proc p
CROSS JOIN LATERAL unnest(p.proargnames, p.proargmodes) a(name, mode)
WHERE a.mode IN ('o', 'b', 't') AND a.name <> ''
