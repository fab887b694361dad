#!/bin/bash
# Runs the tests of llama.cpp's own server against Hearthd, over a loopback TCP socket
# (their DEBUG_EXTERNAL mode), and compares the outcome of each with server-tests.tsv. They
# come from the same source package as the tests of the chat layer (run.sh). Their models
# cannot be fetched: SmolLM2 135M, MiniLM and, for filling in, Qwen2.5-Coder 0.5B stand in.
#
# usage: tests/llama-cpp/server.sh [--write | -k EXPRESSION]
#   --write         write the outcomes into server-tests.tsv; a new difference needs a reason
#   -k EXPRESSION   only tests that pytest selects by this; print what they say
# status 77: a package or a model is not here, and there is no network to fetch it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
cd "$here/../.."
case $# in
  0) ;;
  1 | 2) [ "$1" = --write ] || [ "$1" = -k ] || set -- --help ;;
esac
if [ "${1-}" = --help ]; then
  sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
  exit 2
fi
# shellcheck source=packaging/private-bus.sh
. packaging/private-bus.sh
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
bin=$target/release
tests=$target/llama-cpp-tests/package/vendor/llama.cpp/tools/server/tests
for file in "$bin"/{hearthd,hearth-engine}; do
  [ -e "$file" ] || { echo "server tests: $file is missing: run 'make build' first" >&2; exit 1; }
done

"$here/run.sh" --fetch
[ -d "$tests" ] || exit 77
python=$(tests/clients/setup.sh) || exit 77
mapfile -t models < <(tests/models/fetch.sh --if-possible smollm2 qwen2.5-coder-0.5b)
minilm=$(python3 tests/models/minilm.py) || exit 77
[ "${#models[@]}" = 2 ] || exit 77

dir=$(mktemp -d "${TMPDIR:-/tmp}/hearthd.XXXXXX")
bus_pid=
daemon_pid=
# shellcheck disable=SC2317 # the trap calls it
cleanup() {
  for pid in $daemon_pid $bus_pid; do
    kill "$pid" 2>/dev/null || true
  done
  wait 2>/dev/null || true
  rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 130' INT TERM
mkdir "$dir/models" "$dir/none" "$dir/cache"
for model in "${models[@]}" "$minilm"; do
  ln -s "$(realpath "$model")" "$dir/models/"
done
private_bus "$dir" "$(id -u)" "$(id -g)"
export CACHE_DIRECTORY=$dir/cache

# serve MODEL CONTEXT SLOTS: a daemon with the settings of their presets.
serve() {
  if [ -n "$daemon_pid" ]; then
    kill "$daemon_pid"
    wait "$daemon_pid" || true
  fi
  rm -f "$dir"/{port,hearthd.sock}
  cat >"$dir/hearthd.toml" <<EOF
[paths]
models = "$dir/models"
models_packaged = "$dir/none"
prompts = "$dir/prompts"
tuning = "$dir/tuning.json"
engine = "$bin/hearth-engine"

[model]
default = "$1"
context = $2
preload = true

[model.aliases]
"davinci-002" = "$1"
"gpt-3.5-turbo" = "$1"
"gpt-3.5-turbo-instruct" = "$1"
"codellama70b" = "$1"
"gpt-4.1" = "$1"
"test" = "$1"
"text-embedding-3-small" = "$(basename "$minilm" .gguf)"

[engine]
slots = $3

[sampling]
max_tokens = 16
temperature = 0.8
EOF
  python3 tests/clients/listen.py "$bin/hearthd" --config "$dir/hearthd.toml" 2>>"$dir/log" &
  daemon_pid=$!
  for _ in {1..200}; do
    [ ! -s "$dir/port" ] || break
    sleep 0.05
  done
  PORT=$(cat "$dir/port")
  export PORT
}

run() { "$python" "$here/server_tests.py" "$tests" "$here/server-tests.tsv" "$@"; }

status=0
serve "$(basename "${models[0]}" .gguf)" 256 2
run --but test_infill.py "$@" || status=$?
serve "$(basename "${models[1]}" .gguf)" 2048 1
run --only test_infill.py "$@" || status=$?
exit "$status"
