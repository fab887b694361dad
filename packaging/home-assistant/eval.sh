#!/bin/bash
# Sends sentences to a model in simulated homes defined in files, in Home Assistant's
# test harness with the daemon that `make build` made, and prints which were right,
# which actions were wrong and how long it took.
#
# usage: packaging/home-assistant/eval.sh MODEL.gguf [OPTION]...
#
#   --data DIR       homes and sentences in the form of home-assistant-datasets (else the
#                    ones in packaging/home-assistant/tests/eval/homes)
#   --without WORDS  leave levers out: verbs names rooms examples doubt confirmation
#   --json FILE      each sentence with what came of it
#   --least SHARE    fail where fewer are right, from 0 to 1
#   --threads N      compute threads (else as the service chooses)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
usage() { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" | sed '$d'; }
case "${1-}" in
  "" | -*)
    usage >&2
    [ "${1-}" != --help ] || exit 0
    exit 2
    ;;
esac
HOME_EVAL_MODEL=$("$here/inside-model.sh" "$1")
export HOME_EVAL_MODEL
# Only this folder is visible there, too.
target=${CARGO_TARGET_DIR:-$here/../../target}/home-assistant
json=
shift
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || { echo "eval.sh: $1 wants a value" >&2; exit 2; }
  case "$1" in
    --data)
      rm -rf "$target/homes"
      cp -rL "$2" "$target/homes"
      HOME_EVAL_DATA=$(realpath "$target/homes") && export HOME_EVAL_DATA
      ;;
    --without) export HOME_EVAL_WITHOUT=${2//,/ } ;;
    --json)
      json=$(realpath -m "$2")
      HOME_EVAL_OUT=$(realpath "$target")/eval.json && export HOME_EVAL_OUT
      ;;
    --least) export HOME_EVAL_LEAST=$2 ;;
    --threads) export HOME_EVAL_THREADS=$2 ;;
    *)
      usage >&2
      exit 2
      ;;
  esac
  shift 2
done
mapfile -t python < <("$here/setup.sh")
cd "$here"
# Never another run's.
[ -z "$json" ] || rm -f "$HOME_EVAL_OUT"
status=0
"${python[@]}" -m pytest -q -s --no-header -p no:logging \
  -o timeout=1800 tests/eval/run_eval.py || status=$?
[ -z "$json" ] || cp "$HOME_EVAL_OUT" "$json"
exit "$status"
