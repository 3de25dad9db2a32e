"""What can be said of a classifier beyond its task's metrics: class by class, and which are taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class ClassScore:
    """How well one class is told from the others; None where it isn't defined, for want of samples."""

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    auroc: float | None
    samples: int


def confusion_of(truth: Array, predicted: Array, count: int) -> Array:
    """How many samples of each class (row) were taken for each (column), int64 [C, C]."""
    return np.bincount(truth * count + predicted, minlength=count * count).reshape(count, count)


def class_scores(truth: Array, predicted: Array, shares: Array, classes: Sequence[str]) -> list[ClassScore]:
    """The scores of each class: `truth` and `predicted` [N, C] of 0 and 1, `shares` [N, C] probabilities."""
    return [
        _score(name, truth[:, column], predicted[:, column], shares[:, column]) for column, name in enumerate(classes)
    ]


def _score(name: str, truth: Array, predicted: Array, shares: Array) -> ClassScore:
    right, there, said = int((truth * predicted).sum()), int(truth.sum()), int(predicted.sum())
    auroc = None
    if 0 < there < len(truth):
        from sklearn.metrics import roc_auc_score

        auroc = float(roc_auc_score(truth, shares))
    f1 = 2 * right / (there + said) if there + said else None
    return ClassScore(name, right / said if said else None, right / there if there else None, f1, auroc, there)
