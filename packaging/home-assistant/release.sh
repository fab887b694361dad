#!/bin/bash
# Makes the zip that HACS fetches from a release: the integration's files at its top,
# reproducible. Prints its path.
#
# usage: packaging/home-assistant/release.sh
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
out=${CARGO_TARGET_DIR:-$here/../../target}/home-assistant
mkdir -p "$out"
python3 - "$here/custom_components/hearthd" "$out/hearthd-home-assistant.zip" <<'PYTHON'
import pathlib
import sys
import zipfile

source, target = map(pathlib.Path, sys.argv[1:])
with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as archive:
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        if "__pycache__" in path.parts:
            continue
        entry = zipfile.ZipInfo(path.relative_to(source).as_posix(), (1980, 1, 1, 0, 0, 0))
        entry.compress_type = zipfile.ZIP_DEFLATED
        entry.external_attr = 0o644 << 16
        archive.writestr(entry, path.read_bytes())
print(target)
PYTHON
