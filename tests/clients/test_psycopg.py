"""psycopg 3: extended protocol with and without prepared statements, binary
results, cursors on the server, COPY, pipelines, and what each persona sees."""

import ctypes
import datetime
import decimal
import io
import ipaddress
import pathlib
import threading
import unittest

import psycopg
from psycopg import errors, rows, types
from psycopg.conninfo import conninfo_to_dict

import demo


class Assistant(unittest.TestCase):
    """An agent that connects by a token, on behalf of the analyst."""

    def test_a_token_is_a_password(self):
        raw = dict(demo.rows("auditor", "select id, email from customers where region = 'EU'"))
        got = dict(demo.rows("assistant", "select id, email from customers"))
        self.assertEqual(got.keys(), raw.keys())
        for number, email in list(got.items())[:50]:
            self.assertRegex(email, r"^.\*\*\*@")
            self.assertNotEqual(email, raw[number])
        with demo.connect("assistant") as connection, \
                self.assertRaises(errors.InsufficientPrivilege):
            connection.execute("select phone from customers")

    def test_another_is_none(self):
        for password in ("wrong", "a.b.c"):
            with self.assertRaisesRegex(psycopg.OperationalError, "authentication failed"):
                demo.connect("assistant", password=password)


class OAuth(unittest.TestCase):
    """The same agent by OAUTHBEARER, which libpq speaks since 18: the token comes from a
    hook, as it would from an application's own login."""

    def setUp(self):
        if psycopg.pq.version() < 180000:
            self.skipTest("libpq before 18")
        self.libpq = libpq()
        self.asked = []
        self.token = conninfo_to_dict(demo.dsn("assistant"))["password"]

    def connect(self, token):
        request = ctypes.create_string_buffer(token.encode())

        @HOOK
        def hook(kind, _connection, data):
            if kind != BEARER_TOKEN:
                return 0
            asked = ctypes.cast(data, ctypes.POINTER(Request)).contents
            self.asked.append(asked.openid_configuration.decode())
            asked.token = ctypes.addressof(request)
            return 1

        self.libpq.PQsetAuthDataHook(hook)
        self.addCleanup(self.libpq.PQsetAuthDataHook, HOOK())
        issuer = "https://login.example/.well-known/openid-configuration"
        return demo.connect("assistant", password="", options="-c pgveil.credential=oauth",
                            oauth_issuer=issuer, oauth_client_id="test")

    def test_a_token_is_taken(self):
        with self.connect(self.token) as connection:
            (email,) = connection.execute("select email from customers limit 1").fetchone()
        self.assertRegex(email, r"^.\*\*\*@")
        self.assertEqual(len(self.asked), 1)

    def test_another_is_not(self):
        with self.assertRaisesRegex(psycopg.OperationalError,
                                    "oauth bearer authentication failed"):
            self.connect("a.b.c")


class Request(ctypes.Structure):
    """PGoauthBearerRequest of libpq-fe.h."""

    _fields_ = [(name, ctypes.c_char_p) for name in ("openid_configuration", "scope")] + [
        (name, ctypes.c_void_p) for name in ("start", "cleanup", "token", "user")]


BEARER_TOKEN = 1
"""PQAUTHDATA_OAUTH_BEARER_TOKEN"""

HOOK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def libpq():
    """The one that psycopg has loaded."""
    maps = pathlib.Path("/proc/self/maps").read_text().split()
    return ctypes.CDLL(next(path for path in maps if "/libpq" in path))


class Analyst(unittest.TestCase):
    """A human who may see masked e-mails and no ssn."""

    def setUp(self):
        self.connection = demo.connect("analyst", autocommit=True)
        self.addCleanup(self.connection.close)

    def refused(self, sql):
        with self.assertRaises(errors.InsufficientPrivilege) as caught:
            self.connection.execute(sql).fetchall()
        # A refusal never closes the connection.
        self.assertEqual(self.connection.execute("select 1").fetchone(), (1,))
        return caught.exception.diag

    def test_emails_are_masked(self):
        raw = dict(demo.rows("auditor", "select id, email from customers where id <= 50"))
        got = dict(self.connection.execute(
            "select id, email from customers where id <= 50").fetchall())
        self.assertEqual(got.keys(), raw.keys())
        for number, email in got.items():
            self.assertNotEqual(email, raw[number])
            self.assertNotRegex(email, demo.EMAIL)
            self.assertIn("@", email)

    def test_ssn_is_refused_by_name(self):
        diag = self.refused("select id, email, ssn from customers")
        self.assertEqual(diag.sqlstate, "42501")
        self.assertIn("ssn", diag.message_primary)

    def test_star_is_refused_with_a_way_out(self):
        diag = self.refused("select * from customers")
        self.assertIn("ssn", diag.message_primary)
        self.assertTrue(diag.message_hint)

    def test_ways_around_are_none(self):
        for sql in [
            "select upper(ssn) from customers",
            "select s from (select ssn as s from customers) x",
            "select c from customers c",
            "select row_to_json(c) from customers c",
            "select to_jsonb(customers) from customers",
            "select id from customers order by ssn limit 1",
            "select count(*) from customers where ssn like '1%'",
            "select max(ssn) from customers",
            "with x as (select * from customers) select count(*) from x",
            "table customers",
            "copy customers to stdout",
            "copy (select ssn from customers) to stdout",
        ]:
            with self.subTest(sql):
                self.refused(sql)

    def test_predicates_see_masked_values(self):
        raw, = demo.rows("auditor", "select email from customers where id = 7")[0]
        got = self.connection.execute(
            "select count(*) from customers where email = %s", [raw]).fetchone()
        self.assertEqual(got, (0,))

    def test_free_text_is_redacted(self):
        notes = self.connection.execute(
            "select notes from customers where id <= 2000 and notes is not null").fetchall()
        self.assertGreater(len(notes), 1000)
        text = "\n".join(note for note, in notes)
        self.assertNotRegex(text, demo.SSN)
        self.assertNotRegex(text, r"[a-z]@|555-01\d\d|4111|6011|3782")

    def test_json_is_redacted_and_stays_json(self):
        profiles = self.connection.execute(
            "select profile from customers where id <= 500").fetchall()
        for profile, in profiles:
            self.assertIn(profile["plan"], ("free", "plus", "pro"))
            self.assertNotRegex(str(profile), r"[a-z]@|555-01\d\d|4111")

    def test_types_survive(self):
        for binary in (False, True):
            with self.subTest(binary=binary):
                cursor = self.connection.cursor(binary=binary)
                row = cursor.execute(
                    "select c.id, c.phone, c.region, c.created_at, e.ip, o.amount "
                    "from customers c join orders o on o.customer_id = c.id "
                    "join events e on e.customer_id = c.id "
                    "where c.phone is not null limit 1").fetchone()
                self.assertIsInstance(row[0], int)
                self.assertIsInstance(row[1], str)
                self.assertLessEqual(len(row[1]), 20)
                self.assertIsInstance(row[3], datetime.datetime)
                self.assertIsInstance(
                    row[4],
                    (ipaddress.IPv4Address, ipaddress.IPv4Interface,
                     ipaddress.IPv6Address, ipaddress.IPv6Interface))
                self.assertIsInstance(row[5], decimal.Decimal)
                types = [column.type_display for column in cursor.description]
                self.assertEqual(types[1], "varchar(20)")

    def test_prepared_statements(self):
        sql = "select id, email from customers where id = %s"
        first = [self.connection.execute(sql, [i], prepare=True).fetchone() for i in range(1, 30)]
        again = [self.connection.execute(sql, [i]).fetchone() for i in range(1, 30)]
        self.assertEqual(first, again)
        self.assertEqual([row[0] for row in first], list(range(1, 30)))

    def test_sql_prepare_and_execute(self):
        self.connection.execute("prepare one as select email from customers where id = $1")
        email, = self.connection.execute("execute one(3)").fetchone()
        self.assertNotRegex(email, demo.EMAIL)
        self.connection.execute("deallocate one")

    def test_a_cursor_on_the_server(self):
        with self.connection.transaction():
            with self.connection.cursor("reader") as cursor:
                cursor.itersize = 500
                cursor.execute("select id, email from customers order by id")
                got = [row for row, _ in zip(cursor, range(2000))]
        self.assertEqual([row[0] for row in got], list(range(1, 2001)))
        for _, email in got:
            self.assertNotRegex(email, demo.EMAIL)

    def test_copy_out(self):
        for form, sql in {
            "text": "copy (select id, email from customers where id <= 100) to stdout",
            "csv": "copy (select id, email from customers where id <= 100) to stdout (format csv)",
            "table": "copy customers (id, email) to stdout",
            "binary": "copy (select id, email from customers where id <= 100) to stdout (format binary)",
        }.items():
            with self.subTest(form):
                out = io.BytesIO()
                with self.connection.cursor() as cursor, cursor.copy(sql) as copy:
                    for block in copy:
                        out.write(block)
                self.assertGreater(out.tell(), 1000)
                self.assertNotRegex(out.getvalue().decode("latin-1"),
                                    r"[a-z]{3,}\.[a-z]{2,}\d+@")

    def test_pipeline(self):
        with self.connection.pipeline():
            cursors = [
                self.connection.execute("select email from customers where id = %s", [i])
                for i in range(1, 200)
            ]
        for cursor in cursors:
            self.assertNotRegex(cursor.fetchone()[0], demo.EMAIL)

    def test_a_refusal_within_a_pipeline_ends_where_it_should(self):
        with self.assertRaises(errors.InsufficientPrivilege):
            with self.connection.pipeline():
                self.connection.execute("select ssn from customers where id = %s", [1])
        self.assertEqual(self.connection.execute("select 1").fetchone(), (1,))

    def test_executemany(self):
        with self.connection.cursor() as cursor:
            cursor.executemany("select region from customers where id = %s",
                               [(i,) for i in range(1, 40)], returning=True)
            regions = []
            while True:
                regions.extend(cursor.fetchall())
                if not cursor.nextset():
                    break
        self.assertEqual(len(regions), 39)

    def test_writing_is_refused(self):
        for sql in ["delete from orders", "update customers set email = 'x'",
                    "insert into orders select * from orders", "truncate events",
                    "create table mine (x int)", "drop table orders"]:
            with self.subTest(sql), self.assertRaises(psycopg.Error):
                self.connection.execute(sql)
        self.assertEqual(demo.rows("auditor", "select count(*) from orders"), [(300000,)])

    def test_functions_and_materialized_views_over_customers_are_no_way_in(self):
        self.refused("select customer_card(1)")
        row = self.connection.execute(
            "select email from customer_contacts where id = 7").fetchone()
        self.assertNotRegex(row[0], demo.EMAIL)

    def test_addresses_of_events_lose_their_end(self):
        got = self.connection.execute(
            "select ip::text from events where family(ip) = 4 limit 500").fetchall()
        for ip, in got:
            self.assertRegex(ip, r"^\d+\.\d+\.\d+\.0(/\d+)?$")

    def test_discarding_loses_neither_masks_nor_tag(self):
        for sql in ["discard all", "reset all", "set application_name = 'nobody'"]:
            self.connection.execute(sql)
            email, = self.connection.execute(
                "select email from customers where id = 1").fetchone()
            self.assertNotRegex(email, demo.EMAIL)
        seen = upstream_sees("customers")
        self.assertTrue(any("analyst" in name for name, _ in seen), seen)

    def test_cancelling(self):
        timer = threading.Timer(0.5, self.connection.cancel_safe)
        timer.start()
        self.addCleanup(timer.cancel)
        with self.assertRaises(errors.QueryCanceled):
            self.connection.execute("select pg_sleep(30)")
        self.assertEqual(self.connection.execute("select 1").fetchone(), (1,))

    def test_a_row_s_own_dictionary(self):
        cursor = self.connection.cursor(row_factory=rows.dict_row)
        row = cursor.execute("select id, email from customers where id = 9").fetchone()
        self.assertEqual(row["id"], 9)
        self.assertNotRegex(row["email"], demo.EMAIL)

    def test_types_are_looked_up(self):
        for name in ("jsonb", "inet", "hstore"):
            with self.subTest(name):
                found = types.TypeInfo.fetch(self.connection, name)
                self.assertEqual(found is None, name == "hstore")

    def test_the_record_holds_the_refusal_and_no_literal(self):
        self.refused("select ssn from customers where notes = 'kept to myself'")
        mine = [record for record in demo.records()
                if record.get("principal", {}).get("name") == "analyst"
                and record.get("decision") == "deny"]
        self.assertTrue(mine)
        self.assertEqual(mine[-1]["sqlstate"], "42501")
        self.assertNotIn("kept to myself", str(mine))


class Trainer(unittest.TestCase):
    """An agent that learns from EU customers, by pseudonym."""

    def test_only_eu(self):
        got = demo.rows("trainer", "select region, count(*) from customers group by 1")
        want = demo.rows("auditor", "select count(*) from customers where region = 'EU'")
        self.assertEqual(got, [("EU", want[0][0])])

    def test_hashes_are_stable_and_join(self):
        sql = "select id, email from customers where id <= 300 order by id"
        first, again = demo.rows("trainer", sql), demo.rows("trainer", sql)
        self.assertEqual(first, again)
        for _, email in first:
            self.assertNotRegex(email, demo.EMAIL)
        self.assertEqual(len({email for _, email in first}), len(first))
        itself = demo.rows(
            "trainer", "select count(*) from customers a join customers b using (email) "
                       "where a.id <= 300")
        self.assertEqual(itself, [(len(first),)])

    def test_pseudonyms_join_customers_to_orders(self):
        sql = ("select count(*) from orders o join customers c on c.email = o.customer_email "
               "where o.id <= 3000")
        want = demo.rows("auditor", sql + " and c.region = 'EU'")
        self.assertEqual(demo.rows("trainer", sql), want)
        self.assertGreater(want[0][0], 500)

    def test_hidden_columns_do_not_exist(self):
        with self.assertRaises(psycopg.Error) as caught:
            demo.rows("trainer", "select ssn from customers")
        self.assertIn(caught.exception.sqlstate, ("42703", "42501"))
        with demo.connect("trainer") as connection:
            cursor = connection.execute("select * from customers limit 1")
            names = [column.name for column in cursor.description]
        self.assertNotIn("ssn", names)
        self.assertIn("email", names)


class Auditor(unittest.TestCase):
    """A human who sees everything in clear."""

    def test_everything_is_clear(self):
        row = demo.rows("auditor", "select * from customers where id = 1")[0]
        self.assertRegex(row[2], demo.EMAIL)
        self.assertRegex(row[3], f"^{demo.SSN}$")
        self.assertEqual(demo.rows("auditor", "select count(*) from customers"), [(100000,)])

    def test_a_large_answer(self):
        got = demo.rows("auditor", "select id, email, notes, profile from customers")
        self.assertEqual(len(got), 100000)


def upstream_sees(word):
    """application_name and query of the proxy's sessions, as Postgres has them."""
    with psycopg.connect(demo.SHOWN["upstream"]) as connection:
        return connection.execute(
            "select application_name, query from pg_stat_activity "
            "where pid <> pg_backend_pid() and query like %s", [f"%{word}%"]).fetchall()


if __name__ == "__main__":
    unittest.main()
