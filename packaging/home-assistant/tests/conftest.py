"""A board with Hearthd, and a Home Assistant with a small home."""

# First: the test plugin has a package of this name as well.
import custom_components.hearthd  # noqa: F401  isort: skip

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterator
import logging

from board import PATIENCE_S, Board
import pytest
from pytest_homeassistant_custom_component.common import MockConfigEntry
import pytest_socket

from custom_components.hearthd.config_flow import _NAMES, _defaults
from custom_components.hearthd.const import CONF_BUS_ADDRESS, DOMAIN
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.config_entries import ConfigEntryState, ConfigSubentryData
from homeassistant.core import HomeAssistant
from homeassistant.setup import async_setup_component


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup() -> None:
    """Let the tests reach the bus; the test plugin blocks all sockets."""
    pytest_socket.socket_allow_hosts(["127.0.0.1"], allow_unix_socket=True)


@pytest.fixture(autouse=True)
def _custom(enable_custom_integrations: None) -> None:
    """Let Home Assistant find the integration."""


@pytest.fixture(scope="session")
def demo_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """The demo model, on a simulated board; for tests that do not change it."""
    board = Board(tmp_path_factory.mktemp("demo"), args=("--simulate-board", "pi4-poor"))
    yield from _running(board)


@pytest.fixture(scope="session")
def fake_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """An engine that repeats the last message: the test chooses the "model's" answer."""
    yield from _running(Board(tmp_path_factory.mktemp("fake"), fake=""))


@pytest.fixture(scope="session")
def seeing_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A demo model that takes pictures, of which it can say nothing."""
    board = Board(tmp_path_factory.mktemp("seeing"))
    board.add_projector("hearth-demo-q8_0", 256)
    yield from _running(board)


@pytest.fixture
def own_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A demo model for one test, to stop and start."""
    yield from _running(Board(tmp_path_factory.mktemp("own")))


@pytest.fixture
def bare_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """A bus without Hearthd."""
    board = Board(tmp_path_factory.mktemp("bare"))
    board.start_bus()
    yield board
    board.stop()
    board.stop_bus()


def _running(board: Board) -> Iterator[Board]:
    board.start_bus()
    try:
        board.start()
        yield board
    finally:
        board.stop()
        board.stop_bus()


@pytest.fixture
async def home(hass: HomeAssistant) -> HomeAssistant:
    """A home with a kitchen light that can be turned on, exposed to Assist."""
    assert await async_setup_component(hass, "homeassistant", {})
    assert await async_setup_component(hass, "conversation", {})
    assert await async_setup_component(hass, "ai_task", {})
    assert await async_setup_component(
        hass, "input_boolean", {"input_boolean": {"kitchen_light": {"name": "Kitchen light"}}}
    )
    async_expose_entity(hass, "conversation", "input_boolean.kitchen_light", True)
    await hass.async_block_till_done()
    return hass


def make_entry(board: Board, **settings: object) -> MockConfigEntry:
    """An entry as the flow makes it; `settings` are the conversation's."""
    return MockConfigEntry(
        domain=DOMAIN,
        title="Hearthd",
        data={CONF_BUS_ADDRESS: board.address},
        subentries_data=[
            ConfigSubentryData(
                # Demo model and repeating engine use Home Assistant's own tools.
                data=_defaults(kind)
                | ({"tools": "own"} | settings if kind == "conversation" else {}),
                subentry_type=kind,
                title=title,
                unique_id=None,
            )
            for kind, title in _NAMES.items()
        ],
    )


@pytest.fixture
async def add(home: HomeAssistant) -> AsyncGenerator[Callable]:
    """Set the integration up; unloads at the end, and nothing may be left."""
    entries = []

    async def _add(board: Board, **settings: object) -> MockConfigEntry:
        entry = make_entry(board, **settings)
        entry.add_to_hass(home)
        await home.config_entries.async_setup(entry.entry_id)
        await home.async_block_till_done()
        entries.append(entry)
        return entry

    yield _add
    for entry in entries:
        if entry.state is ConfigEntryState.LOADED:
            assert await home.config_entries.async_unload(entry.entry_id)


async def until(holds: Callable[[], object], what: str) -> None:
    """Wait for a condition; the duration is not tested."""
    async with asyncio.timeout(PATIENCE_S):
        while not holds():
            await asyncio.sleep(0.02)
    logging.debug("%s", what)
