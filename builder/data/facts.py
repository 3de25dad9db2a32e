"""What is known of a data set before a model is built, and the data set itself as tensors in memory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from torch import Tensor

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class TensorFact:
    """One tensor of a batch: its shape without the batch dimension, and its dtype (`float32`, `int64`)."""

    shape: tuple[int, ...]
    dtype: str


@dataclass(frozen=True, slots=True)
class Facts:
    """`values` are what formulas see as `data.<name>`, `tensors` the tensors of every batch by name."""

    values: Mapping[str, Any]
    tensors: Mapping[str, TensorFact]


@dataclass(frozen=True, slots=True)
class Dataset:
    """What a registered data set returns: for each split its named tensors, the samples in their first dimension.

    A split that has no samples is left out. `values` are the data set's own facts; those that can be counted from the
    tensors (`num_train`, `num_val`, `num_test`) are added to them where the data is loaded.
    """

    splits: Mapping[str, Mapping[str, Tensor]]
    values: Mapping[str, Any]


class ArgumentError(ValueError):
    """An argument of a data set has a value that can't be used; data sets raise it, and it is told with its origin."""

    def __init__(self, argument: str, message: str, *, found: object = None, expected: str | None = None) -> None:
        super().__init__(message)
        self.argument, self.found, self.expected = argument, found, expected


def facts_of(dataset: Dataset) -> Facts:
    """The facts of a data set: its own values, the sizes of its splits, and the shape and dtype of each tensor."""
    sizes = {f"num_{split}": num_samples(dataset.splits.get(split, {})) for split in SPLITS}
    tensors = {
        name: TensorFact(tuple(tensor.shape[1:]), str(tensor.dtype).removeprefix("torch."))
        for name, tensor in dataset.splits["train"].items()
    }
    return Facts({**sizes, **dataset.values}, tensors)


def num_samples(tensors: Mapping[str, Tensor]) -> int:
    """The number of samples in the named tensors of one split; 0 if there are none."""
    return next((len(tensor) for tensor in tensors.values()), 0)
