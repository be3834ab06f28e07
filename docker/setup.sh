#!/bin/sh
# Installs what a Debian or Ubuntu machine lacks to build pgveil, run its demo
# and its tests. Installs nothing that is there already, so that it costs a
# moment when run again. The Dockerfile, docker/demo.sh and tests/run.sh use it.
#
#   sh docker/setup.sh [build] [server] [python]     (default: all of them)
#
#   build    a C compiler and libclang, for the bindings to Postgres's grammar
#   server   Postgres itself, for the demo and the tests
#   python   python3 with venv, for the tests with Python's drivers
set -eu

[ $# -gt 0 ] || set -- build server python
missing=""

want() { # want PACKAGE…: to be installed
    missing="$missing $*"
}

has() {
    command -v "$1" >/dev/null 2>&1
}

any() { # any PATH…: one of them exists (unmatched patterns stay as they are)
    for path in "$@"; do
        [ ! -e "$path" ] || return 0
    done
    return 1
}

for part in "$@"; do
    case $part in
    build)
        has cc || has clang || want gcc
        # The C library's headers, which the grammar is compiled against.
        any /usr/include/stdio.h || want libc6-dev
        # bindgen loads libclang and needs clang's own headers beside it.
        any /usr/lib/llvm-*/lib/libclang*.so* /usr/lib/*/libclang*.so* \
            /usr/lib64/libclang*.so* "${LIBCLANG_PATH:-/nonexistent}"/libclang* || want libclang-dev
        has clang || want clang
        any /etc/ssl/certs/ca-certificates.crt || want ca-certificates
        ;;
    server)
        has initdb || any /usr/lib/postgresql/*/bin/initdb /usr/local/pgsql/bin/initdb ||
            want postgresql
        has psql || want postgresql-client
        # pgbench comes with the server on Debian 12 and later.
        has pgbench || any /usr/lib/postgresql/*/bin/pgbench || want postgresql
        ;;
    python)
        has python3 || want python3
        # venv imports without its pip on Debian, hence ensurepip.
        python3 -c 'import venv, ensurepip' >/dev/null 2>&1 || want python3-venv
        ;;
    *)
        echo "setup: unknown part \`$part\`: build, server or python" >&2
        exit 2
        ;;
    esac
done

if [ -n "$missing" ]; then
    if ! has apt-get; then
        echo "setup: this machine has no apt; please install by its own means:$missing" >&2
        exit 1
    fi
    if [ "$(id -u)" -eq 0 ]; then
        as_root=""
    elif has sudo; then
        as_root="sudo"
    else
        echo "setup: needs root (or sudo) for: apt-get install$missing" >&2
        exit 1
    fi
    echo "setup: installing$missing" >&2
    # A server package would otherwise start a cluster that nobody asked for.
    if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
        $as_root mkdir -p /etc/postgresql-common
        echo "create_main_cluster = false" |
            $as_root tee /etc/postgresql-common/createcluster.conf >/dev/null
    fi
    $as_root apt-get update -q
    # shellcheck disable=SC2086 # a list of words
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends -o Dpkg::Options::=--force-confold $missing
fi

if ! has cargo && [ ! -x "$HOME/.cargo/bin/cargo" ]; then
    cat >&2 <<'END'
setup: Rust is missing. Debian's own is too old; install the current one as its
       authors describe on https://rustup.rs, then run this again.
END
    exit 1
fi
