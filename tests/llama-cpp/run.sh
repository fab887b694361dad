#!/bin/bash
# Builds llama.cpp's own tests of its chat layer (templates, parsers, jinja) against the
# chat layer that Hearthd is built from, and runs them. The crate llama-cpp-sys-2 has the
# sources without the tests. They come from the source package of llama-cpp-python, which
# has a llama.cpp of nearly the same date. Takes three minutes the first time.
#
# usage: tests/llama-cpp/run.sh [--fetch | --out FILE]
#   --fetch      only fetch the tests and the chat templates that they use; without a
#                network that is left out
#   --out FILE   write what was read right as a table between FILE's lines <!-- families -->
#                and <!-- /families -->, once all has passed
# status 77: the package is not here, and there is no network to fetch it
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
target=$(realpath -m "${CARGO_TARGET_DIR:-$here/../../target}")
folder=$target/llama-cpp-tests
libraries=$target/release/hearth-lib
python=${PYTHON:-python3}
out=
fetch=
case $* in
  '') ;;
  --fetch) fetch=yes ;;
  '--out '*) out=$2 ;;
  *)
    sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0" >&2
    exit 2
    ;;
esac

[ -n "$fetch" ] || [ -e "$libraries/libllama.so.0" ] || {
  echo "llama-cpp tests: $libraries is missing: run 'make build' first" >&2
  exit 1
}
crate=$(cargo metadata --format-version 1 --locked --manifest-path "$here/../../Cargo.toml" |
  "$python" -c '
import json, pathlib, sys
packages = json.load(sys.stdin)["packages"]
(path,) = [p["manifest_path"] for p in packages if p["name"] == "llama-cpp-sys-2"]
print(pathlib.Path(path).parent / "llama.cpp")')

# Unpacks the package, and again if another one is required.
wanted=$(sha256sum <"$here/requirements.txt")
if [ "$(cat "$folder/made-of" 2>/dev/null)" != "$wanted" ]; then
  rm -rf "$folder"
  mkdir -p "$folder/package"
  echo "llama-cpp tests: fetching llama.cpp's tests (75 MB, once)" >&2
  "$python" -m pip --version >/dev/null 2>&1 || {
    "$python" -m venv "$folder/python" >&2
    python=$folder/python/bin/python3
  }
  if ! "$python" -m pip download --quiet --disable-pip-version-check --no-deps \
    --no-binary :all: --require-hashes -r "$here/requirements.txt" --dest "$folder" \
    >"$folder/said" 2>&1; then
    if curl --silent --output /dev/null --head --max-time 20 https://pypi.org/; then
      cat "$folder/said" >&2
      exit 1
    fi
    echo "llama.cpp's chat tests: no network to fetch them"
    [ -n "$fetch" ] || exit 77
    exit 0
  fi
  tar xzf "$folder"/*.tar.gz -C "$folder/package" --strip-components=1 --wildcards \
    '*/vendor/llama.cpp/tests' '*/vendor/llama.cpp/tools' '*/vendor/llama.cpp/models/templates'
  rm "$folder"/*.tar.gz
  printf '%s\n' "$wanted" >"$folder/made-of"
fi

[ -z "$fetch" ] || exit 0

# The shipped library, if the build creates one; the newest.
shipped=$(find "$target/release/build" -name libhearth_chat.a -printf '%T@ %p\n' | sort -n | tail -1 | cut -d' ' -f2-)
launcher=()
if command -v ccache >/dev/null; then
  launcher=(-DCMAKE_C_COMPILER_LAUNCHER=ccache -DCMAKE_CXX_COMPILER_LAUNCHER=ccache)
fi
cmake -S "$here" -B "$folder/build" -DLLAMA_CPP="$crate" -DTESTS="$folder/package/vendor/llama.cpp" \
  -DLIBRARIES="$libraries" -DHEARTH_CHAT="$shipped" "${launcher[@]}" >"$folder/said" ||
  { cat "$folder/said" >&2; exit 1; }
nice cmake --build "$folder/build" --parallel "$(nproc)" >"$folder/said" 2>&1 ||
  { cat "$folder/said" >&2; exit 1; }
echo "llama.cpp's chat tests against ${shipped:-the chat layer in $crate}"
ctest --test-dir "$folder/build" --output-on-failure
[ -z "$out" ] || "$python" "$here/families.py" "$folder/package/vendor/llama.cpp/tests/test-chat.cpp" "$out"
