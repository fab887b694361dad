"""Simulated devices of a home defined in a file: they change state at once."""

from typing import Any

from homeassistant.components.climate import ClimateEntity, ClimateEntityFeature, HVACMode
from homeassistant.components.cover import CoverEntity, CoverEntityFeature
from homeassistant.components.fan import FanEntity, FanEntityFeature
from homeassistant.components.light import ColorMode, LightEntity
from homeassistant.components.lock import LockEntity
from homeassistant.components.media_player import (
    MediaPlayerEntity,
    MediaPlayerEntityFeature,
    MediaPlayerState,
)
from homeassistant.components.sensor import SensorEntity
from homeassistant.components.switch import SwitchEntity
from homeassistant.components.todo import TodoItem, TodoListEntity, TodoListEntityFeature
from homeassistant.components.vacuum import (
    StateVacuumEntity,
    VacuumActivity,
    VacuumEntityFeature,
)
from homeassistant.components.valve import ValveEntity, ValveEntityFeature
from homeassistant.const import UnitOfTemperature
from homeassistant.helpers.entity import Entity


def _features(kind: Any, names: list[str] | int | None, default: Any) -> Any:
    if names is None:
        return default
    if isinstance(names, int):
        return kind(names)
    made = kind(0)
    for name in names:
        made |= kind[name.rpartition(".")[2]]
    return made


class _Device(Entity):
    """The common part of all devices."""

    _attr_should_poll = False

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        """Initialize from the file: kind and state."""
        self.entity_id = entity["id"]
        self._attr_unique_id = entity["id"]
        self._attr_name = entity["name"]
        self.given = dict(entity.get("attributes") or {}) | (state.get("attributes") or {})
        self.begun = str(state.get("state") or entity.get("state") or "")
        if device_class := self.given.get("device_class"):
            self._attr_device_class = str(device_class).rpartition(".")[2].lower()


class _Switched(_Device):
    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        self._attr_is_on = self.begun == "on"

    async def async_turn_on(self, **kwargs: Any) -> None:
        self._attr_is_on = True
        self.async_write_ha_state()

    async def async_turn_off(self, **kwargs: Any) -> None:
        self._attr_is_on = False
        self.async_write_ha_state()


class Switch(_Switched, SwitchEntity):
    """A switch."""


class Light(_Switched, LightEntity):
    """A light."""

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        modes = self.given.get("supported_color_modes") or ["brightness"]
        self._attr_supported_color_modes = {ColorMode(mode) for mode in modes}
        self._attr_color_mode = ColorMode(modes[0])
        self._attr_brightness = self.given.get("brightness")

    async def async_turn_on(self, **kwargs: Any) -> None:
        for name in ("brightness", "rgb_color", "color_temp_kelvin"):
            if name in kwargs:
                setattr(self, f"_attr_{name}", kwargs[name])
        await super().async_turn_on()


class Fan(_Switched, FanEntity):
    """A fan."""

    _attr_supported_features = (
        FanEntityFeature.TURN_ON | FanEntityFeature.TURN_OFF | FanEntityFeature.SET_SPEED
    )

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        self._attr_percentage = 100 if self._attr_is_on else 0

    @property
    def is_on(self) -> bool:
        return bool(self._attr_percentage)

    async def async_turn_on(self, *args: Any, **kwargs: Any) -> None:
        await self.async_set_percentage(100)

    async def async_turn_off(self, **kwargs: Any) -> None:
        await self.async_set_percentage(0)

    async def async_set_percentage(self, percentage: int) -> None:
        self._attr_percentage = percentage
        self.async_write_ha_state()


class Lock(_Device, LockEntity):
    """A lock."""

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        self._attr_is_locked = self.begun == "locked"

    async def async_lock(self, **kwargs: Any) -> None:
        self._attr_is_locked = True
        self.async_write_ha_state()

    async def async_unlock(self, **kwargs: Any) -> None:
        self._attr_is_locked = False
        self.async_write_ha_state()


class _Positioned(_Device):
    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        begun = self.given.get("current_position")
        self.position = (100 if self.begun == "open" else 0) if begun is None else begun
        if self.begun in ("open", "closed") and bool(self.position) != (self.begun == "open"):
            self.position = 100 if self.begun == "open" else 0

    @property
    def is_closed(self) -> bool:
        return self.position == 0

    def move(self, position: int) -> None:
        self.position = position
        self.async_write_ha_state()


class Cover(_Positioned, CoverEntity):
    """A blind, a curtain, a garage door."""

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        default = CoverEntityFeature.OPEN | CoverEntityFeature.CLOSE
        names = self.given.get("supported_features")
        self._attr_supported_features = _features(CoverEntityFeature, names, default)

    @property
    def current_cover_position(self) -> int:
        return self.position

    async def async_open_cover(self, **kwargs: Any) -> None:
        self.move(100)

    async def async_close_cover(self, **kwargs: Any) -> None:
        self.move(0)

    async def async_set_cover_position(self, **kwargs: Any) -> None:
        self.move(kwargs["position"])


class Valve(_Positioned, ValveEntity):
    """A valve."""

    _attr_reports_position = True

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        default = ValveEntityFeature.OPEN | ValveEntityFeature.CLOSE
        names = self.given.get("supported_features")
        self._attr_supported_features = _features(ValveEntityFeature, names, default)

    @property
    def current_valve_position(self) -> int:
        return self.position

    async def async_open_valve(self) -> None:
        self.move(100)

    async def async_close_valve(self) -> None:
        self.move(0)

    async def async_set_valve_position(self, position: int) -> None:
        self.move(position)


class Vacuum(_Device, StateVacuumEntity):
    """A vacuum cleaner."""

    _attr_supported_features = (
        VacuumEntityFeature.START
        | VacuumEntityFeature.STOP
        | VacuumEntityFeature.RETURN_HOME
        | VacuumEntityFeature.STATE
    )

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        known = {activity.value for activity in VacuumActivity}
        begun = self.begun if self.begun in known else "docked"
        self._attr_activity = VacuumActivity(begun)

    async def async_start(self) -> None:
        self._attr_activity = VacuumActivity.CLEANING
        self.async_write_ha_state()

    async def async_stop(self, **kwargs: Any) -> None:
        self._attr_activity = VacuumActivity.IDLE
        self.async_write_ha_state()

    async def async_return_to_base(self, **kwargs: Any) -> None:
        self._attr_activity = VacuumActivity.RETURNING
        self.async_write_ha_state()


class MediaPlayer(_Device, MediaPlayerEntity):
    """A speaker or a television."""

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        names = self.given.get("supported_features")
        every = ~MediaPlayerEntityFeature(0) & ~MediaPlayerEntityFeature.SEARCH_MEDIA
        self._attr_supported_features = _features(MediaPlayerEntityFeature, names, every)
        self._attr_state = MediaPlayerState(self.begun or "idle")
        self._attr_volume_level = self.given.get("volume_level")
        self._attr_media_track = self.given.get("media_track")

    def _set(self, name: str, value: Any) -> None:
        setattr(self, f"_attr_{name}", value)
        self.async_write_ha_state()

    async def async_turn_on(self) -> None:
        self._set("state", MediaPlayerState.ON)

    async def async_turn_off(self) -> None:
        self._set("state", MediaPlayerState.OFF)

    async def async_media_pause(self) -> None:
        self._set("state", MediaPlayerState.PAUSED)

    async def async_media_play(self) -> None:
        self._set("state", MediaPlayerState.PLAYING)

    async def async_media_next_track(self) -> None:
        self._set("media_track", (self._attr_media_track or 0) + 1)

    async def async_media_previous_track(self) -> None:
        self._set("media_track", (self._attr_media_track or 0) - 1)

    async def async_set_volume_level(self, volume: float) -> None:
        self._set("volume_level", volume)

    async def async_mute_volume(self, mute: bool) -> None:
        self._set("is_volume_muted", mute)


class Climate(_Device, ClimateEntity):
    """A thermostat."""

    _attr_temperature_unit = UnitOfTemperature.CELSIUS
    _attr_hvac_modes = [HVACMode.HEAT, HVACMode.OFF]
    _attr_hvac_mode = HVACMode.HEAT
    _attr_supported_features = (
        ClimateEntityFeature.TARGET_TEMPERATURE
        | ClimateEntityFeature.TURN_ON
        | ClimateEntityFeature.TURN_OFF
    )

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        self._attr_target_temperature = self.given.get("temperature")
        self._attr_current_temperature = self.given.get("current_temperature")

    async def async_set_temperature(self, **kwargs: Any) -> None:
        self._attr_target_temperature = kwargs["temperature"]
        self.async_write_ha_state()

    async def async_set_hvac_mode(self, hvac_mode: HVACMode) -> None:
        self._attr_hvac_mode = hvac_mode
        self.async_write_ha_state()


class Todo(_Device, TodoListEntity):
    """A list."""

    _attr_supported_features = (
        TodoListEntityFeature.CREATE_TODO_ITEM
        | TodoListEntityFeature.UPDATE_TODO_ITEM
        | TodoListEntityFeature.DELETE_TODO_ITEM
    )

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        self._attr_todo_items: list[TodoItem] = []

    async def async_create_todo_item(self, item: TodoItem) -> None:
        item.uid = str(len(self._attr_todo_items))
        self._attr_todo_items.append(item)
        self.async_write_ha_state()


class Sensor(_Device, SensorEntity):
    """A sensor."""

    def __init__(self, entity: dict[str, Any], state: dict[str, Any]) -> None:
        super().__init__(entity, state)
        self._attr_native_value = self.begun or None
        self._attr_native_unit_of_measurement = self.given.get("native_unit_of_measurement")


KINDS: dict[str, type[_Device]] = {
    "climate": Climate,
    "cover": Cover,
    "fan": Fan,
    "light": Light,
    "lock": Lock,
    "media_player": MediaPlayer,
    "sensor": Sensor,
    "switch": Switch,
    "todo": Todo,
    "vacuum": Vacuum,
    "valve": Valve,
}
