"""Setup, its errors, reconnecting, unloading."""

from collections.abc import Callable
from pathlib import Path

from board import Board
from conftest import make_entry, until
import pytest

from homeassistant.config_entries import ConfigEntryState
from homeassistant.core import HomeAssistant

TEMPERATURE = "sensor.hearthd_temperature"


def available(hass: HomeAssistant) -> bool:
    """Return whether the service's entities have states."""
    return hass.states.get(TEMPERATURE).state != "unavailable"


async def test_up_and_away(home: HomeAssistant, add: Callable, demo_board: Board) -> None:
    """Everything exists after setup, and nothing after unloading."""
    entry = await add(demo_board)
    assert entry.state is ConfigEntryState.LOADED
    for domain, number in {
        "ai_task": 1,
        "binary_sensor": 1,
        "button": 2,
        "conversation": 2,  # one of them is Home Assistant's own
        "sensor": 9,
    }.items():
        assert len(home.states.async_entity_ids(domain)) == number, domain
    assert await home.config_entries.async_unload(entry.entry_id)
    assert entry.state is ConfigEntryState.NOT_LOADED
    assert home.states.get(TEMPERATURE).state == "unavailable"
    await home.config_entries.async_remove(entry.entry_id)
    assert home.states.get(TEMPERATURE) is None


def absent(board: Board) -> None:
    """Leave the bus without Hearthd."""


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (absent, "sudo apt install"),
        (Board.make_activatable, "systemctl status hearthd"),
        (Board.forbid, "into the group hearth"),
        (Board.stop_bus, "--volume /run/dbus"),
    ],
)
async def test_what_is_wrong_is_said(
    home: HomeAssistant,
    bare_board: Board,
    spoil: Callable[[Board], None],
    words: str,
) -> None:
    """Home Assistant retries later, and shows what to do meanwhile."""
    if spoil is Board.forbid:
        bare_board.start()
    await home.async_add_executor_job(spoil, bare_board)
    entry = make_entry(bare_board)
    entry.add_to_hass(home)
    await home.config_entries.async_setup(entry.entry_id)
    assert entry.state is ConfigEntryState.SETUP_RETRY
    assert words in entry.reason


async def test_the_daemon_comes_back(
    home: HomeAssistant, add: Callable, own_board: Board
) -> None:
    """Entities are unavailable while the service is absent, and only then."""
    await add(own_board)
    assert available(home)
    await home.async_add_executor_job(own_board.stop)
    await until(lambda: not available(home), "the entities went")
    await home.async_add_executor_job(own_board.start)
    await until(lambda: available(home), "the entities came back")


async def test_the_bus_comes_back(
    home: HomeAssistant, add: Callable, own_board: Board
) -> None:
    """The connection is re-established when the bus itself was restarted."""
    await add(own_board)
    for act in (own_board.stop, own_board.stop_bus):
        await home.async_add_executor_job(act)
    await until(lambda: not available(home), "the entities went")
    for act in (own_board.start_bus, own_board.start):
        await home.async_add_executor_job(act)
    await until(lambda: available(home), "the entities came back")


def test_no_file_was_forgotten() -> None:
    """The files that Home Assistant and HACS require exist."""
    here = Path(__file__).parents[1]
    for name in ("manifest.json", "icons.json", "quality_scale.yaml", "brand/icon.png"):
        assert (here / "custom_components/hearthd" / name).exists(), name
    assert (here / "hacs.json").exists()
