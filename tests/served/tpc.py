"""TPC-H and TPC-DS over governed tables: are all queries served, and right?

    sh tests/served/tpc.sh [pgveil] [--scale 0.01] [h|ds] [query …]

DuckDB makes the data and has the queries. A private Postgres holds the tables, in
every one of which policy masks columns for the role `masked` (what is masked is
chosen by type: see `treatment`). Each query runs

* directly, and through the proxy as an auditor: the answers must be equal;
* through the proxy as the masked role, and directly on a database whose tables were
  filled with what that role sees: they must be equal, too.

Where a query's last LIMIT cuts through ties, any of several answers is right: there
the answers without it are compared. A query that Postgres itself does not run is
counted as failed. What is changed in the queries for Postgres's sake is ADJUSTED.
"""

import argparse
import decimal
import os
import pathlib
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import duckdb
import psycopg

ADJUSTED = [
    # Postgres has no type of this name.
    (r"\bAS double\)", "AS double precision)"),
]
"""Patterns in the queries that Postgres reads otherwise, and what is written instead."""

TIMEOUT = "120s"
PASSWORD = "a test's password"


def find(name: str) -> str:
    """A program of the server, as tests/support/postgres.rs finds it."""
    given = os.environ.get("PGVEIL_TEST_PGBIN")
    if given:
        return str(pathlib.Path(given) / name)
    debian = sorted(pathlib.Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
    for place in [*map(pathlib.Path, os.environ["PATH"].split(":")), *reversed(debian)]:
        if (place / name).exists():
            return str(place / name)
    sys.exit(f"tpc: {name} is missing: sh docker/setup.sh server")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Postgres:
    """A server of one's own in a directory, by a user that it accepts."""

    def __init__(self, home: pathlib.Path):
        self.home, self.port = home / "pg", free_port()
        self.home.mkdir()
        self.owner = {}
        if os.getuid() == 0:
            user = pwd.getpwnam("postgres")
            os.chown(self.home, user.pw_uid, user.pw_gid)
            self.owner = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = self.home / "data"
        subprocess.run(
            [find("initdb"), "-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C", "-D", data],
            check=True, stdout=subprocess.DEVNULL, cwd=self.home, **self.owner)
        settings = ["fsync=off", "listen_addresses=127.0.0.1", f"unix_socket_directories={self.home}",
                    f"port={self.port}", "max_parallel_workers_per_gather=0", "jit=off", "work_mem=64MB"]
        options = [part for setting in settings for part in ("-c", setting)]
        self.server = subprocess.Popen(
            [find("postgres"), "-D", data, *options], cwd=self.home, stdout=subprocess.DEVNULL,
            stderr=(self.home / "log").open("w"), **self.owner)
        wait(lambda: self.connect("postgres").close())

    def connect(self, database: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True)

    def stop(self):
        self.server.send_signal(signal.SIGINT)
        self.server.wait()


def wait(attempt):
    for _ in range(300):
        try:
            return attempt()
        except psycopg.OperationalError:
            time.sleep(0.1)
    sys.exit("tpc: no answer in 30 s")


def types(duck: duckdb.DuckDBPyConnection, table: str) -> dict:
    names = {"DOUBLE": "double precision", "HUGEINT": "numeric"}
    described = duck.execute(f"DESCRIBE {table}").fetchall()
    return {name: names.get(kind, kind.lower()) for name, kind, *_ in described}


def treatment(column: str, kind: str, number: int) -> str | None:
    """What the masked role sees of a column, by its type: not every one is masked, so
    that masked and clear ones meet, and no key is, so that joins find rows."""
    if re.search(r"(key|_sk|_id|_number|_date|_year|_qoy|_moy|_dom|_seq)$", column):
        return None
    if kind == "varchar":
        return ["partial", None, None, "redact", None][number % 5]
    if kind.startswith("decimal"):
        return ["number", None][number % 2]
    if kind == "date":
        return "month"
    return None


MASKS = {
    "partial": "{ mask: partial, keep_first: 4 }",
    "redact": "{ mask: redact }",
    "number": "{ mask: number, step: 0.5 }",
    "whole": "{ mask: number, step: 10 }",
    "month": "{ mask: date, to: month }",
}


def policy(tables: dict, verifier: str) -> str:
    lines = ["datasets:", "  tpc:", "    unclassified: clear", "    tables:"]
    for table, columns in tables.items():
        tags, count = {}, 0
        for column, kind in columns.items():
            tag = treatment(column, kind, count)
            count += 1
            if tag:
                tags[column] = tag
        if not tags:
            # Keys only, and names of months: something is masked even so.
            column = next((name for name, kind in columns.items() if kind == "varchar"), None)
            tags = {column: "partial"} if column else {}
        if not tags:
            column = list(columns)[-1]
            tags = {column: "whole"}
        listed = ", ".join(f"{column}: {tag}" for column, tag in tags.items())
        lines.append(f"      public.{table}: {{ {listed} }}")
    masks = ", ".join(f"{tag}: {mask}" for tag, mask in MASKS.items())
    lines += [
        "roles:",
        "  masked:",
        "    grants:",
        "      - { dataset: tpc, tables: [\"public.*\"], tags: { " + masks + " } }",
        "  auditor:",
        "    grants:",
        "      - { dataset: tpc, tables: [\"public.*\"], tags: { \"*\": clear } }",
        "identities:",
        f"  masked: {{ kind: human, roles: [masked], scram: \"{verifier}\" }}",
        f"  auditor: {{ kind: human, roles: [auditor], scram: \"{verifier}\" }}",
    ]
    return "\n".join(lines) + "\n"


class Proxy:
    """`pgveil serve` in front of a database."""

    def __init__(self, pgveil: str, home: pathlib.Path, postgres: Postgres, database: str, tables: dict):
        self.port = free_port()
        verifier = subprocess.run(
            [pgveil, "identity", "verifier"], input=PASSWORD + "\n", text=True, capture_output=True, check=True)
        (home / "policies").mkdir(parents=True)
        (home / "policies" / "policy.yaml").write_text(policy(tables, verifier.stdout.strip().splitlines()[-1]))
        (home / "key").write_text(secrets.token_hex(32))
        (home / "key").chmod(0o600)
        (home / "pgveil.yaml").write_text(f"""
listen: {{ address: "127.0.0.1:{self.port}" }}
policies: policies
datasets:
  tpc:
    upstream: {{ host: 127.0.0.1, port: {postgres.port}, dbname: {database}, user: proxy }}
    mask_key: {{ file: key }}
audit: {{ file: records.jsonl }}
log: {{ level: error }}
""")
        self.process = subprocess.Popen([pgveil, "serve", "--config", home / "pgveil.yaml"])
        wait(lambda: self.connect("auditor").close())

    def connect(self, caller: str) -> psycopg.Connection:
        return psycopg.connect(
            host="127.0.0.1", port=self.port, user=caller, password=PASSWORD, dbname="tpc", autocommit=True)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait()


def create(postgres: Postgres, database: str, tables: dict):
    with postgres.connect("postgres") as connection:
        connection.execute(f"CREATE DATABASE {database}")
    with postgres.connect(database) as connection:
        for table, columns in tables.items():
            listed = ", ".join(f"{column} {kind}" for column, kind in columns.items())
            connection.execute(f"CREATE TABLE {table} ({listed})")


def index(postgres: Postgres, database: str, tables: dict):
    """The keys that the queries join by; without them, some take minutes."""
    with postgres.connect(database) as connection:
        for table, columns in tables.items():
            for column in columns:
                if re.search(r"(key|_sk)$", column):
                    connection.execute(f"CREATE INDEX ON {table} ({column})")
        connection.execute("ANALYZE")


def load(duck, postgres: Postgres, database: str, tables: dict, home: pathlib.Path):
    create(postgres, database, tables)
    with postgres.connect(database) as connection:
        for table in tables:
            file = home / f"{table}.csv"
            duck.execute(f"COPY {table} TO '{file}' (HEADER false)")
            with connection.cursor().copy(f"COPY {table} FROM STDIN (FORMAT csv)") as copy:
                copy.write(file.read_bytes())
            file.unlink()
        connection.execute("DROP ROLE IF EXISTS proxy")
        connection.execute("CREATE ROLE proxy LOGIN; GRANT pg_read_all_data TO proxy")
    index(postgres, database, tables)


def image(proxy: Proxy, postgres: Postgres, database: str, tables: dict):
    """A database of what the masked role sees."""
    create(postgres, database, tables)
    with proxy.connect("masked") as seen, postgres.connect(database) as connection:
        for table in tables:
            with (seen.cursor().copy(f"COPY {table} TO STDOUT") as out,
                  connection.cursor().copy(f"COPY {table} FROM STDIN") as into):
                for piece in out:
                    into.write(piece)
    index(postgres, database, tables)


class Failed(Exception):
    """Why a query counts as failed."""


def answer(connection: psycopg.Connection, query: str):
    try:
        cursor = connection.execute(query)
        return [column.name for column in cursor.description], cursor.fetchall()
    except psycopg.Error as error:
        connection.rollback()
        raise Failed(str(error).splitlines()[0]) from error


def alike(value):
    """Sums of floating-point numbers differ with the order of what is added."""
    if isinstance(value, float):
        return f"{value:.9g}"
    if isinstance(value, decimal.Decimal):
        return f"{value.normalize():.12g}"
    return "" if value is None else str(value)


def same(one, other) -> bool:
    image = lambda rows: sorted(tuple(map(alike, row)) for row in rows)
    return one[0] == other[0] and image(one[1]) == image(other[1])


LIMIT = re.compile(r"\s+LIMIT\s+\d+\s*;?\s*$", re.IGNORECASE)


def compare(direct, proxied, query: str, what: str) -> int:
    try:
        expected = answer(direct, query)
    except Failed as failed:
        raise Failed(f"Postgres itself: {failed}") from failed
    served = answer(proxied, query)
    if not same(expected, served):
        whole = LIMIT.sub("", query)
        if whole == query or not same(answer(direct, whole), answer(proxied, whole)):
            raise Failed(f"{what}: another answer")
    return len(served[1])


def run(name: str, queries: dict, raw, auditor, seen, masked) -> int:
    passed = 0
    for number, query in queries.items():
        for pattern, text in ADJUSTED:
            query = re.sub(pattern, text, query, flags=re.IGNORECASE)
        begin = time.monotonic()
        try:
            rows = compare(raw, auditor, query, "as the auditor")
            masked_rows = compare(seen, masked, query, "as the masked role")
        except Failed as failed:
            print(f"{name} {number:>2}  {failed}", flush=True)
            continue
        passed += 1
        print(f"{name} {number:>2}  {rows} rows, masked {masked_rows} ({time.monotonic() - begin:.1f} s)", flush=True)
    print(f"{name}: {passed}/{len(queries)}", flush=True)
    return passed


def benchmark(suite: str, only: list, scale: float, pgveil: str, home: pathlib.Path) -> bool:
    generate, listed = {
        "h": (f"CALL dbgen(sf={scale})", "tpch_queries"),
        "ds": (f"CALL dsdgen(sf={scale})", "tpcds_queries"),
    }[suite]
    home.mkdir()
    duck = duckdb.connect()
    duck.execute(generate)
    tables = {table: types(duck, table) for (table,) in duck.execute("SHOW TABLES").fetchall()}
    queries = dict(duck.execute(f"SELECT query_nr, query FROM {listed}()").fetchall())
    queries = {number: query for number, query in queries.items() if not only or number in only}
    postgres = Postgres(home)
    proxy = None
    try:
        load(duck, postgres, "raw", tables, home)
        proxy = Proxy(pgveil, home / "proxy", postgres, "raw", tables)
        image(proxy, postgres, "image", tables)
        sessions = [postgres.connect("raw"), proxy.connect("auditor"),
                    postgres.connect("image"), proxy.connect("masked")]
        for session in sessions:
            session.execute(f"SET statement_timeout TO '{TIMEOUT}'")
        return run(f"TPC-{suite.upper()}", queries, *sessions) == len(queries)
    finally:
        if proxy:
            proxy.stop()
        postgres.stop()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("pgveil")
    parser.add_argument("--scale", type=float, default=0.01)
    parser.add_argument("what", nargs="*", help="h, ds, numbers of queries")
    arguments = parser.parse_args()
    suites = [one for one in ("h", "ds") if one in arguments.what] or ["h", "ds"]
    only = [int(one) for one in arguments.what if one.isdigit()]
    home = pathlib.Path(tempfile.mkdtemp(prefix="pgveil-tpc-", dir="/tmp"))
    home.chmod(0o755)
    try:
        results = [benchmark(suite, only, arguments.scale, arguments.pgveil, home / suite) for suite in suites]
        return 0 if all(results) else 1
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
