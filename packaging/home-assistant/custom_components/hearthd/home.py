"""A home as described to a small model: the things in it, and the actions they support.

Pure: made from a list of entities, the same for the same list. Whatever the model calls
names something that exists, since each tool's targets are an enumeration; they become
calls of Home Assistant's own tools, so what may be done stays Home Assistant's affair.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from .actions import ACTIONS, Action
from .targets import Exposed, Target, alike, by_name, plain, targets, words

# What is done, what is asked, and what is said, which is a call as well: so each answer is
# one, and small models need not choose.
CONTROL = "control"
STATE = "get_state"
REPLY = "reply"
_LIVE = "GetLiveContext"
_ITEMS = "get_items"
# Tools whose information is in the user's message, or that have a verb.
_TOLD = ("GetDateTime", "HassCancelAllTimers", "HassVacuumCleanArea")
# Values that constrain the model and are not in its prompt.
_UNSEEN = "x-hearthd-schema"


@dataclass(frozen=True)
class Call:
    """A call of one of Home Assistant's tools."""

    tool: str
    """Its name."""
    arguments: dict[str, Any]
    entity_ids: tuple[str, ...]
    """Its target."""
    careful: bool = False


@dataclass(frozen=True)
class Verb:
    """An action, with its targets in this home."""

    action: Action
    tool: str
    """The name of Home Assistant's tool."""
    targets: Mapping[str, Target]
    value: Mapping[str, Any] | None
    """The schema of the value, where it takes one."""


@dataclass(frozen=True)
class Example:
    """An example sentence, and the call for it."""

    said: str
    name: str
    arguments: Mapping[str, Any]


class Home:
    """The exposed part of the home, and the tools for it."""

    def __init__(self, entities: Iterable[Exposed], offered: Iterable[str]) -> None:
        """Initialize with the names of Home Assistant's tools that are offered."""
        self.entities = sorted(entities, key=lambda e: (e.areas[:1], e.names, e.entity_id))
        self._offered = {name.rpartition("__")[2]: name for name in offered}

    @cached_property
    def verbs(self) -> dict[str, Verb]:
        """Return the actions of this home, by name."""
        made = {}
        for action in ACTIONS:
            tool = self._offered.get(action.intent)
            able = [e for e in self.entities if _is_able(action, e)]
            if tool is not None and able:
                named = targets(
                    able, self.entities, action.groups, action.everywhere
                )
                made[action.name] = Verb(action, tool, named, _value(action, able))
        return made

    def calls(self, name: str, arguments: Mapping[str, Any]) -> list[Call]:
        """Return the Home Assistant calls for a call; none: it is not one of ours."""
        label = str(arguments.get("target"))
        if name == STATE and (target := self.states.get(label)):
            if (listed := self._list(target)) is not None:
                slots = {"todo_list": listed, "status": "needs_action"}
                return [Call(self._offered[_ITEMS], slots, target.entity_ids)]
            live = self._offered[_LIVE]
            return [Call(live, dict(slots), target.entity_ids) for slots in target.slots]
        verb = self.verbs.get(str(arguments.get("action"))) if name == CONTROL else None
        if verb is None or (target := verb.targets.get(label)) is None:
            return []
        given = {}
        if (value := verb.action.value) is not None and "value" in arguments:
            given[value.slot] = arguments["value"]
        careful = verb.action.careful
        return [
            Call(verb.tool, {**slots, **given}, target.entity_ids, careful)
            for slots in target.slots
        ]

    def _list(self, target: Target) -> str | None:
        """Return the name of a to-do list, whose state is its items."""
        if _ITEMS not in self._offered:
            return None
        lists = (e for e in self.entities if e.domain == "todo")
        return next((e.names[0] for e in lists if target.entity_ids == (e.entity_id,)), None)

    @cached_property
    def replaced(self) -> set[str]:
        """Return the names of Home Assistant's tools that the verbs replace."""
        known = {action.intent for action in ACTIONS} | {_LIVE, _ITEMS, *_TOLD}
        if "HassStartTimer" in self._offered:
            # The speaker's device has timers.
            known.discard("HassCancelAllTimers")
        return {name for base, name in self._offered.items() if base in known}

    @cached_property
    def states(self) -> dict[str, Target]:
        """Return the targets of `get_state`: entities, rooms, kinds of things in rooms."""
        if _LIVE not in self._offered:
            return {}
        made = by_name(self.entities)
        for entity in self.entities:
            for area in entity.areas:
                label = plain(area)
                known = made.setdefault(label, Target(({"area": entity.areas[0]},), ()))
                ids = (*known.entity_ids, entity.entity_id)
                made[label] = Target(known.slots, ids)
        return made

    def offer(self) -> list[dict[str, Any]]:
        """Return the tools in OpenAI's format.

        What the target is comes before what is done with it: small models find a name that
        was said, and then have a few verbs to choose from. The names bind the call and are
        not in the prompt, which has them in the overview.
        """
        tools = []
        if self.verbs:
            shown = {
                "target": {"type": "string"},
                "action": {"type": "string", "enum": list(self.verbs)},
                "value": {},
            }
            tool = _function(CONTROL, "Do something with a device or a room's devices", shown)
            parameters = tool["function"]["parameters"]
            parameters["required"] = ["target", "action"]
            parameters[_UNSEEN] = self._control
            tools.append(tool)
        if self.states:
            target = {"type": "string", _UNSEEN: _one_of(list(self.states))}
            tools.append(
                _function(STATE, "Get the state of a device or room", {"target": target})
            )
        said = {"text": {"type": "string", "minLength": 1, "maxLength": 1000}}
        tools.append(_function(REPLY, "Say something when nothing is to be done", said))
        return tools

    @cached_property
    def _control(self) -> dict[str, Any]:
        """Return the schema of the actions of each target."""
        able: dict[str, list[Verb]] = {}
        for verb in self.verbs.values():
            for label in verb.targets:
                able.setdefault(label, []).append(verb)
        # Labels with the same verbs are grouped.
        alike: dict[tuple[str, ...], list[str]] = {}
        for label, verbs in able.items():
            alike.setdefault(tuple(v.action.name for v in verbs), []).append(label)
        ways = []
        for names, labels in alike.items():
            target = _one_of(labels)
            verbs = [self.verbs[name] for name in names]
            if bare := [v.action.name for v in verbs if v.value is None]:
                ways.append(_object({"target": target, "action": _one_of(bare)}))
            ways += [
                _object(
                    {
                        "target": target,
                        "action": _one_of([verb.action.name]),
                        "value": dict(verb.value),
                    }
                )
                for verb in verbs
                if verb.value is not None
            ]
        return ways[0] if len(ways) == 1 else {"anyOf": ways}

    def mentions(self, text: str) -> int:
        """Return how many different things a sentence names, at least 1.

        Small models go on calling where they may: more calls than this are not meant.
        """
        rest = text.casefold()
        found: list[Exposed] = []
        rooms: set[str] = set()
        for name, entity in self._names:
            if name in rest:
                rest = rest.replace(name, " \0 ")
                if entity is not None:
                    found.append(entity)
                else:
                    rooms.add(name)
        seen = {area.casefold() for entity in found for area in entity.areas}
        return max(1, len({e.entity_id for e in found}) + len(rooms - seen))

    def is_said(self, text: str, entity_ids: Collection[str]) -> bool:
        """Return whether a sentence has a word of a name of these, or of their kind.

        The name of a room does not tell which of the things in it is meant.
        """
        if len(text.split()) < 2:
            # Or the script has no spaces.
            return True
        said = words(text)
        for entity in self.entities:
            if entity.entity_id in entity_ids:
                rooms = words(" ".join(entity.areas))
                own = words(" ".join((*entity.names, entity.noun)))
                if any(alike(a, b) for a in (own - rooms or own) for b in said):
                    return True
        return False

    @cached_property
    def _names(self) -> list[tuple[str, Exposed | None]]:
        """Return names of entities and, without one, of rooms; the longest first."""
        names: dict[str, Exposed | None] = {}
        for entity in self.entities:
            names |= {plain(area).casefold(): None for area in entity.areas}
        for entity in self.entities:
            names |= {plain(name).casefold(): entity for name in entity.names}
        names.pop("", None)
        return sorted(names.items(), key=lambda item: -len(item[0]))

    @cached_property
    def overview(self) -> str:
        """Return the devices by area, a line for each area."""
        areas: dict[str, list[str]] = {}
        for entity in self.entities:
            area = plain(entity.areas[0]) if entity.areas else "-"
            for more in entity.areas[1:]:
                area += f" ({plain(more)})"
            if entity.floor:
                area += f", {plain(entity.floor)}"
            names = [plain(name) for name in entity.names]
            text = names[0] if names else entity.entity_id
            if len(names) > 1:
                text += f" ({', '.join(names[1:])})"
            areas.setdefault(area, []).append(text)
        return "\n".join(
            f"{area}: {', '.join(dict.fromkeys(names))}" for area, names in areas.items()
        )

    @cached_property
    def examples(self) -> list[Example]:
        """Return one example for each verb, over different devices."""
        made: list[Example] = []
        used: set[str] = set()

        def unused(labels: Iterable[str]) -> str:
            label = min(labels, key=lambda label: label in used)
            used.add(label)
            return label

        for name, verb in self.verbs.items():
            label = unused(verb.targets)
            arguments: dict[str, Any] = {"target": label, "action": name}
            if verb.action.value is not None and verb.value is not None:
                arguments["value"] = _example(verb.action.value.example, verb.value)
            said = verb.action.example.format(target=label, value=arguments.get("value"))
            made.append(Example(said, CONTROL, arguments))
        if self.states:
            label = unused(self.states)
            made.append(Example(f"What about the {label}?", STATE, {"target": label}))
        # Last, not first: this gives half as many mistakes.
        made.append(Example("Who wrote Hamlet?", REPLY, {"text": "William Shakespeare."}))
        made.append(Example("Thank you!", REPLY, {"text": "You're welcome."}))
        return made


def _one_of(names: list[str]) -> dict[str, Any]:
    return {"type": "string", "enum": names}


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


def _function(
    name: str, description: str, properties: Mapping[str, Any]
) -> dict[str, Any]:
    return {
        "type": "function",
        "function": {
            "name": name,
            "description": description,
            "parameters": _object(properties),
        },
    }


def _example(wanted: Any, schema: Mapping[str, Any]) -> Any:
    """Return a value that is allowed."""
    if "enum" in schema:
        return schema["enum"][0]
    if isinstance(wanted, (int, float)):
        low, high = schema.get("minimum", wanted), schema.get("maximum", wanted)
        wanted = min(max(wanted, low), high)
    return wanted


def _is_able(action: Action, entity: Exposed) -> bool:
    needed = action.domains.get(entity.domain)
    if needed is None or (needed and entity.features & needed != needed):
        return False
    return action.modes is None or action.modes(entity.attributes) is not None


def _value(action: Action, able: list[Exposed]) -> Mapping[str, Any] | None:
    """Return the schema of a value that all of these entities together allow."""
    if action.value is None:
        return None
    merged: dict[str, Any] = dict(action.value.schema)
    if action.modes is None:
        return merged
    schemas = [dict(action.modes(entity.attributes) or {}) for entity in able]
    merged |= schemas[0]
    for schema in schemas[1:]:
        if "minimum" in schema and "minimum" in merged:
            merged["minimum"] = min(merged["minimum"], schema["minimum"])
            merged["maximum"] = max(merged["maximum"], schema["maximum"])
            if schema["type"] != merged["type"]:
                merged["type"] = "number"
        if "enum" in schema and "enum" in merged:
            merged["enum"] = list(dict.fromkeys(merged["enum"] + schema["enum"]))
    return _one_of(merged["enum"]) if "enum" in merged else merged
