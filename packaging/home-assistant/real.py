"""Hearthd in a Home Assistant that runs: see real.sh.

What the demo model does by itself is counted and reported; what has to hold is asserted.
"""

import argparse
import asyncio
from collections.abc import Callable, Coroutine
import json
from pathlib import Path
import re
import sys
import tempfile
import time
from typing import Any

from instance import Instance

sys.path.insert(0, str(Path(__file__).parent / "tests"))
from board import ROOT, Board  # noqa: E402

AGENT = "conversation.hearthd_conversation"
TASK = "ai_task.hearthd_ai_task"
LIGHT, LAMP = "input_boolean.kitchen_light", "input_boolean.bedroom_lamp"
TEMPERATURE = "sensor.hearthd_temperature"
HOME = """\
input_boolean:
  kitchen_light:
    name: Kitchen light
  bedroom_lamp:
    name: Bedroom lamp
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
SCORE = {"required": True, "selector": {"number": {"min": 0, "max": 10}}}
STRUCTURE = {
    "room": {"required": True, "selector": {"select": {"options": ["kitchen", "hall"]}}},
    "urgent": {"required": True, "selector": {"boolean": {}}},
    "score": SCORE,
}


def seen(what: str) -> None:
    """Say what was seen to hold."""
    print(f"seen: {what}", flush=True)


async def talk(home: Instance, pipeline: str, text: str) -> tuple[str, list[dict], float]:
    """Speak through Assist: the answer, the calls of tools, seconds to the first word."""
    calls, first, answer = [], 0.0, ""
    begin = time.monotonic()
    words = {"start_stage": "intent", "end_stage": "intent", "input": {"text": text}}
    async for message in home.stream("assist_pipeline/run", pipeline=pipeline, **words):
        if message["type"] != "event":
            assert message["success"], message
            continue
        event = message["event"]
        delta = (event.get("data") or {}).get("chat_log_delta") or {}
        if not first and (delta.get("content") or delta.get("tool_calls")):
            first = time.monotonic() - begin
        calls += delta.get("tool_calls") or []
        assert event["type"] != "error", event
        if event["type"] == "intent-end":
            speech = event["data"]["intent_output"]["response"]["speech"]
            answer = speech["plain"]["speech"]
        if event["type"] == "run-end":
            break
    return answer, calls, first


async def pipeline_of(home: Instance, agent: str) -> str:
    """Make an assistant of an agent."""
    unused = ("stt_engine", "stt_language", "tts_engine", "tts_language", "tts_voice")
    fields = dict.fromkeys((*unused, "wake_word_entity", "wake_word_id"))
    made = await home.ask(
        "assist_pipeline/pipeline/create",
        name="Hearthd",
        conversation_engine=agent,
        conversation_language="en",
        language="en",
        **fields,
    )
    await home.ask("assist_pipeline/pipeline/set_preferred", pipeline_id=made["id"])
    return made["id"]


async def set_up(home: Instance, board: Board) -> str:
    """Go from the first page to an assistant."""
    await home.start()
    await home.onboard()
    seen("onboarding")
    page = await home.flow("hearthd", {"bus_address": "unix:path=/nowhere"})
    assert page["errors"] == {"base": "no_bus"}, page
    again = f"config/config_entries/flow/{page['flow_id']}"
    page = await home.post(again, {"bus_address": board.address})
    assert page["type"] == "create_entry", page
    await home.until(AGENT, bool)
    seen("the form: a wrong bus is refused; with the right one there is an agent")
    await home.ask(
        "homeassistant/expose_entity",
        assistants=["conversation"],
        entity_ids=[LIGHT, LAMP],
        should_expose=True,
    )
    return await pipeline_of(home, AGENT)


async def by_echo(home: Instance, board: Board, _report: dict[str, Any]) -> None:
    """Light a light by a call of a tool, as a model that has learnt them writes it."""
    pipeline = await set_up(home, board)
    assert (await home.states())[LIGHT] == "off"
    call = json.dumps({"name": ON, "arguments": {"name": "Kitchen light"}})
    answer, calls, _ = await talk(home, pipeline, f"<tool_call>{call}</tool_call>")
    assert (await home.states())[LIGHT] == "on", (answer, calls)
    seen("Assist: a call of intent__HassTurnOn turned the kitchen light on")


async def by_the_demo_model(home: Instance, board: Board, report: dict[str, Any]) -> None:
    """Do what 1.8 million parameters can."""
    pipeline = await set_up(home, board)
    cool = float(await home.until(TEMPERATURE, lambda state: state != "unknown"))
    counts = {"called a tool": 0, "the right one": 0, "with the right name": 0}
    firsts = []
    for text, wanted, thing in COMMANDS:
        answer, calls, first = await talk(home, pipeline, text)
        firsts.append(round(first, 3))
        made = [(call["tool_name"], call["tool_args"]) for call in calls]
        right = [args for name, args in made if name == wanted]
        counts["called a tool"] += bool(made)
        counts["the right one"] += bool(right)
        names = [str(args.get("name", "")).lower() for args in right]
        counts["with the right name"] += thing in names
        print(f"  {text!r}: {made or answer!r}", flush=True)
    report["demo model"] = {"commands": len(COMMANDS), **counts}
    report["seconds to the first token"] = firsts
    seen(f"the demo model, of {len(COMMANDS)} commands: {counts}")

    made = await home.task(TASK, "Rate the kitchen light.", STRUCTURE)
    assert set(made) == set(STRUCTURE), made
    assert isinstance(made["urgent"], bool), made
    assert 0 <= made["score"] <= 10, made
    seen(f"an AI task with a structure: {made}")

    after = await home.until(TEMPERATURE, lambda state: float(state) > cool)
    seen(f"the simulated board's temperature went from {cool} to {after} °C")
    report["temperature"] = [cool, float(after)]

    await asyncio.to_thread(board.stop)
    await home.until("sensor.hearthd_state", lambda state: state == "unavailable")
    await asyncio.to_thread(board.start)
    await home.until("sensor.hearthd_state", lambda state: state != "unavailable")
    seen("the sensors went with the daemon, and came back with it")
    _, _, first = await talk(home, pipeline, COMMANDS[0][0])
    report["seconds to the first token after a restart"] = round(first, 3)
    kept = re.findall(r"(\d+) of (\d+) tokens of the prompt were kept", home.log())
    report["tokens kept of each prompt"] = [f"{some}/{whole}" for some, whole in kept]
    await by_cores_own(home, f"http://127.0.0.1:{board.port}")


async def by_cores_own(home: Instance, url: str) -> None:
    """Use Home Assistant's own integrations, on the TCP socket."""
    page = await home.flow("ollama", {"url": url})
    assert page["type"] == "create_entry", page
    entry = page["result"]["entry_id"]
    common = {"model": "hearth-demo-q8_0:latest", "num_ctx": 8192, "keep_alive": -1}
    for kind, options in (
        ("conversation", {"llm_hass_api": ["assist"], "max_history": 20}),
        ("ai_task_data", {"max_history": 20}),
    ):
        fields = {"name": f"Ollama {kind}", "think": False, **common, **options}
        page = await home.flow([entry, kind], fields, kind="subentries/")
        assert page["type"] == "create_entry", page
    await home.until("conversation.ollama_conversation", bool)
    answer = await home.say("What is the capital of Italy?", "conversation.ollama_conversation")
    seen(f"core's ollama: the form, and an answer: {answer!r}")
    await home.until("ai_task.ollama_ai_task_data", bool)
    made = await home.task("ai_task.ollama_ai_task_data", "Rate it.", {"score": SCORE})
    assert 0 <= made["score"] <= 10, made
    seen(f"core's ollama: an AI task with a structure: {made}")

    known = set(await home.states())
    page = await home.flow(
        "llama_cpp", {"base_url": f"{url}/v1"}, {"chat_model": "hearth-demo-q8_0"}
    )
    assert page["type"] == "create_entry", page
    agents: list[str] = []
    while not agents:
        new = set(await home.states()) - known
        agents = [entity for entity in new if entity.startswith("conversation.")]
    answer = await home.say("What is the capital of Italy?", agents[0])
    seen(f"core's llama_cpp: the form, and an answer: {answer!r}")


async def run(
    board: Board,
    steps: Callable[[Instance, Board, dict[str, Any]], Coroutine[Any, Any, None]],
    report: dict[str, Any],
    arguments: argparse.Namespace | None = None,
) -> None:
    """Start both, take the steps, stop both."""
    board.dir.mkdir()
    home = Instance(board.dir / "home", HOME)
    board.start_bus()
    try:
        board.start()
        await steps(home, board, report)
        if arguments and arguments.pictures:
            from pictures import take  # noqa: PLC0415

            await take(home, arguments.browser, arguments.pictures)
    except BaseException:
        print(home.log()[-5000:], board.log()[-2000:], sep="\n---\n", file=sys.stderr)
        raise
    finally:
        await home.stop()
        board.stop()
        board.stop_bus()


async def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--browser")
    arguments = parser.parse_args()
    report: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        # An engine that repeats what it is told: the model's part is the test's.
        await run(Board(folder / "echo", fake=""), by_echo, report)
        board = Board(folder / "demo", args=("--simulate-board", "pi4-poor"), tcp=True)
        await run(board, by_the_demo_model, report, arguments)
    out = ROOT / "target/home-assistant/real.json"
    out.write_text(json.dumps(report, indent=2) + "\n")
    print(f"figures: {out}")


asyncio.run(main())
