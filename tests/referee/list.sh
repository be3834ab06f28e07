#!/bin/sh
# What an independent reading of Postgres's regression suite finds in it: a line of
# JSON for each statement (list.py says what). Fetches the suite, and pglast from PyPI
# into a virtual environment under target/.
#
#   sh tests/referee/list.sh >FILE
#
# src/sql/survey/tests/suite.rs holds it against the proxy's own reading:
#   cargo test --release --lib suite -- --ignored --nocapture
set -eu
cd "$(dirname "$0")/../.."
venv="${CARGO_TARGET_DIR:-target}/referee-venv"

suite=$(sh tests/regress/fetch.sh)
if ! cmp -s tests/referee/requirements.txt "$venv/installed"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        --requirement tests/referee/requirements.txt >&2
    cp tests/referee/requirements.txt "$venv/installed"
fi
exec "$venv/bin/python" tests/referee/list.py "$suite/sql"
