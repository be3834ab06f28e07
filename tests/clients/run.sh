#!/bin/sh
# Real clients against a running demo: psql, and Python's drivers from PyPI in a
# virtual environment under target/.
#
#   sh tests/clients/run.sh [target/debug/pgveil]
set -eu
cd "$(dirname "$0")/../.."
pgveil=${1:-target/debug/pgveil}
venv=target/venv

if ! [ -x "$venv/bin/python" ] || ! cmp -s tests/clients/requirements.txt "$venv/installed"; then
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check \
        --requirement tests/clients/requirements.txt
    cp tests/clients/requirements.txt "$venv/installed"
fi
# Not every machine has a build of these; without one their tests are skipped.
if ! cmp -s tests/clients/more.txt "$venv/installed-more"; then
    if "$venv/bin/pip" install --quiet --disable-pip-version-check --only-binary :all: \
        --requirement tests/clients/more.txt; then
        cp tests/clients/more.txt "$venv/installed-more"
    else
        echo "not all of tests/clients/more.txt could be installed" >&2
    fi
fi

scratch=$(mktemp -d)
"$pgveil" demo --json >"$scratch/demo.json" 2>"$scratch/demo.log" &
demo=$!
# shellcheck disable=SC2317 # called by the trap
finish() {
    kill "$demo" 2>/dev/null || true
    wait "$demo" 2>/dev/null || true
    rm -rf "$scratch"
}
trap finish EXIT
trap 'exit 130' INT TERM

# The object is complete when its line is.
tries=0
until [ "$(wc -l <"$scratch/demo.json")" -ge 1 ]; do
    tries=$((tries + 1))
    if [ "$tries" -gt 600 ] || ! kill -0 "$demo" 2>/dev/null; then
        echo "the demo did not start:" >&2
        cat "$scratch/demo.log" >&2
        exit 1
    fi
    sleep 0.1
done

status=0
"$venv/bin/python" tests/clients/main.py "$scratch/demo.json" || status=$?
if [ "$status" -ne 0 ] && [ -s "$scratch/demo.log" ]; then
    echo "-- what the proxy said:" >&2
    tail -n 50 "$scratch/demo.log" >&2
fi
exit "$status"
