#!/bin/bash
# Regenerates requirements*.txt from requirements*.in, with the versions that Home
# Assistant itself requires. Run it after changing these; needs the network.
#
# usage: packaging/home-assistant/lock.sh
set -euo pipefail
cd "$(dirname "$0")"
mapfile -t python < <(./setup.sh)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

compile() {
  "${python[0]}" "$(dirname "${python[1]}")/uv" pip compile --quiet --python "${python[1]}" \
    --no-header --no-annotate "$@"
}
# The plugin determines the Home Assistant version of the tests.
grep '^pytest-homeassistant-custom-component==' requirements.in >"$work/plugin.in"
compile "$work/plugin.in" --output-file "$work/plugin.txt"
for name in requirements requirements-real; do
  home=$(grep -h '^homeassistant==' "$name.in" "$work/plugin.txt" | head -1)
  # Home Assistant determines the versions of its integrations' requirements.
  "${python[0]}" "${python[1]}" -m pip download --quiet --disable-pip-version-check \
    --no-deps --dest "$work/$name" "$home"
  python3 -m zipfile -e "$work/$name"/homeassistant-*.whl "$work/$name/wheel"
  compile --generate-hashes --constraint "$work/$name/wheel/homeassistant/package_constraints.txt" \
    --output-file "$work/$name.txt" "$name.in"
  cp "$work/$name.txt" .
done
