"""Whether the board limits the service."""

from typing import override

from homeassistant.components.binary_sensor import (
    BinarySensorDeviceClass,
    BinarySensorEntity,
    BinarySensorEntityDescription,
)
from homeassistant.const import EntityCategory
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback

from .coordinator import HearthdConfigEntry
from .entity import HearthdEntity

# No polling.
PARALLEL_UPDATES = 0

LIMITED = BinarySensorEntityDescription(
    key="limited",
    translation_key="limited",
    device_class=BinarySensorDeviceClass.PROBLEM,
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: HearthdConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the sensor."""
    async_add_entities([HearthdLimited(entry.runtime_data, LIMITED)])


class HearthdLimited(HearthdEntity, BinarySensorEntity):
    """On while heat, memory or a setting keep answers below full speed."""

    _attr_entity_category = EntityCategory.DIAGNOSTIC

    @property
    @override
    def is_on(self) -> bool:
        """Return whether the service gives a reason; the reason is a separate sensor."""
        return self.coordinator.data["LimitReason"] != ""
