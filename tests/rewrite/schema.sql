-- The database that tests/rewrite and tests/leak run on.
CREATE SCHEMA archive;
CREATE EXTENSION IF NOT EXISTS pgcrypto SCHEMA public;

CREATE TABLE public.customers (
    id integer PRIMARY KEY,
    full_name text NOT NULL,
    email text,
    ssn text,
    phone varchar(20),
    birth_date date,
    salary numeric(10, 2),
    notes text,
    profile jsonb,
    region text,
    created_at timestamptz
);
CREATE TABLE archive.customers (id integer PRIMARY KEY, email text, ssn text);
CREATE TABLE public.orders (
    id integer PRIMARY KEY,
    customer_id integer REFERENCES public.customers,
    amount numeric(10, 2),
    status text
);
CREATE TABLE public.events (id bigint, customer_id integer, kind text, ip inet, occurred_at timestamptz)
    PARTITION BY RANGE (occurred_at);
CREATE TABLE public.events_2025_01 PARTITION OF public.events
    FOR VALUES FROM ('2025-01-01') TO ('2025-02-01');
CREATE TABLE public.events_2025_02 PARTITION OF public.events
    FOR VALUES FROM ('2025-02-01') TO ('2025-03-01');
CREATE TABLE public.vips (note text) INHERITS (public.customers);
CREATE TABLE public.secrets (id integer, word text);
CREATE TABLE public.accounts (
    id bigint PRIMARY KEY,
    holder text COLLATE "POSIX",
    code varchar(12),
    country character(2),
    kind name,
    balance numeric,
    rate double precision,
    active boolean,
    opened date,
    seen_at timestamp,
    token uuid,
    region text,
    mark name COLLATE "POSIX"
);
CREATE SEQUENCE public.tickets;
CREATE TYPE public.visit AS ENUM ('short', 'long');
CREATE DOMAIN public.label AS text COLLATE "C";

CREATE VIEW public.customer_contacts AS SELECT id, full_name, email, phone FROM public.customers;
CREATE VIEW public.customer_ids AS SELECT id, ssn FROM public.customers;
CREATE VIEW public.order_totals AS SELECT customer_id, sum(amount) AS total FROM public.orders GROUP BY customer_id;
CREATE VIEW public.contacts_of_buyers AS
    SELECT c.*, t.total FROM public.customer_contacts c JOIN public.order_totals t ON t.customer_id = c.id;
CREATE MATERIALIZED VIEW public.region_totals AS
    SELECT region, count(*) AS n, max(salary) AS top FROM public.customers GROUP BY region;
CREATE FUNCTION public.customer_card(integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    AS 'SELECT full_name || '' '' || ssn FROM public.customers WHERE id = $1';
CREATE FUNCTION public.leak(public.orders) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    AS 'SELECT string_agg(ssn, '','') FROM public.customers';
CREATE FUNCTION public.cents(numeric) RETURNS bigint LANGUAGE sql IMMUTABLE AS 'SELECT ($1 * 100)::bigint';
CREATE FUNCTION public.peek(text, integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    AS 'SELECT ssn FROM public.customers WHERE id = $2';
CREATE OPERATOR public.@@@ (FUNCTION = public.peek, LEFTARG = text, RIGHTARG = integer);
CREATE OPERATOR public.@@# (FUNCTION = public.cents, RIGHTARG = numeric);
CREATE DOMAIN public.price AS numeric CHECK (public.cents(VALUE) >= 0);

-- Relations whose keys refer to each other: the rows that some callers see are the EU's.
CREATE TABLE public.makers (id integer PRIMARY KEY, region text, name text, code text UNIQUE);
CREATE TABLE public.wares (
    id integer PRIMARY KEY,
    maker_id integer REFERENCES public.makers,
    maker_code text REFERENCES public.makers (code) ON DELETE SET NULL ON UPDATE CASCADE,
    label text,
    region text
);
CREATE TABLE public.parts (id serial PRIMARY KEY, ware_id integer REFERENCES public.wares ON DELETE CASCADE, label text);
CREATE TABLE public.shelves (id integer PRIMARY KEY, label text);
CREATE TABLE public.boxes (id integer PRIMARY KEY, shelf_id integer REFERENCES public.shelves, region text);
CREATE DOMAIN public.moment AS timestamptz;
CREATE TABLE public.visits (id integer, at public.moment, spell interval, price money, kind public.visit);
CREATE TABLE public.stays (id integer, at public.moment, kind public.visit);
INSERT INTO public.customers
SELECT i, 'Person ' || i, 'person' || i || '@example.com', '123-45-' || (6000 + i), '+1 555 ' || (1000000 + i),
       DATE '1970-01-01' + i * 37, 40000 + i * 13.37,
       'call person' || i || '@example.com or 555-010-' || (1000 + i),
       jsonb_build_object('mail', 'person' || i || '@example.com', 'n', i),
       CASE i % 2 WHEN 0 THEN 'EU' ELSE 'US' END, TIMESTAMPTZ '2025-01-01 00:00:00+00' + i * INTERVAL '1 hour'
FROM generate_series(1, 20) i;
INSERT INTO archive.customers SELECT id, email, ssn FROM public.customers WHERE id <= 3;
INSERT INTO public.orders SELECT i, 1 + i % 20, i * 1.5, CASE i % 3 WHEN 0 THEN 'open' ELSE 'paid' END FROM generate_series(1, 60) i;
INSERT INTO public.events SELECT i, 1 + i % 20, 'view', ('10.1.' || i || '.7')::inet,
       TIMESTAMPTZ '2025-01-05 00:00:00+00' + i * INTERVAL '1 day' FROM generate_series(1, 40) i;
INSERT INTO public.secrets VALUES (1, 'tell nobody');
REFRESH MATERIALIZED VIEW public.region_totals;
ANALYZE;
-- A partition that policy classifies and its parent not: the parent reads it too.
CREATE TABLE public.readings (id integer, value text) PARTITION BY LIST (id);
CREATE TABLE public.readings_1 PARTITION OF public.readings FOR VALUES IN (1);
INSERT INTO public.readings VALUES (1, 'reading of person1@example.com');
-- A type and a whole row behind which a function stands that policy does not know.
CREATE FUNCTION public.asks(integer) RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER
    AS 'SELECT public.peek('''', $1) IS NOT NULL';
CREATE DOMAIN public.asked AS integer CHECK (public.asks(VALUE));
CREATE TABLE public.answers (id integer, said public.asked);
CREATE TABLE public.shelved (id integer, word text);
CREATE FUNCTION public.shelved_text(public.shelved) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.peek('''', $1.id)';
CREATE CAST (public.shelved AS text) WITH FUNCTION public.shelved_text(public.shelved) AS ASSIGNMENT;
CREATE VIEW public.shelved_words AS SELECT word FROM public.shelved;
-- Views with masks of their own, one over the other.
CREATE TABLE public.places (id integer, name text, code text, note text);
CREATE VIEW public.place_words AS
    SELECT p.id, upper(p.code) AS code, coalesce(p.note, 'none') AS word FROM public.places p WHERE p.id > 0 ORDER BY p.id;
CREATE VIEW public.place_list AS
    SELECT w.id, w.word, count(*) OVER (PARTITION BY o.status) AS n
    FROM public.place_words w LEFT JOIN public.orders o ON o.id = w.id;
-- COPY leaves out what is generated, and here what does not exist for its caller.
CREATE TABLE public.parcels (
    id integer, recipient text, twice integer GENERATED ALWAYS AS (id * 2) STORED, town text
);
INSERT INTO public.parcels (id, recipient, town) VALUES (1, 'Person 1', 'here');
-- Forms of Postgres's own functions for other types: one that policy trusts, one that it
-- does not, and one that it trusts beside one that it does not.
CREATE FUNCTION public.reverse(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT -$1';
CREATE FUNCTION public.initcap(integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT public.peek('''', $1)';
CREATE FUNCTION public.ascii(integer) RETURNS integer LANGUAGE sql IMMUTABLE AS 'SELECT $1';
CREATE FUNCTION archive.ascii(integer, integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER AS 'SELECT public.peek('''', $1)';
-- Views over a column that some callers do not have, and over another of its name.
CREATE TABLE public.vans (id integer, recipient text);
CREATE VIEW public.rides AS SELECT p.id, v.recipient FROM public.parcels p JOIN public.vans v ON v.id = p.id;
CREATE VIEW public.towns AS SELECT p.id, p.recipient FROM public.parcels p JOIN public.vans v ON v.id = p.id;
-- A column for every kind of mask, of every type that it serves.
CREATE TABLE public.people (
    id integer PRIMARY KEY,
    region text,
    level integer,
    label text,
    score integer,
    code varchar(12),
    mail text COLLATE "C",
    account text,
    serial bigint,
    born date,
    seen timestamptz,
    income numeric(12, 2),
    height double precision,
    visits bigint,
    address inet,
    block cidr,
    prose text,
    report jsonb,
    draft json,
    nick varchar(20),
    amount integer,
    words text[],
    blob bytea,
    reach int4range,
    token uuid,
    active boolean,
    pin text,
    secret text
);
-- Indexes that hold what some may not see.
CREATE TABLE public.members (id integer PRIMARY KEY, tenant integer, email text, score integer, note text);
CREATE UNIQUE INDEX members_tenant_email ON public.members (tenant, email);
CREATE INDEX members_score ON public.members (score);
CREATE INDEX members_found ON public.members USING gin (to_tsvector('simple', email));
CREATE TABLE public.tours (id integer, day date, email text) PARTITION BY RANGE (day);
CREATE TABLE public.tours_1 PARTITION OF public.tours FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE INDEX tours_1_lower ON public.tours_1 (id, lower(email));
CREATE INDEX parts_range ON public.parts USING brin (id);

-- Rows that another server orders.
CREATE FOREIGN DATA WRAPPER elsewhere;
CREATE SERVER far FOREIGN DATA WRAPPER elsewhere;
CREATE FOREIGN TABLE public.far_tours (id integer, email text) SERVER far;
-- Views that can be written, and what may not be beneath them.
CREATE VIEW public.part_labels AS SELECT id, label FROM public.parts WHERE id > 0;
CREATE VIEW public.part_words AS SELECT id, label AS word FROM public.part_labels;
CREATE VIEW public.shelf_labels AS SELECT id, label FROM public.shelves;
CREATE VIEW public.maker_labels AS
    SELECT id, label FROM public.wares WHERE id IN (SELECT id FROM public.makers);
CREATE VIEW public.ware_calls AS SELECT id, public.peek('', id) AS told FROM public.wares;
-- Columns made of others: as they are stored, or, where there is such a thing, read.
CREATE TABLE public.badges (
    id integer PRIMARY KEY,
    region text,
    email text,
    rate integer,
    spots integer,
    lowered text GENERATED ALWAYS AS (lower(email)) STORED,
    half integer GENERATED ALWAYS AS (id / 2) STORED
);
CREATE TABLE public.dice (id integer PRIMARY KEY, spots integer);
DO $$ BEGIN
    IF current_setting('server_version_num')::integer >= 180000 THEN
        EXECUTE 'ALTER TABLE public.badges
            ADD share integer GENERATED ALWAYS AS (100000 / rate) VIRTUAL,
            ADD part integer GENERATED ALWAYS AS (12 / spots) VIRTUAL';
        EXECUTE 'ALTER TABLE public.dice ADD odds integer GENERATED ALWAYS AS (12 / spots) VIRTUAL';
    ELSE
        ALTER TABLE public.dice ADD odds integer;
    END IF;
END $$;
