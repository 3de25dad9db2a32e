"""Compares two files of weights, tensor by tensor."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from builder.weights.entries import WeightsFile
from builder.weights.load_report import dtype_name


@dataclass(frozen=True, slots=True)
class Difference:
    """A tensor that two files have and that isn't the same in both.

    `most` is the largest absolute difference of numbers, None where the shapes differ; `nan` says whether the first
    file, and whether the second, has nan where the other one has a number.
    """

    name: str
    shapes: tuple[tuple[int, ...], tuple[int, ...]]
    dtypes: tuple[torch.dtype, torch.dtype]
    most: float | None
    nan: tuple[bool, bool] = (False, False)

    def to_json(self) -> dict[str, Any]:
        """The difference for programs."""
        return {
            "name": self.name, "shapes": [list(shape) for shape in self.shapes],
            "dtypes": [dtype_name(dtype) for dtype in self.dtypes], "max_abs_difference": self.most,
            "nan_only": list(self.nan),
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two files have by themselves, what differs, and the names of the tensors that are equal in each bit."""

    only_first: tuple[str, ...]
    only_second: tuple[str, ...]
    differences: tuple[Difference, ...]
    equal: tuple[str, ...]

    @property
    def is_same(self) -> bool:
        """Whether both hold the same tensors, bit for bit."""
        return not (self.only_first or self.only_second or self.differences)

    def to_json(self) -> dict[str, Any]:
        """The comparison for programs."""
        return {
            "same": self.is_same, "only_first": list(self.only_first), "only_second": list(self.only_second),
            "different": [difference.to_json() for difference in self.differences], "equal": list(self.equal),
        }  # fmt: skip


def compare(first: WeightsFile, second: WeightsFile) -> Comparison:
    """Compare two files; of each one tensor at a time is in memory.

    Raises:
        WeightsError: one is damaged.
    """
    both = [name for name in first.entries if name in second.entries]
    found = {name: _difference(name, first, second) for name in both}
    return Comparison(
        tuple(name for name in first.entries if name not in second.entries),
        tuple(name for name in second.entries if name not in first.entries),
        tuple(difference for difference in found.values() if difference is not None),
        tuple(name for name, difference in found.items() if difference is None),
    )


def _difference(name: str, first: WeightsFile, second: WeightsFile) -> Difference | None:
    shapes = first.shape(name), second.shape(name)
    dtypes = first.dtype(name), second.dtype(name)
    if shapes[0] != shapes[1]:
        return Difference(name, shapes, dtypes, None)
    one, other = first.read(name), second.read(name)
    if dtypes[0] == dtypes[1] and are_equal(one, other):
        return None
    return Difference(name, shapes, dtypes, _most(one, other), _nan(one, other))


def are_equal(one: Tensor, other: Tensor) -> bool:
    """Whether two tensors of one shape hold the same bits, the second in the first one's dtype."""
    return torch.equal(_bits(one), _bits(other.to(one.dtype)))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().reshape(-1).view(torch.uint8)


def _most(one: Tensor, other: Tensor) -> float:
    """The largest absolute difference, computed in float64; where one is nan, or both the same infinity, is none."""
    wide = torch.complex128 if one.is_complex() or other.is_complex() else torch.float64
    one, other = one.to(wide), other.to(wide)
    same = (one == other) | one.isnan() | other.isnan()
    distance = (one - other).abs().masked_fill_(same, 0.0)
    return float(distance.max()) if distance.numel() else 0.0


def _nan(one: Tensor, other: Tensor) -> tuple[bool, bool]:
    first, second = one.isnan(), other.isnan()
    return bool((first & ~second).any()), bool((second & ~first).any())
