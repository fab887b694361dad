#!/bin/bash
# Makes an environment with Home Assistant and its test plugin, as locked in
# requirements.txt, under target/home-assistant, and prints the command prefix that runs
# a program in it. Fast where it already exists; the first time it needs the network and
# takes some minutes.
#
# Home Assistant needs a newer Python than most systems have. Where there is no
# python3.14, it comes from Debian's forky, in a separate tree that does not affect this
# system (needs root, or a kernel that allows unprivileged namespaces, and mmdebstrap).
#
# usage: packaging/home-assistant/setup.sh          for the tests
#        packaging/home-assistant/setup.sh --real   also what a Home Assistant that runs
#                                                   would install by itself
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../../target}
mkdir -p "$target/home-assistant"
dir=$(cd "$target/home-assistant" && pwd)
inside=$here/inside.sh

name=venv
requirements=$here/requirements.txt
case "${1-}" in
  --real)
    name="venv-real"
    requirements=$here/requirements-real.txt
    ;;
  "") ;;
  *)
    echo "usage: packaging/home-assistant/setup.sh [--real]" >&2
    exit 2
    ;;
esac
venv=$dir/$name

wanted=$(cat "$requirements" "$here/setup.sh" "$inside" | sha256sum)
if [ "$(cat "$venv/made-of" 2>/dev/null)" != "$wanted" ]; then
  {
    if ! command -v python3.14 >/dev/null; then
      if [ ! -e "$dir/tree/made" ]; then
        command -v mmdebstrap >/dev/null || {
          echo "home-assistant: neither python3.14 nor mmdebstrap is here: apt-get install mmdebstrap" >&2
          exit 1
        }
        echo "home-assistant: fetching Python 3.14 from Debian forky"
        rm -rf "$dir/tree"
        # Old package lists are sufficient.
        mmdebstrap --quiet --variant=apt --aptopt='Acquire::Check-Valid-Until "false"' \
          --include=python3.14,python3.14-venv,ca-certificates,dbus-daemon,libstdc++6 \
          forky "$dir/tree"
        touch "$dir/tree/made"
      fi
      if [ "$name" = venv-real ]; then
        # One of its dependencies has no wheel for this Python.
        "$inside" bash -c 'apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq \
          install -y --no-install-recommends python3.14-dev g++ libturbojpeg0' >/dev/null
      fi
    fi
    echo "home-assistant: installing Home Assistant"
    rm -rf "$venv"
    "$inside" python3.14 -m venv "$venv"
    # uv takes a tenth of pip's time.
    sed -n '/^uv==/,/[^\\]$/p' "$requirements" >"$venv/uv.txt"
    "$inside" "$venv/bin/python" -m pip install --quiet --disable-pip-version-check \
      --require-hashes -r "$venv/uv.txt"
    "$inside" "$venv/bin/uv" pip install --quiet --python "$venv/bin/python" \
      --cache-dir "$dir/cache" --require-hashes --no-deps -r "$requirements"
  } >&2 || {
    echo "home-assistant: the environment cannot be made (no network?)" >&2
    exit 1
  }
  printf '%s\n' "$wanted" >"$venv/made-of"
fi
printf '%s\n%s\n' "$inside" "$venv/bin/python"
