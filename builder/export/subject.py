"""What is exported: the model of a run, the rows of its data that it is tried on, and the names of its dimensions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from builder.config.compose import Composed
from builder.data.load import load
from builder.errors import BuilderError, UsageError, nearest
from builder.model.infer import explore
from builder.model.source import source
from builder.model.spec import Definition
from builder.opened import OpenedRun, config_of, definition_of, model_of
from builder.training.task import read_task

ROWS = 32
"""Rows of data that an export is compared on."""
TRACED = 3
"""Rows that a graph is traced with; 1 would be taken for a constant."""
BATCH = "B"
"""The first dimension of an input that says nothing of its shape."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A model in evaluation mode, what it is called with, and what is known of it.

    `inputs` are the model's inputs by name, `rows` the tensors for those that the data set gives, in the same order,
    each with the samples in its first dimension. `names` are for each input the names of its free dimensions by their
    index. `notes` say what is unusual.
    """

    run: OpenedRun
    composed: Composed
    definition: Definition
    model: nn.Module
    rows: Mapping[str, Tensor]
    names: Mapping[str, Mapping[int, str]]
    split: str
    notes: tuple[str, ...]

    @property
    def free(self) -> tuple[str, ...]:
        """The names of all free dimensions."""
        return tuple(dict.fromkeys(name for dims in self.names.values() for name in dims.values()))

    def given(self, count: int | None = None) -> tuple[Tensor, ...]:
        """What the model is called with: so many of the rows, or all."""
        return tuple(tensor[:count] for tensor in self.rows.values())

    def code(self) -> str:
        """The model as plain PyTorch."""
        found = explore(self.definition, {}, self.run.facts)
        return source(self.definition, {}, self.run.facts, found)


def subject(run: OpenedRun, count: int = ROWS) -> Subject:
    """The model of a run, with rows of its data, or random ones of their shape where the data can't be read any more.

    Raises:
        BuilderError: the model can't be made here.
    """
    definition, composed = definition_of(run), config_of(run)
    model = model_of(run).requires_grad_(False)
    inputs = [item.name for item in definition.inputs]
    optional = {item.name: not item.optional for item in definition.inputs}
    try:
        rows, split = _real(composed, inputs, optional, count)
        notes = run.notes
    except BuilderError as error:
        rows, split = _made(definition, count), "random"
        notes = (*run.notes, f"compared on random rows, since the data can't be read: {str(error).splitlines()[0]}")
    with torch.inference_mode():
        model(*rows.values())  # whatever is wrong with that is not the export's fault
    return Subject(run, composed, definition, model, rows, _names(composed, definition, rows), split, notes)


def _real(
    composed: Composed, inputs: Sequence[str], required: Mapping[str, bool], count: int
) -> tuple[dict[str, Tensor], str]:
    values, origins = composed.values, composed.origins
    data = load(values["data"], values["seed"], origins)
    task = read_task(values["task"], data.facts, required, origins)
    split = next(split for split in ("test", "val", "train") if split in data.splits)
    batch = next(iter(data.loader(split)))
    given = [tensor for tensor in task.arguments(batch) if tensor is not None]
    return {name: tensor[:count].clone() for name, tensor in zip(inputs, given, strict=False)}, split


def _made(definition: Definition, count: int) -> dict[str, Tensor]:
    """Numbers of the inputs' shapes; names of dimensions are the number of rows."""
    generator = torch.Generator().manual_seed(0)
    rows = {}
    for item in definition.inputs:
        if item.shape is None or item.optional:
            break
        shape = [count if isinstance(size, str) else int(size) for size in item.shape]  # type: ignore[arg-type]
        dtype = getattr(torch, item.dtype)
        drawn = torch.rand(shape, generator=generator)
        rows[item.name] = drawn.to(dtype) if dtype.is_floating_point else torch.zeros(shape, dtype=dtype)
    return rows


def _names(composed: Composed, definition: Definition, rows: Mapping[str, Tensor]) -> dict[str, dict[int, str]]:
    """The names of free dimensions as the config says them; a run's own model has numbers for most."""
    said = composed.values["model"].get("inputs")
    names: dict[str, dict[int, str]] = {}
    for name in rows:
        shape = said.get(name) if isinstance(said, Mapping) else None
        shape = shape.get("shape") if isinstance(shape, Mapping) else shape
        dims = {i: size for i, size in enumerate(shape or ()) if isinstance(size, str) and not size.startswith("=")}
        names[name] = dims or {0: BATCH}
    return names


def chosen(subject: Subject, dynamic: Sequence[str] | None) -> tuple[str, ...] | None:
    """The dimensions that must stay free; None where nobody said, so that all do that can.

    Raises:
        UsageError: the model has no such dimension.
    """
    if dynamic is None:
        return None
    if list(dynamic) == ["none"]:
        return ()
    for name in dynamic:
        if name not in subject.free:
            near = nearest(name, subject.free)
            asked = f"; did you mean {' or '.join(map(repr, near))}?" if near else ""
            raise UsageError(f"no input has a dimension {name!r}: there are {', '.join(subject.free)}{asked}")
    return tuple(dynamic)


def size_of(path: Path) -> int:
    """The bytes of a file."""
    return path.stat().st_size
