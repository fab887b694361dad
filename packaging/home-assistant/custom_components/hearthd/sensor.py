"""State of service and board."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isnan
from typing import Any, override

from homeassistant.components.sensor import (
    SensorDeviceClass,
    SensorEntity,
    SensorEntityDescription,
    SensorStateClass,
)
from homeassistant.const import EntityCategory, UnitOfTemperature
from homeassistant.core import HomeAssistant
from homeassistant.helpers.entity_platform import AddConfigEntryEntitiesCallback
from homeassistant.helpers.typing import StateType

from .coordinator import HearthdConfigEntry
from .entity import HearthdEntity

# No polling.
PARALLEL_UPDATES = 0
# The maximum length of a state.
_TEXT_MAX = 255


@dataclass(frozen=True, kw_only=True)
class HearthdSensorDescription(SensorEntityDescription):
    """A sensor, and how its value is read from the service's properties."""

    value: Callable[[dict[str, Any]], StateType]


def _number(value: float) -> float | None:
    """Return a property that is not a number where the board has no sensor."""
    return None if isnan(value) else value


SENSORS = (
    HearthdSensorDescription(
        key="state",
        translation_key="state",
        device_class=SensorDeviceClass.ENUM,
        options=["unloaded", "loading", "ready", "busy", "limited", "failed"],
        value=lambda properties: properties["State"],
    ),
    HearthdSensorDescription(
        key="model",
        translation_key="model",
        value=lambda properties: properties["Model"] or None,
    ),
    HearthdSensorDescription(
        key="temperature",
        device_class=SensorDeviceClass.TEMPERATURE,
        native_unit_of_measurement=UnitOfTemperature.CELSIUS,
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        value=lambda properties: _number(properties["TemperatureCelsius"]),
    ),
    HearthdSensorDescription(
        key="thermal_state",
        translation_key="thermal_state",
        device_class=SensorDeviceClass.ENUM,
        options=["cool", "warm", "hot", "limit", "emergency"],
        value=lambda properties: properties["ThermalState"],
    ),
    HearthdSensorDescription(
        key="memory_state",
        translation_key="memory_state",
        device_class=SensorDeviceClass.ENUM,
        options=["normal", "moderate", "critical", "emergency"],
        value=lambda properties: properties["MemoryState"],
    ),
    HearthdSensorDescription(
        key="limit_reason",
        translation_key="limit_reason",
        value=lambda properties: properties["LimitReason"][:_TEXT_MAX] or "-",
    ),
    HearthdSensorDescription(
        key="threads",
        translation_key="threads",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda properties: properties["ActiveThreads"],
    ),
    HearthdSensorDescription(
        key="queue",
        translation_key="queue",
        state_class=SensorStateClass.MEASUREMENT,
        value=lambda properties: properties["QueueLength"],
    ),
    HearthdSensorDescription(
        key="tokens_per_second",
        translation_key="tokens_per_second",
        native_unit_of_measurement="tokens/s",
        state_class=SensorStateClass.MEASUREMENT,
        suggested_display_precision=1,
        value=lambda properties: properties.get("TokensPerSecond"),
    ),
)


async def async_setup_entry(
    hass: HomeAssistant,
    entry: HearthdConfigEntry,
    async_add_entities: AddConfigEntryEntitiesCallback,
) -> None:
    """Set up the sensors."""
    async_add_entities(
        HearthdSensor(entry.runtime_data, description) for description in SENSORS
    )


class HearthdSensor(HearthdEntity, SensorEntity):
    """One property of the service."""

    entity_description: HearthdSensorDescription
    # Assist must not report the board's temperature as the room's.
    _attr_entity_category = EntityCategory.DIAGNOSTIC

    @property
    @override
    def native_value(self) -> StateType:
        """Return the last value from the service."""
        return self.entity_description.value(self.coordinator.data)
