SELECT pg_catalog.current_setting('server_version_num'), current_user,
       current_user <> session_user,
       EXISTS (SELECT FROM pg_catalog.pg_roles r
               WHERE r.rolname IN (current_user, session_user)
                 AND (r.rolbypassrls OR r.rolsuper
                      OR EXISTS (SELECT FROM pg_catalog.pg_roles s
                                 WHERE s.rolsuper
                                   AND pg_catalog.pg_has_role(r.oid, s.oid, 'USAGE')))),
       EXISTS (SELECT FROM pg_catalog.pg_class c
               JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
               WHERE c.relkind IN ('r', 'p', 'v', 'f')
                 AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                 AND n.nspname !~ '^pg_temp_'
                 AND (pg_catalog.has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE, TRUNCATE')
                      OR pg_catalog.has_any_column_privilege(c.oid, 'INSERT, UPDATE'))),
       (SELECT pg_catalog.string_agg(pg_catalog.format('%I.%I', n.nspname, c.relname), ', '
                                     ORDER BY n.nspname, c.relname)
        FROM pg_catalog.pg_class c
        JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
        WHERE c.relrowsecurity AND NOT c.relforcerowsecurity
          AND pg_catalog.pg_has_role(c.relowner, 'USAGE'))
