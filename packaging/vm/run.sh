#!/bin/bash
# Installs a package in a machine emulated by QEMU, as a user would on a board, and uses
# it there: a Debian with its own kernel, real cgroups and memory pressure, and reboots.
# See inside.sh for the tests. Needs root; it does not use any network. An emulated
# machine takes minutes to start.
#
# usage: packaging/vm/run.sh [--release bookworm] FILE.deb [PHASE...]
#        default: trixie, and all phases of inside.sh that this machine can do but `idle`
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
release=trixie
if [ "${1-}" = --release ]; then
  release=${2:?--release wants a name}
  shift 2
fi
deb=$(realpath "${1:?usage: packaging/vm/run.sh [--release bookworm] FILE.deb [PHASE...]}")
shift
# No phase takes longer, even on a loaded host.
patience_s=2400

fail() { echo "vm: $*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || fail "has to be root"
"$here/../setup-host.sh" vm

arch=$(dpkg-deb -f "$deb" Architecture)
if [ $# = 0 ]; then
  case $release-$arch in
    bookworm-*) set -- package use ;;
    *-arm64) set -- package use reboot pi small tiny heat ;;
    *) set -- package use reboot pi small tiny ;;
  esac
fi
folder=${HEARTH_VM_DIR:-${CARGO_TARGET_DIR:-$here/../../target}/vm}
"$here/image.sh" "$arch" "$release" "$folder"
folder=$(realpath "$folder")
image=$folder/$release-$arch

work=$(mktemp -d "$folder/run.XXXX")
trap 'rm -rf "$work"' EXIT
share=$work/share
mkdir "$share"
cp "$here/../boot-test-inside.sh" "$here/inside.sh" "$share/"
cp "$here/../inside-lib.sh" "$share/lib.sh"
cp "$deb" "$share/hearthd.deb"
"$here/../older-deb.sh" "$deb" "$share/older.deb"

# Runs programs of the tree that QEMU was fetched into, with its loader and libraries.
libraries=$(echo "$folder"/tools/usr/lib/*-linux-gnu)
loader=$(echo "$libraries"/ld-linux-*.so.*)
fetched=("$loader" --library-path "$libraries:$libraries/pulseaudio")
qemu() {
  local name=$1
  shift
  exec "${fetched[@]}" "$folder/tools/usr/bin/qemu-system-$name" \
    -L "$folder/tools/usr/share/qemu" -L "$folder/tools/usr/share/seabios" \
    -accel tcg,thread=multi -smp 4 -nodefaults -display none -no-reboot "$@"
}

# The board of the phase `heat` has no access to the share: it is copied to the disk.
disk_has() {
  local name
  e2fsck -fp "$work/disk" >"$work/fsck" || [ $? -lt 4 ] || { cat "$work/fsck"; return 1; }
  {
    for name in hearthd.deb lib.sh test.sh phase cpu log passed; do echo "rm /mnt/host/$name"; done
    for name in hearthd.deb lib.sh test.sh phase cpu; do
      echo "write $share/$name /mnt/host/$name"
    done
    echo "symlink /mnt/host/log /dev/console"
  } | debugfs -w -f - "$work/disk" >/dev/null 2>&1
}

# One disk for all phases, as on a board.
cp --sparse=always "$image/disk" "$work/disk"
status=0
for phase in "$@"; do
  memory_mib=4096
  # The kernel's timer test depends on the clock: on a busy host the emulated timer fails it.
  append=no_timer_check
  script=inside.sh
  case $phase in
    package) script=boot-test-inside.sh ;;
    # The kernel parameters of Raspberry Pi OS.
    pi) append+=" psi=0 cgroup_disable=memory" ;;
    small) memory_mib=1024 ;;
    tiny) memory_mib=512 ;;
  esac
  case $arch-$phase in
    # A board with four Cortex-A53 and an I2C sensor whose temperature is set from here.
    arm64-heat)
      machine=(aarch64 -M imx8mp-evk)
      console=ttymxc1 disk=mmcblk2 cpu=armv8.0_1
      "${fetched[@]}" "$folder/tools/usr/bin/dtc" -q -@ -o "$work/sensor.dtbo" "$here/sensor.dtso"
      "${fetched[@]}" "$folder/tools/usr/bin/fdtoverlay" -i "$image/dtb/imx8mp-evk.dtb" \
        -o "$work/board.dtb" "$work/sensor.dtbo"
      devices=(-dtb "$work/board.dtb" -device "tmp105,id=sensor,address=0x49,bus=i2c-bus.1"
        -drive "file=$work/disk,format=raw,if=sd,bus=2,cache=unsafe"
        -serial null -serial "file:$work/console")
      ;;
    # Like a Raspberry Pi 4: Cortex-A72, four cores.
    arm64-*)
      machine=(aarch64 -M virt -cpu cortex-a72)
      console=ttyAMA0 disk=vda cpu=armv8.0_1
      ;;
    amd64-heat) fail "only the arm64 board has a sensor" ;;
    amd64-*)
      machine=(x86_64 -M q35 -cpu Nehalem)
      console=ttyS0 disk=vda cpu=sse42
      ;;
    *) fail "no machine for $arch" ;;
  esac
  if [ "$disk" = vda ]; then
    devices=(-drive "file=$work/disk,format=raw,if=none,id=disk,cache=unsafe"
      -device "virtio-blk-pci,drive=disk" -device virtio-rng-pci
      -virtfs "local,path=$share,mount_tag=host,security_model=none"
      -serial "file:$work/console")
  fi
  cp "$share/$script" "$share/test.sh"
  echo "$phase" >"$share/phase"
  echo "$cpu" >"$share/cpu"
  rm -f "$share/passed" "$work/monitor"
  : >"$share/log"
  : >"$work/console"
  mkfifo "$work/monitor"
  log=$share/log
  if [ "$phase" = heat ]; then
    disk_has || fail "the disk does not take the test"
    log=$work/console
  fi
  begin=$SECONDS
  qemu "${machine[@]}" -m "$memory_mib" "${devices[@]}" -monitor stdio \
    -kernel "$image/vmlinuz" -initrd "$image/initrd" \
    -append "root=/dev/$disk rw console=$console panic=-1 quiet systemd.show_status=0 systemd.default_timeout_start_sec=900 systemd.default_device_timeout_sec=900 $append" \
    <"$work/monitor" >/dev/null &
  qemu_pid=$!
  exec {monitor}>"$work/monitor"
  shown=0
  while kill -0 "$qemu_pid" 2>/dev/null; do
    if [ $((SECONDS - begin)) -gt "$patience_s" ]; then
      echo "vm: $phase takes too long" >&2
      kill "$qemu_pid"
    fi
    sleep 1
    # New output, to follow the progress. `sensor: N` requests a temperature.
    lines=$(wc -l <"$log")
    while [ "$lines" -gt "$shown" ] && IFS= read -r line; do
      shown=$((shown + 1))
      line=${line%$'\r'}
      echo "$arch $phase: $line"
      [[ $line != "sensor: "* ]] || echo "qom-set sensor temperature ${line#sensor: }" >&"$monitor"
    done < <(sed -n "$((shown + 1)),${lines}p" "$log")
  done
  wait "$qemu_pid" || true
  exec {monitor}>&-
  if [ "$phase" = heat ] && debugfs -R "stat /mnt/host/passed" "$work/disk" 2>/dev/null | grep -q Inode; then
    : >"$share/passed"
  fi
  if [ -e "$share/passed" ]; then
    echo "$arch $phase: passed in $((SECONDS - begin)) s"
  else
    echo "$arch $phase: FAILED after $((SECONDS - begin)) s" >&2
    [ -s "$share/log" ] || tail -n 40 "$work/console" >&2
    status=1
  fi
done
exit "$status"
