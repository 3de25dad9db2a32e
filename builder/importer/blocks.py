"""Equal definitions become blocks; what differs between them becomes their arguments; equal layers repeat."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from builder.importer.describe import Described
from builder.lang.names import MODULE_API, name_problem
from builder.model.spec import CONTAINERS, NODE_KEYS
from builder.registry import layers

Place = tuple[str | int, ...]

TEXTS = ("forward", "type", "inputs", "init", "value", "dtype")
"""Keys whose values aren't arguments: what differs there makes another block."""


def factored(root: Described) -> dict[str, Any]:
    """The whole as plain values: definitions that occur more than once under `blocks`."""
    blocks: dict[str, Any] = {}
    found = list(_definitions(root.raw))
    for kind in _inside_out(found):
        groups: dict[str, list[Described]] = {}
        for one in (one for one in found if one.kind == kind):
            one.raw = _repeated(one.raw)
            groups.setdefault(_shape(one.raw), []).append(one)
        several = sum(map(len, groups.values())) > 1
        for number, group in enumerate(groups.values()):
            if several:
                name = _name(kind if number == 0 else f"{kind}{number + 1}", blocks)
                blocks[name] = _block(name, group)
    whole = _plain(_repeated(root.raw))
    head = {key: whole.pop(key) for key in ("inputs",) if key in whole}
    return {"name": root.kind, **head, **({"blocks": _plain(blocks)} if blocks else {}), **whole}


def _definitions(value: Any) -> Iterator[Described]:
    """The definitions in a tree, the inner ones first."""
    if isinstance(value, Described):
        yield from _definitions(value.raw)
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _definitions(item)


def _inside_out(found: list[Described]) -> list[str]:
    """The classes, each after those that it holds."""
    last = {one.kind: index for index, one in enumerate(found)}
    order: list[str] = []

    def add(kind: str, seen: tuple[str, ...]) -> None:
        if kind in order or kind in seen:
            return
        for one in found:
            if one.kind == kind:
                for inner in _definitions(one.raw):
                    add(inner.kind, (*seen, kind))
        order.append(kind)

    for kind in sorted(last, key=lambda name: last[name]):
        add(kind, ())
    return order


def _name(kind: str, blocks: dict[str, Any]) -> str:
    name = kind.lstrip("_") or "Block"
    name = f"{name}Block" if name in layers or name in CONTAINERS else name
    while name in blocks:
        name += "_"
    return name


def _shape(value: Any) -> str:
    """What two definitions must have in common to be one block: all but their numbers."""
    return json.dumps(_skeleton(value, ()), sort_keys=False)


def _skeleton(value: Any, path: Place) -> Any:
    if isinstance(value, Described):
        return ["definition", _skeleton(value.raw, path)]
    if isinstance(value, dict):
        return {key: _skeleton(item, (*path, key)) for key, item in value.items()}
    if isinstance(value, list) and not _is_leaf(value):
        return [_skeleton(item, (*path, index)) for index, item in enumerate(value)]
    return repr(value) if path and path[-1] in TEXTS or "type" in path[-1:] or _is_init(path) else "…"


def _is_init(path: Place) -> bool:
    return "init" in path or "parameters" in path and path[-1] == "std"


def _is_leaf(value: Any) -> bool:
    """A list of numbers is one value."""
    return all(isinstance(item, int | float) for item in value)


def _leaves(value: Any, path: Place = ()) -> Iterator[tuple[Place, Any]]:
    if isinstance(value, Described):
        yield from _leaves(value.raw, path)
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from _leaves(item, (*path, key))
    elif isinstance(value, list) and not _is_leaf(value):
        for index, item in enumerate(value):
            yield from _leaves(item, (*path, index))
    else:
        yield path, value


def _block(name: str, group: list[Described]) -> Any:
    """The block of a group of definitions, each of which becomes a node of that type."""
    values = [dict(_leaves(one.raw)) for one in group]
    differing = [path for path in values[0] if len({json.dumps(found[path]) for found in values}) > 1]
    names: dict[str, str] = {}
    used = set(_layer_names(group[0].raw)) | set(_inputs(group[0].raw))
    formulas: dict[Place, str] = {}
    arguments: dict[str, list[Any]] = {}
    for path in differing:
        column = [found[path] for found in values]
        key = json.dumps(column)
        if key not in names:
            names[key] = _argument(path, {*used, *arguments})
            arguments[names[key]] = column
        formulas[path] = f"={names[key]}"
    body = _with(group[0].raw, formulas)
    for index, one in enumerate(group):
        one.raw = {"type": name, **{key: column[index] for key, column in arguments.items()}}
        one.kind = ""
    return {"args": dict.fromkeys(arguments, "required"), **body} if arguments else body


def _layer_names(raw: dict[str, Any]) -> list[str]:
    layers_of = raw.get("layers", {})
    return [*layers_of, *raw.get("parameters", {}), *raw.get("buffers", {})] if isinstance(layers_of, dict) else []


def _inputs(raw: dict[str, Any]) -> list[str]:
    return list(raw.get("inputs", ["x"]))


def _argument(path: Place, taken: set[str]) -> str:
    """A name for what stands at a path: its key, with that of the layer before it if that is taken."""
    keys = [str(key) for key in path if not isinstance(key, int) and key != "layers"]
    for count in range(1, len(keys) + 1):
        name = "_".join(keys[-count:])
        if name not in taken and name not in MODULE_API and name not in NODE_KEYS and name_problem(name) is None:
            return name
    return next(f"arg{index}" for index in range(1, 10_000) if f"arg{index}" not in taken)


def _with(value: Any, formulas: dict[Place, str], path: Place = ()) -> Any:
    """A copy with formulas at some places."""
    if path in formulas:
        return formulas[path]
    if isinstance(value, Described):
        made = _with(value.raw, formulas, path)
        return made["type"] if list(made) == ["type"] else made
    if isinstance(value, dict):
        return {key: _with(item, formulas, (*path, key)) for key, item in value.items()}
    if isinstance(value, list):
        return [_with(item, formulas, (*path, index)) for index, item in enumerate(value)]
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Described):
        made = _plain(_repeated(value.raw))
        return made["type"] if list(made) == ["type"] else made
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list) else value


def _repeated(value: Any) -> Any:
    """Containers of equal layers as one layer that repeats."""
    if isinstance(value, Described):
        return value
    if isinstance(value, list):
        return [_repeated(item) for item in value]
    if not isinstance(value, dict):
        return value
    made = {key: _repeated(item) for key, item in value.items()}
    inside = made.get("layers")
    if made.get("type") in ("Sequential", "ModuleList") and isinstance(inside, list) and len(inside) > 1:
        plain = [json.dumps(_plain(item)) for item in inside]
        if len(set(plain)) == 1 and not any(_holds_own(item) for item in inside):
            return {"type": made["type"], "repeat": len(inside), "layer": inside[0]}
    return made


def _holds_own(value: Any) -> bool:
    """Whether a definition in it is still to become a block."""
    return any(one.kind for one in _definitions(value))
