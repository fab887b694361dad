#!/bin/bash
# Makes, once, the disk image that the machine tests boot: a Debian of the given
# architecture with its own kernel, and QEMU for it. Nothing is installed on this
# machine, and no code of the other architecture runs except Debian's own package
# scripts. Needs root, mmdebstrap, kmod and, for another architecture, qemu-user-static.
#
# usage: packaging/vm/image.sh ARCH RELEASE FOLDER
#        ARCH: arm64 or amd64; RELEASE: trixie (Debian 13) or bookworm (12)
# leaves FOLDER/tools (QEMU), FOLDER/RELEASE-ARCH/{disk,vmlinuz,initrd}
set -euo pipefail
usage="usage: packaging/vm/image.sh arm64|amd64 trixie|bookworm FOLDER"
arch=${1:?$usage}
release=${2:?$usage}
mkdir -p "${3:?$usage}"
folder=$(realpath "$3")
image=$release-$arch

say() { echo "image: $*"; }
bootstrap() {
  mmdebstrap --quiet --mode=root --aptopt='APT::Install-Recommends "false"' \
    --dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/man/*' \
    --dpkgopt='path-exclude=/usr/share/locale/*' "$@"
}

work=$(mktemp -d "$folder/new.XXXX")
trap 'rm -rf "$work"' EXIT

# Unpacked, not installed: run from there (see run.sh).
if [ ! -d "$folder/tools" ]; then
  say "fetching QEMU"
  bootstrap --variant=extract \
    --include=qemu-system-arm,qemu-system-x86,seabios,device-tree-compiler trixie "$work/tools"
  mv "$work/tools" "$folder/tools"
fi

[ ! -d "$folder/$image" ] || exit 0
say "fetching Debian $release for $arch"

# Package scripts of the other architecture run through qemu-user. F: the interpreter is
# opened now, so that it is found inside the tree.
if [ "$arch" = arm64 ] && ! arch-test arm64 >/dev/null 2>&1; then
  binfmt=/proc/sys/fs/binfmt_misc
  [ -e "$binfmt/register" ] || mount -t binfmt_misc binfmt_misc "$binfmt"
  magic='\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00'
  mask='\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff'
  printf '%s' ":hearthd-arm64:M::$magic:$mask:$(command -v qemu-aarch64-static):FOCP" >"$binfmt/register"
fi

tree=$work/tree
kernel=$work/kernel
# Dependencies of hearthd, polkit, and the clients of the test.
bootstrap --variant=minbase --arch="$arch" \
  --include=systemd-sysv,udev,kmod,dbus,polkitd,libstdc++6,curl,procps,jq "$release" "$tree"
bootstrap --variant=extract --arch="$arch" --include="linux-image-$arch,busybox-static" "$release" "$kernel"

# Since trixie kernels come in /usr.
base=$kernel
[ ! -d "$kernel/usr/lib/modules" ] || base=$kernel/usr
version=$(basename "$base"/lib/modules/*)
depmod -b "$base" "$version"
mkdir -p "$tree/usr/lib/modules"
cp -a "$base/lib/modules/$version" "$tree/usr/lib/modules/"

# --- the system: no passwords, no network, and one unit that runs the test -----------
echo vm >"$tree/etc/hostname"
: >"$tree/etc/machine-id"
mkdir -p "$tree/mnt/host"
# Marks the system as up to date: no caches are rebuilt at the first boot, which takes
# minutes where the processor is emulated.
touch "$tree/etc/.updated" "$tree/var/.updated"
cat >"$tree/etc/fstab" <<'FSTAB'
LABEL=root / ext4 rw,noatime 0 0
host /mnt/host 9p trans=virtio,version=9p2000.L,msize=262144,nofail 0 0
FSTAB
cat >"$tree/etc/systemd/system/vm-test.service" <<'UNIT'
[Unit]
Description=What packaging/vm/run.sh wants to be done
# A machine without this mount finds the folder on its disk.
After=multi-user.target mnt-host.mount
Wants=mnt-host.mount
[Service]
Type=exec
ExecStart=/bin/sh /mnt/host/test.sh
ExecStopPost=/usr/bin/systemctl poweroff --no-block
TimeoutStopSec=infinity
UNIT
mkdir -p "$tree/etc/systemd/system/default.target.wants"
ln -s ../vm-test.service "$tree/etc/systemd/system/default.target.wants/vm-test.service"
for unit in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer \
  fstrim.timer systemd-networkd-wait-online.service; do
  ln -sf /dev/null "$tree/etc/systemd/system/$unit"
done

# --- initrd: a busybox that loads the modules for the disk ---------------------------
modules=(virtio_pci virtio_blk ext4)
# The memory card of the board with the sensor.
[ "$arch" != arm64 ] || modules+=(sdhci-esdhc-imx mmc_block)
initrd=$work/initrd
mkdir -p "$initrd"/{bin,dev,proc,sys,root,modules}
cp "$base/bin/busybox" "$initrd/bin/busybox"
number=100
for module in "${modules[@]}"; do
  while read -r _ path _; do
    name=$(basename "${path%.xz}")
    compgen -G "$initrd/modules/*-$name" >/dev/null || {
      xz -dcf "$path" >"$initrd/modules/$number-$name"
      number=$((number + 1))
    }
  done < <(modprobe -d "$base" -S "$version" --show-depends "$module" 2>/dev/null | grep '^insmod')
done
cat >"$initrd/init" <<'INIT'
#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
for module in /modules/*; do $b insmod $module; done
for word in $($b cat /proc/cmdline); do
  case $word in root=*) disk=${word#root=} ;; esac
done
n=0
while [ ! -b $disk ] && [ $n -lt 600 ]; do $b sleep 0.1; n=$((n + 1)); done
$b mount -t ext4 -o rw,noatime $disk /root
$b mount --move /dev /root/dev
$b umount /proc /sys
exec $b switch_root /root /sbin/init
INIT
chmod 755 "$initrd/init"

mkdir "$work/$image"
(cd "$initrd" && find . | cpio --quiet -o -H newc -R 0:0) | gzip -1 >"$work/$image/initrd"
cp -L "$kernel"/boot/vmlinuz-* "$work/$image/vmlinuz"
mkdir "$work/$image/dtb"
cp "$kernel"/usr/lib/linux-image-*/freescale/imx8mp-evk.dtb "$work/$image/dtb/" 2>/dev/null || true
# The size of a memory card has to be a power of two.
truncate -s 4G "$work/$image/disk"
mkfs.ext4 -q -F -L root -d "$tree" "$work/$image/disk"
mv "$work/$image" "$folder/$image"
say "$image: $(du -sh "$folder/$image" | cut -f1), kernel $version"
