#!/bin/bash
# Takes the pictures of README.md from the real thing: the built daemon with the demo model
# on a simulated board, its page in Chromium, and `hearthctl top` in a terminal.
#
# usage: docs/pictures/make.sh         after `make build`; writes page.png and top.png here
set -euo pipefail
cd "$(dirname "$0")/../.."
for tool in aha chromium socat tmux; do
  command -v "$tool" >/dev/null || { echo "pictures: install $tool" >&2; exit 1; }
done
python=$(tests/clients/setup.sh)
bin=${CARGO_TARGET_DIR:-$PWD/target}/release
pictures=$PWD/docs/pictures
dir=$(mktemp -d)
port=8765
pids=()
cleanup() {
  tmux -L hearthd-pictures kill-server 2>/dev/null || true
  kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT

packaging/demo.sh --stay pi4-poor >"$dir/demo" 2>&1 &
pids+=($!)
for ((i = 0; i < 300; i++)); do
  address=$(sed -n 's/^ *export DBUS_SYSTEM_BUS_ADDRESS=//p' "$dir/demo")
  [ -z "$address" ] || break
  sleep 0.1
done
[ -n "$address" ] || { echo "pictures: the demo does not start" >&2; cat "$dir/demo" >&2; exit 1; }
export DBUS_SYSTEM_BUS_ADDRESS=$address
socket=$(sed -n "s/.*--unix-socket \([^ ]*\).*/\1/p" "$dir/demo" | head -n 1)
socat "TCP-LISTEN:$port,bind=127.0.0.1,fork,reuseaddr" "UNIX-CONNECT:$socket" &
pids+=($!)

# Work that heats the board and fills the queue.
busy() {
  local request='{"messages":[{"role":"user","content":"What is the capital of Japan?"}],"max_tokens":400,"ignore_eos":true}'
  while :; do
    curl -s --unix-socket "$socket" -d "$request" http://localhost/v1/chat/completions >/dev/null
  done
}
busy &
pids+=($!)
busy &
pids+=($!)
tmux -L hearthd-pictures new-session -d -x 112 -y 34 "$bin/hearthctl top"
sleep 60
tmux -L hearthd-pictures capture-pane -e -p | aha --black --title 'hearthctl top' >"$dir/top.html"
"$python" docs/pictures/shots.py "http://127.0.0.1:$port" "$dir/top.html" "$pictures"
echo "pictures: $pictures/page.png, $pictures/top.png"
