#!/bin/bash
# Installs a package in a whole machine that QEMU emulates, as a person would on a
# board, and uses it there: a Debian with its own kernel, cgroups and memory pressure
# as they are, reboots. See inside.sh for what is tried. Needs root; nothing it does
# reaches any network. An emulated machine takes minutes to start.
#
# usage: packaging/vm/run.sh FILE.deb [PHASE...]     default: all of inside.sh's
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
deb=$(realpath "${1:?usage: packaging/vm/run.sh FILE.deb [PHASE...]}")
shift
[ $# -gt 0 ] || set -- package use reboot pi small tiny
# No phase takes longer, also where other work goes on.
patience_s=2400

fail() { echo "vm: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "has to be root"
"$here/../setup-host.sh" vm

arch=$(dpkg-deb -f "$deb" Architecture)
folder=${HEARTH_VM_DIR:-${CARGO_TARGET_DIR:-$here/../../target}/vm}
"$here/image.sh" "$arch" "$folder"
folder=$(realpath "$folder")

work=$(mktemp -d "$folder/run.XXXX")
trap 'rm -rf "$work"' EXIT
share=$work/share
mkdir "$share"
cp "$here/../boot-test-inside.sh" "$here/inside.sh" "$share/"
cp "$here/../inside-lib.sh" "$share/lib.sh"
cp "$deb" "$share/hearthd.deb"

# QEMU by the loader and libraries that it was fetched with.
libraries=$(echo "$folder"/tools/usr/lib/*-linux-gnu)
loader=$(echo "$libraries"/ld-linux-*.so.*)
qemu() {
  local name=$1
  shift
  exec "$loader" --library-path "$libraries:$libraries/pulseaudio" \
    "$folder/tools/usr/bin/qemu-system-$name" -L "$folder/tools/usr/share/qemu" \
    -L "$folder/tools/usr/share/seabios" "$@"
}
case $arch in
  # As a Raspberry Pi 4: Cortex-A72, four cores.
  arm64) machine=(aarch64 -M virt -cpu cortex-a72) console=ttyAMA0 cpu=armv8.0_1 ;;
  amd64) machine=(x86_64 -M q35 -cpu Nehalem) console=ttyS0 cpu=sse42 ;;
  *) fail "no machine for $arch" ;;
esac

echo "$cpu" >"$share/cpu"

# A disk that goes through all phases, as a board's does.
cp --sparse=always "$folder/$arch/disk" "$work/disk"
status=0
for phase in "$@"; do
  memory_mib=4096
  append=
  script=inside.sh
  case $phase in
    package) script=boot-test-inside.sh ;;
    # What Raspberry Pi OS starts its kernel with.
    pi) append="psi=0 cgroup_disable=memory" ;;
    small) memory_mib=1024 ;;
    tiny) memory_mib=512 ;;
  esac
  cp "$share/$script" "$share/test.sh"
  echo "$phase" >"$share/phase"
  rm -f "$share/passed"
  : >"$share/log"
  begin=$SECONDS
  qemu "${machine[@]}" -accel tcg,thread=multi -smp 4 -m "$memory_mib" -nodefaults -display none \
    -no-reboot -kernel "$folder/$arch/vmlinuz" -initrd "$folder/$arch/initrd" \
    -append "root=/dev/vda rw console=$console panic=-1 quiet systemd.show_status=0 systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900 $append" \
    -drive "file=$work/disk,format=raw,if=none,id=disk,cache=unsafe" -device virtio-blk-pci,drive=disk \
    -device virtio-rng-pci -virtfs "local,path=$share,mount_tag=host,security_model=none" \
    -serial "file:$work/console" </dev/null &
  qemu_pid=$!
  shown=0
  while kill -0 "$qemu_pid" 2>/dev/null; do
    if [ $((SECONDS - begin)) -gt "$patience_s" ]; then
      echo "vm: $phase takes too long" >&2
      kill "$qemu_pid"
    fi
    sleep 1
    # What came since, so that one can watch.
    lines=$(wc -l <"$share/log")
    if [ "$lines" -gt "$shown" ]; then
      sed -n "$((shown + 1)),${lines}s/^/$arch $phase: /p" "$share/log"
      shown=$lines
    fi
  done
  wait "$qemu_pid" || true
  if [ -e "$share/passed" ]; then
    echo "$arch $phase: passed in $((SECONDS - begin)) s"
  else
    echo "$arch $phase: FAILED after $((SECONDS - begin)) s" >&2
    [ -s "$share/log" ] || tail -n 40 "$work/console" >&2
    status=1
  fi
done
exit "$status"
