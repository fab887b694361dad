"""A Home Assistant that runs, spoken to as its own pages do."""

import asyncio
from collections.abc import AsyncGenerator
import os
from pathlib import Path
import socket
import sys
from typing import Any

import aiohttp

PATIENCE_S = 600
CONFIG = """\
homeassistant:
  name: Home
  time_zone: Europe/Berlin
frontend:
config:
history:
assist_pipeline:
http:
  server_host: 127.0.0.1
  server_port: {port}
logger:
  default: warning
  logs:
    custom_components.hearthd: debug
{more}"""


class Instance:
    """Home Assistant in a folder of its own."""

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
        # What it would install is installed: setup.sh --real.
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
        """What it logged."""
        return (self.folder / "output").read_text()

    async def onboard(self) -> None:
        """Make the owner's account and leave the first pages behind."""
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
        self._socket = await self._session.ws_connect(
            f"{self.url}/api/websocket", max_msg_size=0
        )
        await self._socket.receive_json()
        await self._socket.send_json(
            {"type": "auth", "access_token": self.token["access_token"]}
        )
        assert (await self._socket.receive_json())["type"] == "auth_ok"

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

    async def flow(self, handler: Any, *steps: dict[str, Any], kind: str = "") -> dict[str, Any]:
        """Go through a form, page by page, and return what came of it."""
        path = f"config/config_entries/{kind}flow"
        page = await self.post(path, {"handler": handler, "show_advanced_options": True})
        for step in steps:
            page = await self.post(f"{path}/{page['flow_id']}", step)
        return page

    async def ask(self, kind: str, **fields: Any) -> Any:
        """Send a command and return its result."""
        async for message in self.stream(kind, **fields):
            assert message["success"], message
            return message["result"]

    async def stream(self, kind: str, **fields: Any) -> AsyncGenerator[dict[str, Any]]:
        """Send a command and yield what comes back."""
        assert self._socket is not None
        self._number += 1
        number = self._number
        await self._socket.send_json({"id": number, "type": kind, **fields})
        while True:
            message = await self._socket.receive_json()
            if message["id"] == number:
                yield message

    async def task(self, entity: str, instructions: str, structure: dict | None = None) -> Any:
        """Have an AI task done and return its data."""
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

    async def say(self, text: str, agent: str) -> str:
        """Say something to an agent, and return what it answered."""
        answer = await self.ask(
            "conversation/process", text=text, agent_id=agent, language="en"
        )
        assert answer["response"]["response_type"] != "error", answer
        return answer["response"]["speech"]["plain"]["speech"]
