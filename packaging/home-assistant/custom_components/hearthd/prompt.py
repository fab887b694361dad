"""The prompt for the model, in an order that lets the service reuse its cache.

A prompt begins with what stays the same: instructions, the home, the tools. What changes
(the time, the area of who speaks) goes behind it, into what the user says, so that the
beginning is computed once for all rooms and all turns.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
import re
from typing import Any

import probatio

from homeassistant.components import conversation
from homeassistant.helpers import llm, selector
from homeassistant.helpers.json import json_dumps
from homeassistant.util import dt as dt_util

# Home Assistant's text (helpers/llm.py, DATE_TIME_PROMPT).
_CLOCK = re.compile(
    r"^Current time is \d\d:\d\d:\d\d\. Today's date is \d{4}-\d\d-\d\d\.\n?", re.M
)


@dataclass(frozen=True)
class Parts:
    """A parsed system prompt."""

    stable: str
    """The same for all turns and rooms."""
    notes: str
    """True for this conversation only."""
    clock: bool
    """Whether the prompt contains the time."""
    examples: list[dict[str, Any]] = field(default_factory=list)
    """Messages between them and the conversation."""


@dataclass(frozen=True)
class Shared:
    """The part of an API that is the same for all speakers."""

    lines: list[str]
    """Of its prompt."""
    tools: set[str]
    """Names."""


class Wording:
    """How calls and results are presented to the model that made them."""

    def call(self, call: llm.ToolInput) -> tuple[str, Mapping[str, Any]] | None:
        """Return name and arguments; None where the call is omitted."""
        return call.tool_name, call.tool_args

    def result(self, content: conversation.ToolResultContent) -> str | None:
        """Return the result of a tool; None where it is omitted."""
        return json_dumps(content.result.data)


def split(
    system: str, api_prompt: str, shared: Shared | None, extra: str | None
) -> Parts:
    """Parse the prompt that Home Assistant made of instructions, API and time.

    `shared` is None where all of the API's prompt is.
    """
    notes: list[str] = []
    if shared is not None and api_prompt:
        kept = set(shared.lines)
        lines = api_prompt.split("\n")
        notes = [line for line in lines if line not in kept]
        stable = "\n".join(line for line in lines if line in kept)
        system = system.replace(api_prompt, stable, 1)
    if extra and system.endswith(f"\n{extra}"):
        system = system.removesuffix(f"\n{extra}")
        notes.append(extra)
    system, clocks = _CLOCK.subn("", system)
    return Parts(system.strip(), "\n".join(notes), clocks > 0)


def shared_lines(*prompts: str) -> list[str]:
    """Return the lines of the first that all of them have."""
    first, *others = (prompt.split("\n") for prompt in prompts)
    return [line for line in first if all(line in other for other in others)]


def messages(
    parts: Parts,
    content: list[conversation.Content],
    max_history: int,
    wording: Wording,
) -> dict[str, Any]:
    """Return the conversation in the service's format."""
    told = [{"role": "system", "content": parts.stable}] if parts.stable else []
    told += parts.examples
    shared = len(told)
    notes = parts.notes
    for item in trim(content, max_history):
        if isinstance(item, conversation.UserContent):
            before = [notes] if notes else []
            if parts.clock:
                before.append(_time(item.created))
            notes = ""
            text = "\n".join(before) + "\n\n" if before else ""
            told.append({"role": "user", "content": text + item.content})
        elif message := _message(item, wording):
            told.append(message)
    return {"messages": told, "shared_messages": shared}


def trim(
    content: list[conversation.Content], max_history: int
) -> list[conversation.Content]:
    """Omit the system prompt and the oldest rounds.

    Several rounds go at once: after each cut the service has to read anew what is left.
    """
    content = content[1:]
    if max_history <= 0:
        return content
    rounds = [n for n, item in enumerate(content) if item.role == "user"]
    step = max(1, max_history // 2)
    surplus = len(rounds) - max_history
    dropped = -(-surplus // step) * step if surplus > 0 else 0
    return content[rounds[min(dropped, len(rounds) - 1)] :] if dropped else content


def own_tool(
    offered: llm.Tool, custom_serializer: Callable[[Any], Any] | None
) -> dict[str, Any]:
    """Return a tool in OpenAI's format."""
    function: dict[str, Any] = {"name": offered.name}
    if offered.description:
        function["description"] = offered.description
    function["parameters"] = schema(offered.parameters, custom_serializer)
    return {"type": "function", "function": function}


def schema(
    wanted: probatio.Schema, custom_serializer: Callable[[Any], Any] | None
) -> dict[str, Any]:
    """Return a JSON schema."""

    def serialize(value: Any) -> Any:
        """Require integers where the steps are integers.

        Small models write digits without end where they may.
        """
        made = custom_serializer(value) if custom_serializer else probatio.UNSUPPORTED
        if isinstance(value, selector.NumberSelector) and isinstance(made, dict):
            bounds = [made[key] for key in ("minimum", "maximum") if key in made]
            step = value.config.get("step", 1)
            if step != "any" and all(float(n).is_integer() for n in [step, *bounds]):
                made["type"] = "integer"
        return made

    return probatio.to_openapi(
        wanted, custom_serializer=serialize, openapi_version="3.1.0"
    )


def _time(moment: datetime) -> str:
    """Return a sentence with the time of a message."""
    return dt_util.as_local(moment).strftime(
        "Current time is %H:%M:%S. Today's date is %Y-%m-%d."
    )


def _message(
    item: conversation.Content, wording: Wording
) -> dict[str, Any] | None:
    """Return a message of the model or a tool."""
    if isinstance(item, conversation.ToolResultContent):
        if (text := wording.result(item)) is None:
            return None
        return {"role": "tool", "tool_call_id": item.tool_call_id, "content": text}
    if not isinstance(item, conversation.AssistantContent):
        return None
    message: dict[str, Any] = {"role": "assistant", "content": item.content or ""}
    calls = [(call.id, wording.call(call)) for call in item.tool_calls or ()]
    if told := [(call_id, *call) for call_id, call in calls if call is not None]:
        message["tool_calls"] = [
            {
                "id": call_id,
                "type": "function",
                "function": {"name": name, "arguments": json_dumps(arguments)},
            }
            for call_id, name, arguments in told
        ]
    return message
