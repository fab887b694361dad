"""Sensors, buttons, diagnostics, issues."""

import asyncio
from collections.abc import Callable

from board import Board
from conftest import until
import pytest
from pytest_homeassistant_custom_component.components.diagnostics import (
    get_diagnostics_for_config_entry,
)

from homeassistant.core import HomeAssistant
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import issue_registry as ir


def state(hass: HomeAssistant, key: str) -> str:
    """State of a sensor."""
    return hass.states.get(f"sensor.hearthd_{key}").state


async def test_sensors_say_what_the_service_says(
    home: HomeAssistant, add: Callable, demo_board: Board
) -> None:
    """The board as it is, and as it changes while the model works."""
    entry = await add(demo_board)
    properties = await entry.runtime_data.service.properties()
    assert state(home, "thermal_state") == properties["ThermalState"]
    assert state(home, "memory") == properties["MemoryState"]
    assert state(home, "waiting_requests") == "0"
    await entry.runtime_data.service.load()
    await until(lambda: state(home, "model") == "hearth-demo-q8_0", "the model is seen")
    cool = float(state(home, "temperature"))
    assert 20 < cool < 100

    async def work() -> None:
        request = {"messages": [{"role": "user", "content": "Count. " * 50}]}
        while True:
            events = entry.runtime_data.service.stream(request | {"max_tokens": 200}, "normal")
            async for _ in events:
                pass

    # The work needed for one step of the sensor depends on the computer.
    working = asyncio.ensure_future(work())
    await until(lambda: float(state(home, "temperature")) > cool, "it gets warmer")
    working.cancel()
    with pytest.raises(asyncio.CancelledError):
        await working
    await until(lambda: state(home, "speed") not in ("unknown", "unavailable"), "a speed")
    limited = home.states.get("binary_sensor.hearthd_limited").state
    assert limited == ("off" if state(home, "limited_by") == "-" else "on")


async def test_buttons(home: HomeAssistant, add: Callable, own_board: Board) -> None:
    """The buttons load and unload the model."""
    await add(own_board)

    async def press(key: str) -> None:
        target = {"entity_id": f"button.hearthd_{key}"}
        await home.services.async_call("button", "press", target, blocking=True)

    await press("load_model")
    await until(lambda: state(home, "state") == "ready", "it is loaded")
    await press("unload_model")
    await until(lambda: state(home, "state") == "unloaded", "it is unloaded")
    await home.async_add_executor_job(own_board.stop)
    await until(lambda: state(home, "state") == "unavailable", "the service is gone")


async def test_a_model_that_cannot_be_loaded_is_an_issue(
    home: HomeAssistant, add: Callable, bare_board: Board
) -> None:
    """It is raised with the service's reason, and resolved once a model runs."""
    bare_board.fake = "load=oom"
    await home.async_add_executor_job(bare_board.start)
    await add(bare_board)
    issues = ir.async_get(home)
    with pytest.raises(HomeAssistantError):
        await home.services.async_call(
            "button", "press", {"entity_id": "button.hearthd_load_model"}, blocking=True
        )

    def reason() -> str:
        issue = issues.async_get_issue("hearthd", "engine_failed")
        return issue.translation_placeholders["reason"] if issue else ""

    await until(lambda: "the script says so" in reason(), "it is raised")
    await home.async_add_executor_job(bare_board.stop)
    bare_board.fake = ""
    await home.async_add_executor_job(bare_board.start)
    await until(lambda: state(home, "state") == "unloaded", "it is back")
    await home.services.async_call(
        "button", "press", {"entity_id": "button.hearthd_load_model"}, blocking=True
    )
    await until(
        lambda: not issues.async_get_issue("hearthd", "engine_failed"), "it is settled"
    )


async def test_diagnostics(
    home: HomeAssistant, add: Callable, demo_board: Board, hass_client: Callable
) -> None:
    """The data needed for support, and no text of users."""
    entry = await add(demo_board, prompt="My name is Jane Doe.")
    found = await get_diagnostics_for_config_entry(home, hass_client, entry)
    assert found["connected"] is True
    assert found["properties"]["Version"]
    assert found["board"]["thermal_state"]
    assert "hearth-demo-q8_0" in [model["name"] for model in found["models"]]
    assert "Jane" not in str(found)
