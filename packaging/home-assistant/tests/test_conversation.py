"""Conversations."""

import asyncio
from collections.abc import Callable
import json
import logging
import re

from board import Board
from conftest import until
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry

from custom_components.hearthd import entity, prompt
from homeassistant.components import conversation, intent
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.core import Context, HomeAssistant
from homeassistant.helpers import (
    area_registry as ar,
    chat_session,
    device_registry as dr,
    issue_registry as ir,
    llm,
)
from homeassistant.setup import async_setup_component

AGENT = "conversation.hearthd_conversation"


async def say(
    hass: HomeAssistant, text: str, talk: str | None = None, device: str | None = None
) -> conversation.ConversationResult:
    """Say something to the agent."""
    return await conversation.async_converse(
        hass, text, talk, Context(), agent_id=AGENT, device_id=device, language="en"
    )


def spoken(result: conversation.ConversationResult) -> str:
    """Return its answer."""
    return result.response.speech["plain"]["speech"]


def log_of(hass: HomeAssistant, result: conversation.ConversationResult) -> list:
    """Return the messages of a conversation."""
    logs = hass.data[conversation.chat_log.DATA_CHAT_LOGS]
    return logs[result.conversation_id].content


def call(tool: str, **arguments: object) -> str:
    """What a model writes to call a tool."""
    written = json.dumps({"name": tool, "arguments": arguments})
    return f"<tool_call>\n{written}\n</tool_call>"


async def test_the_demo_model_answers(
    home: HomeAssistant, add: Callable, demo_board: Board
) -> None:
    """A question gets its answer, in pieces, and the conversation continues."""
    await add(demo_board, llm_hass_api=[], prompt="Answer briefly.")
    result = await say(home, "What is the capital of Italy?")
    assert "Rome" in spoken(result), spoken(result)
    again = await say(home, "What is the capital of France?", result.conversation_id)
    assert again.conversation_id == result.conversation_id
    assert "Paris" in spoken(again), spoken(again)
    roles = [content.role for content in log_of(home, again)]
    assert roles == ["system", "user", "assistant", "user", "assistant"]


async def test_an_answer_comes_in_pieces(
    home: HomeAssistant, add: Callable, fake_board: Board
) -> None:
    """Speech output can begin before the answer is complete."""
    await add(fake_board, llm_hass_api=[])
    deltas: list[dict] = []
    with (
        chat_session.async_get_chat_session(home) as session,
        conversation.async_get_chat_log(
            home, session, chat_log_delta_listener=lambda _, delta: deltas.append(delta)
        ),
    ):
        result = await say(home, "Good evening", session.conversation_id)
    assert spoken(result).endswith("Good evening")
    assert deltas[0]["role"] == "assistant"
    text = [delta["content"] for delta in deltas if delta.get("content")]
    assert len(text) > 1
    assert "".join(text) == spoken(result)


async def test_a_tool_turns_the_light_on(
    home: HomeAssistant, add: Callable, fake_board: Board
) -> None:
    """The model's calls are executed, and it gets their results."""
    await add(fake_board)
    assert home.states.is_state("input_boolean.kitchen_light", "off")
    result = await say(home, call("intent__HassTurnOn", name="Kitchen light"))
    assert home.states.is_state("input_boolean.kitchen_light", "on")
    called, told = log_of(home, result)[2:4]
    assert called.tool_calls[0].tool_args == {"name": "Kitchen light"}
    assert told.result.error is False
    # The engine repeats the tool's result.
    assert "action_done" in spoken(result)


async def test_a_tool_that_fails_is_told(
    home: HomeAssistant, add: Callable, fake_board: Board
) -> None:
    """The model gets the reason, and the conversation continues."""
    await add(fake_board)
    result = await say(home, call("intent__HassTurnOn", name="No such light"))
    assert log_of(home, result)[3].result.error is True
    assert "MatchFailedError" in spoken(result)


async def test_thoughts_are_not_spoken(
    home: HomeAssistant, add: Callable, fake_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Reasoning is separate from the answer."""
    await add(fake_board, llm_hass_api=[])
    # The engine repeats only the question, without the time before it.
    thought = [{"role": "user", "content": "<think>\nHm.\n</think>\n\nYes."}]
    monkeypatch.setattr(entity, "messages", lambda *_: {"messages": thought})
    result = await say(home, "Is it warm?")
    last = log_of(home, result)[-1]
    assert last.thinking_content == "Hm."
    assert spoken(result) == "Yes."


async def test_ten_rounds_are_enough(
    home: HomeAssistant, add: Callable, fake_board: Board, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that only calls tools is stopped."""
    await add(fake_board)
    # A home where tools answer with a call.
    name = call("intent__HassTurnOn", name="Kitchen light")

    async def answer(*_: object) -> llm.ToolResult:
        return llm.ToolResult(data={"text": name})

    monkeypatch.setattr(llm.IntentTool, "async_call", answer)
    monkeypatch.setattr(prompt, "json_dumps", lambda data: data.get("text") or json.dumps(data))
    result = await say(home, name)
    assert "10 times" in spoken(result)


async def test_who_leaves_ends_the_answer(
    home: HomeAssistant, add: Callable, fake_board: Board
) -> None:
    """Closing the pipe cancels the job."""
    await add(fake_board, llm_hass_api=[])
    talking = asyncio.ensure_future(say(home, "!slow " + "on " * 500))
    service = home.config_entries.async_entries("hearthd")[0].runtime_data.service
    while (await service.properties())["ActiveJobs"] == 0:
        await asyncio.sleep(0.02)
    talking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await talking
    while (await service.properties())["ActiveJobs"] > 0:
        await asyncio.sleep(0.02)


async def test_the_daemons_words_are_heard(
    home: HomeAssistant, add: Callable, demo_board: Board
) -> None:
    """A missing model is spoken, and raised as an issue."""
    await add(demo_board, llm_hass_api=[], model="not-installed")
    result = await say(home, "Hello")
    assert result.response.error_code == "unknown"
    assert "not-installed" in spoken(result)
    assert ir.async_get(home).async_get_issue("hearthd", "model_missing")


async def test_a_stopped_daemon_is_said(
    home: HomeAssistant, add: Callable, own_board: Board
) -> None:
    """Without the service, the answer says what to do."""
    await add(own_board, llm_hass_api=[])
    await home.async_add_executor_job(own_board.stop)
    assert "sudo apt install" in spoken(await say(home, "Hello"))


def kept(caplog: pytest.LogCaptureFixture) -> list[tuple[int, int]]:
    """Cached tokens and all tokens of each prompt so far."""
    found = re.findall(r"(\d+) of (\d+) tokens of the prompt were kept", caplog.text)
    return [(int(some), int(all_)) for some, all_ in found]


async def test_the_beginning_is_computed_before_anyone_speaks(
    home: HomeAssistant,
    add: Callable,
    own_board: Board,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The first sentence finds instructions, home and tools cached, in every room."""
    caplog.set_level(logging.DEBUG, "custom_components.hearthd")
    rooms = []
    for name in ("Kitchen", "Bedroom"):
        area = ar.async_get(home).async_create(name)
        entry = MockConfigEntry(domain="test")
        entry.add_to_hass(home)
        device = dr.async_get(home).async_get_or_create(
            config_entry_id=entry.entry_id, identifiers={("test", name)}
        )
        dr.async_get(home).async_update_device(device.id, area_id=area.id)
        rooms.append(device.id)
    await add(own_board)
    await until(lambda: prompts(own_board), "the beginning is on disk")
    for device in (None, *rooms):
        await say(home, "Hello", device=device)
    # One more for each tool that the model calls.
    counts = kept(caplog)
    assert len(counts) >= 3
    # The rest is the sentence, the room, and the start of the answer.
    assert all(some > 500 and all_ - some < 100 for some, all_ in counts), counts
    asked = log_of(home, await say(home, "Hello", device=rooms[1]))
    assert "Bedroom" in asked[0].content

    # Another light, another prefix.
    before = prompts(own_board)
    assert await async_setup_component(
        home, "input_button", {"input_button": {"doorbell": {"name": "Doorbell"}}}
    )
    async_expose_entity(home, "conversation", "input_button.doorbell", True)
    await until(lambda: prompts(own_board) > before, "prewarmed again")


async def test_a_satellite_with_timers_shares_the_beginning(
    home: HomeAssistant,
    add: Callable,
    own_board: Board,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Its own tools follow the common ones, and are prewarmed as well."""
    caplog.set_level(logging.DEBUG, "custom_components.hearthd")
    entry = MockConfigEntry(domain="test")
    entry.add_to_hass(home)
    satellite = dr.async_get(home).async_get_or_create(
        config_entry_id=entry.entry_id, identifiers={("test", "satellite")}
    )
    kitchen = ar.async_get(home).async_create("Kitchen")
    dr.async_get(home).async_update_device(satellite.id, area_id=kitchen.id)
    await add(own_board)
    await until(lambda: prompts(own_board), "the beginning is on disk")
    # It appears after Home Assistant has started.
    entry.async_on_unload(
        intent.async_register_timer_handler(home, satellite.id, lambda *_: None)
    )
    home.states.async_set("assist_satellite.kitchen", "idle")
    service = home.config_entries.async_entries("hearthd")[0].runtime_data.service
    # Not the earlier prefix: that one states that there are no timers.
    await until(lambda: prompts(own_board) > 2, "prewarmed for it, and for all others")
    while (await service.properties())["ActiveJobs"] > 0:
        await asyncio.sleep(0.02)
    asked = await say(home, "Hello", device=satellite.id)
    assert "Kitchen" in log_of(home, asked)[0].content
    # The model may call a tool, whose result is processed as well.
    (first, longer), *_ = kept(caplog)
    caplog.clear()
    await say(home, "Hello")
    (second, shorter), *_ = kept(caplog)
    assert longer > shorter + 500, "it has tools of its own"
    assert longer - first < 100 and shorter - second < 100, (first, second)


def prompts(board: Board) -> int:
    """Return the number of prompts cached on disk."""
    return len(list((board.dir / "prompts").glob("*")))

