#!/bin/bash
# Installs the official Python clients, as locked in requirements.txt, into a virtual
# environment under target/, and prints the path of its Python. Fast if they are installed
# already; the first time it requires the network.
#
# usage: tests/clients/setup.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
environment=$target/python-clients
python=$environment/bin/python3

wanted=$({ cat "$here/requirements.txt"; python3 --version; } | sha256sum)
if [ "$(cat "$environment/made-of" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$environment"
  mkdir -p "$target"
  {
    python3 -m venv "$environment"
    "$python" -m pip install --quiet --disable-pip-version-check \
      --require-hashes --no-deps --only-binary :all: -r "$here/requirements.txt"
  } >&2 || {
    echo "clients: the Python clients cannot be installed (no network, or no python3-venv?)" >&2
    exit 1
  }
  printf '%s\n' "$wanted" >"$environment/made-of"
fi
realpath -s "$python"
