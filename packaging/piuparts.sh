#!/bin/bash
# Debian's own test of a package: in a bare system of a release it is installed, removed,
# purged, and upgraded to from an older version; files that remain afterwards, or belong
# to no package, are an error. Needs root and a Debian mirror; the first run of a
# release fetches its base system into target/piuparts.
#
# usage: packaging/piuparts.sh FILE.deb [RELEASE...]    default: bookworm trixie
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deb=$(realpath "${1:?usage: packaging/piuparts.sh FILE.deb [RELEASE...]}")
shift
[ $# -gt 0 ] || set -- bookworm trixie
cache=${CARGO_TARGET_DIR:-$here/../target}/piuparts

fail() { echo "piuparts: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "has to be root"
for tool in mmdebstrap piuparts dpkg-scanpackages; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install mmdebstrap piuparts dpkg-dev"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache" "$work/archive"
# The version to upgrade from.
"$here/older-deb.sh" "$deb" "$work/archive/hearthd.deb"
(cd "$work/archive" && dpkg-scanpackages . >Packages 2>/dev/null)

for release in "$@"; do
  base=$(realpath "$cache")/$release.tar.gz
  if [ ! -e "$base" ]; then
    echo "piuparts: fetching $release"
    mmdebstrap --quiet --mode=root --variant=minbase "$release" "$base.new.tar.gz"
    mv "$base.new.tar.gz" "$base"
  fi
  begin=$SECONDS
  # Broken links are checked by lintian; those here are systemd's own.
  if ! piuparts --basetgz="$base" --distribution="$release" --no-eatmydata \
    --no-symlinks --warn-on-leftovers-after-purge --bindmount="$work/archive" \
    --extra-repo="deb [trusted=yes] file://$work/archive ./" "$deb" \
    </dev/null >"$work/$release" 2>&1; then
    grep -E 'ERROR|FAIL|WARN' -A 12 "$work/$release" >&2 || tail -n 60 "$work/$release" >&2
    fail "$release: the package does not pass"
  fi
  # Files left by systemd and dbus, its dependencies, are not the package's.
  if sed -n '/left files on system/,/^$/p' "$work/$release" | grep hearth >&2; then
    fail "$release: a purge leaves the files above"
  fi
  sed -n "s/^.*PASS: /$release: ok: /p" "$work/$release"
  echo "$release: piuparts passed in $((SECONDS - begin)) s"
done
