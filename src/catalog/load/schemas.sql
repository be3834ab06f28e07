SELECT n.nspname
FROM pg_catalog.pg_namespace n
WHERE n.nspname !~ '^pg_(toast_)?temp_'
  AND pg_catalog.has_schema_privilege(n.oid, 'USAGE')
