"""Metrics that are known to take what they are given, without importing torchmetrics.

A rule answers for ordinary arguments and tensors of a common metric alone, and says nothing more than that it is fine.
Whatever else there is takes torchmetrics itself to judge. A test compares each rule with the metric it stands for.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor

from builder.catalog.known import NotKnown
from builder.registry import Registry
from builder.registry import metrics as registered

INDICES = (torch.int64, torch.int32)


class Known:
    """Stands for a metric; a subclass says of which arguments and tensors it is known that they are fine."""

    higher_is_better: bool | None = None

    def update(self, *tensors: Any) -> None:
        """See that the metric would take these tensors.

        Raises:
            NotKnown: it isn't known whether it would.
        """
        if not all(isinstance(tensor, Tensor) for tensor in tensors) or not self.takes(*tensors):
            raise NotKnown(f"{type(self).__name__} of these tensors")

    def takes(self, *tensors: Tensor) -> bool:
        """Whether these tensors are surely fine."""
        raise NotImplementedError


class Multiclass(Known):
    """Of scores [B, C, …] or classes [B, …], and of classes [B, …]."""

    def __init__(
        self, num_classes: int, average: Literal["micro", "macro", "weighted"] = "macro",
        ignore_index: int | None = None,
    ) -> None:  # fmt: skip
        self.count, self.ignored = num_classes, ignore_index
        if num_classes < 2:
            raise NotKnown(f"{num_classes} classes")

    def takes(self, *tensors: Tensor) -> bool:
        """Whether all classes are ones that there are."""
        prediction, target = _two(tensors)
        if prediction.is_floating_point():
            shape = (*prediction.shape[:1], *prediction.shape[2:])
            fits = prediction.dim() > 1 and prediction.shape[1] == self.count and target.shape == shape
        else:
            fits = prediction.shape == target.shape and _within(prediction, self.count, None)
        return fits and _within(target, self.count, self.ignored)


class Binary(Known):
    """Of scores [B, …] and of 0 and 1 [B, …]."""

    def __init__(self, threshold: float = 0.5) -> None:
        if not 0 < threshold < 1:
            raise NotKnown(f"a threshold of {threshold}")

    def takes(self, *tensors: Tensor) -> bool:
        """Whether there is one score for each."""
        prediction, target = _two(tensors)
        return prediction.is_floating_point() and prediction.shape == target.shape and _within(target, 2, None)


class BinaryCurve(Binary):
    """The same without a threshold."""

    def __init__(self) -> None:
        super().__init__()


class Multilabel(Known):
    """Of scores [B, L] and of 0 and 1 [B, L]."""

    def __init__(self, num_labels: int, threshold: float = 0.5) -> None:
        self.count = num_labels
        if num_labels < 2 or not 0 < threshold < 1:
            raise NotKnown(f"{num_labels} labels, a threshold of {threshold}")

    def takes(self, *tensors: Tensor) -> bool:
        """Whether there is one score for each label."""
        prediction, target = _two(tensors)
        fits = prediction.is_floating_point() and prediction.shape == target.shape and prediction.dim() == 2
        return fits and prediction.shape[1] == self.count and _within(target, 2, None)


class Distance(Known):
    """Of numbers, and of as many."""

    def takes(self, *tensors: Tensor) -> bool:
        """Whether both are of one shape."""
        prediction, target = _two(tensors)
        return prediction.shape == target.shape and {prediction.dtype, target.dtype} == {torch.float32}


class Determination(Distance):
    """Of numbers [B], and of as many."""

    def takes(self, *tensors: Tensor) -> bool:
        """Whether both have one dimension."""
        return tensors[0].dim() == 1 and super().takes(*tensors)


class Tokens(Known):
    """Of scores [B, T, V] and of indices [B, T]."""

    def __init__(self, ignore_index: int | None = None) -> None:
        self.ignored = ignore_index

    def takes(self, *tensors: Tensor) -> bool:
        """Whether all indices are ones that there are."""
        scores, target = _two(tensors)
        fits = scores.dtype == torch.float32 and scores.dim() == 3 and target.shape == scores.shape[:2]
        return fits and target.dtype == torch.int64 and _within(target, scores.shape[2], self.ignored)


def _two(tensors: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
    if len(tensors) != 2 or any(tensor.numel() == 0 or tensor.is_complex() for tensor in tensors):
        raise NotKnown("other than two tensors with numbers in them")
    return tensors[0], tensors[1]


def _within(target: Tensor, count: int, ignored: int | None) -> bool:
    """Whether all numbers are classes below `count`, or the ignored one."""
    if target.dtype not in INDICES:
        return False
    fine = (target >= 0) & (target < count)
    return bool((fine if ignored is None else fine | (target == ignored)).all())


_COUNTED = {"Accuracy": True, "F1Score": True, "Precision": True, "Recall": True, "Specificity": None}
RULES: dict[str, tuple[type[Known], bool | None]] = {
    **{f"Multiclass{name}": (Multiclass, higher) for name, higher in _COUNTED.items()},
    **{f"Binary{name}": (Binary, higher) for name, higher in _COUNTED.items()},
    **dict.fromkeys(("BinaryAUROC", "BinaryAveragePrecision"), (BinaryCurve, True)),
    **{f"Multilabel{name}": (Multilabel, higher) for name, higher in _COUNTED.items()},
    "MultilabelExactMatch": (Multilabel, True),
    **dict.fromkeys(("MeanAbsoluteError", "MeanSquaredError"), (Distance, False)),
    "R2Score": (Determination, True),
    "Perplexity": (Tokens, False),
}
"""By the metric's name: its rule, and whether higher is better as torchmetrics says it."""


class KnownMetrics(Registry):
    """The registry of metrics as far as there are rules."""

    def __init__(self) -> None:
        super().__init__("metric")

    def get(self, name: str) -> Any:
        """What stands for the metric of that name.

        Raises:
            NotKnown: nothing does.
        """
        if name not in RULES or registered.added(name):
            raise NotKnown(f"metric {name}")
        rule, higher = RULES[name]
        return type(name, (rule,), {"higher_is_better": higher})
