"""A running Home Assistant, controlled through the API of its own pages."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass, field
import os
from pathlib import Path
import socket
import sys
import time
from typing import Any

import aiohttp

PATIENCE_S = 900
CONFIG = """\
homeassistant:
  name: Home
  time_zone: Europe/Berlin
frontend:
config:
history:
assist_pipeline:
repairs:
http:
  server_host: 127.0.0.1
  server_port: {port}
logger:
  default: warning
  logs:
    custom_components.hearthd: debug
{more}"""


@dataclass
class Answer:
    """The result of a sentence."""

    text: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    first_s: float = 0.0
    """Seconds to the first word, or call of a tool."""
    conversation: str | None = None


class Instance:
    """Home Assistant in a separate folder."""

    def __init__(self, folder: Path, more: str = "") -> None:
        """Write the configuration; `more` is YAML."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.folder = folder
        self.url = f"http://127.0.0.1:{self.port}"
        self.token: dict[str, Any] = {}
        folder.mkdir()
        (folder / "configuration.yaml").write_text(CONFIG.format(port=self.port, more=more))
        # In a home they are copied there: docs/home-assistant.md.
        source = Path(__file__).resolve().parent / "custom_components"
        os.symlink(source, folder / "custom_components")
        self._process: asyncio.subprocess.Process | None = None
        self._session: aiohttp.ClientSession | None = None
        self._socket: aiohttp.ClientWebSocketResponse | None = None
        self._number = 0

    async def start(self) -> None:
        """Start it and wait for its pages."""
        # Its requirements are already installed: setup.sh --real.
        words = ["-m", "homeassistant", "--config", str(self.folder), "--skip-pip"]
        with (self.folder / "output").open("ab") as output:
            self._process = await asyncio.create_subprocess_exec(
                sys.executable,
                *words,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._session = aiohttp.ClientSession()
        async with asyncio.timeout(PATIENCE_S):
            while True:
                assert self._process.returncode is None, self.log()
                try:
                    async with self._session.get(f"{self.url}/manifest.json") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    pass
                await asyncio.sleep(0.5)

    async def stop(self) -> None:
        """Stop it."""
        if self._session is not None:
            await self._session.close()
        if self._process is not None and self._process.returncode is None:
            self._process.terminate()
            await self._process.wait()

    def log(self) -> str:
        """Return its log."""
        return (self.folder / "output").read_text()

    async def logged(self, words: str) -> None:
        """Wait until the log contains this."""
        async with asyncio.timeout(PATIENCE_S):
            while words not in self.log():
                await asyncio.sleep(0.3)

    async def onboard(self) -> None:
        """Create the owner's account and complete onboarding."""
        assert self._session is not None
        client = f"{self.url}/"
        account = {"name": "Jane", "username": "jane", "password": "demo-only"}
        made = await self.post(
            "onboarding/users", {"client_id": client, "language": "en", **account}
        )
        code = {"grant_type": "authorization_code", "code": made["auth_code"]}
        async with self._session.post(
            f"{self.url}/auth/token", data={"client_id": client, **code}
        ) as answer:
            answer.raise_for_status()
            self.token = await answer.json()
        await self.post("onboarding/core_config", {})
        await self.post("onboarding/analytics", {})
        await self.post("onboarding/integration", {"client_id": client, "redirect_uri": client})
        self._socket = await self._connect()
        # A URL from the configuration is on trial, for five minutes.
        await self.ask("http/config/promote")

    async def _connect(self) -> aiohttp.ClientWebSocketResponse:
        """Open a page's connection."""
        assert self._session is not None
        page = await self._session.ws_connect(f"{self.url}/api/websocket", max_msg_size=0)
        await page.receive_json()
        await page.send_json({"type": "auth", "access_token": self.token["access_token"]})
        assert (await page.receive_json())["type"] == "auth_ok"
        return page

    async def post(self, path: str, body: dict[str, Any]) -> Any:
        """POST to the API."""
        assert self._session is not None
        headers = {}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token['access_token']}"
        url = f"{self.url}/api/{path}"
        async with self._session.post(url, json=body, headers=headers) as answer:
            text = await answer.text()
            assert answer.status < 300, f"{path}: {answer.status} {text}"
            return await answer.json()

    async def flow(
        self, handler: Any, *steps: dict[str, Any], kind: str = "", **begin: Any
    ) -> dict[str, Any]:
        """Complete a form, page by page, and return the result."""
        path = f"config/config_entries/{kind}flow"
        page = await self.post(path, {"handler": handler, **begin})
        while page.get("reason") == "entry_not_loaded":
            # Adding one reloads all of them.
            await asyncio.sleep(0.3)
            page = await self.post(path, {"handler": handler, **begin})
        for step in steps:
            page = await self.post(f"{path}/{page['flow_id']}", step)
        return page

    async def entry(self, domain: str) -> str:
        """Return the id of what is set up."""
        return (await self.ask("config_entries/get", domain=domain))[0]["entry_id"]

    async def change(self, domain: str, kind: str, **settings: Any) -> None:
        """Change settings of an agent, or of an entity for tasks, by its form."""
        entry = await self.entry(domain)
        found = await self.ask("config_entries/subentries/list", entry_id=entry)
        subentry = next(s["subentry_id"] for s in found if s["subentry_type"] == kind)
        page = await self.flow([entry, kind], kind="subentries/", subentry_id=subentry)
        known = {
            field["name"]: field["description"]["suggested_value"]
            for field in page["data_schema"]
            if "suggested_value" in (field.get("description") or {})
        }
        path = f"config/config_entries/subentries/flow/{page['flow_id']}"
        page = await self.post(path, known | settings)
        assert page["reason"] == "reconfigure_successful", page

    async def ask(self, kind: str, **fields: Any) -> Any:
        """Send a command and return its result."""
        async for message in self.stream(kind, **fields):
            assert message["success"], message
            return message["result"]

    async def stream(self, kind: str, **fields: Any) -> AsyncGenerator[dict[str, Any]]:
        """Send a command and yield the responses."""
        assert self._socket is not None
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "type": kind, **fields})
        while True:
            message = await self._socket.receive_json()
            if message["id"] == number:
                yield message

    async def task(self, entity: str, instructions: str, structure: dict | None = None) -> Any:
        """Run an AI task and return its data."""
        data: dict[str, Any] = {
            "task_name": "test",
            "entity_id": entity,
            "instructions": instructions,
        }
        if structure:
            data["structure"] = structure
        result = await self.ask(
            "call_service",
            domain="ai_task",
            service="generate_data",
            service_data=data,
            return_response=True,
        )
        return result["response"]["data"]

    async def talk(
        self,
        pipeline: str,
        text: str,
        conversation: str | None = None,
        device: str | None = None,
        *,
        may_fail: bool = False,
    ) -> Answer:
        """Speak through Assist."""
        answer = Answer()
        begin = time.monotonic()
        fields = _run(pipeline, text) | {"conversation_id": conversation, "device_id": device}
        async for message in self.stream("assist_pipeline/run", **fields):
            if message["type"] != "event":
                assert message["success"], message
                continue
            event = message["event"]
            data = event.get("data") or {}
            delta = data.get("chat_log_delta") or {}
            if not answer.first_s and (delta.get("content") or delta.get("tool_calls")):
                answer.first_s = time.monotonic() - begin
            answer.calls += delta.get("tool_calls") or []
            if event["type"] == "error":
                assert may_fail, event
                answer.text = data["message"]
            if event["type"] == "intent-end":
                output = data["intent_output"]
                answer.text = output["response"]["speech"]["plain"]["speech"]
                answer.conversation = output["conversation_id"]
            if event["type"] == "run-end":
                break
        return answer

    async def leave(
        self, pipeline: str, text: str, begun: Callable[[], Awaitable[None]]
    ) -> None:
        """Speak through Assist on a separate page, and close that once it is answered."""
        page = await self._connect()
        await page.send_json({"id": 1, "type": "assist_pipeline/run", **_run(pipeline, text)})
        await begun()
        await page.close()

    async def states(self) -> dict[str, str]:
        """Return the states of all entities."""
        return {s["entity_id"]: s["state"] for s in await self.ask("get_states")}

    async def until(self, entity: str, holds: Any) -> str:
        """Wait until an entity is in a state, and return that."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                state = (await self.states()).get(entity)
                if state is not None and holds(state):
                    return state
                await asyncio.sleep(0.3)


def _run(pipeline: str, text: str) -> dict[str, Any]:
    """Return a function that speaks a sentence, without a time limit for the answer."""
    return {
        "start_stage": "intent",
        "end_stage": "intent",
        "input": {"text": text},
        "pipeline": pipeline,
        "timeout": PATIENCE_S,
    }
