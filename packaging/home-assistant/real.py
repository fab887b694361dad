"""Hearthd in a running Home Assistant: see real.sh.

What the demo model does by itself is counted and reported; what has to hold is asserted.
"""

import argparse
import asyncio
from collections.abc import Callable
import json
from pathlib import Path
import re
import tempfile
import time
from typing import Any

import aiohttp

from board import BIN, Board
from core_integrations import add_llama_cpp, add_ollama
from instance import PATIENCE_S, Instance
import obey
from pictures import Camera
from scene import AGENT, HOME, LAMP, LIGHT, jobs, pipeline_of, run, seen, set_up
import times

TASK = "ai_task.hearthd_ai_task"
TEMPERATURE, STATE = "sensor.hearthd_temperature", "sensor.hearthd_state"
THERMAL = "sensor.hearthd_thermal_state"
REASON, LIMITED = "sensor.hearthd_limited_by", "binary_sensor.hearthd_limited"
DEMO = "hearth-demo-q8_0"
# The home's prompt is long, and a small model without an answer does not stop.
CONFIG = """\
[engine]
threads = 1
[model]
context = 8192
[sampling]
max_tokens = 300
"""
ON, OFF = "intent__HassTurnOn", "intent__HassTurnOff"
COMMANDS = [
    ("Turn on the kitchen light.", ON, "kitchen light"),
    ("Switch on the kitchen light.", ON, "kitchen light"),
    ("Turn the kitchen light off.", OFF, "kitchen light"),
    ("Please turn off the kitchen light.", OFF, "kitchen light"),
    ("Turn on the bedroom lamp.", ON, "bedroom lamp"),
    ("Switch the bedroom lamp off.", OFF, "bedroom lamp"),
    ("Could you turn on the bedroom lamp?", ON, "bedroom lamp"),
    ("I need the kitchen light on.", ON, "kitchen light"),
]
QUESTION = "What is the capital of Italy?"
SCORE = {"required": True, "selector": {"number": {"min": 0, "max": 10}}}
STRUCTURE = {
    "room": {"required": True, "selector": {"select": {"options": ["kitchen", "hall"]}}},
    "urgent": {"required": True, "selector": {"boolean": {}}},
    "score": SCORE,
}
# Takes half a minute, unless cancelled.
SLOW = "!slow " + "on " * 500
# A pi4-poor in warm air: near its limit before it does anything.
WARM_AIR = ("--simulate-board", "pi4-poor", "--simulate-ambient", "36")


def call(tool: str, **arguments: Any) -> str:
    """Return what a model writes to call a tool."""
    written = json.dumps({"name": tool, "arguments": arguments})
    return f"<tool_call>\n{written}\n</tool_call>"


async def by_echo(home: Instance, board: Board) -> None:
    """Simulate the model: the engine repeats its input."""
    pipeline = await set_up(home, board, (LIGHT, LAMP))
    # The repeated text names Home Assistant's tools.
    await home.change("hearthd", "conversation", tools="own")
    await home.until(AGENT, lambda state: state != "unavailable")
    await light(home, pipeline, "Assist")
    await leave(home, board, pipeline, "Assist")
    await crash(home, pipeline)
    await cores_own_by_echo(home, board)


async def light(home: Instance, pipeline: str, who: str) -> None:
    """Turn on a light by a tool call, in the format that a trained model writes."""
    for tool, wanted in ((ON, "on"), (OFF, "off")):
        assert (await home.states())[LIGHT] != wanted
        answer = await home.talk(pipeline, call(tool, name="Kitchen light"))
        assert (await home.states())[LIGHT] == wanted, answer
        assert [c["tool_name"] for c in answer.calls] == [tool], answer
    seen(f"{who}: calls of {ON} and {OFF} turned the kitchen light on and off")


async def cancelled(board: Board) -> int:
    """Return how many answers were cancelled by the caller."""
    url = f"http://127.0.0.1:{board.port}/metrics"
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        found = re.findall(r'outcome="cancelled"} (\d+)', await answer.text())
    return sum(map(int, found))


async def leave(home: Instance, board: Board, pipeline: str, who: str) -> None:
    """Close the dialog during an answer."""

    async def begun() -> None:
        while not await jobs(board):
            await asyncio.sleep(0.1)

    before = await cancelled(board)
    await home.leave(pipeline, SLOW, begun)
    left = time.monotonic()
    while await jobs(board) or await cancelled(board) == before:
        assert time.monotonic() < left + 10, "the answer goes on"
        await asyncio.sleep(0.1)
    later = time.monotonic() - left
    seen(f"{who}: the dialog was closed, and {later:.1f} s later so was the answer")


async def issues(home: Instance) -> dict[str, str]:
    """Return the issues under Repairs, with their reasons."""
    found = (await home.ask("repairs/list_issues"))["issues"]
    return {
        i["issue_id"]: i["translation_placeholders"]["reason"]
        for i in found
        if i["domain"] == "hearthd"
    }


async def crash(home: Instance, pipeline: str) -> None:
    """Crash the engine during an answer."""
    assert not await issues(home)
    answer = await home.talk(pipeline, "Good !abort night")
    assert "engine" in answer.text, answer
    raised = await issues(home)
    assert "engine_failed" in raised, raised
    seen(f"the engine crashed, and Assist said: {answer.text!r}")
    seen(f"and it was to be repaired: {raised['engine_failed']!r}")
    answer = await home.talk(pipeline, "Good morning")
    assert answer.text == "Good morning", answer
    async with asyncio.timeout(PATIENCE_S):
        while await issues(home):
            await asyncio.sleep(0.3)
    seen("the next answer came, and the issue was gone")


async def cores_own_by_echo(home: Instance, board: Board) -> None:
    """Simulate the model for Home Assistant's own integrations, too."""
    url = f"http://127.0.0.1:{board.port}"
    for who, agent in (
        ("core's ollama", await add_ollama(home, url, "fake")),
        ("core's llama_cpp", await add_llama_cpp(home, url, "fake")),
    ):
        pipeline = await pipeline_of(home, agent)
        await light(home, pipeline, who)
        await leave(home, board, pipeline, who)
        answer = await home.talk(pipeline, "Good !abort night", may_fail=True)
        words = "the engine process ended"
        if "ollama" in who:
            # It reports failures in a stream only in the log, which is written later.
            await home.logged(words)
        else:
            assert words in answer.text, answer
        seen(f"{who}: the engine crashed, and Assist said: {answer.text!r}")
        answer = await home.talk(pipeline, "Good morning")
        assert answer.text == "Good morning", answer
        seen(f"{who}: the next answer came")


async def by_the_demo_model(
    home: Instance, board: Board, report: dict[str, Any], camera: Camera | None
) -> None:
    """Run the commands that a model of 1.8 million parameters supports."""
    pipeline = await set_up(home, board, (LIGHT, LAMP), camera)
    await home.change("hearthd", "conversation", max_tokens=100)
    await home.change("hearthd", "ai_task_data", max_tokens=300)
    await home.until(AGENT, lambda state: state != "unavailable")
    seen("the forms of agent and tasks: the longest answer was changed")
    obeyed = await commands(home, pipeline, report)
    await a_task(home, TASK, STRUCTURE, "Hearthd")
    if camera:
        await camera.integration(home)
        if obeyed:
            await camera.dialog(home, pipeline, obeyed[:1])
        else:
            print("no picture of a talk: the demo model obeyed no command", flush=True)
    await heat(home, board, report, camera)
    await restart(home, board, pipeline)
    await reconfigure(home, board)
    await cores_own(home, board)
    kept = re.findall(r"(\d+) of (\d+) tokens of the prompt were kept", home.log())
    report["tokens kept of each prompt"] = [f"{some}/{whole}" for some, whole in kept]


async def commands(home: Instance, pipeline: str, report: dict[str, Any]) -> list[str]:
    """Count the commands that the model executes; returns what it did."""
    obeyed = []
    counts = dict.fromkeys(
        ("called a tool", "the right one", "with the right name", "and then told so"), 0
    )
    for text, wanted, thing in COMMANDS:
        answer = await home.talk(pipeline, text)
        made = [(c["tool_name"], c["tool_args"]) for c in answer.calls]
        right = [args for name, args in made if name == wanted]
        counts["called a tool"] += bool(made)
        counts["the right one"] += bool(right)
        names = [str(args.get("name", "")).lower() for args in right]
        if thing in names:
            counts["with the right name"] += 1
            told = f"{thing} is {'on' if wanted == ON else 'off'}"
            counts["and then told so"] += len(made) == 1 and told in answer.text
            obeyed.append(text)
        print(f"  {text!r}: {made} {answer.text!r}", flush=True)
    report["demo model"] = {"commands": len(COMMANDS), **counts}
    seen(f"the demo model, of {len(COMMANDS)} commands: {counts}")
    return obeyed


async def a_task(home: Instance, entity: str, structure: dict[str, Any], who: str) -> None:
    """Run a task whose answer has a structure."""
    made = await home.task(entity, "Rate the kitchen light.", structure)
    assert set(made) == set(structure), made
    assert isinstance(made.get("urgent", True), bool), made
    assert made.get("room", "hall") in ("kitchen", "hall"), made
    assert 0 <= made["score"] <= 10, made
    seen(f"{who}: an AI task with a structure: {made}")


async def heat(
    home: Instance, board: Board, report: dict[str, Any], camera: Camera | None
) -> None:
    """Keep the model busy until the board is at its limit, then let it cool."""
    names = ("state", "temperature", "thermal_state", "limited_by", "threads", "speed")
    sensors = [f"sensor.hearthd_{name}" for name in names] + [LIMITED]
    told: dict[str, list[str]] = {name: [] for name in sensors}

    async def until(holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                states = await home.states()
                for name, before in told.items():
                    if before[-1:] != [states[name]]:
                        before.append(states[name])
                if holds():
                    return
                await asyncio.sleep(0.3)

    def is_limited() -> bool:
        return told[LIMITED][-1] == "on"

    def has_moved() -> bool:
        return len(told[TEMPERATURE]) > 4 and len(told[THERMAL]) > 1

    async def work() -> None:
        url = f"http://127.0.0.1:{board.port}/v1/completions"
        body = {"model": DEMO, "prompt": "Count. " * 200, "max_tokens": 1000}
        async with aiohttp.ClientSession() as session:
            while True:
                async with session.post(url, json=body) as answer:
                    assert answer.status == 200, await answer.text()

    # Earlier requests have warmed it.
    await home.until(LIMITED, lambda state: state == "off")
    working = asyncio.ensure_future(work())
    # It may be limited before it is at its limit.
    await until(lambda: is_limited() and has_moved())
    reason = (await home.states())[REASON]
    assert "limit" in reason, reason
    if camera:
        await camera.sensors(home)
    working.cancel()
    await asyncio.gather(working, return_exceptions=True)
    degrees = [float(t) for t in told[TEMPERATURE] if t not in ("unknown", "unavailable")]
    assert max(degrees) > degrees[0] + 1 and len(degrees) > 3, degrees
    for name in (STATE, THERMAL, LIMITED, REASON):
        assert len(told[name]) > 1, (name, told[name])
    assert any(s not in ("unknown", "0") for s in told["sensor.hearthd_speed"]), told
    report["sensors while the board became hot"] = told
    for name, values in told.items():
        first, more = values[:4], len(values) - 5
        shown = [*first, f"({more} more)", values[-1]] if more > 0 else values
        print(f"  {name}: {', '.join(shown)}", flush=True)
    seen(f"the board became hot, from {degrees[0]} to {max(degrees)} °C: {reason!r}")
    await until(lambda: not is_limited())
    assert (await home.states())[REASON] == "-"
    seen("it cooled, and was limited no more")


async def restart(home: Instance, board: Board, pipeline: str) -> None:
    """Restart the daemon under Home Assistant."""
    await asyncio.to_thread(board.stop)
    await home.until(STATE, lambda state: state == "unavailable")
    states = await home.states()
    assert states[TEMPERATURE] == states[LIMITED] == "unavailable", states
    answer = await home.talk(pipeline, QUESTION)
    assert "install" in answer.text, answer
    seen(f"the daemon was stopped: its sensors are unavailable, and Assist says: {answer.text!r}")
    await asyncio.to_thread(board.start)
    await home.until(STATE, lambda state: state != "unavailable")
    assert float((await home.states())[TEMPERATURE]) > 20
    answer = await home.talk(pipeline, QUESTION)
    assert answer.text and "Hearthd" not in answer.text, answer
    seen(f"it was started: sensors and answers are back: {answer.text!r}")


async def reconfigure(home: Instance, board: Board) -> None:
    """Change the bus, to a wrong one and back."""
    entry = await home.entry("hearthd")
    page = await home.flow("hearthd", {"bus_address": "unix:path=/nowhere"}, entry_id=entry)
    assert page["errors"] == {"base": "no_bus"}, page
    again = f"config/config_entries/flow/{page['flow_id']}"
    page = await home.post(again, {"bus_address": board.address})
    assert page["reason"] == "reconfigure_successful", page
    await home.until(STATE, lambda state: state != "unavailable")
    seen("reconfigured: a wrong bus is refused, the right one is taken")


async def cores_own(home: Instance, board: Board) -> None:
    """Use the demo model through Home Assistant's own integrations."""
    url = f"http://127.0.0.1:{board.port}"
    agent = await add_ollama(home, url, DEMO)
    answer = await home.talk(await pipeline_of(home, agent), QUESTION)
    assert answer.text, answer
    seen(f"core's ollama: an answer: {answer.text!r}")
    await a_task(home, "ai_task.ollama_ai_task_data", {"score": SCORE}, "core's ollama")
    agent = await add_llama_cpp(home, url, DEMO)
    answer = await home.talk(await pipeline_of(home, agent), QUESTION)
    assert answer.text, answer
    seen(f"core's llama_cpp: an answer: {answer.text!r}")


async def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--browser")
    parser.add_argument("--times", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--only", choices=["echo", "demo"], help="for who works on this file")
    arguments = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if arguments.times:
            await run(*times.steps(folder, arguments.times, report))
            name = "times.json"
        elif arguments.model:
            await by_a_model(folder, arguments.model, report)
            name = "model.json"
        else:
            await run_all(folder, report, arguments)
            name = "real.json"
    out = BIN.parent / "home-assistant" / name
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"figures: {out}")


async def by_a_model(folder: Path, model: Path, report: dict[str, Any]) -> None:
    """Have a real model control a home."""
    cores = (("core's ollama", add_ollama), ("core's llama_cpp", add_llama_cpp))

    async def steps(home: Instance, board: Board) -> None:
        await obey.by_a_model(home, board, report, cores)

    await run(Board(folder / "model", model=model, tcp=True, more=obey.CONFIG), steps, HOME)


async def run_all(folder: Path, report: dict[str, Any], arguments: argparse.Namespace) -> None:
    """Run everything except the measurement of times."""
    camera = None
    if arguments.pictures:
        camera = Camera(arguments.pictures, arguments.browser)

    async def demo(home: Instance, board: Board) -> None:
        await by_the_demo_model(home, board, report, camera)

    if arguments.only != "demo":
        await run(Board(folder / "echo", fake="", tcp=True), by_echo, HOME)
    try:
        if arguments.only != "echo":
            await run(Board(folder / "demo", args=WARM_AIR, tcp=True, more=CONFIG), demo, HOME)
    finally:
        if camera:
            await camera.close()


if __name__ == "__main__":
    asyncio.run(main())
