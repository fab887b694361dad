"""Tasks of automations."""

from collections.abc import Callable

from board import Board
import probatio
import pytest

from homeassistant.components import ai_task
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
