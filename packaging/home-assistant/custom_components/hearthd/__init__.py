"""Language models of this board, served by Hearthd over D-Bus."""

from homeassistant.const import Platform
from homeassistant.core import HomeAssistant
from homeassistant.exceptions import ConfigEntryNotReady

from .bus import HearthdError
from .coordinator import HearthdConfigEntry, HearthdCoordinator
from .prewarm import async_keep_warm

PLATFORMS = [
    Platform.AI_TASK,
    Platform.BINARY_SENSOR,
    Platform.BUTTON,
    Platform.CONVERSATION,
    Platform.SENSOR,
]


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
    """Set up anew with other settings."""
    await hass.config_entries.async_reload(entry.entry_id)
