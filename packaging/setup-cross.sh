#!/bin/bash
# Makes `cargo build --target aarch64-unknown-linux-gnu` work on a Debian machine of
# another architecture: Debian's cross compiler, and Rust's standard library for the
# target. rustup provides the latter; where it cannot (its server is not reachable, or
# the compiler is not rustup's), it is built for exactly this compiler from Debian's
# rust-src package. Fast and silent where everything is installed.
#
# usage: packaging/setup-cross.sh
#   RUSTUP=no     do not ask rustup
#   SUITE=name    the Debian suite that has the right rust-src, default trixie-backports
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=aarch64-unknown-linux-gnu

fail() { echo "setup-cross: $*" >&2; exit 1; }

"$here/setup-host.sh" build cross

libdir=$(rustc --print sysroot)/lib/rustlib/$target/lib
if compgen -G "$libdir/libstd-*.rlib" >/dev/null; then
  exit 0
fi
if [ "${RUSTUP-}" != no ] && command -v rustup >/dev/null &&
  timeout 300 rustup --quiet target add "$target"; then
  exit 0
fi

version=$(rustc -vV | sed -n 's/^release: //p')
suite=${SUITE:-trixie-backports}
echo "setup-cross: building the standard library of Rust $version from $suite's rust-src"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mirror=$(apt-get indextargets --format "\$(REPO_URI)" 'Created-By: Packages' | head -1)
[ -n "$mirror" ] || fail "apt knows no Debian archive"
mirror=${mirror%/}
for architecture in all amd64; do
  curl -fsSL "$mirror/dists/$suite/main/binary-$architecture/Packages.xz" -o "$work/list.xz" || continue
  # One paragraph per package: the location of its file, and its digest.
  read -r file digest < <(xzcat "$work/list.xz" | awk -v version="$version" '
    BEGIN { RS = ""; FS = "\n" }
    $1 == "Package: rust-src" {
      file = digest = right = ""
      for (i = 1; i <= NF; i++) {
        if (index($i, "Version: " version "+") == 1) right = 1
        if ($i ~ /^Filename: /) file = substr($i, 11)
        if ($i ~ /^SHA256: /) digest = substr($i, 9)
      }
      if (right) { print file, digest; exit }
    }') || true
  [ -z "${file-}" ] || break
done
[ -n "${file-}" ] || fail "no rust-src $version in $suite; another SUITE= may have it"
curl -fsSL "$mirror/$file" -o "$work/rust-src.deb"
echo "$digest  $work/rust-src.deb" | sha256sum --check --quiet
dpkg-deb --fsys-tarfile "$work/rust-src.deb" | tar -x -C "$work" "./usr/src/rustc-$version/library"

# `dist` is the profile of the official one; the library matches this exact compiler, so
# its unstable features may be used.
(
  cd "$work/usr/src/rustc-$version/library"
  export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zforce-unstable-if-unmarked CARGO_TARGET_DIR=$work/target
  export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
  cargo build --quiet --locked --profile dist -p sysroot --features backtrace --target "$target"
)
# Install it completely or not at all.
rm -rf "$libdir" "$libdir.new"
mkdir -p "$libdir.new"
find "$work/target/$target/dist/deps" -name 'lib*.rlib' ! -name 'libsysroot-*' -exec cp -t "$libdir.new" {} +
mv "$libdir.new" "$libdir"
