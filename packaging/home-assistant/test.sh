#!/bin/bash
# Tests the integration in Home Assistant's test harness, against the real daemon that
# `make build` made, on a bus of its own.
#
# usage: packaging/home-assistant/test.sh [PYTEST ARGUMENT]...
set -euo pipefail
cd "$(dirname "$0")"
mapfile -t python < <(./setup.sh)
"${python[@]}" -m pytest -q "$@"
