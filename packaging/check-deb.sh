#!/bin/bash
# Checks the contents of a built .deb: files and modes, relations, conffiles, and
# that the executables find their libraries where the package puts them.
#
# usage: packaging/check-deb.sh [--lintian] FILE.deb
set -euo pipefail

lintian=
if [ "${1-}" = --lintian ]; then
  lintian=yes
  shift
fi
deb=${1:?usage: packaging/check-deb.sh [--lintian] FILE.deb}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root
status=0
wrong() { echo "check-deb: $*" >&2; status=1; }

dpkg-deb -x "$deb" "$root"
dpkg-deb -c "$deb" >"$work/list"
dpkg-deb -e "$deb" "$work/control"

# --- files -----------------------------------------------------------------------
while read -r mode path; do
  if [ ! -f "$root/$path" ]; then
    wrong "missing: /$path"
  elif [ "$(stat -c %a "$root/$path")" != "$mode" ]; then
    wrong "mode of /$path is $(stat -c %a "$root/$path"), not $mode"
  fi
done <<'LIST'
755 usr/bin/hearthctl
755 usr/libexec/hearthd/hearthd
755 usr/libexec/hearthd/hearth-engine
644 usr/lib/hearthd/libllama.so.0
644 usr/lib/hearthd/libggml.so.0
644 usr/lib/hearthd/libggml-base.so.0
644 etc/hearthd/hearthd.toml
644 etc/hearthd/hearthd.toml.d/README
644 usr/share/hearthd/models/hearth-demo-q8_0.gguf
644 usr/share/hearthd/home-assistant/custom_components/hearthd/manifest.json
644 usr/share/hearthd/home-assistant/custom_components/hearthd/translations/en.json
644 usr/share/hearthd/home-assistant/custom_components/hearthd/brand/icon.png
644 usr/lib/systemd/system/hearthd.service
644 usr/lib/systemd/system/hearthd.socket
644 usr/lib/systemd/system/hearthd-tcp.socket
644 usr/lib/sysusers.d/hearthd.conf
644 usr/lib/tmpfiles.d/hearthd.conf
644 usr/share/dbus-1/system.d/org.hearthd.Inference1.conf
644 usr/share/dbus-1/system-services/org.hearthd.Inference1.service
644 usr/share/man/man1/hearthctl.1.gz
644 usr/share/polkit-1/actions/org.hearthd.policy
644 usr/share/man/man5/hearthctl-json.5.gz
644 usr/share/man/man5/org.hearthd.Inference1.5.gz
644 usr/share/man/man8/hearthd.8.gz
644 usr/share/man/man8/hearth-engine.8.gz
644 usr/share/bash-completion/completions/hearthctl
644 usr/share/zsh/vendor-completions/_hearthctl
644 usr/share/fish/vendor_completions.d/hearthctl.fish
644 usr/share/doc/hearthd/copyright
644 usr/share/doc/hearthd/changelog.Debian.gz
644 usr/share/doc/hearthd/README.Debian
644 usr/share/doc/hearthd/third-party.gz
644 usr/share/lintian/overrides/hearthd
LIST

case $(dpkg-deb -f "$deb" Architecture) in
  amd64) wanted=13 ;;
  arm64) wanted=8 ;;
esac
variants=$(find "$root/usr/lib/hearthd" -name 'libggml-cpu-*.so' | wc -l)
[ "$variants" = "${wanted-}" ] || wrong "$variants CPU variants in /usr/lib/hearthd, not ${wanted-known how many}"

# Second character triple of the mode is the group's, third that of all others.
if grep -E '^.{5}w|^.{8}w' "$work/list" | grep -v '^l'; then
  wrong "files above are writable for others than root"
fi
if awk '$2 != "root/root" && $2 != "0/0" { print; bad = 1 } END { exit !bad }' "$work/list"; then
  wrong "files above do not belong to root"
fi

# --- relations and maintainer scripts --------------------------------------------
field() { dpkg-deb -f "$deb" "$1"; }
[ "$(field Package)" = hearthd ] || wrong "Package: $(field Package)"
for relation in 'libc6 (>= 2.34)' 'libgcc-s1 (>= 4.2)' 'libstdc++6 (>= 12)' \
  'default-dbus-system-bus | dbus-system-bus' 'systemd | systemd-standalone-sysusers'; do
  case ", $(field Depends)," in
    *", $relation,"*) ;;
    *) wrong "Depends lacks '$relation': $(field Depends)" ;;
  esac
done
[ "$(sort "$work/control/conffiles")" = "/etc/hearthd/hearthd.toml
/etc/hearthd/hearthd.toml.d/README" ] || wrong "conffiles: $(cat "$work/control/conffiles")"
for script in postinst prerm postrm; do
  [ -x "$work/control/$script" ] || wrong "no $script"
done

# --- executables and libraries ---------------------------------------------------
mapfile -t elf < <(find "$root/usr/bin" "$root/usr/libexec" "$root/usr/lib/hearthd" -type f)

# The newest symbol versions required, against what Depends guarantees.
newest() {
  for file in "${elf[@]}"; do readelf -W --version-info "$file"; done |
    grep -o "$1_[0-9][0-9.]*" | sed "s/$1_//" | sort -Vu | tail -1
}
glibc=$(newest GLIBC)
dpkg --compare-versions "${glibc:-0}" le 2.34 || wrong "needs glibc $glibc, Depends says 2.34"
glibcxx=$(newest GLIBCXX)
dpkg --compare-versions "${glibcxx:-0}" le 3.4.30 ||
  wrong "needs GLIBCXX $glibcxx, libstdc++6 12 has 3.4.30"

# Every library is the package's own or of the three packages depended on.
for file in "${elf[@]}"; do
  while read -r lib; do
    case $lib in
      libc.so.6 | libm.so.6 | libdl.so.2 | libpthread.so.0 | librt.so.1 | ld-linux*) ;;
      libgcc_s.so.1 | libstdc++.so.6) ;;
      *) [ -f "$root/usr/lib/hearthd/$lib" ] || wrong "${file#"$root"} needs $lib, which nothing provides" ;;
    esac
  done < <(readelf -d "$file" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p')
  # A library's own RUNPATH would disable the executable's for its dependencies, and a
  # path of the build machine must not be in a package.
  paths=$(readelf -d "$file" | sed -n 's/.*(R\(UN\)\?PATH).*\[\(.*\)\]/\2/p')
  case :$paths in
    : | :\$ORIGIN*) ;;
    *) wrong "${file#"$root"} has the library path $paths" ;;
  esac
  if readelf -S "$file" | grep -q '\.debug_info'; then wrong "${file#"$root"} is not stripped"; fi
done

# Process separation: only the engine links llama.cpp.
for bin in usr/bin/hearthctl usr/libexec/hearthd/hearthd; do
  if readelf -d "$root/$bin" | grep -Eq 'NEEDED.*lib(llama|ggml)'; then wrong "/$bin links llama.cpp"; fi
done

# Started from where the package puts them, without access to the build tree.
if [ "$(field Architecture)" = "$(dpkg --print-architecture)" ]; then
  for bin in usr/bin/hearthctl usr/libexec/hearthd/hearthd usr/libexec/hearthd/hearth-engine; do
    if ! (cd / && env -i PATH=/usr/bin:/bin "$root/$bin" --help >"$work/help" 2>&1); then
      cat "$work/help" >&2
      wrong "/$bin --help fails"
    fi
    # ldd follows RPATH as the loader does: each of our libraries from this tree.
    if env -i PATH=/usr/bin:/bin ldd "$root/$bin" | grep -E 'not found|lib(llama|ggml)' |
      grep -v " => $root/usr/lib/hearthd/\| => $root/usr/libexec/hearthd/../../lib/hearthd/"; then
      wrong "/$bin: libraries above are not those of the package"
    fi
  done
  # A build is tested with the kernels for its own machine only. All that run here have to
  # answer; and of all together the engine has to find the best.
  engine() { (cd / && env -i PATH=/usr/bin:/bin "$@"); }
  program=$root/usr/libexec/hearthd/hearth-engine
  best=$(engine "$program" cpu)
  case $best in
    *", the best of $variants for this processor"*) ;;
    *) wrong "the engine selects '$best', not the best of $variants" ;;
  esac
  answered=0
  for kernels in "$root"/usr/lib/hearthd/libggml-cpu-*.so; do
    mkdir "$work/${kernels##*/}"
    ln -s "$kernels" "$work/${kernels##*/}"
    said=$(engine HEARTH_BACKEND_DIR="$work/${kernels##*/}" "$program" run --temperature 0 --threads 2 \
      --prompt "What is the capital of Italy?" "$root/usr/share/hearthd/models/hearth-demo-q8_0.gguf" 2>&1) || true
    case $said in
      *Rome*) answered=$((answered + 1)) ;;
      *"no CPU kernels found"*) ;; # not for this processor
      *) wrong "${kernels##*/} answers '$said'" ;;
    esac
  done
  [ "$answered" -ge 1 ] || wrong "no CPU variant answers"
  ran=", $answered of them answer here (${best%% *} is taken)"
fi

if [ -n "$lintian" ]; then
  command -v lintian >/dev/null || { echo "check-deb: lintian is not installed" >&2; exit 1; }
  options=(--fail-on 'error,warning')
  # It refuses to run as root unless that is explicitly allowed.
  [ "$(id -u)" != 0 ] || options+=(--allow-root)
  lintian "${options[@]}" "$deb" || wrong "lintian has complaints"
fi

[ "$status" = 0 ] || exit 1
echo "check-deb: ${deb##*/}: ok ($(wc -l <"$work/list") entries, $variants CPU variants," \
  "glibc $glibc${ran-}${lintian:+, lintian clean}; $(stat -c %s "$deb") bytes," \
  "$(field Installed-Size) KiB installed)"
