#!/bin/bash
# Installs the npm clients, as locked in package-lock.json, into a folder under target/,
# copies the scripts that use them there, since Node looks for packages beside a script, and
# prints the path of the folder. Fast if they are installed already; the first time it requires
# the network.
#
# usage: tests/clients/npm/setup.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../../target}
folder=$target/npm-clients

wanted=$({ cat "$here/package-lock.json"; node --version; } | sha256sum)
if [ "$(cat "$folder/made-of" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$folder"
  mkdir -p "$folder"
  cp "$here/package.json" "$here/package-lock.json" "$folder"
  (cd "$folder" && npm ci --silent --ignore-scripts --no-audit --no-fund) >&2 || {
    echo "clients: the npm clients cannot be installed (no network, or no npm?)" >&2
    exit 1
  }
  printf '%s\n' "$wanted" >"$folder/made-of"
fi
cp "$here"/*.mjs "$folder"
realpath -s "$folder"
