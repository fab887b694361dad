# shellcheck shell=bash
# Sourced, not run: a private system bus with the shipped policy in force.

# private_bus DIR USER GROUP
#   Starts a dbus-daemon that listens on DIR/bus. USER stands for hearthd and GROUP
#   for hearth: names or numbers of existing accounts, since dbus-daemon drops rules
#   for unknown ones.
#   Sets bus_pid and exports DBUS_SYSTEM_BUS_ADDRESS.
private_bus() {
  local dir=$1 user=$2 group=$3 here
  here=$(dirname "${BASH_SOURCE[0]}")
  mkdir -p "$dir/system.d" "$dir/services"
  sed "s/user=\"hearthd\"/user=\"$user\"/; s/group=\"hearth\"/group=\"$group\"/" \
    "$here/dbus/org.hearthd.Inference1.conf" >"$dir/system.d/org.hearthd.Inference1.conf"
  # A short form of /usr/share/dbus-1/system.conf: denied unless allowed.
  cat >"$dir/bus.conf" <<EOF
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=$dir/bus</listen>
  <auth>EXTERNAL</auth>
  <servicedir>$dir/services</servicedir>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Introspectable"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Properties"/>
    <deny send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus" send_member="UpdateActivationEnvironment"/>
  </policy>
  <policy user="root">
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus.Monitoring"/>
  </policy>
  <includedir>$dir/system.d</includedir>
</busconfig>
EOF
  dbus-daemon --config-file="$dir/bus.conf" --nofork --nopidfile >"$dir/bus.log" 2>&1 &
  # shellcheck disable=SC2034 # for the caller
  bus_pid=$!
  export DBUS_SYSTEM_BUS_ADDRESS=unix:path=$dir/bus
  local i
  for ((i = 0; i < 100; i++)); do
    [ ! -S "$dir/bus" ] || return 0
    sleep 0.05
  done
  cat "$dir/bus.log" >&2
  echo "private-bus: dbus-daemon does not come up" >&2
  return 1
}
