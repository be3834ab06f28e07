#!/bin/sh
# Builds the fuzz targets and runs them all at once, each on a core's share.
#
#   sh tests/fuzz/run.sh                     20 seconds, as tests/run.sh does
#   sh tests/fuzz/run.sh 3600                an hour, optimized
#   sh tests/fuzz/run.sh 3600 plan           one target
#   sh tests/fuzz/run.sh --build             builds what the 20 seconds need, no more
#   TARGET INPUT…                            an input again (the last line of a
#                                            failure says where TARGET is)
#
# What fails is kept in target/fuzz/found. Make it a file in tests/fuzz/seeds, which
# every run begins with, and a case of tests/rewrite or tests/leak where it is SQL.
#
# It needs no nightly compiler and no cargo-fuzz, and uses the libraries that the
# tests have built. With cargo-fuzz 0.13 the same targets run as
#   cargo fuzz run --fuzz-dir tests/fuzz --sanitizer none plan
set -eu
cd "$(dirname "$0")/../.."

leave=""
if [ "${1:-}" = --build ]; then
    leave=exec
    shift
fi
seconds="${1:-20}"
[ $# -eq 0 ] || shift
[ $# -gt 0 ] || set -- frames startup plan
target="${CARGO_TARGET_DIR:-target}"
home="$target/fuzz"
profile=debug
[ "$seconds" -le 300 ] || profile=release

export CARGO_PROFILE_DEV_DEBUG="${CARGO_PROFILE_DEV_DEBUG:-line-tables-only}"
# libFuzzer is C++; docker/setup.sh installs clang.
command -v "${CXX:-c++}" >/dev/null 2>&1 || export CXX=clang++
[ $profile = debug ] || release=--release
# The short run says the same of the same program; the long one looks elsewhere.
seed=1
[ $profile = debug ] || seed=0
export RUSTC_WRAPPER="$PWD/tests/fuzz/instrument.sh"
$leave cargo build --locked --quiet ${release:-} \
    --manifest-path tests/fuzz/Cargo.toml --target-dir "$target"

# Every statement of the corpora, behind the place of its caller in `CALLERS`.
rm -rf "$home/seeds"
mkdir -p "$home/seeds" "$home/found"
awk -v to="$home/seeds" '
    BEGIN { split("analyst trainer clerk modeller auditor", names); for (at in names) place[names[at]] = at - 1 }
    function done() { if (text != "") { printf "%s", text > file; close(file) } text = "" }
    /^### / { done(); file = to "/" ++count; inside = 0; next }
    /^caller: / && !inside { text = place[$2] + 0; inside = 1; first = 1; next }
    /^---$/ { done(); inside = 0; next }
    inside { text = text (first ? "" : "\n") $0; first = 0 }
    END { done() }
' tests/rewrite/*.test tests/leak/*.test

running=""
for name in "$@"; do
    corpus="$home/corpus/$name"
    mkdir -p "$corpus"
    set -- "$corpus"
    [ "$name" != plan ] || set -- "$@" "$home/seeds"
    [ ! -d "tests/fuzz/seeds/$name" ] || set -- "$@" "tests/fuzz/seeds/$name"
    "$target/$profile/$name" "$@" -seed="$seed" -max_total_time="$seconds" -max_len=8192 -timeout=120 \
        -rss_limit_mb=4096 -print_final_stats=1 -artifact_prefix="$home/found/$name-" \
        >"$home/$name.log" 2>&1 &
    running="$running $name=$!"
done

failed=""
for one in $running; do
    name="${one%=*}"
    if wait "${one#*=}"; then
        printf '%s: %s inputs, %s edges\n' "$name" \
            "$(sed -n 's/^stat::number_of_executed_units: *//p' "$home/$name.log")" \
            "$(grep -o ' cov: [0-9]*' "$home/$name.log" | tail -n 1 | tr -dc 0-9)"
    else
        failed=yes
        tail -n 40 "$home/$name.log" >&2
        echo "$name failed; again: $target/$profile/$name $(ls -t "$home/found/$name-"* | head -n 1)" >&2
    fi
done
[ -z "$failed" ]
