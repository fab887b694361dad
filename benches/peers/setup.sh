#!/bin/bash
# Sets up what Hearthd is compared with, all of it under target/peers: an environment of
# Python with the packages locked in requirements.txt (llama-cpp-python is compiled here,
# which takes minutes; its wheel is kept), and llama.cpp's llama-server out of Debian's
# packages, unpacked and not installed. Quick where all is there; the first time it needs
# the network, a compiler and cmake, and mmdebstrap. What cannot be set up is left out.
#
# usage: benches/peers/setup.sh [NAME]...     only what these need: llama-server,
#                                             llama-cpp-python, langchain, ctransformers
#   DEBIAN_SUITE, DEBIAN_MIRROR: where llama-server comes from (forky; deb.debian.org)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
peers=${CARGO_TARGET_DIR:-$here/../../target}/peers
mkdir -p "$peers/wheels"
peers=$(cd "$peers" && pwd)

# wants NAME...: whether one of them is asked for.
names=("$@")
wants() {
  local name
  [ "${#names[@]}" -gt 0 ] || return 0
  for name; do
    case " ${names[*]} " in *" $name "*) return 0 ;; esac
  done
  return 1
}

python=$peers/python/bin/python3
locked=$here/requirements.txt
version=$(sed -n 's/^llama-cpp-python==\([^ ]*\).*/\1/p' "$locked")
wheel() { find "$peers/wheels" -name "llama_cpp_python-$version-*.whl" -print -quit; }
pip() { nice -n 15 "$python" -m pip --quiet --disable-pip-version-check "$@" >&2; }

# All packages have wheels but one, which is a matter of its own.
packages() {
  sed '/^llama-cpp-python==/,+1d' "$locked" >"$peers/others.txt"
  python3 -m venv "$peers/python" &&
    pip install --require-hashes --no-deps --only-binary :all: -r "$peers/others.txt"
}
compiled() {
  if [ -z "$(wheel)" ]; then
    grep -A 1 '^llama-cpp-python==' "$locked" >"$peers/source.txt"
    # Without pictures (mtmd), which nothing here has. Objects are kept for another try.
    CMAKE_ARGS=-DLLAVA_BUILD=OFF pip wheel --no-deps --require-hashes \
      -C build-dir="$peers/build" -r "$peers/source.txt" -w "$peers/wheels" || return 1
  fi
  pip install --no-deps "$(wheel)"
}

if wants llama-cpp-python langchain ctransformers; then
  wanted=$({ cat "$locked"; python3 --version; } | sha256sum)
  if [ "$(cat "$peers/made-of" 2>/dev/null)" != "$wanted" ]; then
    echo "peers: installing Python packages" >&2
    rm -rf "$peers/python"
    if packages; then
      printf '%s\n' "$wanted" >"$peers/made-of"
    else
      echo "peers: Python packages cannot be installed: left out" >&2
    fi
  fi
fi
if wants llama-cpp-python langchain && [ -x "$python" ] &&
  ! "$python" -c 'import llama_cpp' 2>/dev/null; then
  echo "peers: compiling llama-cpp-python, once" >&2
  compiled || echo "peers: llama-cpp-python cannot be compiled: left out" >&2
fi

suite=${DEBIAN_SUITE:-forky}
debian=$peers/debian-$suite
if wants llama-server && [ ! -x "$debian/usr/bin/llama-server" ]; then
  if command -v mmdebstrap >/dev/null; then
    echo "peers: unpacking llama-server from Debian $suite" >&2
    rm -rf "$debian" "$debian.part"
    # Mirrors may lag behind the date that a release file is good for; its signature is
    # checked all the same.
    if mmdebstrap --quiet --variant=extract --include=llama.cpp-tools \
      --aptopt='Acquire::Check-Valid-Until "false"' \
      "$suite" "$debian.part" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2; then
      mv "$debian.part" "$debian"
    else
      echo "peers: no llama-server from Debian $suite: left out" >&2
    fi
  else
    echo "peers: no llama-server: sudo apt install mmdebstrap debian-archive-keyring" >&2
  fi
fi
