"""The actions in a home: one tool per verb, as people say it.

Small models choose rightly between "open" and "close", and wrongly between ways to call
one general tool. Each verb stands for one of Home Assistant's intents, which does it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from homeassistant.components.climate import ClimateEntityFeature
from homeassistant.components.cover import CoverEntityFeature
from homeassistant.components.fan import FanEntityFeature
from homeassistant.components.humidifier import HumidifierEntityFeature
from homeassistant.components.lawn_mower import LawnMowerEntityFeature
from homeassistant.components.media_player import MediaPlayerEntityFeature
from homeassistant.components.todo import TodoListEntityFeature
from homeassistant.components.vacuum import VacuumEntityFeature
from homeassistant.components.valve import ValveEntityFeature

_PERCENT = {"type": "integer", "minimum": 0, "maximum": 100}
# Zero is another verb: off.
_SOME_PERCENT = _PERCENT | {"minimum": 1}
_TEXT = {"type": "string", "minLength": 1, "maxLength": 200}


@dataclass(frozen=True)
class Value:
    """What a verb takes besides its target."""

    slot: str
    """The name of the intent's slot."""
    schema: Mapping[str, Any]
    example: int | float | str


@dataclass(frozen=True)
class Action:
    """A verb."""

    name: str
    description: str
    intent: str
    domains: Mapping[str, int]
    """Domains, with the feature that an entity needs; 0: none."""
    example: str
    """An example sentence, with `{target}` and `{value}`."""
    value: Value | None = None
    groups: bool = True
    """Whether the devices of a room can be one target."""
    everywhere: bool = False
    """Whether all devices of the home can be the target: a mistake does no harm."""
    careful: bool = False
    """Whether a mistake lets somebody in, or water out."""
    modes: Callable[[Mapping[str, Any]], Mapping[str, Any] | None] | None = field(
        default=None, compare=False
    )
    """Bounds of the value from the entity's attributes; None: it has none."""


def _temperatures(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the range of a thermostat."""
    low, high = attributes.get("min_temp"), attributes.get("max_temp")
    if low is None or high is None:
        return {"type": "number", "minimum": -50, "maximum": 250}
    step = attributes.get("target_temp_step") or 0.5
    whole = all(float(n).is_integer() for n in (low, high, step))
    return {"type": "integer" if whole else "number", "minimum": low, "maximum": high}


def _humidities(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the range of a humidifier."""
    low, high = attributes.get("min_humidity", 0), attributes.get("max_humidity", 100)
    return {"type": "integer", "minimum": int(low), "maximum": int(high)}


def _modes(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the modes that it has."""
    modes = [str(mode) for mode in attributes.get("available_modes") or ()]
    return {"type": "string", "enum": modes} if modes else None


def _light_modes(*wanted: str) -> Callable[[Mapping[str, Any]], Mapping[str, Any] | None]:
    """Return a test for a light's colour modes; without any, that it can be dimmed."""

    def test(attributes: Mapping[str, Any]) -> Mapping[str, Any] | None:
        modes = {str(mode) for mode in attributes.get("supported_color_modes") or ()}
        if wanted:
            return {} if modes & set(wanted) else None
        return {} if modes - {"onoff", "unknown"} else None

    return test


_SWITCHED = (
    "light switch fan input_boolean siren humidifier climate water_heater remote "
    "automation group"
).split()
_MEDIA = MediaPlayerEntityFeature

ACTIONS = (
    Action(
        "turn_on",
        "Turn on a device",
        "HassTurnOn",
        dict.fromkeys(_SWITCHED, 0) | {"media_player": int(_MEDIA.TURN_ON)},
        "Turn on the {target}",
    ),
    Action(
        "turn_off",
        "Turn off a device",
        "HassTurnOff",
        dict.fromkeys(_SWITCHED, 0) | {"media_player": int(_MEDIA.TURN_OFF)},
        "Turn off the {target}",
        everywhere=True,
    ),
    Action(
        "set_brightness",
        "Set the brightness of a light in percent",
        "HassLightSet",
        {"light": 0},
        "Set the {target} to {value}%",
        Value("brightness", _SOME_PERCENT, 40),
        modes=_light_modes(),
    ),
    Action(
        "set_color",
        "Set the color of a light",
        "HassLightSet",
        {"light": 0},
        "Make the {target} {value}",
        Value("color", {"type": "string", "minLength": 1, "maxLength": 30}, "green"),
        modes=_light_modes("hs", "xy", "rgb", "rgbw", "rgbww"),
    ),
    Action(
        "open",
        "Open a cover, door or valve",
        "HassTurnOn",
        {"cover": int(CoverEntityFeature.OPEN), "valve": int(ValveEntityFeature.OPEN)},
        "Open the {target}",
        careful=True,
    ),
    Action(
        "close",
        "Close a cover, door or valve",
        "HassTurnOff",
        {"cover": int(CoverEntityFeature.CLOSE), "valve": int(ValveEntityFeature.CLOSE)},
        "Close the {target}",
        everywhere=True,
    ),
    Action(
        "set_position",
        "Open a cover or valve to a percentage",
        "HassSetPosition",
        {
            "cover": int(CoverEntityFeature.SET_POSITION),
            "valve": int(ValveEntityFeature.SET_POSITION),
        },
        "Set the {target} to {value}%",
        Value("position", _PERCENT, 30),
    ),
    Action(
        "stop",
        "Stop a cover or valve that moves",
        "HassStopMoving",
        {"cover": int(CoverEntityFeature.STOP), "valve": int(ValveEntityFeature.STOP)},
        "Stop the {target}",
    ),
    Action(
        "lock",
        "Lock a lock",
        "HassTurnOn",
        {"lock": 0},
        "Lock the {target}",
        everywhere=True,
    ),
    Action(
        "unlock",
        "Unlock a lock",
        "HassTurnOff",
        {"lock": 0},
        "Unlock the {target}",
        careful=True,
    ),
    Action(
        "start_vacuum",
        "Start a vacuum cleaner",
        "HassVacuumStart",
        {"vacuum": int(VacuumEntityFeature.START)},
        "Start the {target}",
    ),
    Action(
        "return_vacuum",
        "Send a vacuum cleaner back to its base",
        "HassVacuumReturnToBase",
        {"vacuum": int(VacuumEntityFeature.RETURN_HOME)},
        "Send the {target} back to its base",
    ),
    Action(
        "start_mowing",
        "Start a lawn mower",
        "HassLawnMowerStartMowing",
        {"lawn_mower": int(LawnMowerEntityFeature.START_MOWING)},
        "Start the {target}",
    ),
    Action(
        "dock_mower",
        "Send a lawn mower back to its dock",
        "HassLawnMowerDock",
        {"lawn_mower": int(LawnMowerEntityFeature.DOCK)},
        "Send the {target} home",
    ),
    Action(
        "pause",
        "Pause what a media player plays",
        "HassMediaPause",
        {"media_player": int(_MEDIA.PAUSE)},
        "Pause the {target}",
        everywhere=True,
    ),
    Action(
        "resume",
        "Resume what a media player played",
        "HassMediaUnpause",
        {"media_player": int(_MEDIA.PLAY)},
        "Continue playing on the {target}",
    ),
    Action(
        "next_track",
        "Skip to the next track of a media player",
        "HassMediaNext",
        {"media_player": int(_MEDIA.NEXT_TRACK)},
        "Next song on the {target}",
    ),
    Action(
        "previous_track",
        "Go back to the previous track of a media player",
        "HassMediaPrevious",
        {"media_player": int(_MEDIA.PREVIOUS_TRACK)},
        "Previous song on the {target}",
    ),
    Action(
        "set_volume",
        "Set the volume of a media player to a percentage",
        "HassSetVolume",
        {"media_player": int(_MEDIA.VOLUME_SET)},
        "Turn the volume of the {target} to {value}%",
        Value("volume_level", _PERCENT, 30),
    ),
    Action(
        "change_volume",
        "Make a media player louder or quieter by some percent",
        "HassSetVolumeRelative",
        {"media_player": int(_MEDIA.VOLUME_SET)},
        "{target} a bit louder",
        Value("volume_step",
            {"type": "integer", "minimum": -100, "maximum": 100},
            10,
        ),
        groups=False,
    ),
    Action(
        "mute",
        "Mute a media player",
        "HassMediaPlayerMute",
        {"media_player": int(_MEDIA.VOLUME_MUTE)},
        "Mute the {target}",
        everywhere=True,
    ),
    Action(
        "unmute",
        "Unmute a media player",
        "HassMediaPlayerUnmute",
        {"media_player": int(_MEDIA.VOLUME_MUTE)},
        "Unmute the {target}",
    ),
    Action(
        "play",
        "Search for music or a film and play it",
        "HassMediaSearchAndPlay",
        {"media_player": int(_MEDIA.SEARCH_MEDIA | _MEDIA.PLAY_MEDIA)},
        "Play {value} on the {target}",
        Value("search_query", _TEXT, "some jazz"),
        groups=False,
    ),
    Action(
        "set_fan_speed",
        "Set the speed of a fan in percent",
        "HassFanSetSpeed",
        {"fan": int(FanEntityFeature.SET_SPEED)},
        "Set the {target} to {value}%",
        Value("percentage", _SOME_PERCENT, 60),
    ),
    Action(
        "set_temperature",
        "Set the temperature of a thermostat",
        "HassClimateSetTemperature",
        {"climate": int(ClimateEntityFeature.TARGET_TEMPERATURE)},
        "Set the {target} to {value} degrees",
        Value("temperature", {"type": "number"}, 20),
        groups=False,
        modes=_temperatures,
    ),
    Action(
        "set_humidity",
        "Set the humidity of a humidifier in percent",
        "HassHumidifierSetpoint",
        {"humidifier": 0},
        "Set the {target} to {value}%",
        Value("humidity", _PERCENT, 50),
        groups=False,
        modes=_humidities,
    ),
    Action(
        "set_mode",
        "Set the mode of a humidifier",
        "HassHumidifierMode",
        {"humidifier": int(HumidifierEntityFeature.MODES)},
        "Set the {target} to {value} mode",
        Value("mode", _TEXT, "auto"),
        groups=False,
        modes=_modes,
    ),
    Action(
        "activate",
        "Activate a scene or press a button",
        "HassTurnOn",
        {"scene": 0, "button": 0, "input_button": 0},
        "Activate {target}",
        groups=False,
    ),
    Action(
        "add_item",
        "Add something to a list",
        "HassListAddItem",
        {"todo": int(TodoListEntityFeature.CREATE_TODO_ITEM)},
        "Add {value} to the {target}",
        Value("item", _TEXT, "feed the cat"),
        groups=False,
    ),
    Action(
        "complete_item",
        "Check something off a list",
        "HassListCompleteItem",
        {"todo": int(TodoListEntityFeature.UPDATE_TODO_ITEM)},
        "Check {value} off the {target}",
        Value("item", _TEXT, "feed the cat"),
        groups=False,
    ),
    Action(
        "remove_item",
        "Remove something from a list",
        "HassListRemoveItem",
        {"todo": int(TodoListEntityFeature.DELETE_TODO_ITEM)},
        "Remove {value} from the {target}",
        Value("item", _TEXT, "feed the cat"),
        groups=False,
    ),
)
