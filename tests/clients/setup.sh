#!/bin/bash
# Installs the official Python clients, as locked in requirements.txt, into a virtual
# environment under target/, and prints the path of its Python. Fast if they are installed
# already; the first time it requires the network. `frameworks` installs frameworks.txt
# instead: libraries that require an older version of OpenAI's client than the one in
# requirements.txt.
#
# usage: tests/clients/setup.sh [frameworks]
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
case ${1-} in
  '') locked=$here/requirements.txt environment=$target/python-clients ;;
  frameworks) locked=$here/frameworks.txt environment=$target/python-frameworks ;;
  *)
    echo "clients: there is no set of clients '$1'; say 'frameworks', or nothing" >&2
    exit 2
    ;;
esac
python=$environment/bin/python3

wanted=$({ cat "$locked"; python3 --version; } | sha256sum)
if [ "$(cat "$environment/made-of" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$environment"
  mkdir -p "$target"
  {
    python3 -m venv "$environment"
    "$python" -m pip install --quiet --disable-pip-version-check \
      --require-hashes --no-deps --only-binary :all: -r "$locked"
  } >&2 || {
    echo "clients: the Python clients cannot be installed (no network, or no python3-venv?)" >&2
    exit 1
  }
  printf '%s\n' "$wanted" >"$environment/made-of"
fi
realpath -s "$python"
