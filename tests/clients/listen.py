"""Starts the daemon as systemd does, with listening sockets: a Unix and a TCP one.

usage: listen.py [--only=unix | --only=tcp] HEARTHD --config DIR/hearthd.toml

The sockets are DIR/hearthd.sock and a free port of this computer, written to DIR/port.
"""

import os
import socket
import sys

command = sys.argv[1:]
only = command.pop(0).removeprefix("--only=") if command[0].startswith("--only=") else ""
folder = os.path.dirname(command[2])
sockets = {}
if only != "tcp":
    sockets["http"] = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    sockets["http"].bind(os.path.join(folder, "hearthd.sock"))
if only != "unix":
    sockets["http-tcp"] = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    sockets["http-tcp"].bind(("127.0.0.1", 0))
    with open(os.path.join(folder, "port"), "w", encoding="ascii") as file:
        file.write(str(sockets["http-tcp"].getsockname()[1]))
# Keeps clear of the descriptors that are passed on: 3 and up.
high = [os.dup(os.dup(os.dup(s.fileno()))) for s in sockets.values()]
for s in sockets.values():
    s.listen()
for number, fd in enumerate(high, 3):
    os.dup2(fd, number, inheritable=True)
os.environ.update(LISTEN_FDS=str(len(high)), LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES=":".join(sockets))
os.execv(command[0], command)
