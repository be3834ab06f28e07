-- What the sink `postgres` writes to, and reviewers read. For a database of its own, of
-- encoding UTF8, and better on a server that callers' datasets are not on.

-- Every record of every log, with what it is about in columns; `line` is the record itself.
CREATE TABLE public.records (
    log text NOT NULL,                  -- as in its checkpoints
    position bigint NOT NULL,           -- its number there, from 0
    time timestamptz NOT NULL,
    event text NOT NULL,
    id uuid NOT NULL,
    query uuid,                         -- of an intent: the `id` of what became of it
    session uuid,
    principal text,
    kind text,                          -- human, agent, service
    roles text[],
    on_behalf_of text,
    client text,
    application text,
    dataset text,
    environment text,
    decision text,                      -- allow, deny, unknown, not_run
    outcome text,
    sqlstate text,
    reason text,
    message text,
    command text,                       -- SELECT, COPY, …
    statement text,                     -- its literals out
    fingerprint text,
    row_count bigint,
    byte_count bigint,
    duration_us bigint,
    policy_digest text,
    policy_epoch numeric,
    line text NOT NULL,
    PRIMARY KEY (log, position)
);
CREATE INDEX ON public.records (time);
CREATE INDEX ON public.records (principal, time);
CREATE INDEX ON public.records (session);
CREATE INDEX ON public.records (id);

-- What a record says of each column.
CREATE TABLE public.columns_seen (
    log text NOT NULL,
    position bigint NOT NULL,
    time timestamptz NOT NULL,
    principal text,
    dataset text,
    relation text NOT NULL,
    column_name text NOT NULL,
    treatment text NOT NULL,            -- clear, mask:email, block, hide, …
    tag text,
    rule text,
    row_filter text
);
CREATE INDEX ON public.columns_seen (log, position);
CREATE INDEX ON public.columns_seen (relation, column_name, time);

-- Checkpoints, out of the reach of who can change a log: `pgveil audit verify --checkpoint`
-- takes a file of one.
CREATE TABLE public.checkpoints (
    log text NOT NULL,
    size bigint NOT NULL,
    note text NOT NULL,
    PRIMARY KEY (log, size, note)
);

CREATE VIEW public.sessions AS
    SELECT b.log, b.session, b.principal, b.kind, b.on_behalf_of, b.client, b.application,
           b.dataset, b.time AS began, e.time AS ended, e.reason
    FROM public.records b
    LEFT JOIN public.records e
        ON e.log = b.log AND e.session = b.session AND e.event = 'disconnect'
    WHERE b.event = 'connect';

-- Who saw which column, or tried: each decision once. What was about to be and has no end
-- on record is there as `unknown`.
CREATE VIEW public.access AS
    SELECT c.time, c.principal, r.kind, r.on_behalf_of, c.dataset, c.relation, c.column_name,
           c.treatment, c.tag, c.rule, c.row_filter,
           coalesce(r.decision, 'unknown') AS decision,
           r.sqlstate, r.row_count, r.command, r.statement, r.session, r.id, c.log, c.position
    FROM public.columns_seen c
    JOIN public.records r ON r.log = c.log AND r.position = c.position
    WHERE r.event <> 'intent' OR NOT EXISTS (
        SELECT 1 FROM public.records e
        WHERE e.id = r.query AND e.log = r.log
          AND e.event IN ('statement', 'denial', 'not_run')
    );

-- Two roles: one that the sink writes by, and cannot change anything with, and one that the
-- proxy reads by, for reviewers. What reviewers see of it is the policy's to say.
--
--   CREATE ROLE pgveil_sink LOGIN PASSWORD '…';
--   CREATE ROLE pgveil_reader LOGIN PASSWORD '…';
--   GRANT SELECT ON ALL TABLES IN SCHEMA public TO pgveil_reader;
--   GRANT SELECT, INSERT ON public.records, public.columns_seen, public.checkpoints TO pgveil_sink;
