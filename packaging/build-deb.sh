#!/bin/bash
# Makes target/debian/hearthd_VERSION_ARCH.deb (or target/TRIPLE/debian/...) from
# executables that are already built, and checks it.
#
# usage: packaging/build-deb.sh [--target TRIPLE]
set -euo pipefail
cd "$(dirname "$0")/.."

fail() { echo "build-deb: $*" >&2; exit 1; }

target=()
triple=
prefix=
case "${1-}" in
  --target)
    triple=${2:?--target wants a triple}
    target=(--target "$triple")
    # Debian's cross binutils, e.g. aarch64-linux-gnu-strip.
    [ "${triple%%-*}" = "$(uname -m)" ] || prefix=${triple%%-*}-linux-gnu-
    ;;
  "") ;;
  *) fail "unknown argument $1 (usage: packaging/build-deb.sh [--target TRIPLE])" ;;
esac

out=${CARGO_TARGET_DIR:-target}/${triple:+$triple/}release
model=packaging/demo-model/hearth-demo-q8_0.gguf
assets=target/assets

for file in "$out"/{hearthd,hearth-engine,hearthctl} "$out/hearth-lib/libllama.so.0" "$out/hearth-llama/build" "$model"; do
  [ -e "$file" ] || fail "$file is missing: run 'make build' first"
done

# A build has the CPU kernels for its own machine only; the package has all of them, with
# the executables and libraries that were tested (packaging/cmake/kernels.cmake).
nice cmake --build "$out/hearth-llama/build" --target hearth-kernels --parallel "$(nproc)" >"$out/hearth-kernels.log" 2>&1 ||
  { cat "$out/hearth-kernels.log" >&2; fail "cannot compile the CPU kernels; after an update: cargo clean --release -p llama-cpp-sys-2"; }

rm -rf "$assets"
mkdir -p "$assets"/{bin,lib,man,completions}

# Manual pages and completions are generated from the command line's definition, and are
# the same on every architecture: the host's executable is used.
ctl=$out/hearthctl
if [ -n "$prefix" ]; then
  ctl=${CARGO_TARGET_DIR:-target}/release/hearthctl
  [ -x "$ctl" ] || fail "$ctl is missing: run 'make build' for this machine as well"
fi
"$ctl" generate-man "$assets/man"
"$ctl" generate-completions "$assets/completions"

for bin in hearthd hearth-engine hearthctl; do
  "${prefix}strip" --strip-unneeded --remove-section=.comment -o "$assets/bin/$bin" "$out/$bin"
done
# The libraries that the engine is linked with, under their sonames, and every CPU
# variant.
for lib in "$out"/hearth-lib/lib{llama,ggml,ggml-base}.so.0 "$out"/hearth-llama/build/bin/libggml-cpu-*.so; do
  "${prefix}strip" --strip-unneeded --remove-section=.comment -o "$assets/lib/${lib##*/}" "$lib"
done

# The integration for Home Assistant, without files left by test runs.
mkdir "$assets/home-assistant"
cp -r packaging/home-assistant/custom_components "$assets/home-assistant/"
find "$assets/home-assistant" -name __pycache__ -prune -exec rm -r {} +

packaging/third-party.sh ${triple:+"$triple"} | gzip -9n >"$assets/third-party.gz"

# --no-build: already built; --no-strip: done above. It prints the path.
deb=$(cargo deb --quiet --no-build --no-strip "${target[@]}" | tail -1)
packaging/check-deb.sh --lintian "$deb"
echo "$deb"
