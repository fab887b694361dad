"""Time to the first word in a home, and the cached share of its prompt."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
import re
import shutil
import time
from typing import Any

from board import ROOT, Board
from instance import PATIENCE_S, Answer, Instance
from scene import AGENT, jobs, pipeline_of, set_up
import words

# Home Assistant's own demo: lights, covers, a thermostat, in some rooms.
HOME = "demo:\n"
ENTITIES = 30
ROOMS = ("Kitchen", "Bedroom", "Living Room", "Office")
THREADS = 2
CONFIG = f"""\
[engine]
threads = {THREADS}
[model]
context = 16384
preload = true
"""
KEPT = re.compile(r"(\d+) of (\d+) tokens of the prompt were kept")
QUESTION = "Turn on the kitchen light."


def steps(
    folder: Path, model: Path, report: dict[str, Any]
) -> tuple[Board, Callable[[Instance, Board], Coroutine[Any, Any, None]], str]:
    """Return the steps for `run`."""
    taught = folder / model.name
    demo = ROOT / "packaging/demo-model/hearth-demo-q8_0.gguf"
    words.give(model, demo, taught)

    async def measure(home: Instance, board: Board) -> None:
        await Measuring(home, board, report).run()

    return Board(folder / "times", model=taught, more=CONFIG), measure, HOME


class Measuring:
    """One run."""

    def __init__(self, home: Instance, board: Board, report: dict[str, Any]) -> None:
        """Initialize; figures go to the report."""
        self.home = home
        self.board = board
        self.report = report
        self.pipeline = self.entity = ""
        self.rooms: dict[str, str] = {}

    async def run(self) -> None:
        """Run all measurements in a home."""
        await set_up(self.home, self.board)
        await self.furnish()
        await self.home.change("hearthd", "conversation", max_tokens=8)
        self.pipeline = await pipeline_of(self.home, AGENT)
        kitchen, bedroom = (self.rooms[name] for name in ROOMS[:2])

        # Prewarming starts ten seconds after the daemon: this is before.
        await self.start_anew(forget=True)
        first = await self.say("the first words, nothing computed ahead", kitchen)
        await self.idle()
        await self.say("the second in the same talk", kitchen, first.conversation)
        await self.say("a new talk", kitchen)
        await self.say("from another room", bedroom)
        await self.say("from no room", None)
        await self.start_anew(forget=False)
        await self.say("after a restart of the daemon, from disk", kitchen)
        await self.idle()

        await self.rename()
        await self.say("right after an exposed entity got another name", kitchen)
        await self.rename()
        begin = time.monotonic()
        await asyncio.sleep(12)
        await self.idle()
        print(f"  computed ahead within {time.monotonic() - begin:.0f} s", flush=True)
        await self.say("after another one, and time to compute ahead", kitchen)

        await self.start_anew(forget=True)
        begin = time.monotonic()
        await asyncio.sleep(12)
        await self.idle()
        print(f"  computed ahead within {time.monotonic() - begin:.0f} s", flush=True)
        await self.say("the first words, computed ahead", kitchen)

    async def furnish(self) -> None:
        """Put the demo's entities into rooms, and expose some dozens of them."""
        home = self.home
        # A new home has some rooms by default.
        known = {a["name"]: a for a in await home.ask("config/area_registry/list")}
        areas = []
        for name in ROOMS:
            area = known.get(name) or await home.ask("config/area_registry/create", name=name)
            areas.append(area["area_id"])
        states = await home.states()
        exposed = [
            entity
            for entity in sorted(states)
            if entity.split(".")[0]
            in ("light", "switch", "cover", "climate", "fan", "media_player", "lock")
        ][:ENTITIES]
        everything = list(await home.states())
        for entities, should in ((everything, False), (exposed, True)):
            await home.ask(
                "homeassistant/expose_entity",
                assistants=["conversation"],
                entity_ids=entities,
                should_expose=should,
            )
        registered = {
            e["entity_id"]: e["device_id"]
            for e in await home.ask("config/entity_registry/list")
        }
        devices = [registered[e] for e in exposed if registered.get(e)]
        for n, device in enumerate(dict.fromkeys(devices)):
            await home.ask(
                "config/device_registry/update",
                device_id=device,
                area_id=areas[n % len(areas)],
            )
            self.rooms[ROOMS[n % len(areas)]] = device
        self.entity = exposed[len(exposed) // 2]
        assert self.entity in registered and len(self.rooms) == len(ROOMS)
        self.report["exposed entities"] = len(exposed)
        print(f"  {len(exposed)} exposed entities in {len(ROOMS)} rooms", flush=True)

    async def rename(self) -> None:
        """Rename an entity in the middle of the prompt."""
        name = f"Number {time.monotonic_ns() // 1_000_000 % 100_000}"
        await self.home.ask(
            "config/entity_registry/update", entity_id=self.entity, name=name
        )

    async def idle(self) -> None:
        """Wait until the engine is idle."""
        async with asyncio.timeout(PATIENCE_S):
            quiet = 0
            while quiet < 5:
                # Home Assistant disconnects pages that do not answer its pings.
                await self.home.states()
                quiet = 0 if await jobs(self.board) else quiet + 1
                await asyncio.sleep(0.5)

    async def start_anew(self, *, forget: bool) -> None:
        """Restart the daemon; optionally delete its prompts on disk."""
        await asyncio.to_thread(self.board.stop)
        if forget:
            # A prewarm that is due now fails because the daemon is down.
            await asyncio.sleep(12)
            shutil.rmtree(self.board.dir / "prompts")
        await asyncio.to_thread(self.board.start)
        await asyncio.to_thread(self.board.ctl, "load")
        await self.home.until("sensor.hearthd_state", lambda s: s in ("ready", "busy", "limited"))

    async def say(self, what: str, device: str | None, talk: str | None = None) -> Answer:
        """Speak a sentence, and report its figures."""
        before = len(KEPT.findall(self.home.log()))
        answer = await self.home.talk(self.pipeline, QUESTION, talk, device)
        async with asyncio.timeout(PATIENCE_S):
            # It is written slightly later.
            while len(found := KEPT.findall(self.home.log())) == before:
                await asyncio.sleep(0.1)
        kept, whole = map(int, found[before])
        first = round(answer.first_s, 2)
        row = {"what": what, "prompt": whole, "kept": kept, "first word s": first}
        self.report.setdefault("times", []).append(row)
        print(f"| {what} | {whole} | {kept} | {first:.1f} s |", flush=True)
        return answer
