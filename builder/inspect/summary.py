"""What a model comes to, layer by layer: shapes, parameters, FLOPs, memory. Nothing is allocated."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from builder.errors import ConfigError, dotted
from builder.inspect.dimensions import (
    NamedCall,
    NamedShape,
    batch_dimensions,
    free_dimensions,
    inputs_of,
    named_calls,
)
from builder.inspect.memory import Memory, memory
from builder.inspect.meter import Meter
from builder.model.infer import Exploration, rerun
from builder.model.spec import Definition


@dataclass(frozen=True, slots=True)
class Row:
    """One module.

    Shapes are those of its first call. `parameters` and `trainable` count all that lies in it, except what an earlier
    module holds too; `flops` those of all its calls in one forward pass, None where the model wasn't run. `copies` is
    more than one for a row that stands for several modules that are alike; its figures are those of one.
    """

    name: str
    path: str
    type: str
    inputs: tuple[NamedShape, ...] = ()
    outputs: tuple[NamedShape, ...] = ()
    parameters: int = 0
    trainable: int = 0
    flops: int | None = None
    calls: int = 0
    trained: str = ""
    """`yes`, `no`, `part`, or empty for a module without parameters."""
    notes: tuple[str, ...] = ()
    children: tuple[Row, ...] = ()
    copies: int = 1


@dataclass(frozen=True, slots=True)
class Summary:
    """A model: the root of its rows, and what holds for all of it.

    `sizes` are those of the free dimensions for which `flops` and `memory.activations` hold; `batch` are those of them
    that come first in an input. `guessed` has those of which neither data nor user said anything, each with the
    override that gives a size.
    """

    root: Row
    sizes: Mapping[str, int]
    batch: tuple[str, ...]
    guessed: Mapping[str, str]
    memory: Memory
    not_run: str = ""
    """Why the model could not be run, so that there are no shapes and no FLOPs."""
    phases: tuple[str, ...] = ()
    """How much trains from when on, as lines of a table; none if nothing is frozen."""


def summarise(
    definition: Definition,
    found: Exploration,
    *,
    batch: int | None = None,
    known: Sequence[str] = (),
    optimizer: Optimizer | None = None,
) -> Summary:
    """Measure a model that was explored.

    Args:
        definition: the model.
        found: what its exploration told.
        batch: samples in a batch; None for one, or if it doesn't run with one, as many as it was explored with.
        known: the inputs whose sizes the data set gave.
        optimizer: the optimiser of `found.model`, for its state.

    Raises:
        ConfigError: the model doesn't run with a batch of that size.
    """
    names = named_calls(definition, found)
    sizes, meter = _measured(definition, found, batch)
    needed = memory(found.model, optimizer, meter.saved_bytes if found.ran else None)
    root = _Rows(found, names, meter).root(definition.name)
    first = batch_dimensions(definition, found)
    return Summary(root, sizes, first, _guessed(definition, found, known), needed, _why_not_run(found))


def _why_not_run(found: Exploration) -> str:
    if found.ran:
        return ""
    if found.inputs:
        return "what flows through the model depends on the data's values."
    return "nothing is known of the model's inputs. Declare them: `inputs: {x: [B, 3, 32, 32]}`."


def _measured(definition: Definition, found: Exploration, batch: int | None) -> tuple[dict[str, int], Meter]:
    """The sizes of the free dimensions in the run that was measured, and its measures."""
    free, first = free_dimensions(definition, found), batch_dimensions(definition, found)
    meter = Meter(found.model)
    if not found.ran:
        return free, meter
    sizes = free | dict.fromkeys(first, batch or 1)
    try:
        rerun(found, inputs_of(definition, found, sizes), meter)
    except ConfigError as error:
        if batch is None:
            return _measured(definition, found, min((free[name] for name in first), default=1))
        hint = f"it runs with batches of {free[first[0]]}" if first else None
        raise ConfigError(*(replace(fault, hint=fault.hint or hint) for fault in error.faults)) from None
    return sizes, meter


def _guessed(definition: Definition, found: Exploration, known: Sequence[str]) -> dict[str, str]:
    """The free dimensions, besides the first ones, of inputs that no data set gives."""
    free, first = free_dimensions(definition, found), batch_dimensions(definition, found)
    given = {dim for item in definition.inputs if item.name in known for dim in item.shape or ()}
    guessed: dict[str, str] = {}
    for item in definition.inputs:
        shape = ",".join(str(dim if dim in first else free.get(str(dim), dim)) for dim in item.shape or ())
        key = dotted((*definition.place.path, "inputs", item.name, *(["shape"] if item.dtype != "float32" else [])))
        for dim in item.shape or ():
            if isinstance(dim, str) and dim in free and dim not in first and dim not in given:
                guessed.setdefault(dim, f"{key}=[{shape}]")
    return guessed


@dataclass(slots=True)
class _Rows:
    """Makes the rows of a model, depth first: what is met again is counted no more."""

    found: Exploration
    names: Mapping[str, NamedCall]
    meter: Meter
    modules: dict[int, str] = field(default_factory=dict)
    parameters: dict[int, str] = field(default_factory=dict)

    def root(self, name: str) -> Row:
        """The row of the model."""
        return self._row(self.found.model, name, "")

    def _row(self, module: nn.Module, name: str, path: str, within: int = 1) -> Row:
        """The row of a module in one that was called `within` times."""
        if id(module) in self.modules:
            return Row(name, path, type(module).__name__, notes=(f"is {self.modules[id(module)]}",))
        self.modules[id(module)] = path
        new, notes = self._own(module, path)
        calls = self.meter.calls.get(path, 0)
        children = tuple(
            self._row(child, key, f"{path}.{key}" if path else key, calls or within)
            for key, child in module._modules.items()
            if child is not None
        )
        call = self.names.get(path, NamedCall((), ()))
        return Row(
            name, path, type(module).__name__, call.inputs, call.outputs,
            parameters=sum(parameter.numel() for parameter in new) + sum(child.parameters for child in children),
            trainable=sum(parameter.numel() for parameter in new if parameter.requires_grad)
            + sum(child.trainable for child in children),
            flops=self._flops(path, children), calls=calls, trained=_trained(module),
            notes=(*self._calls(path, calls, within, children), *notes), children=children,
        )  # fmt: skip

    def _own(self, module: nn.Module, path: str) -> tuple[list[nn.Parameter], list[str]]:
        """The module's own parameters that no earlier module has, and a note of each that one has."""
        new, notes = [], []
        for name, parameter in module._parameters.items():
            if parameter is None:
                continue
            if id(parameter) in self.parameters:
                notes.append(f"{name} is {self.parameters[id(parameter)]}")
            else:
                self.parameters[id(parameter)] = f"{path}.{name}" if path else name
                new.append(parameter)
        return new, notes

    def _flops(self, path: str, children: Sequence[Row]) -> int | None:
        if not self.found.ran:
            return None
        if path in self.meter.flops:
            return self.meter.flops[path]
        return sum(child.flops or 0 for child in children)

    def _calls(self, path: str, calls: int, within: int, children: Sequence[Row]) -> Iterator[str]:
        """How often it was called, where that isn't once a call of what it lies in.

        Layers of a layer written in Python that isn't called are its own matter.
        """
        if calls > within:
            yield f"{calls} calls"
        elif not calls and self.found.ran and path in self.found.nodes and not any(map(_was_called, children)):
            yield "not called"


def _was_called(row: Row) -> bool:
    return row.calls > 0 or any(map(_was_called, row.children))


def _trained(module: nn.Module) -> str:
    trainable = {parameter.requires_grad for parameter in module.parameters()}
    return "part" if len(trainable) == 2 else "" if not trainable else "yes" if True in trainable else "no"


def collapsed(row: Row) -> Row:
    """The row with numbered children that are alike and follow each other drawn together: `0-31`."""
    children: list[Row] = []
    for child in map(collapsed, row.children):
        last = children[-1] if children else None
        if last is not None and child.name.isdecimal() and last.name.partition("-")[0].isdecimal():
            if _kind(last) == _kind(child):
                first = last.name.partition("-")[0]
                children[-1] = replace(last, name=f"{first}-{child.name}", copies=last.copies + 1)
                continue
        children.append(child)
    return replace(row, children=tuple(children))


def _kind(row: Row) -> Row:
    """The row without what differs between copies."""
    return replace(row, name="", path="", copies=1, children=tuple(
        replace(_kind(child), name=child.name, copies=child.copies) for child in row.children))  # fmt: skip


def as_json(summary: Summary, depth: int | None = None) -> dict[str, Any]:
    """The summary for programs: plain values, one entry a module, copies apart."""
    needed = summary.memory
    return {
        "sizes": dict(summary.sizes),
        "guessed": list(summary.guessed),
        "parameters": summary.root.parameters,
        "trainable": summary.root.trainable,
        "flops": summary.root.flops,
        "memory": {
            "weights": needed.weights,
            "gradients": needed.gradients,
            "optimizer": needed.optimizer or None,
            "optimizer_state": needed.optimizer_state,
            "activations": needed.activations,
            "total": needed.total,
        },
        "phases": list(summary.phases),
        "modules": [_as_json(row) for row, _ in walk(summary.root, depth)],
    }


def _as_json(row: Row) -> dict[str, Any]:
    return {
        "path": row.path, "type": row.type,
        "inputs": [list(shape) for shape in row.inputs], "outputs": [list(shape) for shape in row.outputs],
        "parameters": row.parameters, "trainable": row.trainable, "flops": row.flops, "calls": row.calls,
        "notes": list(row.notes),
    }  # fmt: skip


def walk(row: Row, depth: int | None = None, at: int = 0) -> Iterator[tuple[Row, int]]:
    """A row and those below it down to `depth`, each with its depth; the model itself has 0."""
    yield row, at
    if depth is None or at < depth:
        for child in row.children:
            yield from walk(child, depth, at + 1)
