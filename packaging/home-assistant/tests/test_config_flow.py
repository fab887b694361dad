"""The forms."""

from collections.abc import Callable

from board import Board
from conftest import make_entry
import pytest

from custom_components.hearthd.const import CONF_BUS_ADDRESS, DOMAIN
from homeassistant.config_entries import SOURCE_USER, ConfigEntryState
from homeassistant.core import HomeAssistant
from homeassistant.data_entry_flow import FlowResultType


async def test_setting_up(home: HomeAssistant, demo_board: Board) -> None:
    """One form creates an agent and an entity for tasks."""
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert (flow["type"], flow["errors"]) == (FlowResultType.FORM, {})
    done = await home.config_entries.flow.async_configure(
        flow["flow_id"], {CONF_BUS_ADDRESS: demo_board.address}
    )
    await home.async_block_till_done()
    assert done["type"] is FlowResultType.CREATE_ENTRY
    entry = done["result"]
    assert entry.state is ConfigEntryState.LOADED
    kinds = [subentry.subentry_type for subentry in entry.subentries.values()]
    assert kinds == ["conversation", "ai_task_data"]
    assert home.states.get("conversation.hearthd_conversation")
    assert home.states.get("ai_task.hearthd_ai_task")

    # There is only one system bus.
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    assert (flow["type"], flow["reason"]) == (FlowResultType.ABORT, "single_instance_allowed")
    assert await home.config_entries.async_unload(entry.entry_id)


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (None, "not_installed"),
        (Board.make_activatable, "not_running"),
        (Board.forbid, "not_allowed"),
        (Board.stop_bus, "no_bus"),
    ],
)
async def test_errors_and_going_on(
    home: HomeAssistant,
    bare_board: Board,
    demo_board: Board,
    spoil: Callable[[Board], None] | None,
    error: str,
) -> None:
    """Each problem has its own text, and the form stays open for a retry."""
    if spoil is Board.forbid:
        bare_board.start()
    if spoil:
        await home.async_add_executor_job(spoil, bare_board)
    flow = await home.config_entries.flow.async_init(DOMAIN, context={"source": SOURCE_USER})
    flow = await home.config_entries.flow.async_configure(
        flow["flow_id"], {CONF_BUS_ADDRESS: bare_board.address}
    )
    assert (flow["type"], flow["errors"]) == (FlowResultType.FORM, {"base": error})
    assert flow["description_placeholders"]["user"]
    done = await home.config_entries.flow.async_configure(
        flow["flow_id"], {CONF_BUS_ADDRESS: demo_board.address}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY
    await home.async_block_till_done()
    assert await home.config_entries.async_unload(done["result"].entry_id)


async def test_another_bus(
    home: HomeAssistant, add: Callable, demo_board: Board, bare_board: Board
) -> None:
    """The address of the bus can be changed, to a bus with the service."""
    entry = await add(demo_board)
    flow = await entry.start_reconfigure_flow(home)
    flow = await home.config_entries.flow.async_configure(
        flow["flow_id"], {CONF_BUS_ADDRESS: bare_board.address}
    )
    assert flow["errors"] == {"base": "not_installed"}
    await home.async_add_executor_job(bare_board.start)
    done = await home.config_entries.flow.async_configure(
        flow["flow_id"], {CONF_BUS_ADDRESS: bare_board.address}
    )
    await home.async_block_till_done()
    assert done["reason"] == "reconfigure_successful"
    assert entry.data[CONF_BUS_ADDRESS] == bare_board.address
    assert entry.state is ConfigEntryState.LOADED


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("conversation", {"prompt": "Be brief.", "max_history": 5, "priority": "normal"}),
        ("ai_task_data", {"temperature": 0.5, "priority": "background"}),
    ],
)
async def test_one_more_and_changing_it(
    home: HomeAssistant, add: Callable, demo_board: Board, kind: str, settings: dict
) -> None:
    """Agents and entities for tasks are added and changed, with the installed models."""
    entry = await add(demo_board)
    context = {"source": SOURCE_USER}
    flow = await home.config_entries.subentries.async_init((entry.entry_id, kind), context=context)
    models = flow["data_schema"].schema["model"].config["options"]
    assert sorted(models) == ["hearth-demo-f16", "hearth-demo-q8_0"]
    done = await home.config_entries.subentries.async_configure(
        flow["flow_id"], {"name": "Another", "model": models[0], **settings}
    )
    assert done["type"] is FlowResultType.CREATE_ENTRY
    await home.async_block_till_done()
    subentry = next(s for s in entry.subentries.values() if s.title == "Another")
    assert dict(subentry.data) == {"model": models[0], **settings}
    assert home.states.get(f"{'conversation' if kind == 'conversation' else 'ai_task'}.another")

    flow = await entry.start_subentry_reconfigure_flow(home, subentry.subentry_id)
    done = await home.config_entries.subentries.async_configure(
        flow["flow_id"], {"priority": "normal"}
    )
    await home.async_block_till_done()
    assert done["reason"] == "reconfigure_successful"
    assert dict(entry.subentries[subentry.subentry_id].data) == {"priority": "normal"}


async def test_nothing_to_choose_from(
    home: HomeAssistant, add: Callable, own_board: Board
) -> None:
    """Without the service there are no models, and the reason is shown."""
    entry = await add(own_board)
    own_board.stop()
    context = {"source": SOURCE_USER}
    kind = (entry.entry_id, "conversation")
    flow = await home.config_entries.subentries.async_init(kind, context=context)
    assert (flow["type"], flow["reason"]) == (FlowResultType.ABORT, "not_installed")
    assert await home.config_entries.async_unload(entry.entry_id)
    flow = await home.config_entries.subentries.async_init(kind, context=context)
    assert (flow["type"], flow["reason"]) == (FlowResultType.ABORT, "entry_not_loaded")
