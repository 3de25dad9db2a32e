"""Whether two outputs are the same, and by how much they aren't."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the outputs of an export lie beside the model's, for such `shapes` of inputs.

    `difference` is the largest absolute difference of any number, `scale` the largest absolute number of the model's.
    """

    shapes: tuple[tuple[int, ...], ...]
    difference: float
    scale: float

    def within(self, tolerance: float) -> bool:
        """Whether they differ by no more than this share of the largest number, or of 1 if that is larger."""
        return self.difference <= tolerance * max(self.scale, 1.0)

    def __str__(self) -> str:
        shapes = ", ".join(str(list(shape)) for shape in self.shapes)
        return f"inputs {shapes}: largest difference {self.difference:.3g}, largest output {self.scale:.3g}"


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors of an output, those of mappings and lists in their order."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from tensors(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from tensors(item)


def names(value: Any, prefix: str = "output") -> Iterator[str]:
    """A name for each tensor of an output: its key, or its number."""
    if isinstance(value, Tensor):
        yield prefix
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from names(item, str(key) if prefix == "output" else f"{prefix}_{key}")
    elif isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from names(item, f"{prefix}_{index}")


def agreement(expected: Any, found: Any, given: Sequence[Tensor]) -> Agreement:
    """Compare two outputs tensor by tensor.

    Raises:
        ValueError: they have other shapes, or not as many tensors.
    """
    left, right = list(tensors(expected)), list(tensors(found))
    if [tuple(one.shape) for one in left] != [tuple(one.shape) for one in right]:
        shown = [", ".join(str(list(one.shape)) for one in side) for side in (left, right)]
        raise ValueError(f"the model gives {shown[0] or 'no tensor'}, the export {shown[1] or 'none'}")
    pairs = [(a.detach().cpu().double(), b.detach().cpu().double()) for a, b in zip(left, right, strict=True)]
    differences = [torch.where(a == b, 0.0, (a - b).abs()) for a, b in pairs if a.numel()]
    difference = max((float(one.nan_to_num(float("inf")).max()) for one in differences), default=0.0)
    scale = max((float(a.abs().nan_to_num(0.0, 0.0, 0.0).max()) for a, _ in pairs if a.numel()), default=0.0)
    return Agreement(tuple(tuple(tensor.shape) for tensor in given), difference, scale)
