"""What a run on the meta device notes: calls, shapes, and which module gave which tensor."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch

from builder.lang.guard import spend

Shape = tuple[int, ...]

STEPS_OF_A_VALUE = 20
"""What looking at a value costs of the steps that a model may take while it is checked."""


@dataclass(frozen=True, slots=True)
class Call:
    """The first call of a module: the shapes of the tensors that went in and came out."""

    path: str
    inputs: tuple[Shape, ...]
    outputs: tuple[Shape, ...]


@dataclass(slots=True)
class Record:
    """What happened so far in a run: finished calls, calls still running, and which module gave which tensor."""

    calls: dict[str, Call] = field(default_factory=dict)
    running: list[tuple[str, tuple[Any, ...]]] = field(default_factory=list)
    givers: list[tuple[torch.Tensor, str]] = field(default_factory=list)

    def giver(self, inputs: tuple[Any, ...]) -> str | None:
        """The path of the innermost module that gave one of these tensors; else of the one that finished last."""
        for tensor, path in self.givers:
            if any(tensor is value for value in inputs):
                return path
        return next(reversed(self.calls), None)


def tensors(value: Any) -> tuple[torch.Tensor, ...]:
    """All tensors in a value, in order."""
    spend(STEPS_OF_A_VALUE)
    if isinstance(value, torch.Tensor):
        return (value,)
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list | tuple):
        return tuple(tensor for item in value for tensor in tensors(item))
    return ()


def shapes(value: Any) -> tuple[Shape, ...]:
    """The shapes of all tensors in a value, in order."""
    return tuple(tuple(tensor.shape) for tensor in tensors(value))
