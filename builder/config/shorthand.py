"""Layers written as a type's name alone (`act: ReLU`), written out where something reaches inside of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.config.kinds import Field, Node, Section
from builder.config.origin import Origins
from builder.config.schema import DEFINING_KEYS, TOP
from builder.config.schema_keys import child_of
from builder.config.tree import has_interpolation, step
from builder.errors import Path


def write_out(config: dict[Any, Any], names: Sequence[str], value: Any, origins: Origins) -> None:
    """Write out the short forms in `config` into which `value` would reach if it were merged at `names`.

    `act: ReLU` becomes `act: {type: ReLU}` under `{act: {inplace: true}}`, and stays what it is under a mapping that
    says a type, or layers, of its own.
    """
    for name in reversed(names):
        value = {name: value}
    _write_out(TOP, config, value, (), origins)


def _write_out(node: Node, there: Any, new: Any, path: Path, origins: Origins) -> None:
    for name, item in new.items():
        key = step(there, str(name))
        child = None if key is None else child_of(node, there, str(name), True)
        if key is None or child is None or isinstance(child, Field) or not isinstance(item, dict):
            continue
        below = (*path, key)
        if _is_short(child, there[key]) and not DEFINING_KEYS & item.keys():
            there[key] = {"type": there[key]}
            origins.set((*below, "type"), origins.of(below))
        _write_out(child, there[key], item, below, origins)


def _is_short(node: Node, value: Any) -> bool:
    return isinstance(node, Section) and node.short_for == "type" and isinstance(value, str) and (
        not has_interpolation(value)
    )  # fmt: skip
