"""asyncpg: binary format throughout, a statement cache, its own introspection
of types, cursors, and `RESET ALL` and friends around every use of a pool."""

import asyncio
import json
import unittest

import asyncpg

import demo


class Asyncpg(unittest.IsolatedAsyncioTestCase):
    async def asyncSetUp(self):
        self.connection = await asyncpg.connect(demo.dsn("analyst"))
        self.addAsyncCleanup(self.connection.close)

    async def test_masked_and_typed(self):
        row = await self.connection.fetchrow(
            "select id, email, phone, notes, profile, created_at, region "
            "from customers where id = $1", 5)
        self.assertEqual(row["id"], 5)
        self.assertNotRegex(row["email"], demo.EMAIL)

    async def test_a_token_is_a_password(self):
        connection = await asyncpg.connect(demo.dsn("assistant"))
        self.addAsyncCleanup(connection.close)
        email = await connection.fetchval("select email from customers where id = $1", 5)
        self.assertRegex(email, r"^.\*\*\*@")
        with self.assertRaises(asyncpg.InvalidPasswordError):
            await asyncpg.connect(demo.dsn("assistant"), password="a.b.c")

    async def test_refusals_name_the_column(self):
        with self.assertRaisesRegex(asyncpg.InsufficientPrivilegeError, "ssn"):
            await self.connection.fetch("select ssn from customers")
        self.assertEqual(await self.connection.fetchval("select 1"), 1)

    async def test_addresses(self):
        ips = await self.connection.fetch("select ip from events limit 20")
        self.assertEqual(len(ips), 20)

    async def test_a_prepared_statement(self):
        statement = await self.connection.prepare(
            "select count(*) from orders where customer_id = $1")
        for i in range(1, 30):
            self.assertGreaterEqual(await statement.fetchval(i), 0)

    async def test_a_cursor(self):
        seen = 0
        async with self.connection.transaction(readonly=True):
            async for row in self.connection.cursor(
                    "select id, email from customers order by id", prefetch=100):
                seen += 1
                self.assertNotRegex(row["email"], demo.EMAIL)
                if seen == 1000:
                    break
        self.assertEqual(seen, 1000)

    async def test_copy_from_query(self):
        blocks = []

        async def keep(block):
            blocks.append(block)

        await self.connection.copy_from_query(
            "select id, email from customers where id <= 100", output=keep, format="csv")
        text = b"".join(blocks).decode()
        self.assertEqual(len(text.splitlines()), 100)
        for line in text.splitlines():
            self.assertNotRegex(line.split(",")[1], demo.EMAIL)

    async def test_a_pool(self):
        async with asyncpg.create_pool(demo.dsn("trainer"), min_size=2, max_size=4) as pool:
            async def one(i):
                return await pool.fetchval("select count(*) from customers where id < $1", i)

            first = await asyncio.gather(*(one(i * 100) for i in range(20)))
            again = await asyncio.gather(*(one(i * 100) for i in range(20)))
        self.assertEqual(first, again)
        self.assertEqual(first, sorted(first))

    async def test_introspection_of_types(self):
        """Arrays and composites are not built in: asyncpg asks the catalog."""
        got = await self.connection.fetchval("select array_agg(region) from customers where id < 9")
        self.assertEqual(len(got), 8)
        row = await self.connection.fetchval("select o from orders o where id = 7")
        # Of a table with masks it is a row without a name: its columns have none.
        self.assertEqual(row[0], 7)
        await self.connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads)
        profile = await self.connection.fetchval("select profile from customers where id = 1")
        self.assertIn("plan", profile)

    async def test_executemany(self):
        await self.connection.executemany(
            "select email from customers where id = $1", [(i,) for i in range(1, 100)])

    async def test_a_wrong_password_and_an_unknown_user_look_the_same(self):
        heard = []
        for user in ("analyst", "nobody_by_this_name"):
            with self.assertRaises(asyncpg.PostgresError) as caught:
                await asyncpg.connect(demo.dsn("analyst"), user=user, password="wrong")
            self.assertEqual(caught.exception.sqlstate, "28P01")
            heard.append(str(caught.exception).replace(user, "…"))
        self.assertEqual(heard[0], heard[1])

    async def test_an_unknown_dataset(self):
        with self.assertRaises(asyncpg.InvalidCatalogNameError):
            await asyncpg.connect(demo.dsn("analyst"), database="elsewhere")

    async def test_cancelling(self):
        with self.assertRaises(asyncio.TimeoutError):
            await self.connection.fetch(
                "select count(*) from orders a, orders b, orders c where a.amount < b.amount",
                timeout=1)
        self.assertEqual(await self.connection.fetchval("select 1"), 1)


if __name__ == "__main__":
    unittest.main()
