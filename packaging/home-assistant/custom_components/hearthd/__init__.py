"""Language models of this board, served by Hearthd over D-Bus."""

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ConfigEntryNotReady
from homeassistant.helpers import config_validation as cv
from homeassistant.helpers.typing import ConfigType

from .bus import HearthdError
from .const import DOMAIN
from .coordinator import HearthdConfigEntry, HearthdCoordinator
from .export import async_setup_actions
from .prewarm import async_keep_warm

PLATFORMS = [
    Platform.AI_TASK,
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.CONVERSATION,
    Platform.SENSOR,
]

CONFIG_SCHEMA = cv.config_entry_only_config_schema(DOMAIN)


async def async_setup(hass: HomeAssistant, config: ConfigType) -> bool:
    """Set up the parts that do not depend on an entry."""
    async_setup_actions(hass)
    return True


async def async_setup_entry(hass: HomeAssistant, entry: HearthdConfigEntry) -> bool:
    """Set up Hearthd."""
    coordinator = HearthdCoordinator(hass, entry)
    try:
        await coordinator.async_start()
    except HearthdError as err:
        raise ConfigEntryNotReady(
            translation_domain=err.translation_domain,
            translation_key=err.translation_key,
            translation_placeholders=err.translation_placeholders,
        ) from err
    entry.runtime_data = coordinator
    await hass.config_entries.async_forward_entry_setups(entry, PLATFORMS)
    async_keep_warm(hass, entry)
    entry.async_on_unload(entry.add_update_listener(_async_reload))
    return True


async def async_unload_entry(hass: HomeAssistant, entry: HearthdConfigEntry) -> bool:
    """Unload Hearthd."""
    unloaded = await hass.config_entries.async_unload_platforms(entry, PLATFORMS)
    if unloaded:
        await entry.runtime_data.async_stop()
    return unloaded


async def _async_reload(hass: HomeAssistant, entry: HearthdConfigEntry) -> None:
    """Reload with changed settings."""
    await hass.config_entries.async_reload(entry.entry_id)
