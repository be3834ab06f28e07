#!/bin/sh
# Point reads, connections and streams through pgveil, on a table with a masked column,
# beside a direct connection to the same Postgres and, where it is installed, PgBouncer
# (Debian's package of that name): in one run, in turns.
#
#   sh benches/side-by-side/run.sh [SECONDS] [--rounds 5] [--scale 10] [--clients 1,16,64]
#     [--out FILE.json]
set -eu
cd "$(dirname "$0")/../.."

sh docker/setup.sh build server >&2
command -v python3 >/dev/null 2>&1 || sh docker/setup.sh python >&2
PATH="$PATH:$HOME/.cargo/bin"
cargo build --release --locked >&2
exec python3 benches/side-by-side/measure.py \
    --pgveil "${CARGO_TARGET_DIR:-target}/release/pgveil" "$@"
