"""pgjdbc, by way of JPype: what tools written in Java ask of a connection and of a
result. Skipped where there is no Java, driver or JPype:

    apt-get install default-jre-headless libpostgresql-jdbc-java
"""

import pathlib
import unittest
from urllib.parse import unquote, urlsplit

import demo

try:
    import jpype
except ImportError:
    jpype = None

DRIVER = pathlib.Path("/usr/share/java/postgresql.jar")

COLUMN = ["getColumnName", "getColumnLabel", "getColumnType", "getColumnTypeName",
          "getColumnClassName", "getPrecision", "getScale", "getColumnDisplaySize",
          "isNullable", "isAutoIncrement", "isCaseSensitive", "isSigned", "getTableName",
          "getSchemaName"]
"""Everything that ResultSetMetaData says of a column, but for what pgjdbc makes up."""


def missing():
    """Why these tests cannot run."""
    if jpype is None:
        return "JPype is not installed"
    if not DRIVER.exists():
        return f"pgjdbc is not installed ({DRIVER})"
    try:
        jpype.getDefaultJVMPath()
    except jpype.JVMNotFoundException:
        return "Java is not installed"
    return None


@unittest.skipIf(missing(), missing())
class Jdbc(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        jpype.startJVM(classpath=[str(DRIVER)])

    def connect(self, dsn, **options):
        at = urlsplit(dsn)
        properties = jpype.java.util.Properties()
        properties.setProperty("user", unquote(at.username))
        properties.setProperty("password", unquote(at.password))
        for name, value in options.items():
            properties.setProperty(name, value)
        url = f"jdbc:postgresql://{at.hostname}:{at.port}{at.path}"
        connection = jpype.java.sql.DriverManager.getConnection(url, properties)
        self.addCleanup(connection.close)
        return connection

    def described(self, connection, sql):
        statement = connection.prepareStatement(sql)
        self.addCleanup(statement.close)
        before = columns(statement.getMetaData())
        result = statement.executeQuery()
        self.assertEqual(columns(result.getMetaData()), before)
        return before

    def test_a_result_is_described_as_without_the_proxy(self):
        for persona, sql in [
            ("analyst", "select id, email, phone, notes, profile, region, created_at "
                        "from customers where id = 1"),
            ("analyst", "select c.email as address, o.amount, upper(c.email), count(*) over () "
                        "from customers c join orders o on o.customer_id = c.id where o.id < 5"),
            ("analyst", "select e.*, x.phone from events e, "
                        "(select id, phone from customers) x where x.id = 1 limit 1"),
            ("trainer", "select id, email, phone, region from customers where id < 9"),
            ("auditor", "select * from customers where id = 1"),
        ]:
            with self.subTest(sql):
                got = self.described(self.connect(demo.dsn(persona)), sql)
                want = self.described(self.connect(demo.SHOWN["upstream"]), sql)
                self.assertEqual(got, want)
        self.assertEqual([column["getTableName"] for column in want][:2], ["customers"] * 2)

    def test_the_database_is_described(self):
        meta = self.connect(demo.dsn("analyst")).getMetaData()
        tables = {row["TABLE_NAME"] for row in rows(meta.getTables(None, "public", "%", None))}
        self.assertLessEqual({"customers", "orders", "events", "customer_contacts"}, tables)
        found = rows(meta.getColumns(None, "public", "customers", "%"))
        self.assertIn(("phone", "varchar", "20"),
                      [(it["COLUMN_NAME"], it["TYPE_NAME"], it["COLUMN_SIZE"]) for it in found])
        keys = rows(meta.getPrimaryKeys(None, "public", "customers"))
        self.assertEqual([it["COLUMN_NAME"] for it in keys], ["id"])

    def test_hidden_columns_are_not_described(self):
        meta = self.connect(demo.dsn("trainer")).getMetaData()
        found = rows(meta.getColumns(None, "public", "customers", "%"))
        names = [it["COLUMN_NAME"] for it in found]
        self.assertIn("email", names)
        self.assertNotIn("ssn", names)

    def test_prepared_statements_in_binary(self):
        """From the second execution on, by name and with binary results."""
        connection = self.connect(demo.dsn("analyst"), prepareThreshold="1",
                                  binaryTransfer="true")
        statement = connection.prepareStatement(
            "select id, email, created_at from customers where id = ?")
        self.addCleanup(statement.close)
        for number in range(1, 20):
            statement.setInt(1, number)
            result = statement.executeQuery()
            self.assertTrue(result.next())
            self.assertEqual(result.getInt(1), number)
            self.assertNotRegex(str(result.getString(2)), demo.EMAIL)
            self.assertIsNotNone(result.getTimestamp(3))

    def test_fetching_in_parts(self):
        connection = self.connect(demo.dsn("analyst"))
        connection.setAutoCommit(False)
        statement = connection.createStatement()
        self.addCleanup(statement.close)
        statement.setFetchSize(500)
        result = statement.executeQuery("select id, email from customers where id <= 2000")
        count = 0
        while result.next():
            count += 1
            self.assertNotRegex(str(result.getString(2)), demo.EMAIL)
        self.assertEqual(count, 2000)

    def test_a_refusal_names_the_column_and_leaves_the_connection(self):
        statement = self.connect(demo.dsn("analyst")).createStatement()
        self.addCleanup(statement.close)
        with self.assertRaisesRegex(jpype.java.sql.SQLException, "ssn") as caught:
            statement.executeQuery("select ssn from customers")
        self.assertEqual(str(caught.exception.getSQLState()), "42501")
        self.assertTrue(statement.executeQuery("select 1").next())


def columns(meta):
    """What is said of each column."""
    return [{name: str(getattr(meta, name)(at)) for name in COLUMN}
            for at in range(1, meta.getColumnCount() + 1)]


def rows(result):
    """A result as dictionaries of text."""
    meta = result.getMetaData()
    names = [str(meta.getColumnLabel(at)) for at in range(1, meta.getColumnCount() + 1)]
    found = []
    while result.next():
        # Some labels are in lower case, and looked up in either.
        found.append({name.upper(): str(result.getString(name)) for name in names})
    result.close()
    return found


if __name__ == "__main__":
    unittest.main()
