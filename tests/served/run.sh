#!/bin/sh
# How much of Postgres's own regression suite is served as without the proxy: fetches
# the suite, runs it and prints a table. Some 22 minutes on two cores.
#
#   sh tests/served/run.sh [SCRIPT…]     all of it, or these scripts of it
#
# What was refused or answered otherwise is in target/tmp/served/rest.txt.
set -eu
cd "$(dirname "$0")/../.."
PGVEIL_SERVED_ONLY="$(echo "$*" | tr ' ' ',')"
export PGVEIL_SERVED_ONLY
exec cargo test --locked --test served -- --ignored --nocapture regression_suite
