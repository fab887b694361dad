#!/bin/bash
# Installs a package in a freshly booted Debian (systemd-nspawn: a real systemd as
# process 1, on a throw-away overlay) and runs packaging/boot-test-inside.sh there.
# Needs root, mmdebstrap and systemd-container; the first run of a release fetches
# its base system into target/boot-test.
#
# usage: packaging/boot-test.sh FILE.deb [RELEASE...]    default: bookworm trixie
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deb=$(realpath "${1:?usage: packaging/boot-test.sh FILE.deb [RELEASE...]}")
shift
[ $# -gt 0 ] || set -- bookworm trixie
cache=${CARGO_TARGET_DIR:-$here/../target}/boot-test

fail() { echo "boot-test: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "has to be root"
for tool in mmdebstrap systemd-nspawn; do
  command -v "$tool" >/dev/null || fail "$tool is missing: apt-get install mmdebstrap systemd-container"
done

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$cache"

for release in "$@"; do
  tree=$(realpath "$cache")/$release
  if [ ! -d "$tree" ]; then
    echo "boot-test: fetching $release"
    rm -rf "$tree.new"
    # The package's dependencies, and curl for requests.
    mmdebstrap --quiet --mode=root --variant=minbase \
      --include=systemd-sysv,dbus,libstdc++6,curl "$release" "$tree.new"
    mv "$tree.new" "$tree"
  fi
  share=$work/$release
  mkdir "$share"
  cp "$deb" "$share/hearthd.deb"
  cp "$here/boot-test-inside.sh" "$share/test.sh"
  cp "$here/inside-lib.sh" "$share/lib.sh"
  "$here/older-deb.sh" "$deb" "$share/older.deb"
  begin=$SECONDS
  status=0
  # Process 1 runs the test instead of a full boot, and exits with its status.
  SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 timeout 600 systemd-nspawn --quiet --boot \
    --directory="$tree" --volatile=overlay --private-network --keep-unit --register=no \
    --console=pipe --bind="$share:/mnt" --uuid="$(cat /proc/sys/kernel/random/uuid)" \
    systemd.run=/mnt/test.sh systemd.run_success_action=exit \
    systemd.run_failure_action=exit systemd.show_status=0 \
    </dev/null >"$work/console" 2>&1 || status=$?
  if [ ! -e "$share/log" ]; then
    cat "$work/console" >&2
    fail "$release did not come up"
  fi
  sed "s/^/$release: /" "$share/log"
  [ "$status" = 0 ] || fail "$release: the test fails (status $status)"
  echo "$release: passed in $((SECONDS - begin)) s"
done
