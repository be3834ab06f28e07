-- A partition that is being detached is its parent's until it is gone.
SELECT i.inhrelid, i.inhparent
FROM pg_catalog.pg_inherits i
JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind NOT IN ('i', 'I')
ORDER BY i.inhrelid, i.inhseqno
