-- The rows of public.people, of which every column has a mask of another kind, in the
-- variant VARIANT.
--   b: other raw values than a, and the same masked image for the surveyor
--   c: other rows than a that the steward, who sees the rest in clear, may not see
-- What masks might stumble on.
INSERT INTO public.people (id, region, score, label, code, mail, born, seen, income, height, visits, address, prose, report, nick, amount)
VALUES
(41, 'EU', 30, '', '', '', 'infinity', '-infinity', 'NaN', 'Infinity', -9223372036854775807, '::1', '', 'null', '', -5),
(42, 'EU', 30, 'é', 'éa', 'é@x', '0044-03-15 BC', 'infinity', 0, '-0', 0, '::/0', 'née', '[]', 'ß', 2147483647),
(43, 'EU', 30, NULL, NULL, NULL, NULL, NULL, NULL, 'NaN', NULL, NULL, NULL, NULL, NULL, NULL);

-- `seen` is what the steward may see: a's rows, in c too.
INSERT INTO public.people
SELECT CASE WHEN 'VARIANT' = 'c' AND NOT seen THEN i + 500 ELSE i END,
       region,
       i % 4,
       'label ' || other,
       CASE WHEN seen THEN 20 + i % 5 ELSE 10 - i % 7 END + CASE 'VARIANT' WHEN 'b' THEN 3 ELSE 0 END,
       'K' || i % 3 || repeat('x', CASE 'VARIANT' WHEN 'b' THEN 4 ELSE 1 + i % 2 END) || i % 2,
       'mr' || other || '@mail' || i % 3 || '.example',
       'account ' || CASE WHEN 'VARIANT' = 'c' AND NOT seen THEN -i ELSE i % 9 END,
       CASE WHEN 'VARIANT' = 'c' AND NOT seen THEN -i ELSE 9000000000 + i END,
       make_date(1960 + i, CASE 'VARIANT' WHEN 'b' THEN 11 ELSE 2 END, CASE 'VARIANT' WHEN 'b' THEN 30 - i % 9 ELSE 1 + i % 20 END),
       make_timestamptz(2024, 1 + i % 12, CASE 'VARIANT' WHEN 'b' THEN 27 ELSE 1 + i % 9 END, i % 24, 5, 7.5, 'UTC'),
       i * 1000 + CASE 'VARIANT' WHEN 'b' THEN 999.99 - i ELSE i * 7.25 END,
       150 + i % 4 * 10 + CASE 'VARIANT' WHEN 'b' THEN 9.5 ELSE i % 7 + 0.25 END,
       i * 5 + CASE 'VARIANT' WHEN 'b' THEN 4 ELSE i % 3 END,
       ('10.' || i || '.9.' || CASE 'VARIANT' WHEN 'b' THEN 250 - i ELSE i END)::inet,
       ('172.16.' || CASE 'VARIANT' WHEN 'b' THEN 200 - i ELSE i END || '.0/24')::cidr,
       'write to ' || other || '@else.example or 030 998' || CASE 'VARIANT' WHEN 'b' THEN 8000 - i ELSE 1000 + i END || ', region ' || region,
       jsonb_build_object('to', other || '@else.example', 'n', i % 3, 'list', jsonb_build_array(other || '@e.example', NULL)),
       json_build_object('to', other || '@else.example', 'n', i % 3),
       chr(97 + i % 5) || CASE WHEN i % 6 = 0 THEN '' ELSE left(other, 9) END,
       CASE WHEN i % 2 = 0 THEN 100 ELSE 0 END + CASE 'VARIANT' WHEN 'b' THEN 40 ELSE i % 30 END,
       ARRAY['w' || other, NULL], convert_to(other, 'UTF8'),
       int4range(1, CASE 'VARIANT' WHEN 'b' THEN 90 ELSE 2 + i END), md5(other)::uuid,
       'VARIANT' = 'b', 'pin ' || other, 'secret ' || other
FROM generate_series(1, CASE 'VARIANT' WHEN 'c' THEN 36 ELSE 30 END) i,
     LATERAL (SELECT CASE i % 3 WHEN 0 THEN 'US' ELSE 'EU' END) r(region),
     LATERAL (SELECT region = 'EU' AND i % 5 > 0 AND i <= 30) s(seen),
     -- All as long as each other: the size of a table decides on plans, and so on the
     -- order of rows that nobody asked an order of.
     LATERAL (SELECT CASE WHEN 'VARIANT' = 'b' THEN 'other' WHEN 'VARIANT' = 'c' AND NOT seen THEN 'third' ELSE 'first' END
                     || md5(CASE WHEN 'VARIANT' = 'c' AND NOT seen THEN 'c' WHEN 'VARIANT' = 'b' THEN 'b' ELSE 'a' END || i)) o(other);
