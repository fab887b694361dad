"""How a real model controls a home, through our integration and core's own."""

from collections.abc import Callable, Coroutine
import re
import time
from typing import Any

from board import Board
from instance import Instance
from scene import AGENT, LAMP, LIGHT, pipeline_of, seen, set_up

# Accept calls that a model writes as bare JSON, for core's integrations, too.
CONFIG = """\
[engine]
threads = 1
[model]
context = 8192
[sampling]
tool_call_mode = "lenient"
"""
COMMANDS = (
    ("Turn on the kitchen light.", LIGHT, "on"),
    ("Switch the bedroom lamp on, please.", LAMP, "on"),
    ("Turn the kitchen light off.", LIGHT, "off"),
    ("Could you turn off the bedroom lamp?", LAMP, "off"),
)


type Add = Callable[[Instance, str, str], Coroutine[Any, Any, str]]


async def by_a_model(
    home: Instance,
    board: Board,
    report: dict[str, Any],
    cores: tuple[tuple[str, Add], ...],
) -> None:
    """Have it turn things on and off, and report their states."""
    pipeline = await set_up(home, board, (LIGHT, LAMP))
    right = await commands(home, pipeline, "Hearthd", report)
    assert right == len(COMMANDS), right
    await switch(home, LIGHT, "on")
    answer = await home.talk(pipeline, "Is the kitchen light on?")
    assert re.search(r"\bon\b", answer.text), answer
    seen(f"Hearthd: asked whether the kitchen light is on: {answer.text!r}")
    url = f"http://127.0.0.1:{board.port}"
    assert board.model is not None
    for who, add in cores:
        agent = await add(home, url, board.model.stem)
        assert agent != AGENT
        await commands(home, await pipeline_of(home, agent), who, report)


async def switch(home: Instance, entity: str, to: str) -> None:
    """Turn something on or off without the model."""
    service = {"domain": "input_boolean", "service": f"turn_{to}"}
    await home.ask("call_service", **service, target={"entity_id": entity})
    await home.until(entity, lambda state: state == to)


async def commands(
    home: Instance, pipeline: str, who: str, report: dict[str, Any]
) -> int:
    """Speak all commands, and return how many did what was expected and nothing else."""
    right, took = 0, []
    for text, entity, wanted in COMMANDS:
        await switch(home, entity, "off" if wanted == "on" else "on")
        before = await home.states()
        begin = time.monotonic()
        answer = await home.talk(pipeline, text, may_fail=True)
        took.append(round(time.monotonic() - begin, 1))
        after = await home.states()
        now = {thing: after[thing] for thing in (LIGHT, LAMP)}
        right += now == {thing: before[thing] for thing in now} | {entity: wanted}
        print(f"  {who}, {text!r}: {answer.text!r}, {now}", flush=True)
    report[who] = {"commands": len(COMMANDS), "right": right, "seconds": took}
    seen(f"{who}, of {len(COMMANDS)} commands: {right} right, in {took} s")
    return right
