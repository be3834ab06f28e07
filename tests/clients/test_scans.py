"""Scans in parts: by ctid (DuckDB), by ranges of a key (connectorx, Spark), by samples,
all of them in one snapshot that a session exports; and drivers that read into Arrow.
Each driver's tests are skipped where it is not installed."""

import concurrent.futures
import unittest

import psycopg

import demo

try:
    import connectorx
    import pyarrow.compute
except ImportError:
    connectorx = None
try:
    import adbc_driver_postgresql.dbapi as adbc
    import pyarrow.compute
except ImportError:
    adbc = None

RANGES = [(low, low + 25_000) for low in range(1, 100_001, 25_000)]


def blocks(low, high):
    return (f'COPY (SELECT "id", "email" FROM "public"."customers" '
            f"WHERE ctid BETWEEN '({low},0)'::tid AND '({high},65535)'::tid) "
            'TO STDOUT (FORMAT "binary")')


class Parts(unittest.TestCase):
    """The statements, as those tools send them."""

    def setUp(self):
        self.connection = demo.connect("analyst")
        self.addCleanup(self.connection.close)

    def test_blocks_by_ctid(self):
        """DuckDB's postgres extension: COPY of ranges of blocks, in binary. How many
        blocks there are is told to those who see all rows in clear; the last range is
        open in any case, for the table may have grown."""
        want = dict(self.connection.execute("select id, email from customers").fetchall())
        found = {}
        for low in range(0, 3000, 1000):
            high = low + 999 if low < 2000 else 4294967295
            before = len(found)
            with self.connection.cursor() as cursor, cursor.copy(blocks(low, high)) as copy:
                copy.set_types(["int4", "text"])
                found.update(copy.rows())
            self.assertGreater(len(found), before)
        self.assertEqual(found, want)
        for email in found.values():
            self.assertNotRegex(email, demo.EMAIL)

    def test_blocks_beside_hidden_rows(self):
        """Where the rows lie that a row filter leaves tells of the others; DuckDB goes
        without by a setting of its own."""
        with demo.connect("trainer") as connection, connection.cursor() as cursor:
            with self.assertRaisesRegex(psycopg.Error, "row filter(.|\n)*pg_use_ctid_scan"):
                with cursor.copy(blocks(0, 999)) as copy:
                    copy.read()

    def test_bounds_of_a_key(self):
        """connectorx and Spark: the bounds first, then a range for each worker."""
        for sql in [
            "select min(id), max(id) from customers",
            "SELECT min(id), max(id) FROM (SELECT id, email FROM customers) AS CXTMPTAB_RANGE",
            "SELECT MIN(\"id\") MIN_ID, MAX(\"id\") FROM (select id, email from customers) spark",
        ]:
            self.assertEqual(self.connection.execute(sql).fetchone(), (1, 100_000))
        for sql in [
            "SELECT count(*) FROM (SELECT id, email FROM customers) AS CXTMPTAB_PART "
            "WHERE CXTMPTAB_PART.id >= 11 AND CXTMPTAB_PART.id < 21",
            "SELECT count(\"email\") FROM (select id, email from customers) spark "
            "WHERE \"id\" >= 11 AND \"id\" < 21 OR \"id\" is null",
        ]:
            self.assertEqual(self.connection.execute(sql).fetchone(), (10,))
        # Of no rows only the shape: Spark's way to learn a schema.
        cursor = self.connection.execute(
            "SELECT * FROM (select id, email, created_at from customers) q WHERE 1=0")
        self.assertEqual([it.type_display for it in cursor.description],
                         ["int4", "text", "timestamptz"])

    def test_samples(self):
        for sample in ["bernoulli (5) repeatable (1)", "system (5) repeatable (1)"]:
            sql = f"select id, email from customers tablesample {sample}"
            first = self.connection.execute(sql).fetchall()
            self.assertEqual(first, self.connection.execute(sql).fetchall())
            self.assertTrue(1000 < len(first) < 10_000, len(first))
            for _, email in first:
                self.assertNotRegex(email, demo.EMAIL)

    def test_parts_in_one_snapshot(self):
        """One session exports its snapshot, others read parts of what it sees."""
        isolation = psycopg.IsolationLevel.REPEATABLE_READ
        self.connection.isolation_level = isolation
        snapshot, = self.connection.execute("select pg_export_snapshot()").fetchone()

        def part(bounds):
            with demo.connect("analyst", autocommit=True) as other:
                other.execute("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
                other.execute(f"SET TRANSACTION SNAPSHOT '{snapshot}'")
                got = other.execute(
                    "select id, email, pg_current_snapshot()::text from customers "
                    "where id >= %s and id < %s", bounds).fetchall()
                other.execute("COMMIT")
                return got

        own, = self.connection.execute("select pg_current_snapshot()::text").fetchone()
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            parts = list(pool.map(part, RANGES))
        found = [row for rows in parts for row in rows]
        self.assertEqual(sorted(row[0] for row in found), list(range(1, 100_001)))
        self.assertEqual({row[2] for row in found}, {own})
        for _, email, _ in found:
            self.assertNotRegex(email, demo.EMAIL)

    def test_everything_is_discarded_around_each_use(self):
        self.connection.autocommit = True
        for number in range(1, 6):
            self.connection.execute("DISCARD ALL", prepare=False)
            self.connection.execute("SET application_name TO 'part'", prepare=False)
            email, = self.connection.execute(
                "select email from customers where id = %s", [number], prepare=False).fetchone()
            self.assertNotRegex(email, demo.EMAIL)
            with self.assertRaises(psycopg.errors.InsufficientPrivilege):
                self.connection.execute("select ssn from customers", prepare=False)


@unittest.skipIf(connectorx is None, "connectorx is not installed")
class Connectorx(unittest.TestCase):
    """Also what polars reads a database by."""

    def test_in_parts(self):
        for protocol in ("binary", "csv", "cursor"):
            with self.subTest(protocol):
                table = connectorx.read_sql(
                    demo.dsn("analyst"), "select id, email, region from customers",
                    partition_on="id", partition_num=4, protocol=protocol, return_type="arrow")
                self.assertEqual(table.num_rows, 100_000)
                self.assertEqual(pyarrow.compute.count_distinct(table["id"]).as_py(), 100_000)
                self.assertFalse(any_raw(table["email"]))

    def test_types_are_as_without_the_proxy(self):
        sql = ("select id, email, phone, notes, profile, region, created_at "
               "from customers where id < 100")
        ours, theirs = (connectorx.read_sql(dsn, sql, return_type="arrow").schema
                        for dsn in (demo.dsn("analyst"), demo.SHOWN["upstream"]))
        self.assertEqual(ours, theirs)


@unittest.skipIf(adbc is None, "ADBC is not installed")
class Adbc(unittest.TestCase):
    def setUp(self):
        self.connection = adbc.connect(demo.dsn("analyst"))
        self.addCleanup(self.connection.close)

    def test_types_are_as_without_the_proxy(self):
        sql = ("select c.id, email, phone, notes, profile, region, created_at, amount "
               "from customers c join orders o on o.customer_id = c.id where o.id < 1000")
        with self.connection.cursor() as cursor:
            cursor.execute(sql)
            table = cursor.fetch_arrow_table()
        with adbc.connect(demo.SHOWN["upstream"]) as direct, direct.cursor() as cursor:
            cursor.execute(sql)
            self.assertEqual(table.schema, cursor.fetch_arrow_table().schema)
        self.assertEqual(table.num_rows, 999)
        self.assertFalse(any_raw(table["email"]))

    def test_the_catalog(self):
        self.assertIn("region", self.connection.adbc_get_table_schema("customers").names)
        objects = self.connection.adbc_get_objects(depth="tables").read_all().to_pylist()
        names = {table["table_name"] for catalog in objects
                 for schema in catalog["catalog_db_schemas"] or []
                 for table in schema["db_schema_tables"] or []}
        self.assertLessEqual({"customers", "orders"}, names)

    def test_a_refusal(self):
        with self.connection.cursor() as cursor, \
                self.assertRaisesRegex(adbc.Error, "ssn"):
            cursor.execute("select ssn from customers")


def any_raw(column):
    matched = pyarrow.compute.match_substring_regex(column, demo.EMAIL)
    return pyarrow.compute.any(matched).as_py()


if __name__ == "__main__":
    unittest.main()
