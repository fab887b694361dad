#!/bin/bash
# Says sentences to a model in homes that exist in files only, in Home Assistant's test
# harness with the daemon that `make build` made, and prints what was right, what was done
# wrongly and how long it took.
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
[ -r "$1" ] || {
  echo "eval.sh: $1 cannot be read: give a model file (make models fetches some)" >&2
  exit 1
}
# Where Home Assistant's Python has a tree of its own, only the target folder is seen there.
target=${CARGO_TARGET_DIR:-$here/../../target}
mkdir -p "$target/home-assistant/models"
HOME_EVAL_MODEL=$(realpath "$target/home-assistant/models")/$(basename "$1")
export HOME_EVAL_MODEL
cmp -s "$1" "$HOME_EVAL_MODEL" || cp --reflink=auto -L "$1" "$HOME_EVAL_MODEL"
shift
while [ $# -gt 0 ]; do
  [ $# -ge 2 ] || { echo "eval.sh: $1 wants a value" >&2; exit 2; }
  case "$1" in
    --data)
      # As above.
      rm -rf "$target/home-assistant/homes"
      cp -rL "$2" "$target/home-assistant/homes"
      HOME_EVAL_DATA=$(realpath "$target/home-assistant/homes") && export HOME_EVAL_DATA
      ;;
    --without) export HOME_EVAL_WITHOUT=${2//,/ } ;;
    --json) HOME_EVAL_OUT=$(realpath -m "$2") && export HOME_EVAL_OUT ;;
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
"${python[@]}" -m pytest -q -s --no-header -p no:logging \
  -o timeout=1800 tests/eval/run_eval.py
