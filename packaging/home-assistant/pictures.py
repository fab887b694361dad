"""Pictures of Home Assistant's pages, by a Chromium that listens for its DevTools."""

import asyncio
import base64
import json
from pathlib import Path
from typing import Any

import aiohttp

from instance import Instance

WIDTH, HEIGHT = 1100, 760
# What the page needs until it stands still: it says so nowhere.
SETTLE_S = 8
PAGES = {
    "integration": "/config/integrations/integration/hearthd",
    "sensors": "/config/devices/device/{device}",
    "assist": "/lovelace/0?conversation=1",
}


async def take(home: Instance, port: str, folder: Path) -> None:
    """Take a picture of each page."""
    registry = await home.ask("config/device_registry/list")
    device = next(d["id"] for d in registry if d["name"] == "Hearthd")
    async with aiohttp.ClientSession() as session:
        url = f"http://127.0.0.1:{port}/json/new?{home.url}/manifest.json"
        async with session.put(url) as answer:
            page = await answer.json(content_type=None)
        async with session.ws_connect(page["webSocketDebuggerUrl"], max_msg_size=0) as tab:
            await _take(tab, home, folder, device)


async def _take(
    tab: aiohttp.ClientWebSocketResponse, home: Instance, folder: Path, device: str
) -> None:
    number = 0

    async def do(method: str, **params: Any) -> dict[str, Any]:
        nonlocal number
        number += 1
        await tab.send_json({"id": number, "method": method, "params": params})
        while True:
            message = await tab.receive_json()
            if message.get("id") == number:
                assert "error" not in message, message
                return message["result"]

    await do("Page.enable")
    await do(
        "Emulation.setDeviceMetricsOverride",
        width=WIDTH,
        height=HEIGHT,
        deviceScaleFactor=1,
        mobile=False,
    )
    # What the page keeps after somebody logged in.
    tokens = home.token | {
        "hassUrl": home.url,
        "clientId": f"{home.url}/",
        "expires": 4_102_444_800_000,
    }
    kept = json.dumps(json.dumps(tokens))
    await do("Runtime.evaluate", expression=f"localStorage.hassTokens = {kept}")
    for name, path in PAGES.items():
        await do("Page.navigate", url=home.url + path.format(device=device))
        await asyncio.sleep(SETTLE_S)
        picture = await do("Page.captureScreenshot", format="png")
        (folder / f"home-assistant-{name}.png").write_bytes(base64.b64decode(picture["data"]))
        print(f"picture: {name}", flush=True)
