#!/bin/bash
# Checks the bus policy and the activation file on a private bus: who may own the
# name and who may call it. Needs root, to act as several accounts.
#
# usage: packaging/check-policy.sh
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=packaging/private-bus.sh
. packaging/private-bus.sh

if [ "$(id -u)" != 0 ]; then
  echo "check-policy: NOT CHECKED: it has to be root to take the parts of several accounts" >&2
  exit 77
fi

dir=$(mktemp -d)
chmod 755 "$dir"
trap 'kill "${bus_pid-}" 2>/dev/null; rm -rf "$dir"' EXIT

# Accounts that every Debian has: daemon stands for hearthd, games is in group games,
# which stands for hearth; nobody is an account without access.
mkdir "$dir/services"
cp packaging/dbus/org.hearthd.Inference1.service "$dir/services/"
private_bus "$dir" daemon games

status=0
as() {
  local user=$1
  shift
  setpriv --reuid "$user" --regid "$(id -g "$user")" --init-groups busctl --timeout=10 call "$@" 2>&1 || true
}
# expect allowed|denied WHAT ANSWER. The answer must match one of the two: any other
# answer (no bus, no such method) is neither.
expect() {
  local got="neither"
  case $3 in
    "u 1") got=allowed ;; # RequestName: you are the owner
    *"launch helper"* | *"Failed to execute"* | *"Could not activate"* | *"exited with"*) got=allowed ;;
    *"ccess denied"* | *"not allowed to own"* | *"Rejected send message"*) got=denied ;;
  esac
  if [ "$got" = "$1" ]; then
    echo "policy: $2: $got"
  else
    echo "check-policy: $2: $got, not $1: $3" >&2
    status=1
  fi
}
own() { as "$1" org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus RequestName su org.hearthd.Inference1 0; }
# No process owns the name: an allowed call ends in a failed activation.
send() { as "$1" org.hearthd.Inference1 /org/hearthd/Inference1 org.hearthd.Inference1 GetBoard; }

expect allowed "root owns" "$(own root)"
expect allowed "the daemon owns" "$(own daemon)"
expect denied "a member owns" "$(own games)"
expect denied "nobody owns" "$(own nobody)"
expect allowed "root calls" "$(send root)"
expect allowed "the daemon calls" "$(send daemon)"
expect allowed "a member calls" "$(send games)"
expect denied "nobody calls" "$(send nobody)"

if grep -i 'unknown user\|unknown group' "$dir/bus.log" >&2; then
  echo "check-policy: dbus-daemon drops rules of the policy" >&2
  status=1
fi
exit "$status"
