"""The targets in a home: entities by their names, and all things of a kind in a room."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from os.path import commonprefix
import re
from typing import Any

# A model's control tokens, and line ends: they must not take effect in a name.
_CONTROL = re.compile(r"<\|.*?\|>|<[/]?\w{1,20}>|\[/?[A-Z_]{2,20}\]|[\x00-\x1f\x7f\u2028\u2029]")
_NAME_MAX = 60


@dataclass(frozen=True)
class Exposed:
    """An entity that the assistant may see."""

    entity_id: str
    names: tuple[str, ...]
    """The name and its aliases."""
    areas: tuple[str, ...] = ()
    """The area's name and its aliases; none: it is in no area."""
    floor: str | None = None
    noun: str = ""
    """The kind of thing, in the language of the home."""
    features: int = 0
    attributes: Mapping[str, Any] = field(default_factory=dict)

    @property
    def domain(self) -> str:
        """Return the domain."""
        return self.entity_id.partition(".")[0]


@dataclass(frozen=True)
class Target:
    """The entities that one label refers to."""

    slots: tuple[Mapping[str, Any], ...]
    """Of an intent; several where it has to be called several times."""
    entity_ids: tuple[str, ...]

    @classmethod
    def of(cls, *entity_ids: str) -> Target:
        """Return a target of these entities, each by itself."""
        return cls(tuple({"name": one} for one in entity_ids), entity_ids)


def plain(name: str) -> str:
    """Return a sanitized name, whatever the name of the device is."""
    return " ".join(_CONTROL.sub(" ", name).split())[:_NAME_MAX].strip()


def words(text: str) -> set[str]:
    """Return the words of a text that distinguish things."""
    return {word for word in re.findall(r"\w+", text.casefold()) if len(word) > 1}


def alike(one: str, other: str) -> bool:
    """Return whether two words are related: lamp, lamps; Licht, Küchenlicht.

    Or differ in their endings, as in many languages' cases.
    """
    short, long = sorted((one, other), key=len)
    if len(short) < 3:
        return short == long
    common = len(commonprefix((short, long)))
    return long.endswith(short) or common >= max(3, len(short) - 2)


def by_name(entities: Iterable[Exposed]) -> dict[str, Target]:
    """Return entities by all their names."""
    made: dict[str, Target] = {}
    named: dict[str, list[Exposed]] = {}
    for entity in entities:
        for name in entity.names or (entity.entity_id,):
            named.setdefault(plain(name) or entity.entity_id, []).append(entity)
    for label, several in named.items():
        for entity in several:
            one = label
            if len(several) > 1:
                # Things with the same name: distinguished by the area, or the id.
                area = plain(entity.areas[0]) if entity.areas else entity.entity_id
                one = f"{label} ({area})"
            if one in made:
                one = f"{label} ({entity.entity_id})"
            made[one] = Target.of(entity.entity_id)
    return made


def targets(
    able: list[Exposed], everything: list[Exposed], groups: bool, everywhere: bool
) -> dict[str, Target]:
    """Return labels: entities by all their names, and things of a kind in a place.

    `groups`: several in a room or on a floor together; `everywhere`: in the whole home. The
    only one of its kind is called by that alone.
    """
    made = by_name(able)
    known = {label.casefold() for label in made}
    found: dict[str, list[Exposed]] = {}
    kinds: dict[str, list[Exposed]] = {}
    for entity in able:
        kinds.setdefault(entity.noun, []).append(entity)
        for place in (*entity.areas, *filter(None, [entity.floor])):
            found.setdefault(f"{plain(place)} {entity.noun}", []).append(entity)
    several = {f"{label}s": them for label, them in found.items() if len(them) > 1}
    alone = {label: them for label, them in found.items() if len(them) == 1}
    alone |= {noun: them for noun, them in kinds.items() if len(them) == 1}
    if everywhere:
        several |= {f"all {noun}s": them for noun, them in kinds.items() if len(them) > 1}
    for label, entities in (alone | several if groups else alone).items():
        if entities[0].noun and label.casefold() not in known:
            known.add(label.casefold())
            made[label] = _together(entities, everything)
    return made


def _together(entities: list[Exposed], everything: list[Exposed]) -> Target:
    """Return a target for all of these, in one call where they are all of a room's."""
    ids = tuple(entity.entity_id for entity in entities)
    first = entities[0]
    if not first.areas:
        return Target.of(*ids)
    in_room = {
        entity.entity_id
        for entity in everything
        if entity.domain == first.domain and entity.areas == first.areas
    }
    if len(ids) > 1 and in_room == set(ids):
        return Target(({"area": first.areas[0], "domain": [first.domain]},), ids)
    return Target.of(*ids)
