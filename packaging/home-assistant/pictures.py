"""Screenshots of Home Assistant's pages, by Chromium through its DevTools port."""

import asyncio
import base64
import io
import json
from pathlib import Path
from typing import Any

import aiohttp
from PIL import Image

from instance import Instance

WIDTH, HEIGHT = 1000, 700
# The time that the page needs to settle: it gives no signal.
SETTLE_S = 8
PATIENCE_S = 60
# Elements are in nested shadow trees.
FIND = """
(() => {
  const all = (root) => [...root.querySelectorAll('*')].flatMap(
    (e) => e.shadowRoot ? [e, ...all(e.shadowRoot)] : [e]);
  const fits = (e) => %s;
  const found = all(document).filter((e) => fits(e) && e.getBoundingClientRect().width > 0);
  if (!found.length) return null;
  const box = found.at(-1).getBoundingClientRect();
  return [box.x + box.width / 2, box.y + box.height / 2];
})()
"""


class Camera:
    """A browser's tab that is logged in."""

    def __init__(self, folder: Path, browser: str) -> None:
        """Initialize with where pictures go, and the port of the browser's DevTools."""
        self._folder = folder
        self._browser = browser
        self._session: aiohttp.ClientSession | None = None
        self._tab: aiohttp.ClientWebSocketResponse | None = None
        self._number = 0

    async def dialog(self, home: Instance, pipeline: str, words: list[str]) -> None:
        """Take a picture of a conversation in Assist's dialog."""
        await home.ask("assist_pipeline/pipeline/set_preferred", pipeline_id=pipeline)
        await self._open(home, "/home/overview?conversation=1")
        for text in words:
            await self._click("e.matches('ha-assist-chat input, input[placeholder], textarea')")
            await self._do("Input.insertText", text=text)
            await self._key("Enter", 13)
            await asyncio.sleep(SETTLE_S)
        await self._shoot("assist")

    async def form(self, home: Instance) -> None:
        """Take a picture of the form that adds the integration."""
        await self._open(home, "/config/integrations/dashboard/add?domain=hearthd")
        await self._click(
            "e.localName === 'ha-button' && /^(ok|yes|add)$/i.test(e.textContent.trim())"
        )
        await asyncio.sleep(SETTLE_S)
        await self._shoot("form")

    async def integration(self, home: Instance) -> None:
        """Take a picture of the integration once it was added."""
        await self._open(home, "/config/integrations/integration/hearthd")
        await self._shoot("integration")

    async def sensors(self, home: Instance) -> None:
        """Take a picture of the service's device."""
        registry = await home.ask("config/device_registry/list")
        device = next(d["id"] for d in registry if d["name"] == "Hearthd")
        await self._open(home, f"/config/devices/device/{device}")
        await self._shoot("sensors")

    async def close(self) -> None:
        """Close the browser."""
        if self._session is not None:
            await self._session.close()

    async def _open(self, home: Instance, path: str) -> None:
        """Go to a page, and wait until it is drawn."""
        if self._tab is None:
            await self._log_in(home)
        await self._do("Page.navigate", url=home.url + path)
        await asyncio.sleep(SETTLE_S)

    async def _log_in(self, home: Instance) -> None:
        self._session = aiohttp.ClientSession()
        url = f"http://127.0.0.1:{self._browser}/json/new?{home.url}/manifest.json"
        async with self._session.put(url) as answer:
            page = await answer.json(content_type=None)
        self._tab = await self._session.ws_connect(
            page["webSocketDebuggerUrl"], max_msg_size=0
        )
        await self._do("Page.enable")
        size = {"width": WIDTH, "height": HEIGHT, "deviceScaleFactor": 1, "mobile": False}
        await self._do("Emulation.setDeviceMetricsOverride", **size)
        # What the page stores after a login.
        tokens = home.token | {
            "hassUrl": home.url,
            "clientId": f"{home.url}/",
            "expires": 4_102_444_800_000,
        }
        kept = json.dumps(json.dumps(tokens))
        await self._do("Runtime.evaluate", expression=f"localStorage.hassTokens = {kept}")

    async def _click(self, fits: str) -> None:
        """Click on the last element `e` that fits, once there is one."""
        for _ in range(PATIENCE_S):
            found = await self._do(
                "Runtime.evaluate", expression=FIND % fits, returnByValue=True
            )
            if at := found["result"].get("value"):
                break
            await asyncio.sleep(1)
        else:
            await self._shoot("wrong")
            raise AssertionError(f"nothing on the page fits {fits}")
        for kind in ("mousePressed", "mouseReleased"):
            where = {"x": at[0], "y": at[1], "button": "left", "clickCount": 1}
            await self._do("Input.dispatchMouseEvent", type=kind, **where)
        await asyncio.sleep(1)

    async def _key(self, key: str, code: int) -> None:
        for kind in ("keyDown", "keyUp"):
            await self._do(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                windowsVirtualKeyCode=code,
                text="\r" if kind == "keyDown" and key == "Enter" else "",
            )

    async def _shoot(self, name: str) -> None:
        picture = await self._do("Page.captureScreenshot", format="png")
        image = Image.open(io.BytesIO(base64.b64decode(picture["data"])))
        path = self._folder / f"home-assistant-{name}.png"
        # Few colours make a small file.
        image.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"picture: {path.name}, {path.stat().st_size // 1024} KiB", flush=True)

    async def _do(self, method: str, **params: Any) -> dict[str, Any]:
        assert self._tab is not None
        self._number += 1
        await self._tab.send_json({"id": self._number, "method": method, "params": params})
        while True:
            message = await self._tab.receive_json()
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
