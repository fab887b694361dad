"""The service on the bus: calls, streams and signals."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
import json
import os
from pathlib import Path
from typing import Any

from dbus_fast import BusType, Message, MessageType, Variant
from dbus_fast.aio import MessageBus
from dbus_fast.errors import AuthError, InvalidAddressError
from dbus_fast.unpack import unpack_variants

from homeassistant.exceptions import HomeAssistantError

from .const import BUS_NAME, BUS_PATH, DOMAIN

_DBUS = "org.freedesktop.DBus"
_PROPERTIES = "org.freedesktop.DBus.Properties"
_MODEL_STORE = BUS_NAME + ".ModelStore"
_ERROR = "org.freedesktop.DBus.Error."
# One event is one line; a call of a tool is one event.
_LINE_MAX = 16 * 1024 * 1024

# The bus could not start the service, or the service left before it answered.
_NOT_RUNNING = (
    f"{_ERROR}Spawn.",
    f"{_ERROR}NoReply",
    f"{_ERROR}TimedOut",
    f"{_ERROR}Disconnected",
    f"{_ERROR}NameHasNoOwner",
    "org.freedesktop.systemd1.",
)


class HearthdError(HomeAssistantError):
    """The service is not reachable; the text says what to do."""

    key = ""

    def __init__(self, **placeholders: str) -> None:
        """Initialize with the placeholders of the translated text."""
        super().__init__(
            translation_domain=DOMAIN,
            translation_key=self.key,
            translation_placeholders=placeholders or None,
        )


class NoBus(HearthdError):
    """No system bus is reachable."""

    key = "no_bus"


class NotInstalled(HearthdError):
    """The name has no owner and is not activatable."""

    key = "not_installed"


class NotRunning(HearthdError):
    """The service is installed and does not start."""

    key = "not_running"


class NotAllowed(HearthdError):
    """The bus policy denies this user access to the service."""

    key = "not_allowed"


class RequestFailed(HearthdError):
    """The service refused; its message says what to do next."""

    key = "request_failed"

    def __init__(self, kind: str, message: str) -> None:
        """Initialize with the kind of docs/api/dbus.md, in CamelCase."""
        super().__init__(message=message)
        self.kind = kind


class Hearthd:
    """One connection to the bus that the service is on."""

    def __init__(self, bus: MessageBus) -> None:
        """Initialize; use `connect`."""
        self._bus = bus

    @classmethod
    async def connect(cls, address: str | None = None) -> Hearthd:
        """Connect to the system bus, or to the one at this address."""
        bus: MessageBus | None = None
        try:
            bus = MessageBus(
                bus_address=address or None,
                bus_type=BusType.SYSTEM,
                negotiate_unix_fd=True,
            )
            await bus.connect()
        except (AuthError, InvalidAddressError, OSError, EOFError, ValueError) as err:
            if bus is not None:
                bus.disconnect()
            raise NoBus(reason=str(err)) from err
        return cls(bus)

    def disconnect(self) -> None:
        """Disconnect from the bus."""
        self._bus.disconnect()

    async def wait_closed(self) -> None:
        """Return once the connection is gone."""
        try:
            await self._bus.wait_for_disconnect()
        except (OSError, EOFError):
            return

    async def listen(
        self,
        changed: Callable[[dict[str, Any]], None],
        owned: Callable[[bool], None],
    ) -> None:
        """Report property changes, and when the service appears and disappears.

        A property that no longer has a value is None.
        """

        def handle(message: Message) -> None:
            if message.message_type is not MessageType.SIGNAL:
                return
            if message.member == "PropertiesChanged" and message.path == BUS_PATH:
                interface, values, absent = unpack_variants(message.body)
                if interface == BUS_NAME:
                    changed(values | dict.fromkeys(absent))
            elif message.member == "NameOwnerChanged" and message.body[0] == BUS_NAME:
                owned(message.body[2] != "")

        self._bus.add_message_handler(handle)
        for rule in (
            f"type='signal',sender='{BUS_NAME}',path='{BUS_PATH}',"
            f"interface='{_PROPERTIES}',member='PropertiesChanged'",
            f"type='signal',sender='{_DBUS}',interface='{_DBUS}',"
            f"member='NameOwnerChanged',arg0='{BUS_NAME}'",
        ):
            await self._ask_bus("AddMatch", "s", rule)

    async def properties(self) -> dict[str, Any]:
        """Return all properties, starting the service where it is installed."""
        return (await self._call(_PROPERTIES, "GetAll", "s", BUS_NAME))[0]

    async def models(self) -> list[dict[str, Any]]:
        """Return the installed models, without adapters, which are no models by themselves."""
        models = (await self._call(_MODEL_STORE, "List"))[0]
        return [model for model in models if model.get("kind") != "adapter"]

    async def board(self) -> dict[str, Any]:
        """Return the service's state of the board."""
        return (await self._call(BUS_NAME, "GetBoard"))[0]

    async def load(self, model: str = "") -> None:
        """Load a model, the default one without a name; returns when it is ready."""
        await self._call(BUS_NAME, "LoadModel", "sa{sv}", model, {})

    async def unload(self) -> None:
        """Release the model's memory."""
        await self._call(BUS_NAME, "UnloadModels", "a{sv}", {})

    async def prewarm(
        self,
        system: str,
        messages: list[dict[str, Any]],
        tools: list[dict[str, Any]],
        model: str | None,
    ) -> None:
        """Have the prefix of conversations computed when the service is idle."""
        options = {"cancel_when_gone": Variant("b", True)}
        if messages:
            options["messages"] = Variant("s", json.dumps(messages))
        if tools:
            options["tools"] = Variant("s", json.dumps(tools))
        if model:
            options["model"] = Variant("s", model)
        await self._call(BUS_NAME, "Prewarm", "sa{sv}", system, options)

    async def stream(
        self, request: Mapping[str, Any], priority: str, images: Sequence[Path] = ()
    ) -> AsyncGenerator[dict[str, Any]]:
        """Yield the events of an answer; closing the generator cancels the answer.

        Pictures go to the user's last message, as files: the service has no access to them.
        """
        options = {"priority": Variant("s", priority)}
        files: list[int] = []
        if images:
            loop = asyncio.get_running_loop()
            files = await loop.run_in_executor(None, _open, images)
            options["images"] = Variant("ah", list(range(len(files))))
        opened = asyncio.ensure_future(
            self._call(
                BUS_NAME,
                "OpenStream",
                "sa{sv}",
                json.dumps(request),
                options,
                files=files,
            )
        )
        # The bus has its own copies once the call is answered.
        opened.add_done_callback(lambda _: _close(files))
        try:
            _, fd = await asyncio.shield(opened)
        except asyncio.CancelledError:
            # The pipe has not arrived yet: closing it on arrival cancels the answer.
            opened.add_done_callback(_close_stream)
            raise
        pipe = os.fdopen(fd, "rb", buffering=0)
        reader = asyncio.StreamReader(limit=_LINE_MAX)
        try:
            transport, _ = await asyncio.get_running_loop().connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), pipe
            )
        except BaseException:
            pipe.close()
            raise
        try:
            # A line without an end was being written when the service died.
            while (line := await reader.readline()).endswith(b"\n"):
                yield json.loads(line)
        finally:
            transport.close()

    async def _call(
        self,
        interface: str,
        member: str,
        signature: str = "",
        *args: Any,
        files: Sequence[int] = (),
    ) -> list[Any]:
        """Call the service; file descriptors are the caller's to close."""
        reply = await self._send(
            BUS_NAME, BUS_PATH, interface, member, signature, args, files
        )
        if reply.message_type is MessageType.ERROR:
            raise await self._failure(reply)
        body = unpack_variants(reply.body)
        if reply.signature.endswith("h"):
            # A handle is an index into what came with the message. The signature tells
            # whether there is one: dbus-fast's list may be that of the next message, too.
            body[-1] = reply.unix_fds[body[-1]]
        return body

    async def _ask_bus(self, member: str, signature: str = "", *args: Any) -> Any:
        """Call the bus itself."""
        reply = await self._send(
            _DBUS, "/org/freedesktop/DBus", _DBUS, member, signature, args
        )
        if reply.message_type is MessageType.ERROR:
            raise NoBus(reason=_text(reply))
        return reply.body[0] if reply.body else None

    async def _send(
        self,
        destination: str,
        path: str,
        interface: str,
        member: str,
        signature: str,
        args: tuple[Any, ...],
        files: Sequence[int] = (),
    ) -> Message:
        message = Message(
            destination=destination,
            path=path,
            interface=interface,
            member=member,
            signature=signature,
            body=list(args),
            unix_fds=list(files),
        )
        try:
            return await self._bus.call(message)
        except (OSError, EOFError) as err:
            raise NoBus(reason=str(err)) from err

    async def _failure(self, reply: Message) -> HearthdError:
        """Return the error for a failed call."""
        name, text = reply.error_name or "", _text(reply)
        if name == f"{_ERROR}ServiceUnknown":
            known = await self._ask_bus("ListActivatableNames")
            return NotRunning(reason=text) if BUS_NAME in known else NotInstalled()
        if name.startswith(_NOT_RUNNING):
            return NotRunning(reason=text)
        # A refusal by the bus has the bus's error name; the service gives a reason.
        if name == f"{_ERROR}AccessDenied" and reply.sender == _DBUS:
            return NotAllowed()
        return RequestFailed(name.rpartition(".")[2], text)


def _open(paths: Sequence[Path]) -> list[int]:
    """Open files for reading; blocks."""
    files: list[int] = []
    try:
        for path in paths:
            files.append(os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as err:
        _close(files)
        raise RequestFailed("Io", str(err)) from err
    return files


def _close(files: Sequence[int]) -> None:
    for file in files:
        os.close(file)


def _close_stream(opened: asyncio.Future[list[Any]]) -> None:
    """Close the pipe of a stream that has no reader any more."""
    if not opened.cancelled() and opened.exception() is None:
        os.close(opened.result()[-1])


def _text(reply: Message) -> str:
    """Return the message of an error, for users."""
    if reply.body and isinstance(reply.body[0], str):
        return reply.body[0]
    return reply.error_name or ""
