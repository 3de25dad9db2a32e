"""Explored model → drawing: it is run once more and traced, shapes get names, what leads nowhere is left out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from torch import nn

from builder.errors import ConfigError
from builder.inspect.dimensions import NamedCall, Sizes, free_dimensions, inputs_of, name_calls
from builder.inspect.graph.level import Block, Drawing, Level, Wire, collapsed
from builder.inspect.graph.trace import Item, Tracer
from builder.inspect.graph.trace import Level as Traced
from builder.inspect.table import rounded
from builder.model.infer import Exploration, rerun
from builder.model.record import Call
from builder.model.spec import Definition


def draw(definition: Definition, found: Exploration, frozen: Mapping[str, str] | None = None) -> Drawing:
    """The drawing of a model that was explored.

    Args:
        definition: the model.
        found: what its exploration told.
        frozen: module path → what is said of it, for modules that are frozen at first.
    """
    total = sum(parameter.numel() for parameter in found.model.parameters())
    facts = f"{type(found.model).__name__}, {rounded(total)} parameters"
    frozen = frozen or {}
    tracer = _traced(found, found.inputs) if found.ran else None
    if tracer is None:
        level = _unrun(found.model, _Maker(found.model, {}, frozen), "")
        note = "the model can't be run without values, so that no flow is drawn: its parts stand in their order"
        return Drawing(definition.name, facts, level, (note,))
    maker = _Maker(found.model, _names(definition, found, tracer), frozen)
    maker.count(tracer.root)
    level = _with_names(maker.level(tracer.root), tracer.inputs_named, tracer.outputs_named)
    return Drawing(definition.name, facts, collapsed(level))


def _traced(found: Exploration, inputs: Mapping[str, object]) -> Tracer | None:
    tracer = Tracer(found.model, list(inputs))
    try:
        rerun(found, inputs, tracer)
    except ConfigError:
        return None
    return tracer


def _names(definition: Definition, found: Exploration, tracer: Tracer) -> dict[str, NamedCall]:
    """The shapes of what each item of a trace gives, in terms of the free dimensions, by the items' keys."""

    def run(sizes: Sizes) -> Mapping[str, Call] | None:
        other = _traced(found, inputs_of(definition, found, sizes))
        return None if other is None else other.calls()

    return name_calls(free_dimensions(definition, found), tracer.calls(), run)


@dataclass(slots=True)
class _Maker:
    """Makes blocks of the items of a trace."""

    model: nn.Module
    names: Mapping[str, NamedCall]
    frozen: Mapping[str, str]
    calls: dict[str, int] = field(default_factory=dict)
    """How often each module was called."""
    seen: dict[str, int] = field(default_factory=dict)
    number: int = 0
    tied: dict[int, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, parameter in self.model.named_parameters(remove_duplicate=False):
            self.tied.setdefault(id(parameter), []).append(name)

    def count(self, level: Traced) -> None:
        """Count the calls of each module."""
        for item in level.items:
            if item.kind == "module":
                self.calls[item.path] = self.calls.get(item.path, 0) + 1
                if item.inside is not None:
                    self.count(item.inside)

    def level(self, traced: Traced) -> Level:
        """A level with what leads to its end or into a module."""
        kept = _useful(traced)
        places = {index: place for place, index in enumerate(kept)}
        blocks = tuple(self._block(traced.items[index]) for index in kept)
        wires = tuple(
            Wire(places[source], port, places[target], at, self._shape(traced.items[source], port))
            for ((source, port), target), at in traced.edges.items()
            if source in places and target in places
        )
        return Level(blocks, wires)

    def _shape(self, item: Item, port: int) -> tuple[str, ...]:
        named = self.names.get(item.key)
        shapes = named.outputs if named is not None else [tuple(map(str, shape)) for shape in item.shapes]
        return shapes[port]

    def _block(self, item: Item) -> Block:
        self.number += 1
        number = self.number
        if item.kind != "module" or item.module is None:
            return Block(number, item.kind, item.name, path=item.path)
        inside = None if item.inside is None else self.level(item.inside)
        return self.module(item.module, item.name, item.path, number, inside)

    def module(self, module: nn.Module, name: str, path: str, number: int, inside: Level | None) -> Block:
        """The block of a module."""
        count = sum(parameter.numel() for parameter in module.parameters())
        details = [f"{rounded(count).strip()} parameters"] if count else []
        details += self._ties(module, path)
        return Block(
            number, "module", name, type(module).__name__, path, tuple(details), tuple(self._marks(path)), inside
        )

    def _ties(self, module: nn.Module, path: str) -> Iterator[str]:
        """The module's own parameters that are those of others."""
        for key, parameter in module._parameters.items():
            name = f"{path}.{key}" if path else key
            first = self.tied[id(parameter)][0] if parameter is not None else name
            if first != name and not first.startswith(f"{path}."):
                yield f"{key} is {first}"

    def _marks(self, path: str) -> Iterator[str]:
        if self.calls.get(path, 0) > 1 and any(True for _ in self.model.get_submodule(path).parameters()):
            self.seen[path] = self.seen.get(path, 0) + 1
            yield f"shared: call {self.seen[path]} of {self.calls[path]}"
        if path in self.frozen:
            yield self.frozen[path]


def _useful(level: Traced) -> list[int]:
    """The items that lead to the end of a level or into a module, and those that aren't functions."""
    sources: dict[int, list[int]] = {}
    for (source, _), target in level.edges:
        sources.setdefault(target, []).append(source)
    waiting = [index for index, item in enumerate(level.items) if item.kind in ("exit", "module")]
    kept = {0, *waiting}
    while waiting:
        for source in sources.get(waiting.pop(), ()):
            if source not in kept:
                kept.add(source)
                waiting.append(source)
    return sorted(kept)


def _with_names(level: Level, inputs: list[str], outputs: list[str]) -> Level:
    """The outermost level, with a block for each input and output in the place of one for all."""
    first, *middle, last = level.blocks
    many = max(len(inputs), 1)
    ins = [Block(-2 * index - 1, "input", name) for index, name in enumerate(inputs or [""])]
    outs = [Block(-2 * index - 2, "output", name or "output") for index, name in enumerate(outputs or ["output"])]
    end = len(level.blocks) - 1

    def moved(index: int, port: int) -> int:
        if index == 0:
            return min(port, many - 1)
        return many + end - 1 + min(port, len(outs) - 1) if index == end else index + many - 1

    wires = [
        Wire(moved(wire.source, wire.port), wire.port, moved(wire.target, wire.at), wire.at, wire.shape)
        for wire in level.wires
    ]
    return Level((*ins, *middle, *outs), tuple(wires))


def _unrun(module: nn.Module, maker: _Maker, path: str) -> Level:
    """The parts of a module in their order, without wires."""
    blocks = []
    for name, child in module._modules.items():
        if child is not None:
            maker.number += 1
            number, below = maker.number, f"{path}.{name}" if path else name
            plain = type(child).__module__.startswith("torch.nn.") and not list(child.children())
            inside = None if plain or not list(child.children()) else _unrun(child, maker, below)
            blocks.append(maker.module(child, name, below, number, inside))
    return Level(tuple(blocks), ())
