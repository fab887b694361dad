#!/bin/bash
# Installs the Cargo tools for packaging and checks, each in exactly the version the
# project was checked with; does nothing where it is already installed.
#
# usage: packaging/install-tools.sh
set -euo pipefail

while read -r tool version; do
  have=$(cargo "${tool#cargo-}" --version 2>/dev/null | grep -o '[0-9][0-9.]*$' || true)
  if [ "$have" != "$version" ]; then
    echo "install-tools: $tool $version (there is: ${have:-none})"
    cargo install --quiet --locked "$tool@$version"
  fi
done <<'TOOLS'
cargo-deb 3.8.0
cargo-deny 0.20.2
TOOLS
