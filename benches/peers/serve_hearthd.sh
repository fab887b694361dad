#!/bin/bash
# Starts Hearthd on a private bus, with one model and its folders under DIR; ends with
# its parent's SIGTERM. Prompts that it keeps stay in DIR, for the next start.
#
# usage: benches/peers/serve_hearthd.sh DIR MODEL THREADS CONTEXT
set -euo pipefail
dir=$1 model=$2 threads=$3 context=$4
cd "$(dirname "$0")/../.."
# shellcheck source=packaging/private-bus.sh
. packaging/private-bus.sh
bus_pid=
bin=${CARGO_TARGET_DIR:-$PWD/target}/release

mkdir -p "$dir/models" "$dir/none"
ln -sf "$model" "$dir/models/peers.gguf"
cat >"$dir/hearthd.toml" <<TOML
[paths]
models = "$dir/models"
models_packaged = "$dir/none"
prompts = "$dir/prompts"
tuning = "$dir/tuning.json"
engine = "$bin/hearth-engine"

[http]
socket = "$dir/hearthd.sock"

[engine]
threads = $threads
idle_unload_s = 0

[model]
default = "peers"
context = $context
TOML
rm -f "$dir/bus"
private_bus "$dir" "$(id -u)" "$(id -g)"
trap 'kill "$daemon" 2>/dev/null; wait "$daemon" 2>/dev/null; kill $bus_pid' EXIT
trap 'exit 0' TERM INT
"$bin/hearthd" --config "$dir/hearthd.toml" &
daemon=$!
wait "$daemon"
