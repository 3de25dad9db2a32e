"""What is known of a data set before a model is built, the data set itself, and what is wrong with its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Tensor

from builder.errors import nearest

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
    """What a registered data set returns: for each split its samples, and what is known of them.

    A split's samples are named tensors with the samples in their first dimension, or a `builder.data.sources.Source`.
    A split that has none is left out. `values` are the data set's own facts; those that can be counted
    (`num_train`, `num_val`, `num_test`) are added to them where the data is loaded.

    `state` is what a new sample needs to be brought into the same form (`builder.data.apply`): plain values, saved with
    a run. `notes` say in a line each what was decided about the data. `fits` names the shipped configs that suit it
    (`{"model": "table", "task": "regression"}`).
    """

    splits: Mapping[str, Mapping[str, Tensor]]
    values: Mapping[str, Any]
    state: Mapping[str, Any] | None = None
    notes: Sequence[str] = ()
    fits: Mapping[str, str] = field(default_factory=dict)


class Refusal(ValueError):
    """A data set refuses what it was given; `errors` are the reasons."""

    errors: tuple[ArgumentError, ...] = ()


class ArgumentError(Refusal):
    """An argument of a data set has a value that can't be used; data sets raise it, and it is told with its origin.

    `argument` is its name, or the path to a value inside of it: `("columns", "age")`.
    """

    def __init__(
        self,
        argument: str | tuple[str | int, ...],
        message: str,
        *,
        found: object = None,
        expected: str | None = None,
        nearest: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        super().__init__(message)
        self.argument, self.found, self.expected = argument, found, expected
        self.nearest, self.hint = tuple(nearest), hint
        self.errors = (self,)


class ArgumentErrors(Refusal):
    """Several arguments of a data set can't be used, or one for several reasons; all are told at once."""

    def __init__(self, errors: Sequence[ArgumentError]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = tuple(errors)


def refuse(errors: Sequence[ArgumentError]) -> None:
    """Raise all of `errors` at once, if there are any.

    Raises:
        Refusal: there are.
    """
    if errors:
        raise errors[0] if len(errors) == 1 else ArgumentErrors(errors)


def check_texts(argument: str, value: object) -> None:
    """Refuse a mapping that is empty, or leads from or to something other than texts; any other value is fine.

    Raises:
        Refusal: it is such a mapping.
    """
    if not isinstance(value, Mapping):
        return
    if not value:
        raise ArgumentError(argument, f"{argument} is empty", found=dict(value))
    refuse([
        ArgumentError((argument, key), f"{argument} leads from names to texts", found=item)
        for key, item in value.items()
        if not isinstance(key, str) or not isinstance(item, str)
    ])  # fmt: skip


def facts_of(dataset: Dataset) -> Facts:
    """The facts of a data set: its own values, the sizes of its splits, and the shape and dtype of each tensor."""
    sizes = {f"num_{split}": num_samples(dataset.splits.get(split, {})) for split in SPLITS}
    tensors = {name: fact(tensor[:1]) for name, tensor in dataset.splits["train"].items()}
    return Facts({**sizes, **dataset.values}, tensors)


def fact(tensor: Tensor) -> TensorFact:
    """The fact of a tensor of a batch."""
    return TensorFact(tuple(tensor.shape[1:]), str(tensor.dtype).removeprefix("torch."))


def num_samples(tensors: Mapping[str, Tensor]) -> int:
    """The number of samples in the named tensors of one split; 0 if there are none."""
    return next((len(tensor) for tensor in tensors.values()), 0)


def class_facts(names: Sequence[str], counts: Sequence[int]) -> dict[str, Any]:
    """The facts of a target that is a class; `counts` are the train samples of each class.

    `class_weights` are inversely proportional to the classes' frequencies, 1 on average over the samples.
    """
    total = sum(counts)
    return {
        "num_classes": len(names),
        "num_outputs": len(names),
        "class_names": [str(name) for name in names],
        "class_weights": [float(total / (len(names) * max(count, 1))) for count in counts],
    }


def nearest_split(name: object) -> tuple[str, ...]:
    """The split that is meant by another name for it, if one is."""
    others = {"valid": "val", "validation": "val", "dev": "val", "training": "train", "testing": "test"}
    known = others.get(str(name).lower())
    return (known,) if known else nearest(name, SPLITS)
