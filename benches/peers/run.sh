#!/bin/bash
# Asks Hearthd and what there is beside it the same questions, with the same model file,
# threads and lengths, in turn: the study's protocol (hearthctl bench study), and a long
# system prompt that recurs. Sets up the others first (setup.sh), under target/peers.
#
# usage: benches/peers/run.sh [--model FILE] [--threads N] [--runs N] [--tokens N]
#                             [--prefix N] [--prefix-runs N] [--prefix-only] [--demo-only]
#                             [--only NAME]... [--out FILE]
#   --model FILE     the larger model, several times for several; random weights of a 0.5B
#                    shape, Q4_0, if left out
#   --threads N      compute threads of each (1)
#   --runs N         runs of each form (10)
#   --tokens N       tokens of an answer of the larger model (32)
#   --prefix N       tokens of the system prompt that recurs, about (1600)
#   --prefix-runs N  how often it is asked (3)
#   --prefix-only    nothing but the system prompt, of the larger models
#   --demo-only      the demo model alone: minutes instead of an hour
#   --only NAME      only this one; several times for several
#   --out FILE       write the tables between FILE's lines <!-- peers --> and
#                    <!-- /peers --> (<!-- prefix --> with --prefix-only); else to standard
#                    output
# Ollama and llamafile are asked where they are found on PATH.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
case " $* " in
  *" --help "* | *" -h "*)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
    exit 0
    ;;
esac
target=${CARGO_TARGET_DIR:-$here/../../target}
for name in hearthd hearth-engine hearthctl; do
  [ -x "$target/release/$name" ] || {
    echo "peers: $target/release/$name is missing: run 'make build' first" >&2
    exit 1
  }
done
only=()
words=("$@")
for ((i = 0; i + 1 < $#; i++)); do
  [ "${words[i]}" != --only ] || only+=("${words[i + 1]}")
done
"$here/setup.sh" "${only[@]}"
exec python3 "$here/run.py" --target "$(cd "$target" && pwd)" "$@"
