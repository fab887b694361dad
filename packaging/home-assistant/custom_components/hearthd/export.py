"""The home as data for `eval.sh`: to test models on one's own home beforehand."""

from typing import Any

from homeassistant.components import conversation
from homeassistant.core import (
    HomeAssistant,
    ServiceCall,
    ServiceResponse,
    SupportsResponse,
    callback,
)

from .const import DOMAIN
from .exposed import async_home
from .targets import Exposed

EXPORT_HOME = "export_home"
# Attributes that describe capabilities; no location data.
_ATTRIBUTES = (
    "supported_features device_class supported_color_modes brightness current_position "
    "volume_level temperature current_temperature"
).split()


@callback
def async_setup_actions(hass: HomeAssistant) -> None:
    """Register the integration's actions."""
    hass.services.async_register(
        DOMAIN, EXPORT_HOME, _async_export, supports_response=SupportsResponse.ONLY
    )


async def _async_export(call: ServiceCall) -> ServiceResponse:
    """Return areas and exposed entities in the format of home-assistant-datasets."""
    hass = call.hass
    home = await async_home(hass, conversation.DOMAIN, hass.config.language, ())
    areas: dict[str, dict[str, str]] = {}
    for entity in home.entities:
        for name in entity.areas[:1]:
            areas[name] = {"id": name, "name": name}
            if entity.floor:
                areas[name]["floor"] = entity.floor
    return {
        "areas": list(areas.values()),
        "entities": [_described(hass, entity) for entity in home.entities],
    }


def _described(hass: HomeAssistant, entity: Exposed) -> dict[str, Any]:
    name, *aliases = entity.names or (entity.entity_id,)
    told: dict[str, Any] = {"id": entity.entity_id, "name": name}
    if aliases:
        told["aliases"] = aliases
    if entity.areas:
        told["area"] = entity.areas[0]
    if state := hass.states.get(entity.entity_id):
        told["state"] = state.state
    attributes = {
        key: str(value) if key == "device_class" else value
        for key in _ATTRIBUTES
        if (value := entity.attributes.get(key)) is not None
    }
    if unit := entity.attributes.get("unit_of_measurement"):
        attributes["native_unit_of_measurement"] = unit
    if attributes:
        told["attributes"] = attributes
    return told
