"""Speaks sentences in simulated homes defined in files, and checks the resulting states.

Run by ../eval.sh. The files have the form of home-assistant-datasets: in a folder for each
home `_fixtures.yaml`, which is the home, and others with what is said and what is then so.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
import json
import os
from pathlib import Path
import statistics
import time
from typing import Any

from board import Board
from conftest import _running, make_entry
from devices import KINDS
import pytest
from pytest_homeassistant_custom_component.common import (
    MockConfigEntry,
    MockModule,
    MockPlatform,
    mock_config_flow,
    mock_integration,
    mock_platform,
)
from test_conversation import say, spoken
import yaml

from custom_components.hearthd import bus, home as home_module, offer
from homeassistant.components.homeassistant.exposed_entities import async_expose_entity
from homeassistant.config_entries import ConfigFlow
from homeassistant.core import HomeAssistant
from homeassistant.helpers import (
    area_registry as ar,
    entity_registry as er,
    floor_registry as fr,
)
from homeassistant.setup import async_setup_component

DATA = Path(os.environ.get("HOME_EVAL_DATA") or Path(__file__).parent / "homes")
MODEL = Path(os.environ["HOME_EVAL_MODEL"])
WITHOUT = set(os.environ.get("HOME_EVAL_WITHOUT", "").split())
OUT = os.environ.get("HOME_EVAL_OUT")
LEAST = float(os.environ.get("HOME_EVAL_LEAST", "0"))


@dataclass
class Outcome:
    """The result of a sentence."""

    home: str
    category: str
    said: str
    answer: str = ""
    is_right: bool = False
    acted_wrongly: bool = False
    seconds: float = 0.0
    rounds: int = 0
    tokens: int = 0
    calls: list[Any] = field(default_factory=list)
    confidence: list[float] = field(default_factory=list)
    """How probable each call was, among those that the constraint allowed."""


OUTCOMES: list[Outcome] = []


def sentences() -> list[Any]:
    """All sentences of all homes."""
    found = []
    for path in sorted(DATA.glob("*/[!_]*.yaml")):
        group = yaml.safe_load(path.read_text())
        for task in group["tests"]:
            found += [
                pytest.param(path.parent, group["category"], task, text, id=f"{path.stem}-{text}")
                for text in task["sentences"]
            ]
    return found


@pytest.fixture(scope="session")
def model_board(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Board]:
    """The service with the model in question."""
    threads = os.environ.get("HOME_EVAL_THREADS", "0")
    more = f'[model]\ndefault = "{MODEL.stem}"\ncontext = 8192\n[engine]\nthreads = {threads}\n'
    yield from _running(Board(tmp_path_factory.mktemp("eval"), model=MODEL, more=more))


@pytest.fixture
def talk(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[dict[str, Any]]]:
    """The service's events; and the measures that are disabled."""
    heard: list[dict[str, Any]] = []
    real = bus.Hearthd.stream

    async def stream(self: Any, request: Any, priority: str, images: Any = ()) -> Any:
        async for event in real(self, request, priority, images):
            heard.append(event)
            yield event

    monkeypatch.setattr(bus.Hearthd, "stream", stream)
    if "examples" in WITHOUT:
        monkeypatch.setattr(offer, "_examples", lambda _: [])
    if "names" in WITHOUT:
        made = home_module.Home.offer

        def free(self: Any) -> Any:
            tools = made(self)
            for tool in tools:
                parameters = tool["function"]["parameters"]
                parameters.pop("x-hearthd-schema", None)
                for value in parameters["properties"].values():
                    value.pop("x-hearthd-schema", None)
            return tools

        monkeypatch.setattr(home_module.Home, "offer", free)
    if "doubt" in WITHOUT:
        monkeypatch.setattr(offer.HomeOffer, "_doubt", lambda *_: None)
    if "rooms" in WITHOUT:
        monkeypatch.setattr(home_module, "targets", lambda able, *_: home_module.by_name(able))
    yield heard


@pytest.mark.parametrize(("folder", "category", "task", "text"), sentences())
async def test_sentence(
    hass: HomeAssistant,
    model_board: Board,
    talk: list[dict[str, Any]],
    folder: Path,
    category: str,
    task: dict[str, Any],
    text: str,
) -> None:
    """Speak one sentence, and record the result."""
    await build(hass, yaml.safe_load((folder / "_fixtures.yaml").read_text()), task)
    settings: dict[str, Any] = {"confirmation": "confirmation" not in WITHOUT}
    settings["tools"] = "own" if "verbs" in WITHOUT else "home"
    entry = make_entry(model_board, **settings)
    entry.add_to_hass(hass)
    await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    before = seen(hass)
    begin = time.monotonic()
    result = await say(hass, text)
    took = time.monotonic() - begin
    await hass.async_block_till_done()
    right, wrong = judge(before, seen(hass), task)
    if expected := task.get("expect_response"):
        answer = spoken(result).casefold()
        right &= any(str(part).casefold() in answer for part in expected)
    ends = [event for event in talk if event["type"] == "finished"]
    OUTCOMES.append(
        Outcome(
            folder.name,
            category,
            text,
            spoken(result),
            right and not wrong,
            wrong,
            took,
            sum(event["type"] == "started" for event in talk),
            sum(event["usage"]["completion_tokens"] for event in ends),
            [[e["name"], e["arguments"]] for e in talk if e["type"] == "tool_call"],
            [e["confidence"]["probability"] for e in talk if e.get("confidence")],
        )
    )
    await hass.config_entries.async_unload(entry.entry_id)


async def build(hass: HomeAssistant, home: dict[str, Any], task: dict[str, Any]) -> None:
    """Create the home, in the initial state of the task."""
    for component in ("homeassistant", "conversation", "ai_task", "intent"):
        assert await async_setup_component(hass, component, {})
    areas = {}
    for area in home["areas"]:
        areas[area["id"]] = ar.async_get(hass).async_get_or_create(area["name"]).id
        if floor := area.get("floor"):
            known = fr.async_get(hass).async_get_floor_by_name(floor)
            floor_id = (known or fr.async_get(hass).async_create(floor)).floor_id
            ar.async_get(hass).async_update(areas[area["id"]], floor_id=floor_id)
    begin = task.get("setup") or {}
    made: dict[str, list[Any]] = defaultdict(list)
    for entity in home["entities"]:
        domain = entity["id"].partition(".")[0]
        if domain in KINDS:
            made[domain].append(KINDS[domain](entity, begin.get(entity["id"]) or {}))

    async def setup(hass: HomeAssistant, entry: Any) -> bool:
        await hass.config_entries.async_forward_entry_setups(entry, list(made))
        return True

    mock_integration(hass, MockModule("eval_home", async_setup_entry=setup))
    for domain, entities in made.items():

        async def add(_: Any, __: Any, add_entities: Any, entities: Any = entities) -> None:
            add_entities(entities)

        mock_platform(hass, f"eval_home.{domain}", MockPlatform(async_setup_entry=add))
    mock_platform(hass, "eval_home.config_flow", None)
    entry = MockConfigEntry(domain="eval_home")
    entry.add_to_hass(hass)

    class Flow(ConfigFlow):
        """Not used."""

    with mock_config_flow("eval_home", Flow):
        assert await hass.config_entries.async_setup(entry.entry_id)
    await hass.async_block_till_done()
    for entity in home["entities"]:
        if hass.states.get(entity["id"]) is None:
            continue
        changes: dict[str, Any] = {}
        if area := entity.get("area"):
            changes["area_id"] = areas[area]
        if aliases := entity.get("aliases"):
            # The first is the name itself.
            changes["aliases"] = [er.COMPUTED_NAME, *aliases]
        er.async_get(hass).async_update_entity(entity["id"], **changes)
        async_expose_entity(hass, "conversation", entity["id"], True)
    await hass.async_block_till_done()


def seen(hass: HomeAssistant) -> dict[str, dict[str, Any]]:
    """The exposed part of the home."""
    return {
        state.entity_id: {"state": state.state} | dict(state.attributes)
        for state in hass.states.async_all()
        if state.domain in KINDS and not state.entity_id.startswith("sensor.hearthd")
    }


def judge(
    before: dict[str, dict[str, Any]],
    after: dict[str, dict[str, Any]],
    task: dict[str, Any],
) -> tuple[bool, bool]:
    """Return whether all expected states hold, and whether there was a wrong action."""
    expected = task.get("expect_changes") or {}
    wanted = {
        (entity, name): value
        for entity, change in expected.items()
        for name, value in (
            ({"state": change["state"]} if "state" in change else {})
            | (change.get("attributes") or {})
        ).items()
        if value is not None
    }
    right = all(after[entity].get(name) == value for (entity, name), value in wanted.items())
    changed = {e for e in after if after[e] != before[e]}
    return right, bool(changed - set(expected)) or bool(changed and not right)


@pytest.fixture(scope="session", autouse=True)
def _report() -> Iterator[None]:
    """Print the results at the end."""
    yield
    if not OUTCOMES:
        return
    kinds: dict[str, Counter] = defaultdict(Counter)
    for one in OUTCOMES:
        for kind in (one.category, "all"):
            kinds[kind].update(n=1, right=int(one.is_right), wrong=int(one.acted_wrongly))
    lines = [f"\n{MODEL.name}{''.join(f', without {w}' for w in sorted(WITHOUT))}", ""]
    lines += ["| | right | wrong actions |", "|---|--:|--:|"]
    lines += [f"| {k} | {c['right']} of {c['n']} | {c['wrong']} |" for k, c in kinds.items()]
    took = [one.seconds for one in OUTCOMES]
    lines += [
        "",
        f"{statistics.median(took):.1f} s for a sentence in the median, {max(took):.1f} at most; "
        f"{statistics.mean(one.rounds for one in OUTCOMES):.2f} rounds and "
        f"{statistics.median(one.tokens for one in OUTCOMES):.0f} tokens.",
    ]
    lines += [
        f"- not right: {one.said!r}: {one.calls} {one.answer!r}"
        for one in OUTCOMES
        if not one.is_right
    ]
    text = "\n".join(lines)
    print(text)
    if OUT:
        Path(OUT).write_text(json.dumps([asdict(one) for one in OUTCOMES], indent=1))
    share = kinds["all"]["right"] / kinds["all"]["n"]
    assert share >= LEAST, f"{share:.0%} are right, {LEAST:.0%} were wanted"
