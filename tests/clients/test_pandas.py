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

    def test_a_refusal_is_an_error_that_names_the_column(self):
        with self.assertRaisesRegex(pandas.errors.DatabaseError, "column ssn"):
            pandas.read_sql("select ssn from customers", self.engine)
        with self.engine.connect() as connection:
            with self.assertRaisesRegex(sqlalchemy.exc.DBAPIError, "column ssn"):
                connection.execute(sqlalchemy.text("select ssn from customers"))

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
