"""Shared by all runs in a Home Assistant: creating an assistant, start and end."""

import asyncio
from collections.abc import Callable, Coroutine
import json
import sys
from typing import Any

from board import Board
from instance import Instance
from pictures import Camera

AGENT = "conversation.hearthd_conversation"
LIGHT, LAMP = "input_boolean.kitchen_light", "input_boolean.bedroom_lamp"
HOME = """\
input_boolean:
  kitchen_light:
    name: Kitchen light
  bedroom_lamp:
    name: Bedroom lamp
"""


def seen(what: str) -> None:
    """Print a check that passed."""
    print(f"seen: {what}", flush=True)


async def pipeline_of(home: Instance, agent: str, name: str = "") -> str:
    """Create an assistant for an agent."""
    unused = ("stt_engine", "stt_language", "tts_engine", "tts_language", "tts_voice")
    fields = dict.fromkeys((*unused, "wake_word_entity", "wake_word_id"))
    made = await home.ask(
        "assist_pipeline/pipeline/create",
        name=name or agent,
        conversation_engine=agent,
        conversation_language="en",
        language="en",
        **fields,
    )
    await home.ask("assist_pipeline/pipeline/set_preferred", pipeline_id=made["id"])
    return made["id"]


async def set_up(
    home: Instance, board: Board, exposed: tuple[str, ...] = (), camera: Camera | None = None
) -> str:
    """Go from onboarding to an assistant with the exposed entities."""
    await home.start()
    await home.onboard()
    seen(f"onboarding of Home Assistant {(await home.ask('get_config'))['version']}")
    if camera:
        await camera.form(home)
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
        entity_ids=exposed,
        should_expose=True,
    )
    return await pipeline_of(home, AGENT, "Hearthd")


async def jobs(board: Board) -> int:
    """Return the number of running answers."""
    status = await asyncio.to_thread(board.ctl, "--json", "status")
    return json.loads(status)["active_jobs"]


async def run(
    board: Board, steps: Callable[[Instance, Board], Coroutine[Any, Any, None]], more: str
) -> None:
    """Start both, take the steps, stop both."""
    board.dir.mkdir()
    home = Instance(board.dir / "home", more)
    board.start_bus()
    try:
        board.start()
        await steps(home, board)
    except BaseException:
        print(home.log()[-5000:], board.log()[-2000:], sep="\n---\n", file=sys.stderr)
        raise
    finally:
        await home.stop()
        board.stop()
        board.stop_bus()
