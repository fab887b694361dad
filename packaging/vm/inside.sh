#!/bin/sh
# Run as root in the machine of run.sh, at each of its boots with another word in the
# file `phase`. All phases use the same disk.
set -u
share=$(dirname "$0")
exec >"$share/log" 2>&1
# shellcheck source=packaging/inside-lib.sh
. "$share/lib.sh"

health() { curl -sS --unix-socket /run/hearthd/hearthd.sock http://localhost/health; }
# One field of it.
field() { health | jq -r ".service.$1"; }
said() { journalctl --no-pager --output=cat --unit=hearthd.service --boot; }
resident_mib() { awk '/^VmRSS:/ { print int($2 / 1024) }' "/proc/$1/status"; }
# Without a subprocess, which is slow in an emulated machine.
uptime_ms() {
    read -r up _ </proc/uptime
    echo "${up%.*}${up#*.}0"
}
daemon_pid() { systemctl show -P MainPID hearthd.service; }

# A long recurring prefix, like that of a home assistant.
house() {
    words=$(seq -f "Lamp %g is in the hall, and the window beside it is shut." -s " " 20)
    printf '{"messages":[{"role":"system","content":"%s"},{"role":"user","content":"What is the capital of Italy?"}],"temperature":0,"max_tokens":8}' "$words" >/tmp/house
    as member curl -sS --max-time 300 --unix-socket /run/hearthd/hearthd.sock \
        http://localhost/v1/chat/completions -d @/tmp/house |
        jq -r '.usage | "\(.prompt_tokens_details.cached_tokens) \(.prompt_tokens)"'
}
# From `systemctl start` to the first token that a client of the socket sees, the model
# read from the disk as after a boot.
start_time() {
    systemctl stop hearthd.service 2>/dev/null
    sync
    echo 3 >/proc/sys/vm/drop_caches
    began=$(uptime_ms)
    systemctl start hearthd.service
    ready=$(uptime_ms)
    as member curl -sSN --max-time 300 --unix-socket /run/hearthd/hearthd.sock \
        http://localhost/v1/chat/completions -H "Content-Type: application/json" \
        -d '{"messages":[{"role":"user","content":"What is the capital of Italy?"}],"stream":true}' |
        while read -r line; do
            case $line in
            *'"content":"'[!\"]*)
                echo "from systemctl start: ready after $((ready - began)) ms," \
                    "first token after $(($(uptime_ms) - began)) ms, emulated"
                break
                ;;
            esac
        done >/tmp/start
    has "started anew" "$(cat /tmp/start)" "first token"
    cat /tmp/start
}
# Fill this percentage of the memory, with files in tmpfs.
fill_to() {
    mkdir -p /run/ballast
    mountpoint -q /run/ballast || mount -t tmpfs -o size=100% none /run/ballast
    awk -v full="$1" '/^MemTotal:/ { total = $2 } /^MemAvailable:/ { free = $2 }
        END { print int((total * full / 100 - (total - free)) / 1024) }' /proc/meminfo >/tmp/mib
    dd if=/dev/zero of="/run/ballast/$1" bs=1M count="$(cat /tmp/mib)" 2>/dev/null
}

case $(cat "$share/phase") in
use)
    id member >/dev/null 2>&1 || useradd --create-home member
    install_package hearthd.deb
    usermod -aG hearth member
    echo "--- answers"
    began=$(uptime_ms)
    has "a member" "$(generate member)" Rome
    echo "first answer after $(($(uptime_ms) - began)) ms: the model is loaded, the machine emulated"
    as member hearthctl status
    has "the kernels are those of this processor" "$(field cpu) " "$(cat "$share/cpu") "

    echo "--- start"
    start_time
    echo "--- the prompt cache"
    house >/dev/null
    house >/dev/null
    sleep 5
    has "what recurs is on disk" "$(as member hearthctl --json cache list)" '"tokens"'

    echo "--- memory pressure, as systemd hands it on"
    environment=$(tr '\0' '\n' <"/proc/$(daemon_pid)/environ")
    version=$(systemctl --version | sed -n '1s/^systemd \([0-9]*\).*/\1/p')
    if [ "$version" -ge 254 ]; then
        has "systemd names the file" "$environment" MEMORY_PRESSURE_WATCH=/sys
        has "it is watched" "$(ls -l "/proc/$(daemon_pid)/fd")" memory.pressure
    else
        # What remains is periodic polling.
        is "systemd $version does not know it" "$(echo "$environment" | grep MEMORY_PRESSURE)" ""
        has "the stalls are read" "$(as member busctl call org.hearthd.Inference1 /org/hearthd/Inference1 \
            org.hearthd.Inference1 GetBoard)" "memory pressure: /sys/fs/cgroup/system.slice/hearthd.service/memory.pressure"
    fi
    is "the memory is enough" "$(field memory_state)" normal
    # Another process in the same control group that uses more than its limit: the
    # kernel throttles it, and counts that as a stall of the group.
    group=/sys/fs/cgroup/system.slice/hearthd.service
    systemctl set-property --runtime hearthd.service \
        MemoryHigh=$(($(cat "$group/memory.current") + 4194304))
    (
        echo 0 >"$group/cgroup.procs"
        while :; do dd if=/dev/zero of=/dev/null bs=32M count=1 2>/dev/null; done
    ) &
    neighbour=$!
    tries=0
    while ! said | grep -q "memory: " && [ "$tries" -lt 120 ]; do
        tries=$((tries + 1))
        sleep 1
    done
    kill "$neighbour"
    systemctl set-property --runtime hearthd.service MemoryHigh=infinity
    has "the governor hears of it" "$(said | grep "memory: " | head -n 1)" "memory is"
    comes "and later that it is over" normal field memory_state
    has "it answers" "$(generate member)" Rome

    echo "--- a bound of the control group"
    systemctl stop hearthd.service 2>/dev/null
    systemctl set-property --runtime hearthd.service MemoryMax=24M MemorySwapMax=0
    systemctl start hearthd.service
    echo "with 24 MiB: $(generate member)"
    is "the daemon lives" "$(state hearthd.service)" active
    peak=$(cat /sys/fs/cgroup/system.slice/hearthd.service/memory.peak)
    if [ "$peak" -le $((24 * 1024 * 1024)) ]; then ok "the bound holds"; else not_ok "the bound holds" "$peak"; fi
    systemctl stop hearthd.service 2>/dev/null
    systemctl set-property --runtime hearthd.service MemoryMax=infinity
    systemctl start hearthd.service
    has "without it there is an answer" "$(generate member)" Rome

    echo "--- temperature: a zone in place of the missing one"
    zone=/run/zones/thermal_zone0
    mkdir -p "$zone" /run/systemd/system/hearthd.service.d
    echo cpu-thermal >"$zone/type"
    echo 45000 >"$zone/temp"
    trip() {
        echo "$2" >"$zone/trip_point_$1_type"
        echo "$3" >"$zone/trip_point_$1_temp"
        echo 0 >"$zone/trip_point_$1_hyst"
    }
    trip 0 passive 80000
    trip 1 critical 90000
    printf '[Service]\nBindReadOnlyPaths=/run/zones:/sys/class/thermal\n' \
        >/run/systemd/system/hearthd.service.d/zones.conf
    systemctl daemon-reload
    systemctl restart hearthd.service
    has "cool: an answer" "$(generate member)" Rome
    is "it is read" "$(field "temperature_celsius | round")" 45
    echo 79500 >"$zone/temp"
    comes "at the limit" limit field thermal_state
    comes "fewer threads" 3 field active_threads
    as member hearthctl status | grep Limited
    echo 88000 >"$zone/temp"
    comes "near the critical trip point" emergency field thermal_state
    comes "refused, and said why" "Call failed: the board is too hot: improve its cooling, or wait until it has cooled down" \
        generate member
    echo 40000 >"$zone/temp"
    comes "cool again: full speed" cool field thermal_state
    has "and answers" "$(generate member)" Rome
    rm -r /run/systemd/system/hearthd.service.d
    systemctl daemon-reload
    systemctl restart hearthd.service

    echo "--- kills"
    generate member >/dev/null
    engine=$(field engine_pid)
    kill -9 "$engine"
    has "without the engine" "$(generate member)" Rome
    [ "$(field engine_pid)" != "$engine" ] || not_ok "another engine"
    kill -9 "$(daemon_pid)"
    comes "the daemon comes back" active state hearthd.service
    has "and answers" "$(generate member)" Rome
    if [ -e "/proc/$engine" ]; then not_ok "nothing is left of the first engine"; fi
    ;;
reboot)
    comes "it runs after a reboot" active state hearthd.service
    # shellcheck disable=SC2046 # two numbers
    set -- $(house)
    if [ "${2:-0}" -gt 0 ] 2>/dev/null && [ "$1" -ge $((${2} * 9 / 10)) ]; then
        ok "the prompt cache outlived the reboot: $1 tokens of $2"
    else
        not_ok "the prompt cache outlived the reboot" "$*"
    fi
    ;;
pi)
    comes "it runs" active state hearthd.service
    is "no memory pressure from the kernel" "$(ls /proc/pressure 2>/dev/null)" ""
    case $(cat /sys/fs/cgroup/cgroup.controllers) in
    *memory*) not_ok "no memory controller" ;;
    *) ok "no memory controller" ;;
    esac
    has "it answers" "$(generate member)" Rome
    for step in "moderate 87" "critical 90" "emergency 95"; do
        fill_to "${step#* }"
        comes "${step#* } % taken" "${step% *}" field memory_state
    done
    has "no memory: refused, and said why" "$(generate member)" "short of memory"
    comes "the model is gone" null field engine_pid
    rm -r /run/ballast/*
    is "nobody was killed" "$(journalctl --no-pager --dmesg --boot | grep -ci 'out of memory')" 0
    # One state per minute during recovery.
    tries=0
    while [ "$(field memory_state)" != normal ] && [ "$tries" -lt 300 ]; do
        tries=$((tries + 1))
        sleep 1
    done
    has "enough again: an answer" "$(generate member)" Rome
    ;;
small | tiny)
    comes "it runs" active state hearthd.service
    start_time
    before=$(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo)
    began=$(uptime_ms)
    has "it answers" "$(generate member)" Rome
    echo "first answer after $(($(uptime_ms) - began)) ms, emulated"
    echo "daemon: $(resident_mib "$(daemon_pid)") MiB, engine: $(resident_mib "$(field engine_pid)") MiB resident;" \
        "available: $before MiB before, $(awk '/^MemAvailable:/ { print int($2 / 1024) }' /proc/meminfo) MiB after," \
        "of $(awk '/^MemTotal:/ { print int($2 / 1024) }' /proc/meminfo)"
    is "the memory is enough" "$(field memory_state)" normal
    ;;
idle)
    # Writes wear a memory card: ten minutes without any, with a model in memory.
    systemctl set-property --runtime hearthd.service IOAccounting=yes
    comes "it runs" active state hearthd.service
    house >/dev/null
    house >/dev/null
    # Wait until pending writes of the answers are on disk: the kernel's own delay is 30 s.
    sleep 60
    sync
    engine=$(field engine_pid)
    # Counted by the processes, by the service's control group, by its journal.
    own() {
        awk '/^write_bytes:/ { sum += $2 } END { print sum " bytes by the processes" }' \
            "/proc/$(daemon_pid)/io" "/proc/$engine/io"
        echo "$(systemctl show -P IOWriteBytes hearthd.service) bytes by systemd's account"
        sed 's/.*\(wbytes=[0-9]*\) .*\(wios=[0-9]*\) .*/\1 \2/' /sys/fs/cgroup/system.slice/hearthd.service/io.stat
        echo "$(said | wc -l) lines in the journal"
    }
    # Writes and sectors of the whole machine (Documentation/block/stat.rst).
    disk() { awk '{ print $5 " writes of " $7 / 2 " KiB by the whole machine" }' /sys/block/vda/stat; }
    own >/tmp/before
    cat /tmp/before
    disk
    sleep 600
    sync
    disk
    is "the engine is there" "$(field engine_pid)" "$engine"
    is "ten idle minutes write nothing" "$(own)" "$(cat /tmp/before)"
    ;;
heat)
    # A sensor whose temperature run.sh sets in the machine's hardware: the kernel's driver
    # and thermal zone are real, and so are its trip points.
    id member >/dev/null 2>&1 || useradd --create-home member
    modprobe i2c-imx
    modprobe lm75
    install_package hearthd.deb
    usermod -aG hearth member
    zone=$(dirname "$(grep -l cpu-thermal /sys/class/thermal/thermal_zone*/type)")
    heat() {
        echo "sensor: $1"
        comes "the kernel's zone follows" "$1" cat "$zone/temp"
    }
    grep -H . "$zone"/type "$zone"/trip_point_*_temp
    heat 45000
    systemctl restart hearthd.service
    has "cool: an answer" "$(generate member)" Rome
    comes "it is read" 45 field "temperature_celsius | round"
    is "all threads" "$(field active_threads)" 4
    heat 84500
    comes "near the limit" limit field thermal_state
    comes "fewer threads" 3 field active_threads
    as member hearthctl status
    has "it still answers" "$(generate member)" Rome
    heat 90500
    comes "too hot" emergency field thermal_state
    comes "refused, and said why" "Call failed: the board is too hot: improve its cooling, or wait until it has cooled down" \
        generate member
    heat 40000
    comes "cool again: full speed" cool field thermal_state
    has "and answers" "$(generate member)" Rome
    said | grep threads
    ;;
*)
    not_ok "an unknown phase: $(cat "$share/phase")"
    ;;
esac
finish
