"""The prompt: pure, without a service."""

from datetime import UTC, datetime
import json
from pathlib import Path
import re

from freezegun import freeze_time

from custom_components.hearthd.prompt import (
    Parts,
    Shared,
    Wording,
    messages,
    shared_lines,
    split,
    trim,
)
from homeassistant.components.conversation import (
    AssistantContent,
    SystemContent,
    ToolResultContent,
    UserContent,
)
from homeassistant.helpers import llm
from homeassistant.util import dt as dt_util

CLOCK = "Current time is 21:30:05. Today's date is 2026-11-28.\n"
HOME = "Static Context:\n- names: Lamp\n{room}\nThis device is not able to start timers."


def test_what_changes_goes_behind() -> None:
    """Rooms and times share one prefix."""
    rooms = [HOME.format(room=f"You are in area {name}.") for name in ("Kitchen", "Hall")]
    nowhere = HOME.format(room="Ask for an area.")
    found = [
        split(
            f"Be brief.\n{prompt}\n{CLOCK}\nExtra.",
            prompt,
            Shared(shared_lines(prompt, nowhere, rooms[0]), set()),
            "Extra.",
        )
        for prompt in (*rooms, nowhere)
    ]
    assert len({parts.stable for parts in found}) == 1
    assert "area" not in found[0].stable
    assert "Current time" not in found[0].stable
    assert [parts.notes for parts in found] == [
        "You are in area Kitchen.\nExtra.",
        "You are in area Hall.\nExtra.",
        "Ask for an area.\nExtra.",
    ]
    assert all(parts.clock for parts in found)


def test_without_an_api_there_is_nothing_to_share() -> None:
    """Instructions are unchanged, and the time is removed."""
    assert split(f"Be brief.\n{CLOCK}", "", None, None) == Parts("Be brief.", "", True)
    assert split("Be brief.\n", "", None, None) == Parts("Be brief.", "", False)


@freeze_time(datetime(2026, 11, 28, 21, 30, 5, tzinfo=UTC))
def test_a_talk() -> None:
    """Each turn has its own time, the first one the notes as well."""
    call = llm.ToolInput(id="c1", tool_name="f", tool_args={"x": 1})
    content = [
        SystemContent("ignored"),
        UserContent("One"),
        AssistantContent("a", content="Wait.", tool_calls=[call]),
        ToolResultContent("a", "c1", "f", llm.ToolResult(data={"ok": True})),
        AssistantContent("a", content="Done.", thinking_content="Hm."),
        UserContent("Two"),
    ]
    sent = messages(Parts("Be brief.", "In the hall.", True), content, 0, Wording())
    assert sent["shared_messages"] == 1
    told = sent["messages"]
    clock = f"{dt_util.now():Current time is %H:%M:%S. Today's date is %Y-%m-%d.}"
    assert told == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": f"In the hall.\n{clock}\n\nOne"},
        {
            "role": "assistant",
            "content": "Wait.",
            "tool_calls": [
                {
                    "id": "c1",
                    "type": "function",
                    "function": {"name": "f", "arguments": '{"x":1}'},
                }
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": '{"ok":true}'},
        {"role": "assistant", "content": "Done."},
        {"role": "user", "content": f"{clock}\n\nTwo"},
    ]


def test_old_rounds_go_in_steps() -> None:
    """So that the prefix of a conversation stays the same for some turns."""
    kept = []
    for rounds in range(1, 12):
        content = [SystemContent("s")]
        for n in range(rounds):
            content += [UserContent(str(n)), AssistantContent("a", content=str(n))]
        left = trim(content, 4)
        assert left[0].role == "user"
        kept.append((left[0].content, sum(item.role == "user" for item in left)))
    # At most four, at least three; the first one moves every second turn.
    assert [first for first, _ in kept] == ["0"] * 4 + ["2", "2", "4", "4", "6", "6", "8"]
    assert max(number for _, number in kept) == 4
    assert len(trim(content, 0)) == len(content) - 1


def test_both_languages_say_the_same() -> None:
    """Every text exists in both, with the same placeholders."""
    folder = Path(__file__).parents[1] / "custom_components/hearthd/translations"

    def flat(value: object, path: str = "") -> dict[str, set[str]]:
        if isinstance(value, str):
            return {path: set(re.findall(r"{(\w+)}", value))}
        found: dict[str, set[str]] = {}
        for key, inner in value.items():
            found |= flat(inner, f"{path}.{key}")
        return found

    english, german = (flat(json.loads((folder / f"{n}.json").read_text())) for n in ("en", "de"))
    assert english == german
