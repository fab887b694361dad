"""The exposed part of Home Assistant, as it is described to the model."""

from collections.abc import Iterable

from homeassistant.components.homeassistant.exposed_entities import async_should_expose
from homeassistant.const import ATTR_DEVICE_CLASS, ATTR_SUPPORTED_FEATURES
from homeassistant.core import HomeAssistant, State
from homeassistant.helpers import (
    area_registry as ar,
    device_registry as dr,
    entity_registry as er,
    floor_registry as fr,
    intent,
    translation,
)

from .home import Home
from .targets import Exposed

# They are separate tools.
_WITH_OWN_TOOLS = ("calendar", "script")
# In rooms users refer to these as "the light", "the blind".
_NAMED_BY_KIND = (
    "climate cover fan humidifier lawn_mower light lock media_player switch vacuum valve"
).split()


async def async_home(
    hass: HomeAssistant, assistant: str, language: str, tools: Iterable[str]
) -> Home:
    """Return what is exposed, and the actions that tools of these names provide for it."""
    kinds = await translation.async_get_translations(
        hass, language, "entity_component", _NAMED_BY_KIND
    )
    exposed = [
        _exposed(hass, state, _kind(state, kinds, language))
        for state in hass.states.async_all()
        if state.domain not in _WITH_OWN_TOOLS
        and async_should_expose(hass, assistant, state.entity_id)
    ]
    return Home(exposed, tools)


def _exposed(hass: HomeAssistant, state: State, noun: str) -> Exposed:
    entry = er.async_get(hass).async_get(state.entity_id)
    area = floor = None
    if entry is not None:
        area_id = entry.area_id
        if area_id is None and entry.device_id is not None:
            device = dr.async_get(hass).async_get(entry.device_id)
            area_id = dr.async_get_effective_area_id(hass, device) if device else None
        area = ar.async_get(hass).async_get_area(area_id) if area_id else None
    if area is not None and area.floor_id:
        floor = fr.async_get(hass).async_get_floor(area.floor_id)
    return Exposed(
        entity_id=state.entity_id,
        names=tuple(intent.async_get_entity_aliases(hass, entry, state=state)),
        areas=(area.name, *sorted(area.aliases)) if area else (),
        floor=floor.name if floor else None,
        noun=noun,
        features=int(state.attributes.get(ATTR_SUPPORTED_FEATURES) or 0),
        attributes=dict(state.attributes),
    )


def _kind(state: State, kinds: dict[str, str], language: str) -> str:
    """Return the kind of thing, in the user's language."""
    base = f"component.{state.domain}.entity_component"
    device_class = state.attributes.get(ATTR_DEVICE_CLASS)
    name = kinds.get(f"{base}.{device_class}.name") or kinds.get(f"{base}._.name", "")
    # In English lower case within a sentence, except for abbreviations.
    is_word = language.startswith("en") and not name.isupper()
    return name.lower() if is_word else name
