#!/bin/sh
# pgbench's point reads through pgveil, on a table with a masked column, beside a
# direct connection to the same Postgres: in one run, in turns.
#
#   sh benches/side-by-side/run.sh [SECONDS] [--rounds 5] [--scale 10] [--out FILE.json]
set -eu
cd "$(dirname "$0")/../.."

sh docker/setup.sh build server >&2
command -v python3 >/dev/null 2>&1 || sh docker/setup.sh python >&2
PATH="$PATH:$HOME/.cargo/bin"
cargo build --release --locked >&2
exec python3 benches/side-by-side/measure.py \
    --pgveil "${CARGO_TARGET_DIR:-target}/release/pgveil" "$@"
