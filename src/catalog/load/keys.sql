-- Foreign keys: the referencing relation and its columns, the referenced one and its
-- columns, what a DELETE and an UPDATE there do, and whether a referencing column gets a
-- value where none is given.
SELECT c.conrelid, pg_catalog.array_to_string(c.conkey, ','), c.confrelid, pg_catalog.array_to_string(c.confkey, ','),
       c.confdeltype, c.confupdtype,
       EXISTS (SELECT FROM pg_catalog.pg_attribute a
               WHERE a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey) AND (a.atthasdef OR a.attidentity <> ''))
FROM pg_catalog.pg_constraint c
WHERE c.contype = 'f'
