-- What an attacker would like to find in a database, on top of tests/rewrite/schema.sql.
CREATE ROLE proxy LOGIN;
GRANT pg_read_all_data TO proxy;
GRANT INSERT, UPDATE, DELETE ON public.orders, public.customers, public.makers, public.wares, public.parts,
    public.part_labels, public.part_words, public.shelf_labels, public.maker_labels, public.customer_contacts,
    public.shelves, public.boxes TO proxy;
GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO proxy;
GRANT CREATE ON SCHEMA public TO proxy;
ALTER TABLE public.makers OWNER TO proxy;
ALTER DOMAIN public.label OWNER TO proxy;
CREATE SCHEMA made AUTHORIZATION proxy;
-- Hidden rows have other numbers in other variants.
ALTER TABLE public.orders DROP CONSTRAINT orders_customer_id_fkey;

CREATE FUNCTION public.ssn_of(integer) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
    AS 'SELECT ssn FROM public.customers WHERE id = $1';
CREATE FUNCTION public.says(integer) RETURNS boolean LANGUAGE plpgsql STABLE SECURITY DEFINER
    AS 'BEGIN RAISE NOTICE ''%'', public.ssn_of($1); RETURN true; END';
CREATE DOMAIN public.telling AS integer CHECK (public.says(VALUE));
CREATE FUNCTION public.order_text(public.orders) RETURNS text LANGUAGE sql STABLE
    AS 'SELECT public.ssn_of($1.customer_id)';
CREATE CAST (public.orders AS text) WITH FUNCTION public.order_text(public.orders) AS ASSIGNMENT;
CREATE FUNCTION public.first_ssn(text, integer) RETURNS text LANGUAGE sql STABLE
    AS 'SELECT public.ssn_of($2)';
CREATE AGGREGATE public.ssns(integer) (SFUNC = public.first_ssn, STYPE = text);
CREATE VIEW public.barrier WITH (security_barrier) AS SELECT id, ssn, email FROM public.customers;
CREATE VIEW public.hidden_call AS SELECT o.id, public.ssn_of(o.customer_id) AS told FROM public.orders o;
CREATE INDEX customers_email ON public.customers (email);
CREATE INDEX customers_region_salary ON public.customers (region, salary);
CREATE INDEX customers_id_born ON public.customers (id, birth_date) INCLUDE (email);
CREATE UNIQUE INDEX customers_ssn ON public.customers (ssn);
ALTER TABLE public.customers ADD CONSTRAINT salary_is_paid CHECK (salary > 0 OR salary IS NULL);
CREATE STATISTICS public.customers_known (mcv) ON region, ssn FROM public.customers;
CREATE INDEX accounts_holder ON public.accounts (holder);
ANALYZE;
CREATE VIEW public.regions AS SELECT * FROM (VALUES ('EU', 1), ('US', 2)) v(region, n);
CREATE FUNCTION public.region_text(public.regions) RETURNS text LANGUAGE sql STABLE AS 'SELECT public.ssn_of(1)';
CREATE CAST (public.regions AS text) WITH FUNCTION public.region_text(public.regions) AS ASSIGNMENT;
-- A range over text, whose bound `lower` gives as it is.
CREATE TYPE public.textrange AS RANGE (subtype = text);
-- An order that reads more than its arguments, for an index to have.
CREATE FUNCTION public.ranks(integer, integer) RETURNS integer LANGUAGE sql IMMUTABLE SECURITY DEFINER
    AS 'SELECT pg_catalog.btint4cmp($1, $2) + 0 * (SELECT count(*) FROM public.customers)::integer';
CREATE OPERATOR CLASS public.ranked FOR TYPE integer USING btree AS FUNCTION 1 public.ranks(integer, integer);
