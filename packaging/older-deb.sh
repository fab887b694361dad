#!/bin/bash
# Makes what an older version of a package could have been, to upgrade from: the same
# files under a lower version, with another /etc/hearthd/hearthd.toml.
#
# usage: packaging/older-deb.sh FILE.deb OLDER.deb
set -euo pipefail
usage="usage: packaging/older-deb.sh FILE.deb OLDER.deb"
deb=${1:?$usage}
older=${2:?$usage}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb -R "$deb" "$work/root"
sed -i 's/^Version: .*/Version: 0.0.9-1/' "$work/root/DEBIAN/control"
echo '# As version 0.0.9 had it.' >>"$work/root/etc/hearthd/hearthd.toml"
(cd "$work/root" && find . -path ./DEBIAN -prune -o -type f -printf '%P\0' | sort -z |
  xargs -0 md5sum) >"$work/md5sums"
mv "$work/md5sums" "$work/root/DEBIAN/md5sums"
# Quickly: it is installed once and thrown away.
dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/root" "$older" >/dev/null
