#!/bin/sh
# Fetches Postgres's own regression suite, of the version that is installed, from
# Debian's (or Ubuntu's) source package, and says where it is. Nothing of it is kept
# in this repository; once fetched, it is not fetched again.
#
#   sh tests/regress/fetch.sh          prints …/target/regress/VERSION/src/test/regress
#
# apt checks what it downloads against the archive's signature. It works in
# directories of its own, so that it needs neither root nor a `deb-src` line on this
# machine: the source package comes from where the server's own package would.
set -eu
cd "$(dirname "$0")/../.."

major=$(ls /usr/lib/postgresql 2>/dev/null | sort -n | tail -n 1)
if [ -z "$major" ] || ! command -v apt-get >/dev/null 2>&1; then
    echo "fetch: needs Debian's or Ubuntu's package of the server (sh docker/setup.sh server)" >&2
    exit 1
fi
package="postgresql-$major"
version=$(dpkg-query -W -f '${Version}' "$package")
home="$(pwd)/target"
home="${CARGO_TARGET_DIR:-$home}/regress/$version"
suite="$home/src/test/regress"

if [ ! -e "$home/complete" ]; then
    rm -rf "$home"
    mkdir -p "$home/apt/parts" "$home/apt/lists/partial" "$home/apt/files"
    # `500 URI SUITE/COMPONENT amd64 Packages`: where the package comes from.
    apt-cache policy "$package" |
        sed -n 's|^ *[0-9-]* \([a-z]*:[^ ]*\) \([^ ]*\)/\([^ /]*\) .* Packages$|deb-src \1 \2 \3|p' |
        sort -u >"$home/apt/parts/source.list"
    (
        cd "$home/apt/files"
        apt() {
            apt-get -q -o Dir::Etc::sourcelist=none -o Dir::Etc::sourceparts="$home/apt/parts" \
                -o Dir::State::lists="$home/apt/lists" -o Dir::Cache::pkgcache= \
                -o Dir::Cache::srcpkgcache= -o Debug::NoLocking=1 -o APT::Sandbox::User="$(id -un)" "$@"
        }
        apt update
        # An archive keeps the newest version alone; another minor version will do.
        apt source --download-only "$package=$version" || apt source --download-only "$package"
    ) >&2
    tar -xf "$home"/apt/files/*.orig.tar.* -C "$home" --strip-components 1 \
        --wildcards '*/src/test/regress'
    rm -rf "$home/apt"
    touch "$home/complete"
fi
echo "$suite"
