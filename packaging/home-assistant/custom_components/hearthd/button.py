"""Loading and unloading the model by hand."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import override

from homeassistant.components.button import ButtonEntity, ButtonEntityDescription
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .bus import Hearthd, HearthdError
from .coordinator import HearthdConfigEntry
from .entity import HearthdEntity

# The service has its own queue.
PARALLEL_UPDATES = 0


@dataclass(frozen=True, kw_only=True)
class HearthdButtonDescription(ButtonEntityDescription):
    """A button, and its request."""

    press: Callable[[Hearthd], Awaitable[None]]


BUTTONS = (
    HearthdButtonDescription(
        key="load",
        translation_key="load",
        entity_category=EntityCategory.CONFIG,
        press=lambda service: service.load(),
    ),
    HearthdButtonDescription(
        key="unload",
        translation_key="unload",
        entity_category=EntityCategory.CONFIG,
        press=lambda service: service.unload(),
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: HearthdConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the buttons."""
    async_add_entities(
        HearthdButton(entry.runtime_data, description) for description in BUTTONS
    )


class HearthdButton(HearthdEntity, ButtonEntity):
    """Sends a request to the service."""

    entity_description: HearthdButtonDescription

    @override
    async def async_press(self) -> None:
        """Send the request, and wait until it is done."""
        try:
            await self.entity_description.press(self.coordinator.service)
        except HearthdError as err:
            self.coordinator.async_report(err)
            raise
