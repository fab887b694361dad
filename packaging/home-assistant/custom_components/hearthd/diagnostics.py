"""The data to attach to a bug report."""

from typing import Any

from homeassistant.components.diagnostics import async_redact_data
from homeassistant.const import CONF_PROMPT
from homeassistant.core import HomeAssistant

from .bus import HearthdError
from .coordinator import HearthdConfigEntry

# Users write names and habits into it.
_PRIVATE = {CONF_PROMPT}


async def async_get_config_entry_diagnostics(
    hass: HomeAssistant, entry: HearthdConfigEntry
) -> dict[str, Any]:
    """Return settings, properties, board and models; no text of users."""
    coordinator = entry.runtime_data
    found: dict[str, Any] = {
        "entry": dict(entry.data),
        "subentries": [
            {"type": s.subentry_type, "data": async_redact_data(dict(s.data), _PRIVATE)}
            for s in entry.subentries.values()
        ],
        "connected": coordinator.last_update_success,
        "properties": coordinator.data,
    }
    try:
        found["board"] = await coordinator.service.board()
        found["models"] = await coordinator.service.models()
    except HearthdError as err:
        found["error"] = str(err)
    return found
