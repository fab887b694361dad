#!/bin/bash
# Demonstrates the built Hearthd with the demo model: nothing is installed, root is not
# needed, and no files are left behind. It uses a private system bus with the shipped
# policy, on which the caller is the daemon's user and the caller's group is "hearth".
#
# usage: packaging/demo.sh           ask one question each way, check the answers
#        packaging/demo.sh --stay [BOARD]
#                                    stay until Ctrl-C, with commands to paste; on a
#                                    simulated board (hearthctl simulate --list)
set -euo pipefail
cd "$(dirname "$0")/.."
# shellcheck source=packaging/private-bus.sh
. packaging/private-bus.sh

stay=
simulate=()
case "$#-${1-}" in
  0-) ;;
  1---stay) stay=yes ;;
  2---stay)
    stay=yes
    simulate=(--simulate-board "$2")
    ;;
  *)
    echo "usage: packaging/demo.sh [--stay [BOARD]]" >&2
    exit 2
    ;;
esac

bin=${CARGO_TARGET_DIR:-$PWD/target}/release
models=$PWD/packaging/demo-model
for file in "$bin"/{hearthd,hearth-engine} ${stay:+"$bin/hearthctl"} "$models/hearth-demo-q8_0.gguf"; do
  [ -e "$file" ] || { echo "demo: $file is missing: run 'make build' first" >&2; exit 1; }
done

dir=$(mktemp -d "${TMPDIR:-/tmp}/hearthd.XXXXXX")
bus_pid=
daemon_pid=
cleanup() {
  local pid i
  for pid in $daemon_pid $bus_pid; do
    kill "$pid" 2>/dev/null || continue
    for ((i = 0; i < 100; i++)); do
      kill -0 "$pid" 2>/dev/null || break
      sleep 0.05
    done
    kill -KILL "$pid" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM

failed() {
  echo "demo: $*" >&2
  if [ -s "$dir/hearthd.log" ]; then
    echo "--- what hearthd said:" >&2
    cat "$dir/hearthd.log" >&2
  fi
  exit 1
}

mkdir "$dir/models" "$dir/cache"
cat >"$dir/hearthd.toml" <<EOF
[http]
socket = "$dir/hearthd.sock"

[paths]
models = "$dir/models"
models_packaged = "$models"
prompts = "$dir/prompts"
tuning = "$dir/tuning.json"
engine = "$bin/hearth-engine"
EOF

private_bus "$dir" "$(id -u)" "$(id -g)"

# The directory that systemd would pass (CacheDirectory=).
export CACHE_DIRECTORY=$dir/cache
if [ -n "$stay" ]; then
  "$bin/hearthd" --config "$dir/hearthd.toml" "${simulate[@]}" &
else
  "$bin/hearthd" --config "$dir/hearthd.toml" >"$dir/hearthd.log" 2>&1 &
fi
daemon_pid=$!

has_name() {
  [ "$(busctl call org.freedesktop.DBus /org/freedesktop/DBus org.freedesktop.DBus \
    NameHasOwner s org.hearthd.Inference1 2>/dev/null)" = "b true" ]
}
for ((i = 0; i < 300; i++)); do
  if has_name && [ -S "$dir/hearthd.sock" ]; then break; fi
  kill -0 "$daemon_pid" 2>/dev/null || failed "hearthd ended"
  sleep 0.1
done
has_name || failed "hearthd does not take its name on the bus"
[ -S "$dir/hearthd.sock" ] || failed "hearthd does not listen on $dir/hearthd.sock"

question="What is the capital of Italy?"
request="{\"messages\":[{\"role\":\"user\",\"content\":\"$question\"}],\"temperature\":0}"
# One prompt may take a while on a small board; busctl's own limit is 25 seconds.
by_dbus=(busctl --timeout=120 call org.hearthd.Inference1 /org/hearthd/Inference1
  org.hearthd.Inference1 Generate s "$question")
by_http=(curl -sS --max-time 120 --unix-socket "$dir/hearthd.sock"
  http://localhost/v1/chat/completions -H "Content-Type: application/json" -d "$request")

# A command in a form that can be pasted.
show() {
  local word line='$'
  for word in "$@"; do
    case $word in
      *[!A-Za-z0-9_./:=-]*) line+=" '${word//\'/\'\\\'\'}'" ;;
      *) line+=" $word" ;;
    esac
  done
  printf '%s\n' "$line"
}

if [ -n "$stay" ]; then
  cat <<EOF

hearthd runs, until Ctrl-C. In another terminal:

  export DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SYSTEM_BUS_ADDRESS
  export PATH=$bin:\$PATH

  hearthctl status
$(show "${by_dbus[@]}" | sed 's/^\$/ /')
$(show busctl introspect org.hearthd.Inference1 /org/hearthd/Inference1 | sed 's/^\$/ /')
$(show "${by_http[@]}" | sed 's/^\$/ /')
  hearthctl top
  hearthctl --help

EOF
  trap 'exit 0' INT
  wait "$daemon_pid" || failed "hearthd ended"
  exit 0
fi

show export "DBUS_SYSTEM_BUS_ADDRESS=$DBUS_SYSTEM_BUS_ADDRESS"
# ask COMMAND...: show it, run it, and expect the right answer.
ask() {
  local answer
  echo
  show "$@"
  answer=$("$@" 2>&1) || failed "this failed: $answer"
  printf '%s\n' "$answer"
  case $answer in
    *Rome*) ;;
    *) failed "the answer does not contain Rome" ;;
  esac
}
ask "${by_dbus[@]}"
ask "${by_http[@]}"
echo
echo "demo: both ways lead to Rome"
