"""From what a model predicts to what a person asks for: class names, probabilities, numbers in the target's unit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from builder.errors import UsageError

Scale = Literal["logits", "logarithms", "probabilities"]
"""What the numbers of a prediction about classes are."""


@dataclass(frozen=True, slots=True)
class Answers:
    """How predictions are to be read.

    `classes` are the names of the classes, in the order of the output; `mean` and `std` lead from numbers back to the
    target's unit; `several` says that a sample may have any number of the classes.
    """

    classes: Sequence[str] | None
    scale: Scale
    several: bool = False
    tags: Sequence[str] | None = None
    mean: float = 0.0
    std: float = 1.0

    def columns(self, predicted: Any, count: int, proba: bool, lengths: Tensor | None = None) -> dict[str, list[Any]]:
        """Columns with a value for each of `count` samples: `prediction`, and the probabilities if asked for.

        Raises:
            UsageError: probabilities are asked for, and there are none.
        """
        if isinstance(predicted, Mapping):
            return {str(name): _values(value, count) for name, value in predicted.items() if isinstance(value, Tensor)}
        if isinstance(predicted, tuple | list):
            named = enumerate(predicted)
            return {f"prediction_{i}": _values(value, count) for i, value in named if isinstance(value, Tensor)}
        if self.tags is not None and predicted.dim() == 3:
            return {"tags": _tags(predicted, self.tags, lengths)}
        shares = self.probabilities(predicted)
        if shares is not None:
            return self._classes(shares, proba)
        if proba:
            raise UsageError("there are no probabilities: the model doesn't tell classes apart")
        value = predicted.double() * self.std + self.mean if self._is_number(predicted) else predicted
        value = value.flatten(1)[:, 0] if value.dim() == 2 and value.shape[1] == 1 else value
        return {"prediction": _values(value, count)}

    def _is_number(self, predicted: Tensor) -> bool:
        """Whether a prediction is one of the target, and so in a scale that leads back to its unit."""
        return (self.mean, self.std) != (0.0, 1.0) and predicted.is_floating_point() and predicted.dim() <= 2

    def probabilities(self, predicted: Any) -> Tensor | None:
        """The probability of each class, [N, C] float64; of each label, where a sample may have several; else None."""
        if self.classes is None or not isinstance(predicted, Tensor) or not predicted.is_floating_point():
            return None
        value = predicted.detach().double().cpu()
        if value.dim() == 2 and value.shape[1] == len(self.classes):
            if self.several:
                return value.sigmoid() if self.scale == "logits" else value
            if self.scale == "logits":
                return value.softmax(1)
            return value.exp() if self.scale == "logarithms" else value
        if len(self.classes) == 2 and value.dim() in (1, 2) and value.numel() == len(value):
            second = value.flatten().sigmoid() if self.scale == "logits" else value.flatten()
            return torch.stack([1 - second, second], 1)
        return None

    def _classes(self, shares: Tensor, proba: bool) -> dict[str, list[Any]]:
        assert self.classes is not None
        names = list(self.classes)
        if self.several:
            chosen: list[Any] = [[names[i] for i in row.nonzero().flatten().tolist()] for row in shares > 0.5]
        else:
            chosen = [names[index] for index in shares.argmax(1).tolist()]
        columns = {"prediction": chosen}
        if proba:
            columns |= {f"p_{name}": shares[:, index].tolist() for index, name in enumerate(names)}
        return columns


def read_answers(task: Mapping[str, Any], facts: Mapping[str, Any], state: Mapping[str, Any] | None,
                 data: Mapping[str, Any]) -> Answers:  # fmt: skip
    """How predictions are to be read, by a run's sections `task` and `data` and what it found about its data."""
    names, prediction, loss = facts.get("class_names"), str(task.get("prediction", "output")), _loss(task.get("loss"))
    several = "multilabel" in repr(task.get("metrics")).lower() or ("binary_cross" in loss and not names)
    classes = list(map(str, names)) if names else None
    if several and classes is None and isinstance(facts.get("num_outputs"), int):
        classes = [str(index) for index in range(facts["num_outputs"])]
    mean, std = _unit(facts, state, data)
    tags = list(map(str, state["tags"])) if state is not None and "tags" in state else None
    return Answers(classes, _scale(prediction, loss), several, tags, mean, std)


def _loss(section: Any) -> str:
    """The text of a loss, in small letters."""
    return (section if isinstance(section, str) else repr(section)).lower().replace("bce", "binary_cross_entropy")


def _scale(prediction: str, loss: str) -> Scale:
    """What loss and prediction say of the numbers: cross entropy takes logits, unless they were made shares."""
    if "log_softmax" in prediction or ("nll" in loss and "softmax" not in prediction):
        return "logarithms"
    if "softmax" in prediction or "sigmoid" in prediction:
        return "probabilities"
    binary = "binary_cross_entropy" in loss and "logits" not in loss
    return "probabilities" if binary else "logits"


def _unit(facts: Mapping[str, Any], state: Mapping[str, Any] | None, data: Mapping[str, Any]) -> tuple[float, float]:
    """Mean and standard deviation that were taken from a target that is a number."""
    target = (state or {}).get("target")
    if isinstance(target, Mapping) and target.get("classes") is None:
        return float(target.get("mean", 0.0)), float(target.get("std", 1.0))
    if "target_mean" in facts and data.get("standardise_target"):
        return float(facts["target_mean"]), float(facts["target_std"]) or 1.0
    return 0.0, 1.0


def _values(value: Tensor, count: int) -> list[Any]:
    """A tensor as a value for each sample; arrays where it has more than a number for each.

    Raises:
        UsageError: it hasn't one for each sample.
    """
    if not value.dim() or len(value) != count:
        raise UsageError(
            f"the model predicts a tensor {list(value.shape)} for {count} samples, which is not one for each"
        )
    value = value.detach().cpu()
    value = value.float() if value.dtype in (torch.float16, torch.bfloat16) else value
    return value.tolist() if value.dim() == 1 else list(value.numpy())


def _tags(output: Tensor, tags: Sequence[str], lengths: Tensor | None) -> list[list[str]]:
    """The most likely tag of each token, without those of padding."""
    found = output.argmax(-1).tolist()
    ends = [len(row) for row in found] if lengths is None else lengths.tolist()
    return [[tags[index] for index in row[:end]] for row, end in zip(found, ends, strict=True)]
