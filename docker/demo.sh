#!/bin/sh
# The demo, from nothing: installs what is missing, builds, shows.
# Arguments go to `pgveil demo`: --once, --json, --port N.
set -eu
cd "$(dirname "$0")/.."

sh docker/setup.sh build server >&2
PATH="$PATH:$HOME/.cargo/bin"
cargo build --release --locked >&2
# Replaces this shell: Ctrl-C and SIGTERM reach the demo itself.
exec "${CARGO_TARGET_DIR:-target}/release/pgveil" demo "$@"
