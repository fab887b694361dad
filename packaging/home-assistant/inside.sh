#!/bin/bash
# Runs a command where python3.14 is: here, or in the tree that setup.sh made. There,
# the system's own files are not visible, except the repository, the temporary folder
# and /proc; users, network and everything else are as outside.
#
# usage: packaging/home-assistant/inside.sh COMMAND...
set -euo pipefail
root=$(cd "$(dirname "$0")/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}
tree=$target/home-assistant/tree

if [ ! -e "$tree/made" ]; then
  exec "$@"
fi
user=()
[ "$(id -u)" = 0 ] || user=(--map-root-user)
# shellcheck disable=SC2016 # the inner shell's own
exec unshare --mount --propagation private "${user[@]}" -- bash -c '
  set -e
  tree=$1 root=$2 target=$3 pwd=$PWD
  shift 3
  for folder in /proc /sys /dev "${TMPDIR:-/tmp}" "$root" "$target"; do
    mkdir -p "$tree$folder"
    mount --rbind "$folder" "$tree$folder"
  done
  for file in /etc/resolv.conf /etc/hosts /etc/localtime /etc/ssl/certs/ca-certificates.crt; do
    if [ -e "$file" ]; then
      mkdir -p "$tree${file%/*}"
      [ -e "$tree$file" ] || touch "$tree$file"
      mount --bind "$(realpath "$file")" "$(realpath "$tree$file")"
    fi
  done
  export PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
  exec chroot "$tree" bash -c "cd \"\$0\" && exec \"\$@\"" "$pwd" "$@"
' sh "$tree" "$root" "$target" "$@"
