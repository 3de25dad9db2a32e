"""Attributes and subscripts of layers: which submodule or tensor they are, checked against what is known statically."""

from __future__ import annotations

import ast
from collections.abc import Iterable

from builder.lang import values
from builder.lang.names import DENIED_ATTRIBUTES, MODULE_API
from builder.lang.scope import LayerName, Reference
from builder.lang.syntax import Source
from builder.lang.used import Used
from builder.lang.values import DICTS, LISTS, PART, LayerPath, Layers, Method, Value

Found = Iterable[tuple[LayerPath, LayerName]]


def attribute(source: Source, used: Used, node: ast.Attribute, value: Layers) -> Value:
    """A submodule, parameter or buffer of a layer, or a method of a ModuleDict."""
    name = node.attr
    if name in ("items", "keys", "values") and value.kinds <= DICTS | {"part"}:
        return Method(value, name)
    if name == "type" and isinstance(node.value, ast.Attribute) and node.value.attr == "device":
        return None
    if name.startswith("_") or name in MODULE_API or name in DENIED_ATTRIBUTES:
        whose = "nn.Module's own" if name in MODULE_API else "not part of the language"
        source.add(
            node, f"attribute {name!r} of {value.name!r} is {whose}", expected="a submodule, a parameter or a buffer"
        )
        return None
    found: list[tuple[LayerPath, LayerName]] = []
    for path, layer in value.options.items():
        if name in layer.children:
            found.append(((*path, name), layer.children[name]))
        elif layer.opaque and name not in layer.tensors:
            found.append(((*path, name), PART))
    if any(name in layer.tensors for layer in value.options.values()):
        return None
    if not found:
        _no_part(source, node, value)
    return _refer(source, used, node, node.value, values.layers(found))


def subscript(source: Source, used: Used, node: ast.Subscript, value: Layers) -> Value:
    """An element or a slice of a container."""
    if "layer" in value.kinds:
        source.add(node, f"{value.name!r} is a layer and has no items")
        return None
    if isinstance(node.slice, ast.Slice):
        return _slice(source, node.slice, value)
    found = [pair for path, layer in value.options.items() for pair in _elements_at(node.slice, path, layer)]
    if not found and value.kinds <= {"Sequential", "ModuleList", "ModuleDict"}:
        _no_element(source, node, value)
    known = values.layers(found) if not value.kinds & {"ParameterList", "ParameterDict"} else None
    return _refer(source, used, node, node.value, known)


def method_result(method: Method) -> Value:
    """What `.keys()`, `.values()` and `.items()` of a ModuleDict give."""
    if method.name == "keys":
        return None
    found = values.layers(pair for path, layer in method.owner.options.items() for pair in values.elements(path, layer))
    return values.each(found if method.name == "values" else values.items((None, found)))


def _refer(source: Source, used: Used, node: ast.expr, base: ast.expr, value: Value) -> Value:
    """Note a path that only the built module can tell; it stands for the shorter one that it grew from."""
    if isinstance(value, Layers):
        unknown = [path for path, layer in value.options.items() if layer is PART]
        used.references.pop(id(base), None)
        if unknown:
            used.references[id(node)] = Reference(unknown[0], source.place(node), source.path)
    return value


def _no_part(source: Source, node: ast.Attribute, value: Layers) -> None:
    valid = dict.fromkeys(name for layer in value.options.values() for name in [*layer.children, *layer.tensors])
    source.add(
        node,
        f"{value.name!r} has no submodule, parameter or buffer {node.attr!r}",
        expected=f"one of {', '.join(valid)}" if valid else None,
        nearest=source.near(node.attr, valid),
    )


def _elements_at(index: ast.expr, path: LayerPath, layer: LayerName) -> Found:
    number, key = values.integer(index), index.value if isinstance(index, ast.Constant) else None
    if layer.kind in DICTS and isinstance(index, ast.Constant):
        if isinstance(key, str) and key in layer.children:
            return [((*path, key), layer.children[key])]
        return values.elements(path, layer) if layer.opaque or layer.element is not None else []
    if number is not None and layer.kind in LISTS | {"part"}:
        found = values.item(path, layer, number)
        return [] if found is None else [found]
    return [] if layer.kind in LISTS and isinstance(key, str) else values.elements(path, layer)


def _no_element(source: Source, node: ast.Subscript, value: Layers) -> None:
    names = dict.fromkeys(name for layer in value.options.values() for name in layer.children)
    key = node.slice.value if isinstance(node.slice, ast.Constant) else None
    most = max(len(layer.children) for layer in value.options.values())
    by_name = value.kinds <= DICTS
    source.add(
        node,
        f"{value.name!r} has no layer {ast.unparse(node.slice)}",
        expected=f"one of {', '.join(map(repr, names))}" if by_name else f"an index; it has {most} layers",
        nearest=source.near(key, names) if by_name and isinstance(key, str) else (),
    )


def _slice(source: Source, index: ast.Slice, value: Layers) -> Value:
    bounds = values.bounds_of(index)
    sliced = [
        (path, values.part_of(layer, bounds) if bounds is not None else layer)
        for path, layer in value.options.items()
        if layer.kind in LISTS | {"part"}
    ]
    if not sliced:
        source.add(index, f"{value.name!r} is a {value.kind} and can't be sliced")
    return values.layers(sliced)
