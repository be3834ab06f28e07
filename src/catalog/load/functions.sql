SELECT p.oid, n.nspname, p.proname, p.provolatile, l.lanname IN ('internal', 'c')
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
ORDER BY p.oid
