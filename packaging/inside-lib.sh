# shellcheck shell=sh
# Functions shared by the tests inside a container or a machine. Sourced by
# boot-test-inside.sh and vm/inside.sh, which set `share`, the folder with the package.
share=${share:?the folder with the package}
export DEBIAN_FRONTEND=noninteractive

bad=0
ok() { echo "ok: $1"; }
not_ok() {
    bad=1
    echo "NOT OK: $1${2:+: $2}"
}
# is WHAT GOT WANTED
is() {
    if [ "$2" = "$3" ]; then ok "$1"; else not_ok "$1" "'$2' instead of '$3'"; fi
}
# has WHAT TEXT PART
has() {
    case $2 in
        *"$3"*) ok "$1" ;;
        *) not_ok "$1" "'$2' lacks '$3'" ;;
    esac
}
# comes WHAT WANTED COMMAND...: within two minutes (an emulated machine is slow)
comes() {
    what=$1
    wanted=$2
    shift 2
    tries=0
    while got=$("$@" 2>&1); [ "$got" != "$wanted" ] && [ "$tries" -lt 120 ]; do
        tries=$((tries + 1))
        sleep 1
    done
    is "$what" "$got" "$wanted"
}
state() { systemctl is-active "$1"; }
as() {
    user=$1
    shift
    setpriv --reuid "$user" --regid "$user" --init-groups "$@" 2>&1
}
generate() {
    as "$1" busctl --timeout=300 call org.hearthd.Inference1 /org/hearthd/Inference1 \
        org.hearthd.Inference1 Generate s "What is the capital of Italy?"
}
chat() {
    as "$1" curl -sS --max-time 300 "$2" "$3" http://localhost:11434/v1/chat/completions \
        -H "Content-Type: application/json" \
        -d '{"messages":[{"role":"user","content":"What is the capital of Italy?"}],"temperature":0}'
}
on_socket() { chat "$1" --unix-socket /run/hearthd/hearthd.sock; }
on_tcp() { chat "$1" --ipv4 --http1.1; }
# install_package FILE [OPTION...]
install_package() {
    file=$1
    shift
    apt-get install -qq -y --reinstall "$@" "$share/$file" >/tmp/apt 2>&1 || { cat /tmp/apt; exit 1; }
}
# At the end: the service's log where something was wrong, and the result.
finish() {
    if [ "$bad" = 0 ]; then
        : >"$share/passed"
    else
        journalctl --no-pager --output=cat --unit=hearthd.service | tail -n 60
    fi
    exit "$bad"
}
