#!/bin/bash
# Makes a package that stands for an older version, to upgrade from: the same files with
# a lower version number and a different /etc/hearthd/hearthd.toml.
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
# Fast compression: it is installed once and deleted.
dpkg-deb --root-owner-group -Zgzip -z1 -b "$work/root" "$older" >/dev/null
