INSERT INTO public.checkpoints (log, size, note)
    SELECT log, size, note FROM pg_temp.checkpoint ON CONFLICT DO NOTHING;
-- Columns are those of the records that this puts there: whether one is there already is known
-- only when it is put, for another may be on its way.
WITH new AS (
INSERT INTO public.records
    (log, position, time, event, id, query, session, principal, kind, roles, on_behalf_of,
     client, application, dataset, environment, decision, outcome, sqlstate, reason, message,
     command, statement, fingerprint, row_count, byte_count, duration_us, policy_digest,
     policy_epoch, line)
    SELECT log, position, (record->>'time')::timestamptz, record->>'event',
           (record->>'id')::uuid, (record->>'query')::uuid, (record->>'session')::uuid,
           coalesce(record->'principal'->>'name', record->>'user'),
           record->'principal'->>'kind',
           ARRAY(SELECT jsonb_array_elements_text(record->'principal'->'roles')),
           record->'principal'->'on_behalf_of'->>'name',
           record->>'client', record->>'application', record->>'dataset',
           record->>'environment',
           CASE record->>'event'
               WHEN 'outcome_unknown' THEN 'unknown'
               WHEN 'not_run' THEN 'not_run'
               WHEN 'authentication_failure' THEN 'deny'
               WHEN 'authentication_failures_omitted' THEN 'deny'
               WHEN 'tripwire' THEN 'deny'
               ELSE record->>'decision'
           END,
           record->>'outcome', record->>'sqlstate', record->>'reason', record->>'message',
           record->>'kind', record->>'statement', record->>'fingerprint',
           least((record->>'rows')::numeric, 9223372036854775807)::bigint,
           least((record->>'bytes')::numeric, 9223372036854775807)::bigint,
           least((record->>'duration_us')::numeric, 9223372036854775807)::bigint,
           record->'policy'->>'digest', (record->'policy'->>'epoch')::numeric, line
    FROM pg_temp.incoming ON CONFLICT DO NOTHING
    RETURNING log, position
)
INSERT INTO public.columns_seen
    (log, position, time, principal, dataset, relation, column_name, treatment, tag, rule, row_filter)
    SELECT i.log, i.position, (i.record->>'time')::timestamptz, i.record->'principal'->>'name',
           i.record->>'dataset', r->>'relation', c->>'column', c->>'treatment', c->>'tag',
           c->>'rule', r->>'row_filter'
    FROM pg_temp.incoming i
    JOIN new n ON n.log = i.log AND n.position = i.position
    CROSS JOIN LATERAL jsonb_array_elements(i.record->'relations') r
    CROSS JOIN LATERAL jsonb_array_elements(r->'columns') c
