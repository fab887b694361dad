"""Tests the package `dbus-fast`, which Home Assistant uses, with the daemon.

usage: use_dbus_fast.py ADDRESS

The daemon has the fake engine, which echoes the prompt.
"""

import asyncio
import json
import os
import sys

from dbus_fast import DBusError, Variant
from dbus_fast.aio import MessageBus

NAME = "org.hearthd.Inference1"
PATH = "/org/hearthd/Inference1"


def request(content):
    return json.dumps({"messages": [{"role": "user", "content": content}]})


async def connect(address):
    return await MessageBus(bus_address=address, negotiate_unix_fd=True).connect()


async def interface(bus, path, name):
    described = await bus.introspect(NAME, path)
    return bus.get_proxy_object(NAME, path, described).get_interface(name)


def lines(file):
    return [json.loads(line) for line in file]


async def jobs(bus):
    manager = await interface(bus, PATH, "org.freedesktop.DBus.ObjectManager")
    objects = await manager.call_get_managed_objects()
    return {path: held[NAME + ".Job"] for path, held in objects.items() if NAME + ".Job" in held}


async def ended(bus, path):
    while True:
        state = (await jobs(bus))[path]["State"].value
        if state not in ("queued", "running"):
            return state
        await asyncio.sleep(0.05)


async def main(address):
    bus, other = await connect(address), await connect(address)
    manager = await interface(bus, PATH, NAME)
    assert await manager.call_generate("hello") == "hello"
    assert await manager.get_state() in ("ready", "busy", "limited")
    assert "stream" in await manager.get_features()

    # Options in ordinary types, and events as they arrive.
    options = {"priority": Variant("s", "interactive"), "deadline_ms": Variant("u", 60000)}
    job, fd = await manager.call_open_stream(request("one two"), options)
    with open(fd, encoding="utf-8") as pipe:
        events = await asyncio.to_thread(lines, pipe)
    text = "".join(event["text"] for event in events if event["type"] == "token")
    assert (text, events[-1]["type"]) == ("one two", "finished"), events
    assert (await jobs(bus))[job]["Priority"].value == "interactive"

    # Closing the pipe cancels the job.
    job, fd = await manager.call_open_stream(request("!slow " + "on " * 200), {})
    assert os.read(fd, 1)
    os.close(fd)
    assert await ended(bus, job) == "cancelled"

    # The end is signalled to the submitter only.
    told, overheard = asyncio.get_running_loop().create_future(), []
    job = await manager.call_submit(request("!slow a secret"), {"priority": Variant("s", "normal")})
    own = await interface(bus, job, NAME + ".Job")
    own.on_finished(lambda *finished: told.set_result(finished))
    (await interface(other, job, NAME + ".Job")).on_finished(lambda *told: overheard.append(told))
    state, result, error = await told
    assert (state, error) == ("done", "") and "a secret" in result, (state, result, error)
    assert json.loads(await own.call_get_result())["object"] == "chat.completion"
    # This reply arrives after any signal that was sent to the other connection.
    assert job in await jobs(other) and not overheard, overheard

    # Sessions, and the disconnection of their owner.
    options = {"system": Variant("s", "Be brief."), "max_tokens": Variant("u", 5),
               "stop": Variant("as", ["!"]), "temperature": Variant("d", 0.5)}
    path = await manager.call_open_session(options)
    session = await interface(bus, path, NAME + ".Session")
    assert await session.call_generate("hello there", {}) == "hello"
    assert await session.get_turns() == 1
    bus.disconnect()
    await bus.wait_for_disconnect()
    objects = await interface(other, PATH, "org.freedesktop.DBus.ObjectManager")
    while path in await objects.call_get_managed_objects():
        await asyncio.sleep(0.05)

    # Errors have names.
    manager = await interface(other, PATH, NAME)
    for call, name in [
        (manager.call_submit("{", {}), "org.freedesktop.DBus.Error.InvalidArgs"),
        (manager.call_load_model("nope", {}), NAME + ".Error.ModelNotFound"),
        (manager.call_generate_json("x", '{"not": {}}'), NAME + ".Error.InvalidSchema"),
    ]:
        try:
            await call
        except DBusError as error:
            assert error.type == name, (error.type, error.text)
        else:
            raise AssertionError(f"{name} did not come")
    print("ok")


asyncio.run(asyncio.wait_for(main(sys.argv[1]), 60))
