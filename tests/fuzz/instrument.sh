#!/bin/sh
# A RUSTC_WRAPPER: pgveil and the targets are compiled so that libFuzzer sees which
# edges run, and everything else as usual. The flags are cargo-fuzz's own; all are
# stable.
rustc=$1
shift
case " $* " in
*" --crate-name pgveil "* | *" --crate-name frames "* | *" --crate-name startup "* | *" --crate-name plan "*)
    set -- "$@" -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
        -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
        -C llvm-args=-sanitizer-coverage-pc-table \
        -C llvm-args=-sanitizer-coverage-trace-compares
    ;;
esac
exec "$rustc" "$@"
