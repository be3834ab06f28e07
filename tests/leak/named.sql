-- Types that tell: by a check in a domain over a domain, a default, a builtin that
-- reads, a cast, an order, what they are made of.
CREATE DOMAIN public.retelling AS public.telling;
CREATE DOMAIN public.told_by_default AS text DEFAULT public.ssn_of(4);
CREATE DOMAIN public.measuring AS bigint CHECK (pg_catalog.pg_table_size('public.secrets') > VALUE);
CREATE TYPE public.tale AS (teller public.telling, n integer);
CREATE DOMAIN public.tall_tale AS public.tale;
CREATE FUNCTION public.says_of(public.orders) RETURNS boolean LANGUAGE sql STABLE AS 'SELECT public.says($1.customer_id)';
CREATE DOMAIN public.telling_order AS public.orders CHECK (public.says_of(VALUE));
CREATE TYPE public.span AS RANGE (subtype = public.telling);
CREATE TYPE public.tint AS ENUM ('red', 'blue');
CREATE FUNCTION public.tint_text(public.tint) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE CAST (public.tint AS text) WITH FUNCTION public.tint_text(public.tint) AS IMPLICIT;
CREATE TYPE public.plain AS ENUM ('one', 'two');
-- What JSON_VALUE is to a server that does not know it.
CREATE FUNCTION public.json_value(jsonb, text) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.json_scalar(integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.json_array(integer, integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.merge_action() RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.json_query(jsonb, text) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.json_exists(jsonb, text) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.json_serialize(text) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.json_object() RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
CREATE FUNCTION public.json_arrayagg(integer) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(4)';
-- Columns of such types, beside others.
CREATE TABLE public.talkers (id integer, t public.telling, ts public.telling[], story public.tale, note text);
INSERT INTO public.talkers VALUES (1, 3, '{3}', '(3,4)', 'one'), (2, 4, '{4}', '(4,5)', 'two');
CREATE VIEW public.spoken AS SELECT id, note FROM public.talkers;
