#!/bin/bash
# Checks the systemd pieces without installing anything: units (verify must be
# silent), the sandbox's exposure, sysusers.d and tmpfiles.d.
#
# usage: packaging/check-units.sh
set -euo pipefail
cd "$(dirname "$0")/.."

# systemd-analyze rates from 0 (safe) to 10; in tenths.
threshold=20

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
fail() { echo "check-units: $*" >&2; exit 1; }

# verify requires the executables to exist: it gets copies that name an existing one.
mkdir "$work/units"
for unit in systemd/*.service systemd/*.socket; do
  sed 's|^ExecStart=/usr/libexec/hearthd/[^ ]*|ExecStart=/bin/true|' "$unit" \
    >"$work/units/${unit##*/}"
done

# It returns 0 on misspelt keys: check that it prints nothing.
SYSTEMD_UNIT_PATH="$work/units:" systemd-analyze verify --man=no "$work"/units/* \
  >"$work/verify" 2>&1 || true
[ ! -s "$work/verify" ] || { cat "$work/verify" >&2; fail "systemd-analyze verify has complaints"; }
echo "verify: clean ($(find "$work/units" -type f | wc -l) units)"

SYSTEMD_UNIT_PATH="$work/units:" systemd-analyze security --no-pager --offline=true \
  --threshold="$threshold" "$work/units/hearthd.service" >"$work/security" 2>&1 ||
  { cat "$work/security" >&2; fail "exposure above $threshold tenths"; }
grep 'Overall exposure' "$work/security" | sed 's/^[^O]*/security: /'

# Starting the service must never start the TCP socket where it is disabled.
if grep -E '^[^#]*hearthd-tcp' systemd/hearthd.service systemd/hearthd.socket >&2; then
  fail "the lines above name hearthd-tcp.socket"
fi

# Users and directories are created as the units and the bus policy expect them.
root=$work/root
mkdir -p "$root/etc" "$root/usr/lib/sysusers.d" "$root/usr/lib/tmpfiles.d"
cp systemd/sysusers.d/hearthd.conf "$root/usr/lib/sysusers.d/"
cp systemd/tmpfiles.d/hearthd.conf "$root/usr/lib/tmpfiles.d/"
if [ "$(id -u)" = 0 ]; then
  systemd-sysusers --root="$root" hearthd.conf >/dev/null 2>&1 || fail "sysusers.d/hearthd.conf is refused"
  systemd-tmpfiles --root="$root" --create hearthd.conf
  grep -q '^hearthd:' "$root/etc/passwd" || fail "sysusers.d makes no user hearthd"
  gid=$(sed -n 's/^hearth:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/group")
  [ "$(cut -d: -f1,4 "$root/etc/passwd" | grep '^hearthd:')" = "hearthd:$gid" ] ||
    fail "user hearthd is not in group hearth"
  uid=$(sed -n 's/^hearthd:[^:]*:\([0-9]*\):.*/\1/p' "$root/etc/passwd")
  [ "$(stat -c '%u:%g %a' "$root/run/hearthd")" = "$uid:$gid 755" ] ||
    fail "/run/hearthd: $(stat -c '%u:%g %a' "$root/run/hearthd")"
  echo "sysusers, tmpfiles: as expected"
else
  systemd-sysusers --dry-run systemd/sysusers.d/hearthd.conf >/dev/null 2>&1 ||
    fail "sysusers.d/hearthd.conf is not valid"
  echo "sysusers: parsed (run as root to see it applied to a tree)"
fi
