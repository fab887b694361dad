#!/bin/bash
# Starts a Home Assistant of its own, headless, beside a Hearthd of its own with the demo
# model on a simulated board, and goes from the first page to a light that goes on:
# onboarding, the forms, Assist, tools, AI tasks, sensors, crashes and restarts, and Home
# Assistant's own `ollama` and `llama_cpp` integrations on Hearthd's TCP socket. Prints what
# was seen; nothing is left running.
#
# usage: packaging/home-assistant/real.sh                    all of this
#        packaging/home-assistant/real.sh --pictures DIR     and pictures of the pages, by
#                                                            Chromium
#        packaging/home-assistant/real.sh --model MODEL.gguf  instead, what this model does
#                                                            with lights, by our integration
#                                                            and by core's
#        packaging/home-assistant/real.sh --times MODEL.gguf  instead, how long a larger home
#                                                            waits for the first word
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage() {
  sed -n 's/^# usage: /usage: /p; s/^#        pack/       pack/p' "$0" >&2
  exit 2
}

arguments=()
case "${1-}" in
  "") [ $# = 0 ] || usage ;;
  --times | --model)
    [ $# = 2 ] || usage
    arguments=("$1" "$("$here/inside-model.sh" "$2")")
    ;;
  --pictures)
    [ $# = 2 ] || usage
    mkdir -p "$2"
    arguments=(--pictures "$(realpath "$2")")
    ;;
  *) usage ;;
esac
mapfile -t python < <("$here/setup.sh" --real)

if [ "${1-}" = --pictures ]; then
  profile=$(mktemp -d)
  # It is none of the tree's.
  chromium --headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync \
    --disable-background-networking --disable-component-update --hide-scrollbars \
    --remote-debugging-port=0 --user-data-dir="$profile" about:blank >"$profile/log" 2>&1 &
  chromium=$!
  trap 'kill "$chromium" 2>/dev/null; wait "$chromium" 2>/dev/null; rm -rf "$profile"' EXIT
  for ((i = 0; i < 600; i++)); do
    [ ! -s "$profile/DevToolsActivePort" ] || break
    sleep 0.1
  done
  arguments+=(--browser "$(head -1 "$profile/DevToolsActivePort")")
fi
# The board is that of the tests.
PYTHONPATH=$here/tests "${python[@]}" "$here/real.py" "${arguments[@]}"
