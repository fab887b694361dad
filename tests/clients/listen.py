"""Starts the daemon as systemd does, with listening sockets: a Unix and a TCP one.

usage: listen.py HEARTHD --config DIR/hearthd.toml

The sockets are DIR/hearthd.sock and a free port of this computer, written to DIR/port.
"""

import os
import socket
import sys

folder = os.path.dirname(sys.argv[3])
unix = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
unix.bind(os.path.join(folder, "hearthd.sock"))
tcp = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
tcp.bind(("127.0.0.1", 0))
with open(os.path.join(folder, "port"), "w", encoding="ascii") as file:
    file.write(str(tcp.getsockname()[1]))
# Keeps clear of the descriptors that are passed on: 3 and up.
high = [os.dup(os.dup(os.dup(s.fileno()))) for s in (unix, tcp)]
for s in (unix, tcp):
    s.listen()
for number, fd in enumerate(high, 3):
    os.dup2(fd, number, inheritable=True)
os.environ.update(LISTEN_FDS="2", LISTEN_PID=str(os.getpid()), LISTEN_FDNAMES="http:http-tcp")
os.execv(sys.argv[1], sys.argv[1:])
