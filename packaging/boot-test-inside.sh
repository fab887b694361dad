#!/bin/sh
# Run as root inside of a booted container (boot-test.sh: the folder is /mnt) or machine
# (vm/run.sh): the folder contains the package, and output is written to its file `log`.
set -u
share=$(dirname "$0")
exec >"$share/log" 2>&1
# shellcheck source=packaging/inside-lib.sh
. "$share/lib.sh"

useradd --create-home member
useradd --create-home outsider

echo "--- installation ($(systemctl --version | head -n 1))"
install_package hearthd.deb
usermod -aG hearth member
is "service runs" "$(state hearthd.service)" active
is "socket listens" "$(state hearthd.socket)" active
is "TCP is off" "$(state hearthd-tcp.socket)" inactive
is "service at boot" "$(systemctl is-enabled hearthd.service)" enabled
is "socket at boot" "$(systemctl is-enabled hearthd.socket)" enabled
is "TCP not at boot" "$(systemctl is-enabled hearthd-tcp.socket)" disabled
is "owner of the socket" "$(stat -c '%U:%G %a' /run/hearthd/hearthd.sock)" "root:hearth 660"
is "owner of the models" "$(stat -c '%U:%G %a' /var/lib/hearthd/models)" "hearthd:hearth 750"
is "owner of the prompts" "$(stat -c '%U:%G %a' /var/cache/hearthd/prompts)" "hearthd:hearth 700"

echo "--- who may use it"
has "root, D-Bus" "$(generate root)" Rome
has "a member, D-Bus" "$(generate member)" Rome
has "an outsider, D-Bus" "$(generate outsider)" "ccess denied"
has "root, socket" "$(on_socket root)" Rome
has "a member, socket" "$(on_socket member)" Rome
has "an outsider, socket" "$(on_socket outsider)" "curl: (7)"
has "a member, TCP while off" "$(on_tcp member)" "curl: (7)"

echo "--- journal"
sleep 1
entries=$(journalctl --no-pager --output=json --unit=hearthd.service UID="$(id -u member)" | tail -n 1)
for field in JOB UID SENDER MODEL TOKENS MS; do
    has "field $field" "$entries" "\"$field\""
done
mkdir -p /run/systemd/system/hearthd.service.d
printf '[Service]\nEnvironment=HEARTH_LOG=debug\n' >/run/systemd/system/hearthd.service.d/debug.conf
systemctl daemon-reload
systemctl restart hearthd.service
generate member >/tmp/answer
sleep 1
has "llama.cpp's log, with its level" "$(journalctl --no-pager --output=json --unit=hearthd.service \
    TARGET=llama.cpp PRIORITY=6 | tail -n 1)" '"SYSLOG_IDENTIFIER":"hearth-engine"'
rm -r /run/systemd/system/hearthd.service.d
systemctl daemon-reload
# The test starts the service more often than the start limit allows: reset the counter.
systemctl reset-failed hearthd.service

echo "--- activation"
systemctl stop hearthd.service 2>/dev/null
is "socket outlives the service" "$(stat -c '%U:%G %a' /run/hearthd/hearthd.sock)" "root:hearth 660"
has "socket starts the service" "$(on_socket member)" Rome
systemctl stop hearthd.service hearthd.socket
has "D-Bus starts the service" "$(generate member)" Rome
is "and with it the socket" "$(state hearthd.socket)" active
is "but not TCP" "$(state hearthd-tcp.socket)" inactive

echo "--- TCP, as the guide says"
systemctl enable hearthd-tcp.socket 2>/dev/null
systemctl restart hearthd.service
is "TCP is on" "$(state hearthd-tcp.socket)" active
has "an outsider, TCP" "$(on_tcp outsider)" Rome
systemctl disable --now hearthd-tcp.socket 2>/dev/null
systemctl restart hearthd.service
is "TCP is off again" "$(state hearthd-tcp.socket)" inactive

echo "--- life"
systemctl reset-failed hearthd.service
is "it runs" "$(state hearthd.service)" active
pid=$(systemctl show -P MainPID hearthd.service)
[ "$pid" != 0 ] || exit 1
systemctl reload hearthd.service
sleep 2
is "reload keeps the process" "$(systemctl show -P MainPID hearthd.service)" "$pid"
kill -9 "$pid"
comes "it comes back when killed" active state hearthd.service
has "and answers" "$(generate member)" Rome
pid=$(systemctl show -P MainPID hearthd.service)
install_package hearthd.deb
is "an upgrade keeps it running" "$(state hearthd.service) $(state hearthd.socket)" "active active"
if [ "$(systemctl show -P MainPID hearthd.service)" != "$pid" ]; then
    ok "with the new executable"
else
    not_ok "with the new executable"
fi
has "exposure: $(systemd-analyze security --no-pager hearthd.service | tail -n 1)" "$(systemd-analyze security --no-pager hearthd.service | tail -n 1)" SAFE

echo "--- removal"
touch /var/lib/hearthd/models/kept
dpkg -r hearthd >/tmp/dpkg 2>&1 || cat /tmp/dpkg
is "nothing runs" "$(state hearthd.service) $(state hearthd.socket)" "inactive inactive"
is "models stay" "$(ls /var/lib/hearthd/models/kept)" /var/lib/hearthd/models/kept
is "configuration stays" "$(ls /etc/hearthd/hearthd.toml)" /etc/hearthd/hearthd.toml
dpkg -P hearthd >/tmp/dpkg 2>&1 || cat /tmp/dpkg
is "a purge leaves nothing" "$(ls -d /var/lib/hearthd /var/cache/hearthd /etc/hearthd /run/hearthd 2>/dev/null)" ""
is "no unit failed" "$(systemctl --failed --no-legend)" ""

echo "--- upgrade from an older version, and back"
installed() { dpkg-query -W -f '${Version}' hearthd; }
config=/etc/hearthd/hearthd.toml
version=$(dpkg-deb -f "$share/hearthd.deb" Version)
install_package older.deb
is "the older one is installed" "$(installed) $(tail -n 1 "$config")" "0.0.9-1 # As version 0.0.9 had it."
install_package hearthd.deb
is "upgraded" "$(installed) $(state hearthd.service)" "$version active"
is "a configuration that nobody changed is the new one" "$(grep -c 0.0.9 "$config")" 0
has "it answers" "$(generate member)" Rome
install_package older.deb --allow-downgrades
is "downgraded" "$(installed) $(state hearthd.service)" "0.0.9-1 active"
has "it answers" "$(generate member)" Rome
# A change by the administrator.
echo '# The owner was here.' >>"$config"
printf '[queue]\nlength_max = 7\n' >/etc/hearthd/hearthd.toml.d/owner.toml
cp /usr/share/hearthd/models/hearth-demo-q8_0.gguf /root/owners.gguf
hearthctl import /root/owners.gguf >/tmp/import 2>&1 || cat /tmp/import
systemctl enable hearthd-tcp.socket 2>/dev/null
systemctl disable hearthd.service 2>/dev/null
install_package hearthd.deb -o Dpkg::Options::=--force-confold
is "upgraded again" "$(installed) $(state hearthd.service)" "$version active"
has "the owner's changes are kept" "$(tail -n 1 "$config")" "The owner was here."
is "and the new file lies beside them" "$(ls "$config.dpkg-dist")" "$config.dpkg-dist"
is "the owner's own file, too" "$(grep length_max /etc/hearthd/hearthd.toml.d/owner.toml)" "length_max = 7"
has "the owner's model, too" "$(hearthctl models)" owners
has "which answers" "$(on_socket member)" Rome
is "what was enabled is, what was disabled is not" \
    "$(systemctl is-enabled hearthd-tcp.socket) $(systemctl is-enabled hearthd.service)" "enabled disabled"
dpkg -P hearthd >/tmp/dpkg 2>&1 || cat /tmp/dpkg
is "a purge leaves nothing of it" "$(ls -d /var/lib/hearthd /var/cache/hearthd /run/hearthd 2>/dev/null)" ""
# dpkg keeps a directory that contains files which are not from the package.
is "but the owner's own file" "$(find /etc/hearthd -type f)" /etc/hearthd/hearthd.toml.d/owner.toml
rm -r /etc/hearthd

finish
