"""SQLAlchemy and pandas: what SQLAlchemy asks when it connects and reflects, and
the dtypes that a data frame ends up with."""

import unittest

import pandas
import sqlalchemy

import demo


def engine(persona):
    url = demo.dsn(persona).replace("postgresql://", "postgresql+psycopg://", 1)
    return sqlalchemy.create_engine(url)


class Pandas(unittest.TestCase):
    def setUp(self):
        self.engine = engine("analyst")
        self.addCleanup(self.engine.dispose)

    def test_read_sql(self):
        sql = "select id, email, phone, region, created_at from customers where id <= 5000"
        frame = pandas.read_sql(sql, self.engine)
        self.assertEqual(len(frame), 5000)
        self.assertEqual(str(frame["id"].dtype), "int64")
        self.assertTrue(str(frame["created_at"].dtype).startswith("datetime64"))
        self.assertFalse(frame["email"].str.match(demo.EMAIL).any())

    def test_masked_and_clear_frames_have_the_same_dtypes(self):
        sql = "select id, email, phone, notes, region, created_at from customers where id <= 100"
        masked = pandas.read_sql(sql, self.engine)
        clear = engine("auditor")
        self.addCleanup(clear.dispose)
        self.assertEqual(list(masked.dtypes), list(pandas.read_sql(sql, clear).dtypes))

    def test_dtypes_are_as_without_the_proxy(self):
        direct = sqlalchemy.create_engine(
            demo.SHOWN["upstream"].replace("postgresql://", "postgresql+psycopg://", 1))
        self.addCleanup(direct.dispose)
        for sql in [
            "select id, email, phone, notes, profile, region, created_at from customers "
            "where id <= 100",
            "select o.id, amount, status, email, upper(email) as big from orders o "
            "join customers c on c.id = o.customer_id where o.id <= 100",
            "select *, ip is null as none from events limit 100",
            "select region, count(*) as n, max(created_at) as last from customers group by region",
        ]:
            with self.subTest(sql):
                ours, theirs = pandas.read_sql(sql, self.engine), pandas.read_sql(sql, direct)
                self.assertEqual(list(ours.dtypes.items()), list(theirs.dtypes.items()))
        ours = pandas.read_sql_table("orders", self.engine)
        self.assertEqual(list(ours.dtypes.items()),
                         list(pandas.read_sql_table("orders", direct).dtypes.items()))

    def test_chunks(self):
        with self.engine.connect().execution_options(stream_results=True) as connection:
            chunks = pandas.read_sql(
                "select id, amount from orders where id <= 10000", connection, chunksize=2500)
            self.assertEqual([len(chunk) for chunk in chunks], [2500] * 4)

    def test_grouping(self):
        frame = pandas.read_sql(
            "select region, count(*) as n from customers group by region order by n desc",
            self.engine)
        self.assertEqual(frame["n"].sum(), 100000)

    def test_a_refusal_is_an_error_to_sqlalchemy(self):
        # pandas 3 wraps it in an error of its own.
        expected = (sqlalchemy.exc.DBAPIError, pandas.errors.DatabaseError)
        with self.assertRaisesRegex(expected, "ssn"):
            pandas.read_sql("select ssn from customers", self.engine)
        with self.assertRaisesRegex(sqlalchemy.exc.DBAPIError, "ssn"), \
                self.engine.connect() as connection:
            connection.execute(sqlalchemy.text("select ssn from customers"))

    def test_read_sql_table(self):
        frame = pandas.read_sql_table("orders", self.engine, schema="public",
                                      columns=["id", "customer_id", "amount"])
        self.assertEqual(len(frame), 300000)

    def test_a_pool_gives_connections_back_clean(self):
        engine = sqlalchemy.create_engine(self.engine.url, pool_size=1, max_overflow=0)
        self.addCleanup(engine.dispose)

        @sqlalchemy.event.listens_for(engine, "reset")
        def discard(connection, _record, _state):
            connection.rollback()
            connection.autocommit = True
            connection.execute("DISCARD ALL", prepare=False)
            connection.autocommit = False

        for _ in range(3):
            with engine.connect() as connection:
                email, = connection.execute(sqlalchemy.text(
                    "select email from customers where id = 1")).one()
                self.assertNotRegex(email, demo.EMAIL)

    def test_reflection(self):
        inspector = sqlalchemy.inspect(self.engine)
        self.assertLessEqual({"customers", "orders", "events"},
                             set(inspector.get_table_names(schema="public")))
        self.assertIn("customer_contacts", inspector.get_view_names(schema="public"))
        columns = {column["name"]: str(column["type"])
                   for column in inspector.get_columns("customers", schema="public")}
        self.assertEqual(columns["phone"], "VARCHAR(20)")
        self.assertEqual(columns["salary"], "NUMERIC(10, 2)")

    def test_a_reflected_table_is_queried(self):
        orders = sqlalchemy.Table("orders", sqlalchemy.MetaData(), autoload_with=self.engine)
        query = sqlalchemy.select(sqlalchemy.func.count()).where(orders.c.id <= 100)
        with self.engine.connect() as connection:
            self.assertEqual(connection.execute(query).scalar_one(), 100)


if __name__ == "__main__":
    unittest.main()
