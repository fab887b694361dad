"""What is sent to the model, in an order that lets the service reuse its work.

A prompt begins with what stays the same: instructions, the home, the tools. What changes
(the time, the area of who speaks) goes behind it, into what the user says, so that the
beginning is computed once for all rooms and all turns.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
import re
from typing import Any

import probatio

from homeassistant.components import conversation
from homeassistant.helpers import llm, selector
from homeassistant.helpers.json import json_dumps
from homeassistant.util import dt as dt_util

# Home Assistant's own words (helpers/llm.py, DATE_TIME_PROMPT).
_CLOCK = re.compile(
    r"^Current time is \d\d:\d\d:\d\d\. Today's date is \d{4}-\d\d-\d\d\.\n?", re.M
)


@dataclass(frozen=True)
class Parts:
    """A system prompt, taken apart."""

    stable: str
    """The same for all turns and rooms."""
    notes: str
    """True for this conversation only."""
    clock: bool
    """Whether the model is to be told the time."""


@dataclass(frozen=True)
class Shared:
    """What of an API is the same for everybody."""

    lines: list[str]
    """Of its prompt."""
    tools: set[str]
    """Names."""


def split(
    system: str, api_prompt: str, shared: Shared | None, extra: str | None
) -> Parts:
    """Take apart what Home Assistant made of instructions, API and time.

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
    parts: Parts, content: list[conversation.Content], max_history: int
) -> list[dict[str, Any]]:
    """Return the conversation as the service takes it."""
    told = [{"role": "system", "content": parts.stable}] if parts.stable else []
    notes = parts.notes
    for item in trim(content, max_history):
        if isinstance(item, conversation.UserContent):
            before = [notes] if notes else []
            if parts.clock:
                before.append(_time(item.created))
            notes = ""
            text = "\n".join(before) + "\n\n" if before else ""
            told.append({"role": "user", "content": text + item.content})
        elif message := _message(item):
            told.append(message)
    return told


def trim(
    content: list[conversation.Content], max_history: int
) -> list[conversation.Content]:
    """Leave out the system prompt and the oldest rounds.

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


def offer(api: llm.APIInstance, shared: Shared | None) -> list[dict[str, Any]]:
    """Return an API's tools: first those that everybody gets."""
    tools = api.tools
    if shared is not None:
        tools = sorted(tools, key=lambda offered: offered.name not in shared.tools)
    return [_tool(offered, api.custom_serializer) for offered in tools]


def _tool(
    offered: llm.Tool, custom_serializer: Callable[[Any], Any] | None
) -> dict[str, Any]:
    """Return a tool in OpenAI's form."""
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
        """Ask for whole numbers where the steps are whole.

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
    """Say when something was said."""
    return dt_util.as_local(moment).strftime(
        "Current time is %H:%M:%S. Today's date is %Y-%m-%d."
    )


def _message(item: conversation.Content) -> dict[str, Any] | None:
    """Return what the model or a tool said."""
    if isinstance(item, conversation.ToolResultContent):
        return {
            "role": "tool",
            "tool_call_id": item.tool_call_id,
            "content": json_dumps(item.result.data),
        }
    if not isinstance(item, conversation.AssistantContent):
        return None
    message: dict[str, Any] = {"role": "assistant", "content": item.content or ""}
    if item.tool_calls:
        message["tool_calls"] = [
            {
                "id": call.id,
                "type": "function",
                "function": {
                    "name": call.tool_name,
                    "arguments": json_dumps(call.tool_args),
                },
            }
            for call in item.tool_calls
        ]
    return message
