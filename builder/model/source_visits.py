"""A model's tree as its classes see it: which definitions become classes, and every making of every node."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from builder.errors import Path
from builder.model.pending import Names
from builder.model.scope import evaluate
from builder.model.source_names import free_names
from builder.model.spec import Definition, Node


@dataclass(frozen=True, slots=True)
class Visit:
    """One making of a node.

    `owner` and `path` are module paths: of the instance of a class that it stands in, and its own. `names` are what its
    formulas see; `loops` the counts of the repeats between the two, outermost first.
    """

    node: Node
    owner: str
    path: str
    names: Names
    loops: tuple[int, ...]


def inlined(node: Node) -> bool:
    """Whether a node's own definition is a plain stack of layers, for which nobody would write a class."""
    own = node.definition
    if node.kind != "definition" or own is None:
        return False
    return own.forward is None and not (own.args or own.parameters or own.buffers or own.tie or own.frozen or own.init)


def inner_layers(node: Node) -> tuple[Node, ...]:
    """The layers that a container or a plain stack holds, one for all copies."""
    if inlined(node):
        assert node.definition is not None
        return node.definition.layers
    return (node.element,) if node.element is not None else node.children


def instance_names(definition: Definition, given: Names, outer: Names) -> dict[str, Any]:
    """What formulas see inside an instance of a definition."""
    names = dict(outer)
    for name, argument in definition.args.items():
        names[name] = given[name] if name in given else evaluate(argument.default, names)
    return names


def visits(definition: Definition, given: Names, data: Names) -> Iterator[Visit]:
    """All makings of all nodes of a model, in order."""
    names = instance_names(definition, given, {"data": data})
    yield from _children(definition.layers, definition.numbered, names, "", "", ())


def _children(
    nodes: tuple[Node, ...], numbered: bool, names: Names, owner: str, path: str, loops: tuple[int, ...]
) -> Iterator[Visit]:
    """Those of nodes that are made in one place; a stack numbers what is made, without gaps."""
    number = 0
    for node in nodes:
        if evaluate(node.when, names):
            name = str(number) if numbered else node.name
            yield from _visits(node, names, owner, f"{path}.{name}" if path else name, loops)
            number += 1


def _visits(node: Node, names: Names, owner: str, path: str, loops: tuple[int, ...]) -> Iterator[Visit]:
    if node.choose is not None:
        node = node.choose(evaluate(node.choice, names))
    yield Visit(node, owner, path, names, loops)
    own = node.definition
    for key, value in node.arguments.items():
        if isinstance(value, Node):
            yield from _visits(value, names, owner, f"{path}.{key}", loops)
    if node.element is not None:
        for index in range(evaluate(node.repeat, names)):
            yield from _visits(node.element, {**names, "i": index}, owner, f"{path}.{index}", (*loops, index))
    elif own is None or inlined(node):
        numbered = own.numbered if own is not None else node.numbered
        yield from _children(inner_layers(node), numbered, names, owner, path, loops)
    else:
        given = {} if node.kind == "definition" else evaluate(dict(node.arguments), names)
        facts = {"data": names["data"]} if own.sees_data and "data" in names else {}
        inner = instance_names(own, given, names if node.kind == "definition" else facts)
        yield from _children(own.layers, own.numbered, inner, path, path, ())


def classes(definition: Definition) -> list[Definition]:
    """The definitions that become classes, each after those it uses; the model itself is last."""
    found: dict[Path, Definition] = {}

    def visit(node: Node) -> None:
        for value in (*node.arguments.values(), *inner_layers(node)):
            if isinstance(value, Node):
                visit(value)
        if node.definition is not None and not inlined(node):
            add(node.definition)

    def add(part: Definition) -> None:
        if part.place.path not in found:
            for node in part.layers:
                visit(node)
            found[part.place.path] = part

    add(definition)
    return list(found.values())


def nodes_of(definition: Definition) -> Iterator[tuple[Node, int, str]]:
    """The nodes that a class makes itself, each with the number of repeats around it and a name to call it by."""

    def visit(node: Node, depth: int, name: str) -> Iterator[tuple[Node, int, str]]:
        name = node.name if node.name.isidentifier() else name or f"layer{node.name}"
        yield node, depth, name
        for value in node.arguments.values():
            if isinstance(value, Node):
                yield from visit(value, depth, name)
        for child in inner_layers(node):
            yield from visit(child, depth + (node.element is not None), name)

    for node in definition.layers:
        yield from visit(node, 0, "")


def repeat_counts(definition: Definition) -> frozenset[str]:
    """The arguments of a model on which nothing depends but how many copies there are."""
    counts: set[str] = set()
    others: set[str] = set()

    def visit(part: Definition) -> None:
        others.update(part.forward.args if part.forward is not None else ())
        others.update(free_names([argument.default for argument in part.args.values()]))
        for spec in (*part.parameters, *part.buffers):
            others.update(free_names([spec.shape, dict(spec.init_arguments), spec.when]))
            others.update(spec.value.names if spec.value is not None else ())
        for node, _, _ in nodes_of(part):
            counts.update(free_names(node.repeat))
            given = [value for value in node.arguments.values() if not isinstance(value, Node)]
            others.update(free_names([node.when, *given]))
            if node.kind == "definition" and node.definition is not None and not inlined(node):
                visit(node.definition)

    visit(definition)
    return frozenset(counts - others)
