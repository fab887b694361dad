#!/bin/bash
# Prints the third-party code compiled into the executables: each crate with its
# licence, then every licence text once. The licences require that in packages.
#
# usage: packaging/third-party.sh [TRIPLE]
set -euo pipefail
cd "$(dirname "$0")/.."

target=()
[ $# -eq 0 ] || target=(--target "$1")
registry=${CARGO_HOME:-$HOME/.cargo}/registry/src
texts=$(mktemp -d)
trap 'rm -rf "$texts"' EXIT

echo "Crates compiled into hearthd, hearth-engine and hearthctl, and their licences"
echo "============================================================================="
while IFS='|' read -r crate licence; do
  # "name vVERSION", followed by notes in brackets for procedural macros.
  read -r name version _ <<<"$crate"
  case $name in hearthd | hearthctl | hearth-*) continue ;; esac
  version=${version#v}
  printf '%s %s: %s\n' "$name" "$version" "$licence"
  for file in "$registry"/*/"$name-$version"/{LICEN[CS]E,COPYING,NOTICE}* \
    "$registry"/*/"$name-$version"/llama.cpp/{LICENSE,licenses/LICENSE-}*; do
    [ -f "$file" ] || continue
    sum=$(sha256sum <"$file" | cut -c1-64)
    [ -e "$texts/$sum" ] || cp "$file" "$texts/$sum"
    echo "$name ${file##*/}" >>"$texts/$sum.of"
  done
done < <(cargo tree --locked -p hearthd -p hearth-engine -p hearthctl --edges normal --prefix none --format '{p}|{l}' "${target[@]}" |
  sed 's/ (\*)$//; /^$/d' | sort -u)

for of in "$texts"/*.of; do
  printf '\n\n=== %s ===\n\n' "$(sort -u "$of" | paste -sd, | sed 's/,/, /g')"
  cat "${of%.of}"
done
