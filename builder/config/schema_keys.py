"""Which keys that a config doesn't hold yet may be given without a `+`: those that the schema knows."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from builder.config.kinds import ANYTHING, Field, Names, Node, Section, given
from builder.config.schema import TOP
from builder.config.tree import step
from builder.errors import Path

_FREE = Field("whatever its owner takes", ANYTHING)


@dataclass(frozen=True, slots=True)
class Unknown:
    """A path that neither the config nor the schema has, the keys that there are beside it, and if one may be added."""

    path: Path
    candidates: Sequence[str]
    addable: bool


def unknown_in(config: dict[Any, Any], names: Sequence[str], value: Any) -> Iterator[Unknown]:
    """The keys that would be new and unknown if `value` were merged onto `config` at `names`."""
    found, node, there = _walk(config, names)
    if found is not None:
        yield found
    elif isinstance(value, dict) and isinstance(there, dict):
        yield from _below(node, there, tuple(names), value)


def _below(node: Node, there: dict[Any, Any], path: Path, value: dict[Any, Any]) -> Iterator[Unknown]:
    opened = {**there, **value}
    for key, item in value.items():
        child = child_of(node, opened, str(key), key in there)
        if child is None:
            yield _unknown(node, there, (*path, key))
        elif isinstance(item, dict) and isinstance(there.get(key), dict):
            yield from _below(child, there[key], (*path, key), item)


def _walk(config: dict[Any, Any], names: Sequence[str]) -> tuple[Unknown | None, Node, Any]:
    node: Node = TOP
    there: Any = config
    for index, name in enumerate(names):
        key = step(there, name)
        child = child_of(node, there, name, key is not None)
        if child is None:
            return _unknown(node, there, tuple(names[: index + 1])), node, there
        node, there = child, None if key is None else there[key]
    return None, node, there


def child_of(node: Node, there: Any, name: str, exists: bool) -> Node | None:
    """The schema of a key of `there`, or None if it neither exists nor is known."""
    if isinstance(node, Section):
        if name in node.fields:
            return node.fields[name]
        return _FREE if exists or (node.open and isinstance(there, dict) and "type" in there) else None
    if isinstance(node, Names):
        return node.of if exists else None
    return _FREE if exists or there is None else None


def _unknown(node: Node, there: Any, path: Path) -> Unknown:
    existing = [str(key) for key in there] if isinstance(there, dict) else []
    known = given(node) if isinstance(node, Section) else []
    return Unknown(path, list(dict.fromkeys([*existing, *known])), not isinstance(node, Section))
