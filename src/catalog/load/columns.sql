-- Index columns are left out: no statement can name them.
SELECT a.attrelid, a.attname, a.attnum, a.atttypid, a.atttypmod,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       CASE WHEN a.attcollation <> 0 AND a.attcollation <> t.typcollation
            THEN pg_catalog.concat('"', pg_catalog.replace(cn.nspname, '"', '""'), '"."',
                                   pg_catalog.replace(co.collname, '"', '""'), '"') END,
       a.attgenerated <> '',
       CASE WHEN a.attgenerated <> '' THEN
           (SELECT pg_catalog.string_agg(DISTINCT e.refobjsubid::pg_catalog.text, ',')
            FROM pg_catalog.pg_attrdef d
            JOIN pg_catalog.pg_depend e ON e.classid = 'pg_catalog.pg_attrdef'::pg_catalog.regclass
                AND e.objid = d.oid AND e.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass
                AND e.refobjid = d.adrelid AND e.refobjsubid > 0 AND e.refobjsubid <> d.adnum
            WHERE d.adrelid = a.attrelid AND d.adnum = a.attnum) END,
       a.attgenerated = 'v'
FROM pg_catalog.pg_attribute a
JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind NOT IN ('i', 'I')
JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
LEFT JOIN pg_catalog.pg_collation co ON co.oid = a.attcollation
LEFT JOIN pg_catalog.pg_namespace cn ON cn.oid = co.collnamespace
WHERE a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attrelid, a.attnum
