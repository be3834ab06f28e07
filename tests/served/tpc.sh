#!/bin/sh
# TPC-H's 22 queries and TPC-DS's 99, over tables in each of which columns are
# masked: served, and with the right answers. Data and queries come from DuckDB, of
# the last version whose package for Python has them built in; a few minutes.
#
#   sh tests/served/tpc.sh                     both; ends in `22/22` and `99/99`
#   sh tests/served/tpc.sh --scale 0.1 ds 14   one query, over more data
#
# PGVEIL: the program, if not target/debug/pgveil
set -eu
cd "$(dirname "$0")/../.."
target="${CARGO_TARGET_DIR:-target}"
pgveil=${PGVEIL:-$target/debug/pgveil}
venv=$target/venv-tpc

if ! [ -e "$venv/complete" ]; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check 'duckdb==0.10.3' 'psycopg[binary]>=3.2,<4'
    touch "$venv/complete"
fi
exec "$venv/bin/python" tests/served/tpc.py "$pgveil" "$@"
