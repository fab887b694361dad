#!/bin/bash
# Runs the executables of an arm64 package on this machine as different processors
# (QEMU's user mode): checks which CPU kernels the engine selects on each, whether its
# answers equal those of this machine's engine, and its errors for broken files.
#
# usage: packaging/check-arm64.sh FILE.deb
set -euo pipefail
cd "$(dirname "$0")/.."
deb=${1:?usage: packaging/check-arm64.sh FILE.deb}
own=${CARGO_TARGET_DIR:-target}/release/hearth-engine
[ -x "$own" ] || { echo "check-arm64: $own is missing: run 'make build' first" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
dpkg-deb -x "$deb" "$work/root"
status=0
wrong() { echo "check-arm64: $*" >&2; status=1; }

# The engine re-executes itself where the C library is not configured for huge pages.
# Under an emulator that needs binfmt_misc, which not every machine has: so configure
# it.
engine() {
  local cpu=$1
  shift
  QEMU_CPU=$cpu QEMU_LD_PREFIX=/usr/aarch64-linux-gnu GLIBC_TUNABLES=glibc.malloc.hugetlb=0 \
    qemu-aarch64-static "$work/root/usr/libexec/hearthd/hearth-engine" "$@"
}
# Greedy: deterministic.
answers() {
  while read -r question; do
    "$@" run --temperature 0 --threads 2 --prompt "$question" "$work/root/usr/share/hearthd/models/hearth-demo-q8_0.gguf"
  done <<'QUESTIONS'
What is the capital of Italy?
Turn on the light in the kitchen.
What is the capital of France?
Tell me about Rome.
QUESTIONS
}

answers "$own" >"$work/own" 2>/dev/null
[ "$(wc -l <"$work/own")" -ge 4 ] || wrong "this machine's engine does not answer"
# Raspberry Pi 3 and 4, Pi 5, and all features of QEMU; which kernels, and why not
# better ones.
while read -r cpu kernels why; do
  got=$(engine "$cpu" cpu)
  case $got in
    "$kernels ("*"the best of 8 for this processor$why") echo "arm64: $cpu takes $got" ;;
    *) wrong "$cpu takes $got, not $kernels, the best of 8$why" ;;
  esac
  answers engine "$cpu" >"$work/answers" 2>/dev/null
  if cmp -s "$work/own" "$work/answers"; then
    echo "arm64: $cpu answers as $(uname -m) does"
  else
    wrong "$cpu answers otherwise:"
    diff "$work/own" "$work/answers" >&2 || true
  fi
done <<'PROCESSORS'
cortex-a53 armv8.0_1 ; armv8.2_1 needs DOTPROD
cortex-a72 armv8.0_1 ; armv8.2_1 needs DOTPROD
cortex-a76 armv8.2_2 ; armv8.2_3 needs SVE
max armv9.2_2
PROCESSORS

# broken WHAT PART: the engine does not start, and reports it.
broken() {
  local said code=0
  said=$(engine cortex-a76 cpu 2>&1) || code=$?
  if [ "$code" = 1 ] && [[ $said == *"$2"* ]]; then
    echo "arm64: $1: $said"
  else
    wrong "$1: exit code $code, '$said'"
  fi
}
kernels=$work/root/usr/lib/hearthd
rm "$kernels/libggml-cpu-armv8.2_2.so"
case $(engine cortex-a76 cpu) in
  "armv8.2_1 "*) echo "arm64: without the best kernels it takes the next" ;;
  *) wrong "without the best kernels cortex-a76 takes $(engine cortex-a76 cpu)" ;;
esac
truncate -s 5000 "$kernels/libggml-cpu-armv8.2_1.so"
broken "kernels cut short" "libggml-cpu-armv8.2_1.so is damaged: reinstall the package"
rm "$kernels"/libggml-cpu-*.so
broken "no kernels" "no CPU kernels found"
exit "$status"
