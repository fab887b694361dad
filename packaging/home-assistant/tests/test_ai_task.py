"""Tasks of automations."""

from collections.abc import Callable
import re
import struct
from unittest.mock import patch

from board import Board
import probatio
import pytest

from homeassistant.components import ai_task, camera
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import llm, selector

TASK = "ai_task.hearthd_ai_task"
STRUCTURE = probatio.Schema(
    {
        probatio.Required("urgent"): selector.BooleanSelector(),
        probatio.Required("room"): selector.SelectSelector({"options": ["kitchen", "hall"]}),
        probatio.Required("score"): selector.NumberSelector({"min": 0, "max": 10}),
    }
)


async def test_text(home: HomeAssistant, add: Callable, demo_board: Board) -> None:
    """A task without a structure is answered in words."""
    await add(demo_board)
    result = await ai_task.async_generate_data(
        home, task_name="t", entity_id=TASK, instructions="What is the capital of Italy?"
    )
    assert isinstance(result.data, str)
    assert result.data


async def test_structure(home: HomeAssistant, add: Callable, demo_board: Board) -> None:
    """Data has the requested structure, whatever the model's knowledge is."""
    await add(demo_board)
    for words in ("Describe the kitchen.", "What is 2 plus 2?"):
        result = await ai_task.async_generate_data(
            home, task_name="t", entity_id=TASK, instructions=words, structure=STRUCTURE
        )
        assert set(result.data) == {"urgent", "room", "score"}
        assert isinstance(result.data["urgent"], bool)
        assert result.data["room"] in ("kitchen", "hall")
        assert 0 <= result.data["score"] <= 10


async def test_structure_after_tools(
    home: HomeAssistant, add: Callable, demo_board: Board
) -> None:
    """With tools as well, the constraint applies to the answer after the calls."""
    await add(demo_board)
    result = await ai_task.async_generate_data(
        home,
        task_name="t",
        entity_id=TASK,
        instructions="Turn on the kitchen light.",
        structure=probatio.Schema({probatio.Required("done"): selector.BooleanSelector()}),
        llm_api=next(api for api in llm.async_get_apis(home) if api.id == "assist"),
    )
    assert isinstance(result.data["done"], bool)


async def test_cut_off(home: HomeAssistant, add: Callable, demo_board: Board) -> None:
    """An answer that ends before its structure does is an error, not incomplete data."""
    entry = await add(demo_board)
    subentry = next(s for s in entry.subentries.values() if s.subentry_type == "ai_task_data")
    home.config_entries.async_update_subentry(
        entry, subentry, data={**subentry.data, "max_tokens": 3}
    )
    await home.async_block_till_done()
    with pytest.raises(HomeAssistantError, match="cut off|whole"):
        await ai_task.async_generate_data(
            home, task_name="t", entity_id=TASK, instructions="Hi", structure=STRUCTURE
        )


def picture(color: int) -> bytes:
    """Return a bitmap of one color."""
    pixels = bytes([color, 90, 255 - color]) * 64 * 48
    header = struct.pack("<IIIIIIHH", 54 + len(pixels), 0, 54, 40, 64, 48, 1, 24)
    return b"BM" + header.ljust(52, b"\0") + pixels


async def look(home: HomeAssistant, kind: str, content: bytes, times: int = 1) -> str:
    """Ask about what a camera shows, as an automation does."""
    shown = camera.Image(content_type=kind, content=content)
    source = "media-source://camera/camera.front_door"
    attachment = {"media_content_id": source, "media_content_type": kind}
    with patch("homeassistant.components.camera.async_get_image", return_value=shown):
        result = await ai_task.async_generate_data(
            home,
            task_name="t",
            entity_id=TASK,
            instructions="Who is at the door?",
            structure=probatio.Schema({probatio.Required("someone"): selector.BooleanSelector()}),
            attachments=[attachment] * times,
        )
    return result.data["someone"]


async def test_picture(home: HomeAssistant, add: Callable, seeing_board: Board) -> None:
    """The pictures of a camera are part of the prompt, each with its tokens."""
    await add(seeing_board)
    for times in (0, 1, 2):
        assert await look(home, "image/bmp", picture(10), times) in (True, False)
    lengths = [int(n) for n in re.findall(r"prompt_tokens=(\d+)", seeing_board.log())]
    none, one, two = lengths[-3:]
    # Sixteen and their marks.
    assert none + 16 <= one
    assert one + 16 <= two


async def test_picture_refused(
    home: HomeAssistant, add: Callable, seeing_board: Board
) -> None:
    """What is no picture, or none that is decoded, is refused with the reason."""
    await add(seeing_board)
    with pytest.raises(HomeAssistantError, match="application/pdf"):
        await look(home, "application/pdf", b"%PDF-1.7")
    with pytest.raises(HomeAssistantError, match="SVG"):
        await look(home, "image/svg+xml", b"<svg/>")


async def test_picture_without_projector(
    home: HomeAssistant, add: Callable, demo_board: Board
) -> None:
    """A model that takes no pictures says what is missing."""
    await add(demo_board)
    with pytest.raises(HomeAssistantError, match="projector"):
        await look(home, "image/bmp", picture(10))
