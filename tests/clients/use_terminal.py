"""Runs a chat in a terminal and answers its questions.

usage: use_terminal.py FOLDER COMMAND...

FOLDER is that of mcp_server.py.
"""

import os
import pathlib
import pty
import select
import sys
import time

folder, command = pathlib.Path(sys.argv[1]), sys.argv[2:]
pid, terminal = pty.fork()
if pid == 0:
    os.execvp(command[0], command)
seen = ""


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


def send(text):
    os.write(terminal, text.encode())


def call(name, arguments="{}"):
    send(f'{{"name": "home__{name}", "arguments": {arguments}}}\r')


kitchen = '{"room": "kitchen"}'
expect("/help lists", "> ")
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
while not (folder / "waiting").exists():
    time.sleep(0.02)
send("\x03")
expect("was cancelled", "The user cancelled this call", "> ")
while not (folder / "cancelled").exists():
    time.sleep(0.02)

send("/clear\r")
expect("conversation deleted", "> ")
send("Bye\r")
expect("Bye", "Bye", "> ")
send("\x04")
_, status = os.waitpid(pid, 0)
assert os.waitstatus_to_exitcode(status) == 0, status
print("ok")
