#!/bin/bash
# Installs what building (and, where asked, testing, checking, packaging or building
# for a Raspberry Pi) needs from Debian, except what is already installed. Then it is
# fast and silent; works offline.
#
# usage: packaging/setup-host.sh [build] [test] [check] [package] [cross] [models] [vm] [home-assistant]
#        default: build
set -euo pipefail

[ $# -gt 0 ] || set -- build
missing=()

# need COMMAND PACKAGE: the package is needed where the command is missing.
need() { command -v "$1" >/dev/null 2>&1 || missing+=("$2"); }
# want PACKAGE: for packages without a command of their own.
want() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ] || missing+=("$1")
}

for part in "$@"; do
  case $part in
    build)
      need git git
      need make make
      need gcc gcc
      need g++ g++
      # llama.cpp: cmake; its bindings: bindgen, which loads libclang.
      need cmake cmake
      need clang clang
      want libclang-dev
      # Compiling llama.cpp takes minutes; ccache avoids repeating it.
      need ccache ccache
      need pkg-config pkg-config
      need curl curl
      need xz xz-utils
      # `make demo` and `make run`: a private bus, and calls on it.
      need dbus-daemon dbus-daemon
      need busctl systemd
      ;;
    test)
      # Unit files, sysusers and tmpfiles are checked by systemd's own tools.
      need systemd-analyze systemd
      need setpriv util-linux
      need readelf binutils
      need dpkg-deb dpkg
      # The readers of hearthctl's output: manual pages, completions, plots.
      need man man-db
      need zsh zsh
      need fish fish
      need xmllint libxml2-utils
      # Certificates for servers that are downloaded from.
      need openssl openssl
      # Other clients of the bus.
      need gdbus libglib2.0-bin
      need dbus-send dbus-bin
      # The official clients are Python packages (tests/clients).
      need python3 python3
      python3 -c 'import ensurepip, venv' 2>/dev/null || missing+=(python3-venv)
      # Others are npm packages (tests/clients/npm).
      need node nodejs
      need npm npm
      # The page is tested in a browser; Playwright's own browser is no Debian package.
      need chromium chromium
      # The real polkitd evaluates the rules; it has no command of its own.
      want polkitd
      ;;
    check)
      need shellcheck shellcheck
      ;;
    package)
      need strip binutils
      need lintian lintian
      # Used by lintian to check the manual pages.
      need man man-db
      ;;
    cross)
      # For aarch64-unknown-linux-gnu.
      need aarch64-linux-gnu-g++ g++-aarch64-linux-gnu
      need aarch64-linux-gnu-strip binutils-aarch64-linux-gnu
      # Runs the cross-compiled executables.
      need qemu-aarch64-static qemu-user-static
      ;;
    models)
      # llama.cpp's server from Debian's packages, which are unpacked.
      need python3 python3
      need mmdebstrap mmdebstrap
      ;;
    vm)
      # Virtual machines to test in (packaging/vm), which download their own QEMU.
      need mmdebstrap mmdebstrap
      need arch-test arch-test
      need qemu-aarch64-static qemu-user-static
      need depmod kmod
      need cpio cpio
      need mkfs.ext4 e2fsprogs
      ;;
    home-assistant)
      # Home Assistant's Python comes from a newer Debian where it is missing.
      command -v python3.14 >/dev/null || need mmdebstrap mmdebstrap
      ;;
    *)
      echo "setup-host: unknown part '$part' (there are: build, test, check, package, cross, models, vm, home-assistant)" >&2
      exit 2
      ;;
  esac
done

if [ "${#missing[@]}" -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if ! command -v apt-get >/dev/null; then
    echo "setup-host: please install what your system calls: ${missing[*]}" >&2
    exit 1
  fi
  root=()
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null || {
      echo "setup-host: as root, please: apt-get install ${missing[*]}" >&2
      exit 1
    }
    root=(sudo)
  fi
  echo "setup-host: installing ${missing[*]}"
  export DEBIAN_FRONTEND=noninteractive
  # The package lists may be absent or too old: updated only when the first attempt fails.
  install=(env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "${missing[@]}")
  "${root[@]}" "${install[@]}" >/dev/null 2>&1 || {
    "${root[@]}" apt-get update -qq
    "${root[@]}" "${install[@]}" >/dev/null
  }
fi

# The compiler is not installed from Debian: Debian's is too old.
wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
if ! command -v cargo >/dev/null; then
  echo "setup-host: Rust $wanted or newer is needed: https://rustup.rs" >&2
  exit 1
fi
have=$(rustc --version | cut -d' ' -f2)
if ! printf '%s\n' "$wanted" "${have%%-*}" | sort -VC; then
  echo "setup-host: Rust $wanted or newer is needed, this is $have: rustup update" >&2
  exit 1
fi
