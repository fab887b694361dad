#!/bin/bash
# Fuzzes the parsers of external input, one target after the other; installs a nightly
# toolchain and cargo-fuzz. New inputs are stored in fuzz/corpus; an input that fails is
# stored in fuzz/artifacts and ends the run.
#
# usage: packaging/fuzz.sh SECONDS [TARGET...]   default: all targets
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

version=0.13.2
seconds=${1:?usage: packaging/fuzz.sh SECONDS [TARGET...]}
shift
rustup toolchain list | grep -q '^nightly' || rustup toolchain install nightly --profile minimal
if [ "$(cargo fuzz --version 2>/dev/null)" != "cargo-fuzz $version" ]; then
  cargo install --quiet --locked "cargo-fuzz@$version"
fi

if [ $# = 0 ]; then
  for target in fuzz_targets/*.rs; do
    set -- "$@" "$(basename "$target" .rs)"
  done
fi
for target in "$@"; do
  mkdir -p "corpus/$target"
  # Compiling a grammar may take 256 MiB of stack by itself.
  nice cargo +nightly fuzz run "$target" "corpus/$target" "seeds/$target" -- \
    "-max_total_time=$seconds" -max_len=4096 -timeout=20 -rss_limit_mb=4096 -print_final_stats=1
done
