"""What two or more configs differ in by meaning: defaults filled in, short forms written out, order left aside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from builder.config.kinds import ANYTHING, Field, Names, Node, Section
from builder.config.schema import TOP
from builder.config.tree import has_interpolation
from builder.errors import Path
from builder.runs.record import ABSENT

ASIDE = ("name", "output_dir", "report", "hydra")
"""Keys at the top that say nothing about what is trained."""
ORDERED = ("layers", "tensors")
"""Mappings whose order means something: layers run in it where no `forward` says otherwise."""

_FREE = Field("whatever its owner takes", ANYTHING)

DefaultOf = Callable[[Mapping[str, Any], Path], Any]
"""From a config and the path of an argument that it lacks to the argument's default, `ABSENT` if that isn't known."""


@dataclass(frozen=True, slots=True)
class Difference:
    """A path at which configs differ, and what each has there (`ABSENT` for nothing)."""

    path: Path
    values: tuple[Any, ...]


def differences(configs: Sequence[Mapping[str, Any]], default_of: DefaultOf | None = None) -> list[Difference]:
    """All that configs, as they were written, differ in; in the order of the schema.

    `default_of` is asked for the arguments that are given in some of them only. A reference counts as what it refers
    to, one to the environment as itself.
    """
    filled = [_filled(TOP, _resolved(config, config)) for config in configs]
    found = [one for one in _walk(filled, ()) if one.path[0] not in ASIDE]
    if default_of is not None:
        found = [each for one in found for each in _with_defaults(one, filled, default_of)]
    rank: dict[Any, int] = {key: index for index, key in enumerate(TOP.fields)}
    return sorted(found, key=lambda one: rank.get(one.path[0], len(rank)))


def _filled(node: Node, value: Any) -> Any:
    """A value with the schema's defaults where keys are absent, short forms written out; null for none left out."""
    if isinstance(node, Section):
        if node.short_for is not None and isinstance(value, str) and not has_interpolation(value):
            value = {node.short_for: value}
        if not isinstance(value, dict):
            return value
        given = {key: _filled(_child(node, key), item) for key, item in value.items()}
        for key, child in node.fields.items():
            if isinstance(child, Field) and child.default is not None and child.refused is None:
                given.setdefault(key, child.default)
            elif given.get(key, ABSENT) is None:
                del given[key]  # null, and none, mean the same
        return given
    if isinstance(node, Names):
        if isinstance(value, list):
            return [_filled(node.of, item) for item in value]
        return {key: _filled(node.of, item) for key, item in value.items()} if isinstance(value, dict) else value
    return value


def _child(section: Section, key: Any) -> Node:
    return section.fields.get(key, _FREE)


def _walk(values: Sequence[Any], path: Path) -> Iterator[Difference]:
    reordered = path[-1:] in [(key,) for key in ORDERED] and _in_another_order(values)
    if all(_same(values[0], value) for value in values[1:]) and not reordered:
        return
    if path and all(isinstance(value, dict) for value in values) or not path:
        keys = dict.fromkeys(key for value in values for key in value)
        for key in keys:
            yield from _walk([value.get(key, ABSENT) for value in values], (*path, key))
        if reordered:
            yield Difference((*path, "(order)"), tuple(list(value) for value in values))
    elif all(isinstance(value, list) and len(value) == len(values[0]) for value in values):
        for index, items in enumerate(zip(*values, strict=True)):
            yield from _walk(items, (*path, index))
    else:
        yield Difference(path, tuple(values))


def _same(one: Any, other: Any) -> bool:
    """Equal in value: 1 and 1.0 are, 1 and true are not; the order of keys counts in `ORDERED` alone."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(
            _same(one[key], other[key]) and not (key in ORDERED and _in_another_order([one[key], other[key]]))
            for key in one
        )
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(_same, one, other))
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)


def _in_another_order(values: Sequence[Any]) -> bool:
    orders = [list(value) for value in values if isinstance(value, dict)]
    return len(orders) == len(values) and all(set(one) == set(orders[0]) for one in orders) and (
        any(one != orders[0] for one in orders)
    )  # fmt: skip


def _with_defaults(
    one: Difference, configs: Sequence[Mapping[str, Any]], default_of: DefaultOf
) -> Iterator[Difference]:
    """The difference with defaults for what is absent; nothing if that makes all equal."""
    values = [
        default_of(config, one.path) if value is ABSENT else value
        for config, value in zip(configs, one.values, strict=True)
    ]
    if any(not _same(values[0], value) for value in values[1:]):
        yield Difference(one.path, tuple(values))


def _resolved(value: Any, config: Mapping[str, Any], left: int = 16) -> Any:
    """A value with what refers to other keys of the config replaced by what stands there."""
    if isinstance(value, dict):
        return {key: _resolved(item, config, left) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolved(item, config, left) for item in value]
    if not has_interpolation(value) or left == 0:
        return value
    found = _referred(value, config)
    return value if found is ABSENT else _resolved(found, config, left - 1)


def _referred(text: str, config: Mapping[str, Any]) -> Any:
    """What a text that is one reference and nothing else refers to; `ABSENT` if it is none, or refers to nothing."""
    if not (text.startswith("${") and text.endswith("}") and ":" not in text and text.count("${") == 1):
        return ABSENT
    value: Any = config
    for key in text[2:-1].split("."):
        if not isinstance(value, dict) or key not in value:
            return ABSENT
        value = value[key]
    return value
