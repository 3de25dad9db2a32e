"""Numbers about a tensor: what `record` may name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

BINS = 64
"""Of a histogram, of equal width from the least finite value to the largest."""


def _wide(tensor: Tensor) -> Tensor:
    """In float32, unless it is wider."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def mean(tensor: Tensor) -> Tensor:
    """The mean of all elements."""
    return _wide(tensor).mean()


def std(tensor: Tensor) -> Tensor:
    """The standard deviation of all elements, as of a whole population."""
    return _wide(tensor).std(correction=0)


def norm(tensor: Tensor) -> Tensor:
    """The 2-norm: √ of the sum of squares."""
    return torch.linalg.vector_norm(_wide(tensor))


def zeros(tensor: Tensor) -> Tensor:
    """The share of elements that are zero, from 0 to 1."""
    return 1 - tensor.count_nonzero() / tensor.numel()


def non_finite(tensor: Tensor) -> Tensor:
    """How many elements are infinite or no numbers."""
    return (tensor - tensor).count_nonzero()  # of numbers that are finite it is 0: a third of the time of isfinite


STATISTICS: dict[str, Callable[[Tensor], Tensor]] = {
    "mean": mean, "std": std, "norm": norm, "zeros": zeros, "non_finite": non_finite,
}  # fmt: skip
"""Those that are one number."""

RECORDABLE = (*STATISTICS, "histogram")


@dataclass(frozen=True, slots=True)
class Histogram:
    """How many finite elements of a tensor lie in each of `BINS` bins between the least and the largest of them."""

    counts: Tensor
    least: float
    largest: float
    sum: float
    sum_of_squares: float

    @property
    def edges(self) -> list[float]:
        """The `BINS + 1` edges of the bins."""
        return torch.linspace(self.least, self.largest, len(self.counts) + 1, dtype=torch.float64).tolist()


def histogram(tensor: Tensor) -> Histogram | None:
    """The histogram of a tensor; None if it has no finite element."""
    values = _wide(tensor).flatten()
    values = values[torch.isfinite(values)]
    if not values.numel():
        return None
    least, largest = float(values.min()), float(values.max())
    if least == largest:  # all in one bin of some width
        least, largest = least - 0.5, largest + 0.5
    bins = ((values - least) / (largest - least) * BINS).long().clamp(0, BINS - 1)
    counts = torch.bincount(bins, minlength=BINS)  # not torch.histc, which a GPU doesn't compute deterministically
    return Histogram(counts, least, largest, float(values.sum()), float(values.square().sum()))
