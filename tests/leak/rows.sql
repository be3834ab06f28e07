-- The rows of tests/leak, in the variant VARIANT.
--   b: other raw values than a, and the same masked image for analyst and clerk
--   c: other hidden rows and columns than a, and the same image for the trainer
CREATE FUNCTION pg_temp.pick(a text, b text, c text) RETURNS text LANGUAGE sql IMMUTABLE
    AS $$ SELECT CASE 'VARIANT' WHEN 'a' THEN a WHEN 'b' THEN b ELSE c END $$;
TRUNCATE public.customers, public.vips, archive.customers, public.events, public.secrets, public.accounts;

-- The EU's are the even ones: all that the trainer sees. In c there are more of
-- the others, with other numbers, in between.
INSERT INTO public.customers
SELECT pg_temp.pick(i::text, i::text, CASE i % 2 WHEN 0 THEN i ELSE i + 700 END::text)::integer,
       'P' || pg_temp.pick('erson ' || i, 'rivate ' || md5(i::text), 'ublic ' || i * 3),
       pg_temp.pick('person' || i, 'psmith.' || md5(i::text), CASE i % 2 WHEN 0 THEN 'person' ELSE 'who' END || i)
           || '@example.com',
       pg_temp.pick('123-45-' || (6000 + i), (987654321 - i * i)::text, 'none ' || i * 7),
       pg_temp.pick('+1 555 1', '+4 912 3', CASE i % 2 WHEN 0 THEN '+1 555 1' ELSE '+7 000 9' END)
           || lpad((i * 91)::text, 6, '0'),
       CASE WHEN pg_temp.pick('a', 'b', 'a') = 'a' THEN DATE '1970-01-05' + i ELSE DATE '1970-11-30' - i * 3 END
           + CASE 'VARIANT' WHEN 'c' THEN 4000 + i ELSE 0 END,
       pg_temp.pick((40000 + i * 13.37)::text, (44000 - i * 29.11)::text, (100 + i)::text)::numeric,
       'call ' || pg_temp.pick('person' || i || '@example.com', 'q' || i * 17 || '@else.org', 'm' || i || '@x.example.net')
           || ' or ' || pg_temp.pick('555-010-' || (1000 + i), '(030) 998 877-' || (60 + i), '0049 171 5' || (4000000 + i)),
       jsonb_build_object('mail', pg_temp.pick('person' || i || '@example.com', 'r' || i * 19 || '@else.org', 's' || i || '@e.net'),
           'n', i),
       CASE i % 2 WHEN 0 THEN 'EU' ELSE pg_temp.pick('US', 'US', CASE i % 4 WHEN 1 THEN 'APAC' END) END,
       TIMESTAMPTZ '2025-01-01 00:00:00+00' + i * INTERVAL '1 hour'
FROM generate_series(1, 20) i;
INSERT INTO public.customers (id, full_name, region, notes)
SELECT 800 + i, 'Extra ' || i, 'US', 'x' FROM generate_series(1, 5) i WHERE 'VARIANT' = 'c';

-- Values that masks might stumble on.
INSERT INTO public.customers (id, full_name, email, ssn, phone, birth_date, salary, notes, profile, region, created_at)
VALUES
(31, pg_temp.pick('X', 'Y', 'Someone'), pg_temp.pick('no address', 'neither', 'no address'), NULL, pg_temp.pick('12', '9', '12'),
 NULL, NULL, NULL, NULL, 'EU', 'infinity'),
(32, '', '', '', '', DATE '0044-03-15 BC', 0.01, '', 'null', 'EU', '-infinity'),
(33, pg_temp.pick('Ünal', 'Ücretsiz', 'Someone'), pg_temp.pick('ünal@example.com', 'ükü@example.com', 'ünal@example.com'),
 pg_temp.pick('7', '8', NULL), pg_temp.pick('004412345678', '999999995678', '004412345678'),
 'infinity', 'NaN', 'née', '[1, [2, {"a": null}]]', 'EU', '2025-03-01 00:00:00+00');

INSERT INTO public.vips (id, full_name, email, ssn, phone, birth_date, salary, notes, region, note)
SELECT 50 + i, 'V' || pg_temp.pick('ip ' || i, 'ery ' || i * 5, 'ast'), pg_temp.pick('vip' || i, 'vxx' || i * 7, 'vip' || i) || '@example.org',
       pg_temp.pick('555-00-' || i, '444-11-' || i * 3, NULL), '+3 33 555 000' || i,
       CASE 'VARIANT' WHEN 'b' THEN DATE '1980-05-05' ELSE DATE '1980-06-06' END,
       pg_temp.pick('91000', '92000.5', '1')::numeric, NULL, 'EU', 'likes tea'
FROM generate_series(1, 2) i;
INSERT INTO public.vips (id, full_name, region, note)
VALUES (61, 'V. Other', 'US', pg_temp.pick('owes millions', 'owes millions', 'went away'));
INSERT INTO archive.customers
SELECT i, 'p' || pg_temp.pick('erson', 'ossum', 'atient') || i || '@example.com', pg_temp.pick('1', '2', '3') || '11-22-333' || i
FROM generate_series(1, 3) i;
INSERT INTO public.events
SELECT i, 1 + i % 20, CASE i % 3 WHEN 0 THEN 'buy' ELSE 'view' END,
       ('10.1.' || i || '.' || pg_temp.pick('7', (200 - i)::text, '1'))::inet,
       TIMESTAMPTZ '2025-01-05 00:00:00+00' + i * INTERVAL '1 day'
FROM generate_series(1, 40) i;
INSERT INTO public.secrets
SELECT i, pg_temp.pick('tell nobody', 'hush', 'not a word') FROM generate_series(1, pg_temp.pick('1', '3', '2')::integer) i;

-- Statistics are of all rows. The hidden ones have, in one of two variants, what
-- raises where it is converted or compared: numbers that are no OID and no double
-- precision, the ends of time, and names that begin like a pattern that ends badly.
-- In the other they have what takes as much room: the size of a table decides on plans.
INSERT INTO public.accounts
SELECT i, 'Holder ' || i % 5, 'code ' || i % 3, 'DE', 'kind ' || i % 2, i * 1.5, i / 3.0, i % 2 = 0, DATE '2020-01-01' + i,
       TIMESTAMP '2020-01-01 08:00' + i * INTERVAL '1 day', md5(i::text)::uuid, 'EU', 'm'
FROM generate_series(1, 40) i;
INSERT INTO public.accounts
SELECT CASE 'VARIANT' WHEN 'c' THEN 1000 + i ELSE 7000000000 + i END,
       pg_temp.pick('Zorro ', 'Zorro ', 'Nemos ') || i % 4, pg_temp.pick('zz ', 'zz ', 'nn ') || i % 4, 'US', 'other',
       CASE 'VARIANT' WHEN 'c' THEN 1e300 + i + 1e-100 ELSE 1e400 + i END, 1, true,
       DATE '5874897-12-31' - CASE 'VARIANT' WHEN 'c' THEN 2145042000 + i ELSE i END,
       CASE 'VARIANT' WHEN 'c' THEN TIMESTAMP '2020-12-31 23:00' ELSE TIMESTAMP '294276-12-31 23:00' END,
       md5('h' || i)::uuid, 'US', 'm'
FROM generate_series(1, 40) i;
ANALYZE public.accounts;

-- Makers and boxes that are not the EU's are others in another variant.
INSERT INTO public.makers
SELECT CASE i % 2 WHEN 0 THEN i ELSE i + pg_temp.pick('0', '0', '500')::integer END, CASE i % 2 WHEN 0 THEN 'EU' ELSE 'US' END,
       'Maker ' || CASE i % 2 WHEN 0 THEN i ELSE i + pg_temp.pick('0', '0', '500')::integer END,
       'M' || CASE i % 2 WHEN 0 THEN i ELSE i + pg_temp.pick('0', '0', '500')::integer END
FROM generate_series(1, 20) i;
INSERT INTO public.wares
SELECT i, CASE i % 2 WHEN 0 THEN i END, CASE i % 2 WHEN 0 THEN 'M' || i END, 'ware ' || i, 'EU' FROM generate_series(2, 20) i;
INSERT INTO public.parts (ware_id, label) SELECT i, 'part ' || i FROM generate_series(2, 20, 2) i;
INSERT INTO public.shelves SELECT i, 'shelf ' || i FROM generate_series(1, 9) i;
INSERT INTO public.boxes SELECT i, i, 'EU' FROM generate_series(1, 3) i;
INSERT INTO public.boxes SELECT 50 + i, i + pg_temp.pick('4', '4', '6')::integer, 'US' FROM generate_series(1, 2) i;
INSERT INTO public.visits
SELECT i, TIMESTAMPTZ '2023-12-31 22:30:00+00' + i * INTERVAL '1 hour' - pg_temp.pick('0', '0', '100 days')::interval * (i < 2)::integer,
       INTERVAL '-1 day -02:03:04', 1, 'long'
FROM generate_series(0, 3) i;
INSERT INTO public.stays
SELECT i, TIMESTAMPTZ '2023-12-31 22:30:00+00' + i * INTERVAL '1 hour' - pg_temp.pick('0', '0', '100 days')::interval * (i < 2)::integer, 'long'
FROM generate_series(0, 3) i;
-- What its columns are made of differs where they do; a division by zero is hidden.
INSERT INTO public.badges (id, region, email, rate, spots)
SELECT i + CASE WHEN region = 'US' AND 'VARIANT' = 'c' THEN 700 ELSE 0 END, region,
       pg_temp.pick('person' || i, 'psmith.' || md5(i::text), CASE region WHEN 'EU' THEN 'person' ELSE 'who' END || i)
           || '@example.com',
       20000 + pg_temp.pick(i::text, (i * 3)::text, (i * 2)::text)::integer,
       CASE WHEN region = 'US' AND 'VARIANT' = 'c' THEN 0 ELSE 1 + i % 4 END
FROM generate_series(1, 40) i, LATERAL (SELECT CASE i % 2 WHEN 0 THEN 'EU' ELSE 'US' END) r(region);
INSERT INTO public.dice (id, spots) SELECT i, i % 3 FROM generate_series(1, 6) i;
REFRESH MATERIALIZED VIEW public.region_totals;
DROP FUNCTION pg_temp.pick(text, text, text);

-- Ranked otherwise in each variant: numbers below a prime, times another.
CREATE TABLE public.staff (id integer PRIMARY KEY, ssn text, salary numeric(10,2), gone date, team text, pad text);
INSERT INTO public.staff
SELECT i, lpad(((i * ascii('VARIANT')) % 2003)::text, 9, '0'),
    CASE WHEN i % 40 = 0 THEN 10000 + (i * ascii('VARIANT')) % 2003 END,
    CASE WHEN i % 40 <> 7 THEN date '2024-01-01' END,
    CASE WHEN i % 40 = 9 THEN 'EU' ELSE 'US' END, repeat('x', 300)
FROM generate_series(1, 2000) i;
CREATE UNIQUE INDEX staff_here ON public.staff (ssn) WHERE gone IS NULL;
CREATE INDEX staff_of_eu ON public.staff (ssn) WHERE team = 'EU';
CREATE INDEX staff_paid ON public.staff (salary) WHERE salary IS NOT NULL;
CREATE INDEX staff_team ON public.staff (upper(team), ssn);
ANALYZE public.staff;
