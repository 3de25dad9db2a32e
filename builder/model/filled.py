"""A model's YAML with what was found filled in, so that it stands alone: sizes, input shapes, facts, library blocks."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch

from builder.errors import Path
from builder.lang.formula import LangError, parse_formula
from builder.model.infer import Exploration
from builder.model.pending import Names
from builder.model.scope import LIBRARY, Library, evaluate
from builder.model.spec import Definition, Node


def filled(
    raw: Mapping[str, Any], definition: Definition, given: Names, data: Names, found: Exploration, library: Library
) -> dict[str, Any]:
    """The definition with the values of its arguments, the sizes of its layers and the shapes of its inputs.

    A size is written where its layer is written, so one that differs between the copies that are made of a layer stays
    left out; it is found again from the inputs.
    """
    out: dict[str, Any] = {"name": definition.name, **copy.deepcopy(dict(raw))}
    names: dict[str, Any] = {"data": data}
    for name, argument in definition.args.items():
        names[name] = given[name] if name in given else evaluate(argument.default, names)
        out.setdefault("args", {})[name] = names[name]
    if used := sorted(_library_blocks(definition, found)):
        out["blocks"] = {name: copy.deepcopy(library.get(name).value) for name in used} | out.get("blocks", {})
    root = definition.place.path
    for path, sizes in _sizes_by_place(definition, found).items():
        target = out["blocks"] if path[:1] == (LIBRARY,) else out
        _write(target, path[1:] if path[:1] == (LIBRARY,) else path[len(root) :], sizes)
    if section := [copy.deepcopy(dict(rule.raw)) for rule in definition.init if rule.path[: len(root)] != root]:
        own = out.get("init") or []
        out["init"] = [*(own if isinstance(own, list) else [own]), *section]
    out = _without_facts(out, data)
    if found.ran:
        out["inputs"] = {item.name: _input(item, found.inputs.get(item.name)) for item in definition.inputs}
    return out


def _without_facts(value: Any, data: Names) -> Any:
    """A value whose formulas have the facts themselves in the place of `data.<name>`."""
    if isinstance(value, dict):
        return {key: _without_facts(item, data) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_facts(item, data) for item in value]
    if not isinstance(value, str) or not value.startswith("="):
        return value
    try:
        formula = parse_formula(value[1:])
        if formula.names == {"data"}:
            return formula.evaluate({"data": data})
    except LangError:  # a note that begins with "=", or a formula on a branch that isn't taken
        return value
    for name in {name for name in data if f"data.{name}" in formula.dotted}:
        value = re.sub(rf"\bdata\.{re.escape(name)}\b", repr(data[name]).replace("\\", r"\\"), value)
    return value


def _input(item: Any, example: Any) -> Any:
    """An input as it was run, with the batch dimension left free: another free one may have set a layer's size."""
    if not isinstance(example, torch.Tensor):
        return {"shape": None, "dtype": item.dtype, "optional": item.optional}
    shape: list[Any] = list(example.shape)
    first = item.shape[0] if item.shape else "B"
    if shape and isinstance(first, str):
        shape[0] = first
    dtype = str(example.dtype).removeprefix("torch.")
    return shape if dtype == "float32" else {"shape": shape, "dtype": dtype}


def _sizes_by_place(definition: Definition, found: Exploration) -> dict[Path, dict[str, Any]]:
    """Config path of a node → the sizes on which all layers made from it agree."""
    seen: dict[Path, list[dict[str, Any]]] = {}
    for path, place in _places(definition, found):
        seen.setdefault(place, []).append(found.sizes.get(path, {}))
    agreed = {place: copies[0] for place, copies in seen.items() if all(sizes == copies[0] for sizes in copies)}
    return {place: sizes for place, sizes in agreed.items() if sizes}


def _places(definition: Definition, found: Exploration) -> Iterator[tuple[str, Path]]:
    for path, node in found.nodes.items():
        if node.kind == "layer":
            yield path, node.place.path


def _write(target: Any, path: Path, sizes: Mapping[str, Any]) -> None:
    *parents, last = path
    for key in parents:
        target = target[key]
    node = target[last]
    if isinstance(node, str):
        target[last] = {"type": node, **sizes}
    else:
        target[last] = {"type": node["type"], **sizes} | node


def _library_blocks(definition: Definition, found: Exploration) -> set[str]:
    used: set[str] = set()

    def visit(part: Definition) -> None:
        for node in part.layers:
            visit_node(node)

    def visit_node(node: Node) -> None:
        for value in node.arguments.values():
            if isinstance(value, Node):
                visit_node(value)
        for child in (*node.children, *([node.element] if node.element else [])):
            visit_node(child)
        if node.definition is not None:
            if node.definition.place.path[:1] == (LIBRARY,):
                used.add(str(node.definition.place.path[1]))
            visit(node.definition)

    visit(definition)
    for node in found.nodes.values():  # those that formulas chose
        visit_node(node)
    return used
