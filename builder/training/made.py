"""Tensors that a task makes of those of a batch, by expressions: pairs, noisy inputs, labels that follow."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from builder.config.origin import Origins
from builder.errors import Path
from builder.lang.guard import bounded
from builder.training.raised import TermError, told
from builder.training.terms import Expression, TaskReader

TAKEN = ("output", "prediction")
"""Names that expressions of a task have for something else."""


class Shaped(Protocol):
    """A tensor of a batch: its shape without the batch dimension, and its dtype."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Its shape without the batch dimension."""

    @property
    def dtype(self) -> str:
        """Its dtype, `float32`."""


def read_tensors(section: Any, reader: TaskReader, path: Path) -> dict[str, Expression]:
    """The tensors of the section `task.tensors`, in order; each is known to `reader` from then on.

    One that is wrong is known too, so as not to be told of again.
    """
    made: dict[str, Expression] = {}
    if not isinstance(section, Mapping):
        reader.fault("tensors is no mapping", path, found=section, expected="expressions by name: {noisy: x + 0.1}")
        return made
    for name, text in section.items():
        place = (*path, name)
        problem = _problem(name, reader)
        if problem is not None:
            reader.fault(problem, place)
            continue
        expression = reader.expression(text, reader.tensors, place)
        reader.tensors = (*reader.tensors, name)
        if expression is not None:
            made[name] = told(expression, place, reader.origins.of(place))
    return made


def _problem(name: Any, reader: TaskReader) -> str | None:
    if not isinstance(name, str) or not name.isidentifier():
        return "no name of a tensor: letters, digits and _ make one"
    if name in TAKEN:
        return f"a tensor can't be called {name!r}: that is what the model gives"
    return f"a batch already has a tensor {name!r}" if name in reader.tensors else None


def complete(batch: Mapping[str, Tensor], tensors: Mapping[str, Expression]) -> Mapping[str, Tensor]:
    """The batch with the tensors that are made of it; those it already has are left as they are.

    They are put into the batch itself, so that what is drawn at random is drawn once a step.
    """
    for name, term in tensors.items():
        if name not in batch:
            assert isinstance(batch, dict)
            batch[name] = term(batch)
    return batch


def shapes_of(
    section: Any, tensors: Mapping[str, Shaped], size: int, origins: Origins, path: Path = ("task", "tensors")
) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape (with a batch of `size` samples) and dtype of each tensor that the section makes, as far as it can be.

    What is wrong with the section isn't told here.
    """
    if not isinstance(section, Mapping):
        return {}
    reader = TaskReader({}, tuple(tensors), origins)
    made = read_tensors(section, reader, path)
    given = {name: torch.zeros((size, *fact.shape), dtype=getattr(torch, fact.dtype)) for name, fact in tensors.items()}
    batch: dict[str, Tensor] = dict(given)
    for name, term in made.items():
        try:
            with bounded():
                batch[name] = term(batch)
        except TermError:  # told of where the task is tried out
            continue
    found = {name: value for name, value in batch.items() if name not in given and isinstance(value, Tensor)}
    return {name: (tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in found.items()}
