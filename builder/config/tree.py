"""Plain nested values: looking into them, and merging one onto another as Hydra does, with origins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from builder.config.origin import Origins
from builder.errors import Fault, Origin, Path

MISSING = "???"
"""A value that has to be given."""

OriginOf = Callable[[Path], Origin | None]
"""The origin of each path of a value that is merged."""


def has_interpolation(value: object) -> bool:
    """Whether a value is a text with `${` in it."""
    return isinstance(value, str) and "${" in value


def step(container: object, name: str) -> str | int | None:
    """The key or index of `container` that `name` means, if it holds that."""
    if isinstance(container, list):
        return int(name) if name.isdecimal() and len(name) < 10 and int(name) < len(container) else None
    if not isinstance(container, dict):
        return None
    if name in container:
        return name
    return int(name) if name.isdecimal() and len(name) < 20 and int(name) in container else None


def locate(tree: object, names: Sequence[str]) -> tuple[Path, Any]:
    """How far down `names` lead: the path that exists, and what is there."""
    path: Path = ()
    node: Any = tree
    for name in names:
        key = step(node, name)
        if key is None:
            break
        path, node = (*path, key), node[key]
    return path, node


def size(value: object) -> int:
    """How many values a value holds, itself counted; every 64 characters of a text count as one more."""
    if isinstance(value, dict):
        return 1 + sum(size(item) for item in value.values())
    if isinstance(value, list):
        return 1 + sum(size(item) for item in value)
    return 1 + len(value) // 64 if isinstance(value, str) else 1


def kind(value: object) -> str:
    """What a value is called in a message."""
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list):
        return "a list"
    if has_interpolation(value):
        return "an interpolation"
    return "null" if value is None else "a text" if isinstance(value, str) else "a number or boolean"


def merge(old: Any, new: Any, path: Path, origins: Origins, origin_of: OriginOf, faults: list[Fault]) -> Any:
    """What stands at `path` once `new` is merged onto `old`: mappings key by key, all else replaced.

    `new` is left as it is. `???` replaces nothing. A mapping can't be merged onto a list or an interpolation: a fault,
    which goes to `faults`.
    """
    if new == MISSING and isinstance(new, str):
        return old
    if isinstance(new, dict) and (isinstance(old, list) or has_interpolation(old)):
        message = f"a mapping can't be merged onto {kind(old)}"
        where = f"it was written at {origins.of(path)}"
        if isinstance(old, list):
            where += "; a list takes its place: [{…}]"
        faults.append(Fault(message, path, origin_of(path) or origins.of(path), hint=where))
        return old
    _note(path, origins, origin_of)
    if not (isinstance(old, dict) and isinstance(new, dict)):
        forget(old, path, origins)
        return adopt(new, path, origins, origin_of)
    for key, item in new.items():
        below = (*path, key)
        old[key] = merge(old[key], item, below, origins, origin_of, faults) if key in old else (
            adopt(item, below, origins, origin_of)
        )  # fmt: skip
    return old


def adopt(value: Any, path: Path, origins: Origins, origin_of: OriginOf) -> Any:
    """A copy of a value that comes to stand at `path`, its origins noted."""
    _note(path, origins, origin_of)
    if isinstance(value, dict):
        return {key: adopt(item, (*path, key), origins, origin_of) for key, item in value.items()}
    if isinstance(value, list):
        return [adopt(item, (*path, index), origins, origin_of) for index, item in enumerate(value)]
    return value


def forget(value: Any, path: Path, origins: Origins) -> None:
    """Drop the origins of all that lies in a value at `path`, not its own."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        origins.discard((*path, key))
        forget(item, (*path, key), origins)


def _note(path: Path, origins: Origins, origin_of: OriginOf) -> None:
    origin = origin_of(path)
    if origin is not None:
        origins.set(path, origin)
