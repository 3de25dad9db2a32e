"""What a config value may be, and the nodes that a schema is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Kind:
    """A set of values: what it is called, whether a value is of it, and what JSON Schema can say of it."""

    expected: str
    accepts: Callable[[Any], bool]
    json: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Field:
    """A key whose value is checked as a whole.

    `default` stands where the key is absent; a `required` one has none. `refused` is the way out for a key that can't
    be given.
    """

    doc: str
    kind: Kind
    default: Any = None
    required: bool = False
    refused: str | None = None


@dataclass(frozen=True, slots=True)
class Section:
    """A mapping with known keys.

    An `open` one also takes the arguments of what its `type` names, which whoever builds that checks. `short` is
    another form that the whole may take, and `short_for` the key whose value that form is, if it is one's.
    """

    doc: str
    fields: Mapping[str, Node]
    open: bool = False
    short: Kind | None = None
    required: bool = False
    short_for: str | None = None


@dataclass(frozen=True, slots=True)
class Names:
    """A mapping (or a list) of things of one kind, named by the user."""

    doc: str
    of: Node
    required: bool = False
    short: Kind | None = None


Node = Field | Section | Names


def given(section: Section) -> list[str]:
    """The keys of a section that may be given."""
    return [name for name, node in section.fields.items() if not (isinstance(node, Field) and node.refused)]


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: object) -> bool:
    return _is_int(value) or (isinstance(value, float) and math.isfinite(value))


ANYTHING = Kind("anything", lambda value: True)
TEXT = Kind("a text", lambda value: isinstance(value, str), {"type": "string"})
FOLDER = Kind(
    "the path of a folder",
    lambda value: isinstance(value, str) and value != "" and "\0" not in value,
    {"type": "string", "minLength": 1},
)
BOOLEAN = Kind("true or false", lambda value: isinstance(value, bool), {"type": "boolean"})
NULL = Kind("null", lambda value: value is None, {"type": "null"})
MAPPING = Kind("a mapping", lambda value: isinstance(value, dict), {"type": "object"})
LIST = Kind("a list", lambda value: isinstance(value, list), {"type": "array"})


def integer(least: int | None = None, most: int | None = None, also: tuple[int, ...] = ()) -> Kind:
    """Whole numbers from `least` to `most`, and those of `also`."""

    def accepts(value: Any) -> bool:
        if not _is_int(value):
            return False
        return value in also or ((least is None or value >= least) and (most is None or value <= most))

    json = {"type": "integer", **_bounds(least, most)}
    json = {"anyOf": [{"enum": list(also)}, json]} if also else json
    return Kind(" or ".join([*map(str, also), _range("a whole number", least, most)]), accepts, json)


def number(least: float | None = None, most: float | None = None) -> Kind:
    """Finite numbers from `least` to `most`."""

    def accepts(value: Any) -> bool:
        return _is_number(value) and (least is None or value >= least) and (most is None or value <= most)

    return Kind(_range("a number", least, most), accepts, {"type": "number", **_bounds(least, most)})


def share() -> Kind:
    """Numbers with a decimal point from 0 to 1."""
    return Kind(
        "a share from 0.0 to 1.0",
        lambda value: isinstance(value, float) and 0 <= value <= 1,
        {"type": "number", **_bounds(0, 1)},
    )


def choice(*names: str | int) -> Kind:
    """One of a few values."""
    shown = ", ".join(str(name) for name in names)
    return Kind(f"one of {shown}", lambda value: not isinstance(value, bool) and value in names, {"enum": list(names)})


def items(kind: Kind) -> Kind:
    """Lists of one kind of value."""
    return Kind(
        f"a list, each {kind.expected}",
        lambda value: isinstance(value, list) and all(kind.accepts(item) for item in value),
        {"type": "array", "items": kind.json},
    )


def either(*kinds: Kind) -> Kind:
    """Values of any of some kinds."""
    expected = ", or ".join(kind.expected for kind in kinds)
    return Kind(
        expected, lambda value: any(kind.accepts(value) for kind in kinds), {"anyOf": [kind.json for kind in kinds]}
    )


def _bounds(least: float | None, most: float | None) -> dict[str, float]:
    return {key: bound for key, bound in (("minimum", least), ("maximum", most)) if bound is not None}


def _range(what: str, least: float | None, most: float | None) -> str:
    if least is None and most is None:
        return what
    if most is None:
        return f"{what} from {least} on"
    return f"{what} up to {most}" if least is None else f"{what} from {least} to {most}"
