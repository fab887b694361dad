"""Runs a chat in a terminal and answers its questions.

usage: use_terminal.py FOLDER COMMAND...

FOLDER is that of mcp_server.py.
"""

import os
import pathlib
import pty
import select
import signal
import sys
import termios
import time

folder, command = pathlib.Path(sys.argv[1]), sys.argv[2:]


def start():
    """Starts a chat in a new terminal."""
    global pid, terminal, seen
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp(command[0], command)
    seen = ""
    expect("/help lists", "> ")


def expect(*parts):
    """Waits for texts, in this order, and forgets what came before."""
    global seen
    deadline = time.monotonic() + 60
    for part in parts:
        while part not in seen:
            readable, _, _ = select.select([terminal], [], [], max(0, deadline - time.monotonic()))
            assert readable, f"no {part!r} in {seen!r}"
            try:
                seen += os.read(terminal, 65536).decode(errors="replace")
            except OSError as end:
                raise AssertionError(f"ended without {part!r}: {seen!r}") from end
        seen = seen.split(part, 1)[1]


def until(what):
    """Waits for a condition."""
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, seen
        time.sleep(0.02)


def send(text):
    os.write(terminal, text.encode())


def end():
    """Waits for the end; returns the exit code."""
    while True:
        try:
            os.read(terminal, 65536)
        except OSError:
            break
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def call(name, arguments="{}"):
    send(f'{{"name": "home__{name}", "arguments": {arguments}}}\r')


kitchen = '{"room": "kitchen"}'
start()
send("/tools\r")
expect("home__get_temperature  Reads the thermometer of a room.", "> ")
# Not the y of a word, nor an empty line.
call("get_temperature", kitchen)
expect('home__get_temperature {"room":"kitchen"}', "y yes, a always in this chat, n no: ")
send("\r")
expect("answer y, a or n", "n no: ")
send("y\r")
expect("returned 32 bytes", "It is 31 degrees in the kitchen.", "> ")
# Yes is for one call.
call("get_temperature", kitchen)
expect("n no: ")
send("n\r")
expect("was declined", "The user declined this call.", "> ")
# Ctrl-C at the question declines.
call("get_temperature", kitchen)
expect("n no: ")
send("\x03")
expect("was declined", "> ")
call("get_temperature", kitchen)
expect("n no: ")
send("a\r")
expect("It is 31 degrees", "> ")
call("get_temperature", kitchen)
expect("returned 32 bytes", "It is 31 degrees", "> ")
send("/tools\r")
expect("home__get_temperature (allowed)", "> ")

# Ctrl-C ends the call, not the chat.
call("wait")
expect("n no: ")
send("y\r")
until((folder / "waiting").exists)
send("\x03")
expect("was cancelled", "The user cancelled this call", "> ")
until((folder / "cancelled").exists)

send("/clear\r")
expect("conversation deleted", "> ")
send("Bye\r")
expect("Bye", "Bye", "> ")
send("\x04")
assert end() == 0

# A signal while the editor reads ends the chat and leaves the terminal usable.
start()
os.kill(pid, signal.SIGTERM)
expect("\x1b[?2004l")
until(lambda: termios.tcgetattr(terminal)[3] & termios.ECHO)
assert end() == 130
print("ok")
