#!/bin/sh
# Everything that must hold, from nothing: installs what is missing, checks, tests.
#
#   sh tests/run.sh           all of it; some quarter of an hour on two cores from nothing
#   sh tests/run.sh --quick   format, lints and tests; no second Postgres, drivers, licences
#
# Longer, by hand:
#   cargo test --release -- --ignored       tests that take minutes
#   cargo test --lib suite -- --ignored     the survey beside pglast's tree, over all of
#                                           Postgres's regression suite; half a minute
#   cargo deny check advisories             needs the advisory database
#   sh benches/side-by-side/run.sh          beside a direct connection
#   sh tests/fuzz/run.sh 3600               the fuzz targets for an hour, optimized
#   PGVEIL_LEAK_COUNT=500000 PGVEIL_LEAK_SEED=2 cargo test --test noninterference
#                                           other statements to tell databases apart by
#   PGVEIL_SMITH_COUNT=20000 cargo test --test sqlsmith -- --ignored --nocapture
#                                           and those of Debian's sqlsmith
set -eu
cd "$(dirname "$0")/.."

quick=""
for argument in "$@"; do
    case $argument in
    --quick) quick=yes ;;
    *)
        sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
    esac
done

if [ "$quick" ]; then
    sh docker/setup.sh build server
else
    sh docker/setup.sh build server python
fi
PATH="$PATH:$HOME/.cargo/bin:$PWD/target/tools/bin"
target="${CARGO_TARGET_DIR:-target}"
# Debug information is half of the time and most of the space of a test build; a panic
# says where it was without.
export CARGO_PROFILE_DEV_DEBUG="${CARGO_PROFILE_DEV_DEBUG:-none}"

bao=""
copy=""
building=""
installing=""
left() {
    rm -rf "$copy" "$bao"
    # shellcheck disable=SC2086 # each a process, or none
    kill $building $installing 2>/dev/null || true
}
trap left EXIT

step() {
    printf '\n== %s\n' "$*"
}

# Where rustup keeps the toolchain, its components may be missing.
cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
cargo clippy --version >/dev/null 2>&1 || rustup component add clippy

step format
cargo fmt --check
cargo fmt --check --manifest-path tests/fuzz/Cargo.toml

# What tests ask of a vault; where there is none, they say so.
if [ -z "$quick" ] && [ -z "${PGVEIL_TEST_BAO:-}" ]; then
    bao=$(mktemp)
    sh tests/bao.sh >"$bao" &
    fetching=$!
fi

step lints
cargo clippy --locked --all-targets --features vault -- -D warnings

step tests
cargo test --locked --no-run
if [ "$bao" ]; then
    wait "$fetching" || true
    PGVEIL_TEST_BAO=$(cat "$bao")
    export PGVEIL_TEST_BAO
fi
# While tests wait for servers, what further steps need is built.
if [ -z "$quick" ]; then
    # Not before the tests have begun, which would wait for it.
    (sleep 5 && exec nice sh tests/fuzz/run.sh --build) &
    building=$!
fi
if [ -z "$quick" ] && ! cargo deny --version >/dev/null 2>&1; then
    # Built once, without optimisation, kept in target/.
    nice cargo install cargo-deny --version 0.20.2 --locked --debug --no-default-features \
        --quiet --root target/tools --target-dir target/tools/build &
    installing=$!
fi
cargo test --locked

[ -z "$quick" ] || exit 0

step "tests that meet a server, on Postgres 18"
pg18=$(sh tests/postgres18.sh)
if [ "$pg18" ] && [ "$(id -u)" -eq 0 ] && ! runuser -u postgres -- test -x "$pg18/initdb"; then
    # Postgres does not run as root, and whom the tests run it as cannot get there.
    copy=$(mktemp -d)
    cp -r "$pg18/.." "$copy/18"
    chmod -R go=rX "$copy"
    pg18=$copy/18/bin
fi
if [ "$pg18" ]; then
    # Not what takes minutes: databases that cannot be told apart; nor what asks Postgres
    # for little: processes, records.
    PGVEIL_TEST_PGBIN=$pg18 cargo test --locked --lib session::
    PGVEIL_TEST_PGBIN=$pg18 cargo test --locked --test catalog --test upstream --test masks \
        --test rewrite --test leak --test image --test wire
fi

step "fuzz targets, 20 seconds"
sh tests/fuzz/run.sh

step documentation
RUSTDOCFLAGS="-D warnings -A rustdoc::private-intra-doc-links" cargo doc --locked --no-deps --document-private-items --quiet

step "licences, sources and bans"
[ -z "$installing" ] || wait "$installing" || true
rm -rf target/tools/build
if cargo deny --version >/dev/null 2>&1; then
    cargo deny check --hide-inclusion-graph bans licenses sources
else
    echo "cargo-deny could not be installed: licences are not checked" >&2
    [ "${CI:-}" != true ]
fi

step "clients: psql and Python's drivers, against the demo"
cargo build --locked --quiet
sh tests/clients/run.sh "$target/debug/pgveil"

step "TPC-H and TPC-DS over governed tables"
sh tests/served/tpc.sh
