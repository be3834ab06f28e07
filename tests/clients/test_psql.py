"""psql: what people type, what its backslash commands send, \\copy, and the
queries behind the tab key (as psql 15 sends them)."""

import pathlib
import signal
import subprocess
import tempfile
import time
import unittest

import demo

# What psql 15 sends when Tab is pressed after `select * from cust`.
COMPLETION = r"""
SELECT c.relname, NULL::pg_catalog.text
FROM pg_catalog.pg_class c
WHERE c.relkind IN ('r', 'S', 'v', 'm', 'f', 'p')
  AND (c.relname) LIKE 'cust%'
  AND pg_catalog.pg_table_is_visible(c.oid)
  AND c.relnamespace <> (SELECT oid FROM pg_catalog.pg_namespace WHERE nspname = 'pg_catalog')
LIMIT 1000
"""
# And after `select * from customers where r`.
COLUMNS = r"""
SELECT attname FROM pg_catalog.pg_attribute a, pg_catalog.pg_class c
WHERE c.oid = a.attrelid AND a.attnum > 0 AND NOT a.attisdropped
  AND (attname) LIKE 'r%' AND (c.relname) = 'customers'
  AND pg_catalog.pg_table_is_visible(c.oid)
LIMIT 1000
"""


def psql(persona, *commands, options=()):
    arguments = ["psql", "-X", "-w", "-v", "ON_ERROR_STOP=1", *options, demo.dsn(persona)]
    for command in commands:
        arguments += ["-c", command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False,
                          env={"PATH": "/usr/bin:/bin:/usr/local/bin", "PAGER": "cat"})


class Psql(unittest.TestCase):
    def shown(self, persona, *commands, options=()):
        done = psql(persona, *commands, options=options)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def test_ssn_is_refused(self):
        done = psql("analyst", "select id, email, ssn from customers")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ERROR:", done.stderr)
        self.assertIn("ssn", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_the_same_query_three_ways(self):
        sql = "select email from customers where region = 'EU' order by id limit 3"
        analyst, trainer, auditor = (
            self.shown(name, sql, options=["-At"]).split()
            for name in ("analyst", "trainer", "auditor"))
        self.assertTrue(len(analyst) == len(trainer) == len(auditor) == 3)
        for email in auditor:
            self.assertRegex(email, demo.EMAIL)
        for email in analyst + trainer:
            self.assertNotRegex(email, demo.EMAIL)

    def test_describing_a_table(self):
        out = self.shown("analyst", r"\d customers")
        for word in ("email", "character varying(20)", "numeric(10,2)", "customers_pkey"):
            self.assertIn(word, out)

    def test_listing(self):
        for command, words in {
            r"\dt": ["customers", "orders"],
            r"\dv": ["customer_contacts"],
            r"\dm": ["region_totals"],
            r"\d": ["events"],
            r"\l": ["shop"],
            r"\dn": ["public"],
            r"\d+ customers": ["email"],
            r"\d events": ["Partition key"],
            r"\di": ["customers_pkey"],
            r"\du": ["pgveil"],
            r"\dp": ["customers"],
            r"\dT": ["List of data types"],
            r"\dx": ["plpgsql"],
            r"\sv customer_contacts": ["VIEW"],
            r"\df": ["customer_card"],
            r"\conninfo": ["analyst"],
        }.items():
            with self.subTest(command):
                out = self.shown("analyst", command)
                for word in words:
                    self.assertIn(word, out)

    def test_describing_a_result(self):
        done = subprocess.run(["psql", "-X", "-w", "-At", demo.dsn("analyst")],
                              input="select id, phone from customers \\gdesc\n",
                              capture_output=True, text=True, timeout=60, check=False)
        self.assertIn("phone|character varying(20)", done.stdout, done.stderr)

    def test_sizes_are_for_those_who_see_all(self):
        self.assertIn("customers", self.shown("auditor", r"\dt+"))
        self.assertIn("pg_table_size", psql("analyst", r"\dt+").stderr)

    def test_completion(self):
        out = self.shown("analyst", COMPLETION, options=["-At"])
        self.assertIn("customers|", out)
        self.assertIn("customer_contacts|", out)
        self.assertIn("region", self.shown("analyst", COLUMNS, options=["-At"]))

    def test_hidden_columns_are_not_described(self):
        out = self.shown("trainer", r"\d customers")
        self.assertIn("email", out)
        self.assertNotIn("ssn ", out)

    def test_copy_to_a_file(self):
        with tempfile.TemporaryDirectory() as folder:
            file = pathlib.Path(folder) / "out.csv"
            self.shown("analyst",
                       rf"\copy (select id, email from customers where id <= 50) to '{file}' csv")
            lines = file.read_text().splitlines()
        self.assertEqual(len(lines), 50)
        for line in lines:
            self.assertNotRegex(line.split(",")[1], demo.EMAIL)

    def test_copy_of_a_blocked_column(self):
        done = psql("analyst", r"\copy customers (id, ssn) to stdout")
        self.assertNotEqual(done.returncode, 0)
        self.assertIn("ssn", done.stderr)
        self.assertEqual(done.stdout, "")

    def test_several_statements_in_one_message(self):
        out = self.shown("analyst", "select 1; select region from customers where id = 1",
                         options=["-At"])
        self.assertEqual(len(out.split()), 2)
        done = psql("analyst", "select 'before'; select ssn from customers")
        self.assertNotIn("before", done.stdout)

    def test_fetching_in_steps(self):
        out = self.shown("analyst", "select id from customers order by id limit 1000",
                         options=["-At", "-v", "FETCH_COUNT=100"])
        self.assertEqual(len(out.split()), 1000)

    def test_syntax_errors_are_postgres_own(self):
        done = psql("analyst", "selec 1")
        self.assertIn('syntax error at or near "selec"', done.stderr)
        self.assertIn("LINE 1", done.stderr)

    def test_prepared_statements(self):
        out = self.shown("analyst", "prepare one(int) as select email from customers where id = $1",
                         "execute one(1)", "deallocate one", options=["-Atq"])
        self.assertNotRegex(out.strip(), demo.EMAIL)
        self.assertIn("@", out)

    def test_ctrl_c(self):
        running = subprocess.Popen(
            ["psql", "-X", "-w", demo.dsn("analyst"), "-c", "select pg_sleep(60)"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        time.sleep(1)
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, heard = running.communicate(timeout=20)
        self.assertIn("canceling statement due to user request", heard)
        self.assertLess(time.monotonic() - began, 10)

    def test_transactions(self):
        out = self.shown("analyst", "begin; select count(*) from orders where id <= 5; commit",
                         options=["-Atq"])
        self.assertEqual(out.strip(), "5")


if __name__ == "__main__":
    unittest.main()
