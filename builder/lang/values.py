"""What the checker knows of an expression's value: which layers it may be, or that it is a tuple or a list of them.

Anything else (tensors, numbers, what a function returned) is None: unknown.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from builder.lang.scope import ANY, LayerName

MAX_DEPTH = 3
MAX_ITEMS = 256
"""Tuples nested deeper or holding more are unknown; `x = (x, x)`, again and again, must not grow."""

CONTAINERS = frozenset({"Sequential", "ModuleList", "ModuleDict", "ParameterList", "ParameterDict"})
LISTS = frozenset({"Sequential", "ModuleList", "ParameterList"})
DICTS = frozenset({"ModuleDict", "ParameterDict"})
CALLED = frozenset({"layer", "Sequential", "part"})

PART = LayerName("part", opaque=True)

LayerPath = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Layers:
    """One of these layers, by their paths from self."""

    options: Mapping[LayerPath, LayerName]

    @property
    def kinds(self) -> set[str]:
        """The kinds that it may be."""
        return {layer.kind for layer in self.options.values()}

    @property
    def kind(self) -> str:
        """The kind that messages name."""
        return "layer" if "layer" in self.kinds else min(self.kinds)

    @property
    def name(self) -> str:
        """The path that messages name, as the user would write it."""
        return shown(next(iter(self.options)))


@dataclass(frozen=True, slots=True, eq=False)
class Items:
    """A tuple or list of which each item is known; `size` counts the items of its items too."""

    items: tuple[Value, ...]
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Each:
    """Something to loop over, every element of which is so."""

    element: Value


@dataclass(frozen=True, slots=True, eq=False)
class Tensor:
    """A parameter or a buffer, named so in messages."""

    name: str


@dataclass(frozen=True, slots=True, eq=False)
class Method:
    """`items`, `keys` or `values` of a ModuleDict, not yet called."""

    owner: Layers
    name: str


Value = Layers | Items | Each | Tensor | Method | None


def layers(found: Iterable[tuple[LayerPath, LayerName]]) -> Value:
    """One of the layers found; unknown if there are none."""
    options = dict(found)
    return Layers(options) if options else None


def items(values: Iterable[Value]) -> Value:
    """A tuple of these; unknown if that tells nothing or is nested too deep."""
    kept = tuple(value if _depth(value) < MAX_DEPTH else None for value in values)
    size = sum(map(_size, kept))
    return Items(kept, size) if any(kept) and size <= MAX_ITEMS else None


def each(element: Value) -> Value:
    """Something with such elements; unknown if they are, or if it is nested too deep."""
    return Each(element) if element is not None and _depth(element) < MAX_DEPTH else None


def join(values: Iterable[Value]) -> Value:
    """One of these values: known only if all are alike."""
    options = list(values)
    first = options[0] if options else None
    if all(value is first for value in options):
        return first
    if all(isinstance(value, Layers) for value in options):
        return layers(pair for value in options if isinstance(value, Layers) for pair in value.options.items())
    if all(isinstance(value, Items | Each) for value in options):
        return each(join(element(value) for value in options))
    return None


def element(value: Value) -> Value:
    """What a loop over the value gives; a loop over a layer that can't be looped over gives nothing known."""
    match value:
        case Items(parts):
            return join(parts)
        case Each(part):
            return part
        case Layers(options):
            found = [pair for path, layer in options.items() for pair in elements(path, layer)]
            loops = value.kinds <= {"Sequential", "ModuleList", "part"}
            return layers(found) if loops else None
    return None


def elements(path: LayerPath, layer: LayerName) -> Iterable[tuple[LayerPath, LayerName]]:
    """The layers in a container."""
    if layer.kind == "part":
        yield (*path, ANY), PART
        return
    for name, child in layer.children.items():
        yield (*path, name), child
    if layer.element is not None:
        yield (*path, ANY), layer.element
    elif layer.opaque:
        yield (*path, ANY), PART


def item(path: LayerPath, layer: LayerName, index: int) -> tuple[LayerPath, LayerName] | None:
    """The layer at an index of a Sequential, ModuleList or part; None if it has too few."""
    if layer.kind == "part":
        return (*path, index if index >= 0 else ANY), PART
    names = list(layer.children)
    if layer.element is not None:
        return (*path, index if index >= 0 else ANY), layer.element
    if -len(names) <= index < len(names):
        return (*path, names[index]), layer.children[names[index]]
    return ((*path, ANY), PART) if layer.opaque else None


def part_of(layer: LayerName, bounds: slice) -> LayerName:
    """The container that a slice of a container is."""
    if layer.element is not None or layer.opaque:
        return layer
    names = list(layer.children)[bounds]
    return LayerName(layer.kind, {name: layer.children[name] for name in names})


def integer(node: ast.expr | None) -> int | None:
    """The value of an integer constant, also a negative one."""
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        value = integer(node.operand)
        return None if value is None else -value
    if isinstance(node, ast.Constant) and type(node.value) is int:
        return node.value
    return None


def bounds_of(node: ast.Slice) -> slice | None:
    """The slice, if its bounds are constants."""
    parts = [(part, integer(part)) for part in (node.lower, node.upper, node.step)]
    if any(part is not None and value is None for part, value in parts) or parts[2][1] == 0:
        return None
    return slice(*(value for _, value in parts))


def shown(path: LayerPath) -> str:
    """A layer's path as the user would write it."""
    text = str(path[0])
    for part in path[1:]:
        text += f"[{part}]" if isinstance(part, int) or part == ANY or part.isdigit() else f".{part}"
    return text


def _size(value: Value) -> int:
    match value:
        case Items():
            return 1 + value.size
        case Each(part):
            return 1 + _size(part)
    return 1


def _depth(value: Value) -> int:
    match value:
        case Items(parts):
            return 1 + max(map(_depth, parts))
        case Each(part):
            return 1 + _depth(part)
    return 0
