-- The `shop` dataset: what a web shop knows about its customers. All of it is
-- made up and the same on every run: each value is arithmetic on the row's
-- number, never random(), whose sequence differs between versions of Postgres.
-- E-mail domains are reserved (RFC 2606), phone numbers fictional (555-01xx),
-- card numbers are the payment industry's test numbers and addresses are from
-- the ranges for documentation (RFC 5737, RFC 3849).

-- A number in 0..n-1 out of a row's number; `salt` makes the columns of a row
-- independent of each other. Hash partitions are stored by this hash, so it is
-- the same in every version.
CREATE FUNCTION pg_temp.roll(i bigint, salt int, n int) RETURNS int
LANGUAGE sql IMMUTABLE AS $$
    SELECT abs(hashint8extended(i, salt) % n)::int
$$;

CREATE TABLE public.customers (
    id          integer       NOT NULL,
    full_name   text          NOT NULL,
    email       text          NOT NULL,
    ssn         text          NOT NULL,
    phone       varchar(20),
    birth_date  date          NOT NULL,
    salary      numeric(10,2),
    notes       text,
    profile     jsonb         NOT NULL,
    region      text          NOT NULL,
    created_at  timestamptz   NOT NULL
);

INSERT INTO public.customers
WITH words AS MATERIALIZED (
    SELECT
        '{Ada,Ben,Chloe,David,Elena,Felix,Grace,Hugo,Ines,Jonas,Katja,Liam,Maria,Noah,Olga,Paul,Quinn,Rosa,Samir,Tara,Uma,Victor,Wendy,Xenia,Yusuf,Zoe}'::text[] AS given,
        '{Alvarez,Bauer,Chen,Dubois,Eriksen,Fischer,Garcia,Hansen,Ivanova,Jansen,Kowalski,Lopez,Moreau,Nielsen,Okafor,Patel,Quist,Rossi,Schmidt,Tanaka,Ueda,Vogel,Weber,Xu,Yilmaz,Zhang}'::text[] AS family,
        '{example.com,example.org,example.net,mail.example,post.example}'::text[] AS domain,
        '{EU,EU,EU,US,US,APAC,LATAM}'::text[] AS region,
        '{free,plus,pro}'::text[] AS plan,
        '{4111 1111 1111 1111,5555-5555-5555-4444,378282246310005,6011111111111117}'::text[] AS card
), rows AS (
    SELECT
        i,
        given[1 + pg_temp.roll(i, 1, 26)] AS given,
        family[1 + pg_temp.roll(i, 2, 26)] AS family,
        domain[1 + pg_temp.roll(i, 3, 5)] AS domain,
        region[1 + pg_temp.roll(i, 4, 7)] AS region,
        plan[1 + pg_temp.roll(i, 5, 3)] AS plan,
        card[1 + pg_temp.roll(i, 6, 4)] AS card,
        pg_temp.roll(i, 7, 10) AS story,
        -- 100,000 different ones: i * 7919 runs through 0..99,999 once, as 7919
        -- and 100,000 share no factor.
        format('%s-%s-%s',
            100 + pg_temp.roll(i, 8, 565),
            lpad((1 + (i * 7919 % 100000) / 10000 * 9 + pg_temp.roll(i, 9, 9))::text, 2, '0'),
            lpad((i * 7919 % 10000)::text, 4, '0')) AS ssn,
        format('+1-%s-555-01%s',
            201 + pg_temp.roll(i, 10, 780),
            lpad(pg_temp.roll(i, 11, 100)::text, 2, '0')) AS phone
    FROM generate_series(1, 100000) AS i, words
), people AS (
    SELECT *, lower(given || '.' || family) || i || '@' || domain AS email FROM rows
)
SELECT
    i,
    given || ' ' || family,
    email,
    ssn,
    CASE WHEN pg_temp.roll(i, 12, 20) > 0 THEN phone END,
    date '1940-01-01' + pg_temp.roll(i, 13, 24000),
    CASE WHEN pg_temp.roll(i, 14, 25) > 0 THEN 18000 + pg_temp.roll(i, 15, 162000) + pg_temp.roll(i, 16, 100) / 100.0 END,
    CASE story
        WHEN 0 THEN NULL
        WHEN 1 THEN format('Prefers email, write to %s before Friday.', email)
        WHEN 2 THEN format('Called from %s about a refund.', phone)
        WHEN 3 THEN format('Verified by phone, gave SSN %s.', ssn)
        WHEN 4 THEN format('Asked to move the subscription to card %s.', card)
        WHEN 5 THEN format('%s (%s) is the same person as %s.old@%s.', given, email, lower(family), domain)
        WHEN 6 THEN format('Order stuck: reach %s at %s or %s.', given, phone, email)
        WHEN 7 THEN 'Happy with the last delivery.'
        WHEN 8 THEN format('Paid with %s, identity %s checked.', card, ssn)
        ELSE 'Wants invoices as PDF.'
    END,
    jsonb_build_object(
        'plan', plan,
        'newsletter', pg_temp.roll(i, 17, 2) = 0,
        'logins', pg_temp.roll(i, 18, 900),
        'contact', jsonb_build_object('email', email, 'phone', phone),
        'remarks', CASE WHEN story IN (4, 8) THEN jsonb_build_array('card on file ' || card) ELSE '[]'::jsonb END),
    region,
    timestamptz '2021-01-01 00:00:00+00' + i * interval '22 minutes'
FROM people;

ALTER TABLE public.customers ADD PRIMARY KEY (id);
CREATE UNIQUE INDEX customers_email_key ON public.customers (email);
CREATE INDEX customers_ssn_idx ON public.customers (ssn);
CREATE INDEX customers_region_idx ON public.customers (region);
CREATE INDEX customers_created_at_idx ON public.customers (created_at);

CREATE TABLE public.orders (
    id              bigint        NOT NULL,
    customer_id     integer       NOT NULL,
    customer_email  text          NOT NULL,
    amount          numeric(10,2) NOT NULL,
    status          text          NOT NULL,
    placed_at       timestamptz   NOT NULL
);

INSERT INTO public.orders
SELECT
    o,
    c.id,
    c.email,
    5 + pg_temp.roll(o, 21, 49500) / 100.0,
    ('{paid,paid,paid,shipped,shipped,returned,cancelled}'::text[])[1 + pg_temp.roll(o, 22, 7)],
    timestamptz '2025-01-01 00:00:00+00' + o * interval '105 seconds'
FROM generate_series(1, 300000) AS o
JOIN public.customers c ON c.id = 1 + pg_temp.roll(o, 20, 100000);

ALTER TABLE public.orders ADD PRIMARY KEY (id);
CREATE INDEX orders_customer_id_idx ON public.orders (customer_id);
CREATE INDEX orders_placed_at_idx ON public.orders (placed_at);
ALTER TABLE public.orders ADD FOREIGN KEY (customer_id) REFERENCES public.customers (id);

CREATE TABLE public.events (
    at           timestamptz NOT NULL,
    customer_id  integer     NOT NULL,
    kind         text        NOT NULL,
    ip           inet        NOT NULL,
    detail       jsonb
) PARTITION BY RANGE (at);

DO $$
DECLARE month date;
BEGIN
    FOR month IN SELECT generate_series(date '2025-01-01', date '2025-12-01', interval '1 month') LOOP
        EXECUTE format('CREATE TABLE public.events_%s PARTITION OF public.events FOR VALUES FROM (%L) TO (%L)',
            to_char(month, 'YYYY_MM'),
            to_char(month, 'YYYY-MM-DD') || ' 00:00:00+00',
            to_char(month + interval '1 month', 'YYYY-MM-DD') || ' 00:00:00+00');
    END LOOP;
END $$;

INSERT INTO public.events
SELECT
    timestamptz '2025-01-01 00:00:00+00' + e * interval '157 seconds',
    1 + pg_temp.roll(e, 30, 100000),
    ('{page,page,page,search,cart,checkout,login,logout}'::text[])[1 + pg_temp.roll(e, 31, 8)],
    CASE WHEN pg_temp.roll(e, 32, 6) > 0
        THEN format('%s.%s', ('{192.0.2,198.51.100,203.0.113}'::text[])[1 + pg_temp.roll(e, 33, 3)], pg_temp.roll(e, 34, 256))::inet
        ELSE format('2001:db8:%s::%s', to_hex(pg_temp.roll(e, 35, 65536)), to_hex(1 + pg_temp.roll(e, 36, 65535)))::inet
    END,
    CASE WHEN pg_temp.roll(e, 37, 4) = 0 THEN jsonb_build_object('ms', pg_temp.roll(e, 38, 3000)) END
FROM generate_series(0, 199999) AS e;

CREATE INDEX events_at_idx ON public.events (at);
CREATE INDEX events_customer_id_idx ON public.events (customer_id);

CREATE VIEW public.customer_contacts AS
    SELECT id, full_name, email, phone, region FROM public.customers;

CREATE MATERIALIZED VIEW public.region_totals AS
    SELECT c.region, count(DISTINCT c.id) AS customers, count(*) AS orders, sum(o.amount) AS revenue
    FROM public.customers c
    JOIN public.orders o ON o.customer_id = c.id
    GROUP BY c.region;

CREATE FUNCTION public.customer_card(customer integer) RETURNS text
LANGUAGE sql STABLE AS $$
    SELECT format('%s <%s>, SSN %s', full_name, email, ssn)
    FROM public.customers WHERE id = customer
$$;

COMMENT ON TABLE public.customers IS 'Everybody who ever had an account';
COMMENT ON COLUMN public.customers.notes IS 'What support wrote down, free text';
COMMENT ON COLUMN public.orders.customer_email IS 'Where the receipt went';
COMMENT ON TABLE public.events IS 'What happened in the shop, one partition a month';

-- What the proxy's own role may do: read these, and nothing else.
REVOKE ALL ON SCHEMA public FROM PUBLIC;
REVOKE ALL ON FUNCTION public.customer_card(integer) FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO pgveil;
GRANT SELECT ON ALL TABLES IN SCHEMA public TO pgveil;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO pgveil;

ANALYZE;
