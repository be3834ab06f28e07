#!/bin/sh
# Fetches Postgres's regression suite, builds the library of C functions that it
# loads, and says where both are.
#
#   sh tests/served/suite.sh      prints …/src/test/regress, with regress.so in it
set -eu
cd "$(dirname "$0")/../.."

suite=$(sh tests/regress/fetch.sh)
library="$suite/regress.so"

# With the server's own headers, which come in a package that need not be installed.
if [ ! -e "$library" ]; then
    # shellcheck disable=SC2012 # names of our own server's versions
    major=$(ls /usr/lib/postgresql | sort -n | tail -n 1)
    headers="$suite/headers"
    mkdir -p "$headers"
    (
        cd "$headers"
        version=$(dpkg-query -W -f '${Version}' "postgresql-$major")
        apt-get -q -o APT::Sandbox::User="$(id -un)" download "postgresql-server-dev-$major=$version"
        dpkg-deb -x postgresql-server-dev-*.deb .
    ) >&2
    include="$headers/usr/include/postgresql/$major/server"
    cc -O1 -w -fPIC -shared -I "$include" -I "$suite" -o "$library.part" "$suite/regress.c"
    mv "$library.part" "$library"
fi
echo "$suite"
