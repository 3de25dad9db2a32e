"""Where the values came from that a fault in a model is about: the override or line that gave an argument its value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from builder.errors import Fault, Origin, dotted
from builder.lang.formula import Formula
from builder.model.make import Maker
from builder.model.source_names import free_names
from builder.model.spec import Definition, Node, Place, Value


def traced(faults: Iterable[Fault], maker: Maker) -> list[Fault]:
    """The faults of a model, each with the origins of the arguments that its formulas use, where they lie elsewhere."""
    return [replace(fault, givers=tuple(dict.fromkeys(_givers(fault, maker)))) for fault in faults]


def _givers(fault: Fault, maker: Maker) -> Iterator[str]:
    found = _blamed(fault, maker)
    if found is None:
        return
    owner, value = found
    for name in sorted(free_names(value)):
        place = _source(name, owner, maker)
        if place is not None and _elsewhere(place.origin, fault.origin):
            yield f"{dotted(place.path)}: {place.origin}"


def _elsewhere(place: Origin, fault: Origin) -> bool:
    """Whether an origin says more than the fault's own does."""
    return place.override is not None or (place.file is not None and place.file != fault.file)


def _blamed(fault: Fault, maker: Maker) -> tuple[str, Value] | None:
    """What the fault is about, and the module path of the instance in whose definition that stands."""
    for path, node in maker.nodes.items():
        depth = len(node.place.path)
        if fault.path[:depth] == node.place.path and (rest := fault.path[depth:]) in _keys(node):
            whole = [*node.arguments.values(), node.repeat, node.when, node.choice]
            return _owner(path, maker), node.arguments.get(str(rest[-1]), node.choice) if rest else whole
    for path, definition in maker.made.items():
        for spec in (*definition.parameters, *definition.buffers):
            if fault.path[: len(spec.place.path)] == spec.place.path:
                return path, [spec.shape, dict(spec.init_arguments), spec.when]
    return None


def _keys(node: Node) -> list[tuple[str | int, ...]]:
    """What may follow a node's path: nothing, its type, an argument's name."""
    return [(), ("type",), *((key,) for key in node.arguments), *(("args", key) for key in node.arguments)]


def _owner(path: str, maker: Maker) -> str:
    """The module path of the instance of a definition that a module stands in."""
    while path:
        path = path.rpartition(".")[0]
        if path in maker.made:
            break
    return path


def _source(name: str, owner: str, maker: Maker) -> Place | None:
    """Where the value of a name was written, that formulas see in an instance: through blocks to whoever gave it."""
    while True:
        definition: Definition = maker.made[owner]
        node = maker.nodes.get(owner)
        if name not in definition.args:
            if not owner or node is None or node.kind != "definition":
                return None  # `i`, `data`
            owner = _owner(owner, maker)
            continue
        if node is None or name not in node.arguments:
            return definition.args[name].place
        value, place = node.arguments[name], node.argument_places[name]
        names = free_names(value)
        if not isinstance(value, Formula) or len(names) != 1 or not owner:
            return place
        (name,), owner = names, _owner(owner, maker)
