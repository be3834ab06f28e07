"""What the demo is: its connection strings, and what its raw values look like."""

import json
import pathlib

import psycopg

SHOWN: dict = {}
"""The object that `pgveil demo --json` printed."""

EMAIL = r"^[a-z]+\.[a-z]+\d+@(example\.(com|org|net)|mail\.example|post\.example)$"
"""Every raw address, and no masked one."""

SSN = r"\d{3}-\d{2}-\d{4}"
"""Every raw number, also within text."""


def dsn(persona: str) -> str:
    return SHOWN["dsns"][persona]


def connect(persona: str, **options) -> psycopg.Connection:
    return psycopg.connect(dsn(persona), **options)


def rows(persona: str, sql: str, *parameters) -> list:
    with connect(persona) as connection:
        return connection.execute(sql, parameters or None).fetchall()


def records() -> list:
    text = pathlib.Path(SHOWN["records"]).read_text()
    return [json.loads(line) for line in text.splitlines()]
