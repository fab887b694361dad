"""The home as data."""

from collections.abc import Callable

from board import Board
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.core import HomeAssistant
from homeassistant.helpers import area_registry as ar, entity_registry as er


async def test_the_home_is_exported(home: HomeAssistant, add: Callable, fake_board: Board) -> None:
    """What is exposed, with its capabilities, and nothing else."""
    await add(fake_board)
    registry = er.async_get(home)
    hall = ar.async_get(home).async_get_or_create("Hall")
    for name, exposed in (("lamp", True), ("secret", False)):
        entry = registry.async_get_or_create("light", "test", name, suggested_object_id=name)
        registry.async_update_entity(
            entry.entity_id,
            area_id=hall.id,
            name=name.title(),
            aliases=[er.COMPUTED_NAME, f"My {name}"],
        )
        home.states.async_set(
            entry.entity_id,
            "on",
            {"friendly_name": name.title(), "supported_features": 4, "entity_picture": "/me.jpg"},
        )
        async_expose_entity(home, "conversation", entry.entity_id, exposed)
    made = await home.services.async_call(
        "hearthd", "export_home", {}, blocking=True, return_response=True
    )
    assert {"id": "Hall", "name": "Hall"} in made["areas"]
    told = {entity["id"]: entity for entity in made["entities"]}
    assert "light.secret" not in told
    assert told["light.lamp"] == {
        "id": "light.lamp",
        "name": "Lamp",
        "aliases": ["My lamp"],
        "area": "Hall",
        "state": "on",
        "attributes": {"supported_features": 4},
    }
