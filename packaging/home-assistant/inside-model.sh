#!/bin/bash
# Puts a model file where Home Assistant's Python can read it (inside.sh: it may run in
# a separate tree, which contains the target folder), and prints its path there.
#
# usage: packaging/home-assistant/inside-model.sh MODEL.gguf
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
[ -r "${1:?usage: packaging/home-assistant/inside-model.sh MODEL.gguf}" ] || {
  echo "${0##*/}: $1 cannot be read: give a model file (make models fetches some)" >&2
  exit 1
}
folder=${CARGO_TARGET_DIR:-$here/../../target}/home-assistant/models
mkdir -p "$folder"
path=$(realpath "$folder")/$(basename "$1")
cmp -s "$1" "$path" || cp --reflink=auto -L "$1" "$path"
echo "$path"
