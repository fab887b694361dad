"""The tools offered to the model: Home Assistant's tools unchanged, or verbs for this home."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, replace
import json
from typing import Any, override

from homeassistant.components import conversation
from homeassistant.exceptions import HomeAssistantError
from homeassistant.helpers import llm
from homeassistant.util.yaml import parse_yaml

from .const import MAX_HOME_ROUNDS, MAX_TOOL_ROUNDS
from .home import CONTROL, REPLY, STATE, Home
from .prompt import Parts, Shared, Wording, own_tool
from .targets import plain

# Tokens of an answer, where not set in the settings.
_ANSWER_MAX = 400
# Calls remembered as the model wrote them.
_SAID_MAX = 500
# Below this probability of a call the user is asked first; higher for doors and the like.
_SURE = 0.4
_SURE_CAREFUL = 0.7
# Another choice counts from this probability on.
_LIKELY = 0.15


_TASK = """
You control this home. To do something call control, for a question about a device or a room \
get_state, and for anything else reply.
Devices by area:\
"""


@dataclass(frozen=True)
class Doubt:
    """A call whose probability is too low to be made."""

    labels: tuple[str, ...]
    """The possible targets."""


class Said(Wording):
    """Calls in the model's format, by id: the prompt repeats exactly what it wrote."""

    def __init__(self) -> None:
        """Initialize empty."""
        self._calls: OrderedDict[str, tuple[str, Mapping[str, Any]]] = OrderedDict()

    def note(self, call_id: str, name: str, arguments: Mapping[str, Any]) -> None:
        """Remember a call."""
        self._calls[call_id] = (name, arguments)
        while len(self._calls) > _SAID_MAX:
            self._calls.popitem(last=False)

    @override
    def call(self, call: llm.ToolInput) -> tuple[str, Mapping[str, Any]] | None:
        """Return a call as the model wrote it; None for a further part of one."""
        if "/" in call.id:
            return None
        return self._calls.get(call.id, (call.tool_name, call.tool_args))

    @override
    def result(self, content: conversation.ToolResultContent) -> str | None:
        """Return a result in the form that small models handle best."""
        if "/" in content.tool_call_id:
            return None
        name, _ = self._calls.get(content.tool_call_id, (content.tool_name, {}))
        if name == STATE and (lines := state_lines(content.result)):
            return "\n".join(lines)
        return super().result(content)


class Offer:
    """Home Assistant's own tools."""

    home: Home | None = None
    language = "en"
    """Of the speaker."""
    rounds = MAX_TOOL_ROUNDS
    calls: int | None = None
    """How many calls of one answer count; None: all."""

    def __init__(self, api: llm.APIInstance | None, shared: Shared | None) -> None:
        """Initialize with the constant part of the API."""
        offered = list(api.tools) if api else []
        if shared is not None:
            offered.sort(key=lambda tool: tool.name not in shared.tools)
        serializer = api.custom_serializer if api else None
        self.tools = [own_tool(tool, serializer) for tool in offered]

    def options(self, content: list[conversation.Content]) -> dict[str, Any]:
        """Return fields of the next request."""
        return {}

    def said(self, event: Mapping[str, Any]) -> str | None:
        """Return the text of a call that is only speech."""
        return None

    def meant(self, event: Mapping[str, Any]) -> list[llm.ToolInput] | Doubt:
        """Return the calls of Home Assistant's tools for a call of the model."""
        return [
            llm.ToolInput(
                id=event["id"], tool_name=event["name"], tool_args=event["arguments"]
            )
        ]


class HomeOffer(Offer):
    """Verbs for the things of this home, and the tools that no verb replaces."""

    rounds = MAX_HOME_ROUNDS

    def __init__(
        self, api: llm.APIInstance, shared: Shared | None, home: Home, language: str
    ) -> None:
        """Initialize for a home."""
        super().__init__(api, shared)
        self.home = home
        self.language = language
        self._said = ""
        replaced = home.replaced
        rest = [t for t in self.tools if t["function"]["name"] not in replaced]
        self.tools = home.offer() + rest

    @override
    def options(self, content: list[conversation.Content]) -> dict[str, Any]:
        """Require each answer to be a call, speech included.

        Small models stray from their family's form, or say that they did what they did
        not. What a tool has answered is to be told; what failed may be tried otherwise.
        """
        last = content[-1]
        answered = isinstance(last, conversation.ToolResultContent)
        choice: Any = "required"
        if answered and not last.result.error:
            choice = {"type": "function", "function": {"name": REPLY}}
        assert self.home is not None
        said = [c for c in content if c.role in ("user", "assistant")]
        last_said = next((c.content for c in reversed(said) if c.role == "user"), "")
        self.calls = self.home.mentions(last_said)
        # Words such as "it" and "yes" may refer to what was mentioned or asked before.
        self._said = " ".join(c.content or "" for c in said)
        return {
            "tool_choice": choice,
            "parallel_tool_calls": self.calls > 1,
            # Actions are not sampled: use the likeliest call.
            "temperature": 0,
            "max_tokens": _ANSWER_MAX,
        }

    @override
    def said(self, event: Mapping[str, Any]) -> str | None:
        """Return the text that the model says instead of an action."""
        return str(event["arguments"]["text"]) if event["name"] == REPLY else None

    @override
    def meant(self, event: Mapping[str, Any]) -> list[llm.ToolInput] | Doubt:
        """Return Home Assistant's calls, or the question to ask first."""
        assert self.home is not None
        calls = self.home.calls(event["name"], event["arguments"])
        if not calls:
            return super().meant(event)
        if event["name"] == CONTROL and (doubt := self._doubt(event, calls[0].careful)):
            return doubt
        return [
            llm.ToolInput(
                # The first has the model's id, the others belong to it.
                id=event["id"] if n == 0 else f"{event['id']}/{n}",
                tool_name=call.tool,
                tool_args=call.arguments,
            )
            for n, call in enumerate(calls)
        ]

    def begin(self, parts: Parts, others: str = "") -> Parts:
        """Return the prefix of conversations: instructions, the home, examples."""
        assert self.home is not None
        stable = "\n".join(filter(None, (parts.stable, _TASK, self.home.overview, others)))
        return replace(parts, stable=stable, examples=_examples(self.home))

    def _doubt(self, event: Mapping[str, Any], careful: bool) -> Doubt | None:
        """Return the possible targets, where the target is not certain."""
        assert self.home is not None
        targets = self.home.verbs[event["arguments"]["action"]].targets
        chosen = event["arguments"]["target"]
        meant = {targets[chosen].entity_ids: chosen}
        several = len({target.entity_ids for target in targets.values()}) > 1
        if several and not self.home.is_said(self._said, targets[chosen].entity_ids):
            return Doubt((chosen,))
        confidence = event.get("confidence")
        if confidence is None:
            return None
        if confidence["probability"] >= (_SURE_CAREFUL if careful else _SURE):
            return None
        begun = confidence["before"].rpartition('"target": "')
        if not begun[1]:
            # The verb or a value, not the target: nothing to choose from.
            return None
        for text, probability in confidence["choices"]:
            begins = (begun[2] + text).partition('"')[0]
            others = {
                targets[label].entity_ids: label
                for label in targets
                if label.startswith(begins)
            }
            # Another name of the same thing is not a different target.
            if probability >= _LIKELY and targets[chosen].entity_ids not in others:
                meant |= others
        return Doubt(tuple(meant.values())) if len(meant) > 1 else None


def _examples(home: Home) -> list[dict[str, Any]]:
    """Return examples as an earlier conversation."""
    told: list[dict[str, Any]] = []
    for n, example in enumerate(home.examples):
        call = {
            "id": f"example{n:02}",
            "type": "function",
            "function": {
                "name": example.name,
                "arguments": json.dumps(example.arguments, ensure_ascii=False),
            },
        }
        told.append({"role": "user", "content": example.said})
        told.append({"role": "assistant", "content": "", "tool_calls": [call]})
    return told


def state_lines(result: llm.ToolResult) -> list[str]:
    """Return one line for each device of Home Assistant's YAML.

    Empty where it wrote something else.
    """
    text = result.data.get("result")
    if result.error or not isinstance(text, str):
        return []
    try:
        entities = parse_yaml(text.partition("\n")[2])
        return [_state_line(entity) for entity in entities]
    except (AttributeError, KeyError, TypeError, ValueError, HomeAssistantError):
        return []


def _state_line(entity: Mapping[str, Any]) -> str:
    name = plain(str(entity["names"]).split(", ")[0])
    area = f" ({plain(str(entity['areas']).split(', ')[0])})" if "areas" in entity else ""
    attributes = dict(entity.get("attributes") or {})
    unit = attributes.pop("unit_of_measurement", "")
    # It is also present in percent.
    attributes.pop("brightness", None)
    attributes.pop("device_class", None)
    more = "".join(f", {key} {value}" for key, value in attributes.items())
    return f"{name}{area}: {entity['state']}{' ' if unit else ''}{unit}{more}"
