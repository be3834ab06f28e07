SELECT p.oid, n.nspname, p.proname, p.provolatile, l.lanname IN ('internal', 'c'),
       CASE WHEN p.oid >= 16384 THEN pg_catalog.concat_ws(',', p.prorettype,
           pg_catalog.array_to_string(COALESCE(p.proallargtypes, p.proargtypes::pg_catalog.oid[]), ',')) END
FROM pg_catalog.pg_proc p
JOIN pg_catalog.pg_namespace n ON n.oid = p.pronamespace
JOIN pg_catalog.pg_language l ON l.oid = p.prolang
ORDER BY p.oid
