"""Pictures of how well a model does: confusion, curves, calibration, residuals, reconstructions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from builder.durable import write_file

Array = NDArray[Any]
DPI = 130
NAMED = 10
"""Classes that get a colour and a name of their own in a picture of curves; of more only the mean is named."""
NUMBERED = 25
"""Classes for which a picture of a confusion matrix has numbers in its cells."""
BINS = 15
"""Bins of confidence of a calibration curve."""
GREY = "0.6"


def figure(width: float, height: float) -> Any:
    """An empty figure, in inches; matplotlib is imported here, and no window is ever opened."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    made = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(made)
    return made


def save(made: Any, path: Path) -> None:
    """Write a figure as PNG, whole or not at all.

    Raises:
        RunError: the system refuses.
    """
    write_file(path, lambda file: made.savefig(file, format="png", dpi=DPI))


def confusion(counts: Array, classes: Sequence[str]) -> Any:
    """The confusion matrix [C, C]: rows are true classes, columns predicted ones; colours are shares of the row."""
    size = max(4.0, min(0.45 * len(classes) + 2, 14.0))
    made = figure(size + 1, size)
    axes = made.subplots()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    few = len(classes) <= 60
    places = list(range(len(classes))) if few else []
    axes.set_xticks(places, classes if few else [], rotation=90 if max(map(len, classes)) > 2 else 0)
    axes.set_yticks(places, classes if few else [])
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    if len(classes) <= NUMBERED:
        for row, column in zip(*np.nonzero(counts), strict=True):
            dark = shares[row, column] > 0.5
            axes.text(column, row, str(int(counts[row, column])), ha="center", va="center", fontsize=8,
                      color="white" if dark else "black")  # fmt: skip
    made.colorbar(shown, ax=axes, label="share of the true class", shrink=0.8)
    return made


def roc(truth: Array, shares: Array, classes: Sequence[str]) -> Any:
    """True against false positives, a curve for each class: `truth` [N, C] of 0 and 1, `shares` [N, C]."""
    from sklearn.metrics import auc, roc_curve

    def curve(column: int) -> tuple[Array, Array, float]:
        x, y, _ = roc_curve(truth[:, column], shares[:, column])
        return x, y, float(auc(x, y))

    made, axes = _curves(truth, classes, curve, "AUC")
    axes.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    axes.set_xlabel("false positive rate")
    axes.set_ylabel("true positive rate")
    return made


def precision_recall(truth: Array, shares: Array, classes: Sequence[str]) -> Any:
    """Precision against recall, a curve for each class against the others."""
    from sklearn.metrics import average_precision_score, precision_recall_curve

    def curve(column: int) -> tuple[Array, Array, float]:
        precision, recall, _ = precision_recall_curve(truth[:, column], shares[:, column])
        return recall, precision, float(average_precision_score(truth[:, column], shares[:, column]))

    made, axes = _curves(truth, classes, curve, "AP", where="lower left")
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    return made


def _curves(truth: Array, classes: Sequence[str], curve: Any, what: str, where: str = "lower right") -> tuple[Any, Any]:
    """A curve for each class that has samples of it and of others; two classes are one curve, that of the second."""
    made = figure(5.5, 5)
    axes = made.subplots()
    both = [column for column in range(len(classes)) if 0 < truth[:, column].sum() < len(truth)]
    both = both[-1:] if len(classes) == 2 else both
    scores = []
    for column in both:
        x, y, score = curve(column)
        scores.append(score)
        if len(both) <= NAMED:
            axes.plot(x, y, linewidth=1.4, label=f"{classes[column]} ({what} {score:.3f})")
        else:
            axes.plot(x, y, linewidth=0.6, color="tab:blue", alpha=0.35)
    axes.set_title(f"mean {what} {np.mean(scores):.3f} of {len(both)} classes" if len(both) > 1 else "", fontsize=10)
    axes.set_xlim(-0.02, 1.02)
    axes.set_ylim(-0.02, 1.02)
    if 0 < len(both) <= NAMED:
        axes.legend(fontsize=8, loc=where)
    return made, axes


def calibration(confidence: Array, right: Array) -> tuple[Any, float]:
    """How often predictions of each confidence are right, and the expected calibration error.

    The error is the mean distance of both, bins weighted by their samples (Guo et al. 2017, arXiv:1706.04599).
    """
    place = np.minimum((confidence * BINS).astype(int), BINS - 1)
    counts = np.bincount(place, minlength=BINS)
    known = counts > 0
    mean = np.bincount(place, confidence, BINS)[known] / counts[known]
    share = np.bincount(place, right.astype(float), BINS)[known] / counts[known]
    error = float((np.abs(mean - share) * counts[known]).sum() / max(len(confidence), 1))
    made = figure(5.5, 6)
    upper, lower = made.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    upper.plot([0, 1], [0, 1], color=GREY, linestyle=":", linewidth=1)
    upper.plot(mean, share, marker="o", markersize=4, linewidth=1.4)
    upper.set_ylabel("share that is right")
    upper.set_title(f"expected calibration error {error:.3f}", fontsize=10)
    upper.set_ylim(-0.02, 1.02)
    lower.bar((np.arange(BINS) + 0.5) / BINS, counts, width=0.9 / BINS, color="tab:blue")
    lower.set_xlabel("confidence")
    lower.set_ylabel("samples")
    lower.set_xlim(-0.02, 1.02)
    return made, error


def residuals(predicted: Array, target: Array, name: str) -> Any:
    """Predicted against true values, and what is left, over what was predicted and as a histogram; all [N]."""
    made = figure(12, 4)
    left, middle, right = made.subplots(1, 3)
    rest = target - predicted
    style = {"s": 10, "alpha": float(np.clip(300 / max(len(target), 1), 0.1, 0.7)), "linewidths": 0}
    ends = [min(predicted.min(), target.min()), max(predicted.max(), target.max())]
    left.plot(ends, ends, color=GREY, linestyle=":", linewidth=1)
    left.scatter(target, predicted, **style)
    left.set_xlabel(f"true {name}")
    left.set_ylabel(f"predicted {name}")
    middle.axhline(0, color=GREY, linestyle=":", linewidth=1)
    middle.scatter(predicted, rest, **style)
    middle.set_xlabel(f"predicted {name}")
    middle.set_ylabel("true - predicted")
    right.hist(rest, bins=min(50, max(10, int(np.sqrt(len(rest))))), color="tab:blue")
    right.axvline(0, color=GREY, linestyle=":", linewidth=1)
    right.set_title(f"mean {rest.mean():.4g}, standard deviation {rest.std():.4g}", fontsize=10)
    right.locator_params(axis="x", nbins=5)
    right.set_xlabel("true - predicted")
    right.set_ylabel("samples")
    return made


def reconstructions(given: Array, made_of_it: Array) -> Any:
    """What went in above what came out: pictures [N, C, H, W] with one channel or three, any other shape as curves."""
    count = len(given)
    made = figure(max(1.1 * count, 3), 2.6)
    grid = made.subplots(2, count, squeeze=False)
    low, high = float(given.min()), float(given.max())
    for row, (values, name) in enumerate(((given, "input"), (made_of_it, "output"))):
        for column in range(count):
            axes = grid[row, column]
            axes.set_xticks([])
            axes.set_yticks([])
            _draw(axes, values[column], low, high)
        grid[row, 0].set_ylabel(name)
    return made


def _draw(axes: Any, value: Array, low: float, high: float) -> None:
    if value.ndim == 3 and value.shape[0] in (1, 3):
        value = (
            value[0]
            if value.shape[0] == 1
            else np.clip((value - low) / max(high - low, 1e-12), 0, 1).transpose(1, 2, 0)
        )
    if value.ndim in (2, 3) and value.shape[-1] > 1:
        axes.imshow(value, cmap="gray", vmin=low, vmax=high)
    else:
        axes.plot(value.flatten(), linewidth=0.8)
        axes.set_ylim(low, high)


def projection(points: Array, labels: Array | None, classes: Sequence[str] | None, title: str) -> Any:
    """Points [N, 2] of a projection, coloured by class or by value [N]."""
    made = figure(7, 6)
    axes = made.subplots()
    style = {"s": 12, "alpha": 0.8, "linewidths": 0}
    if labels is None:
        axes.scatter(points[:, 0], points[:, 1], **style)
    elif labels.dtype.kind in "iu" and len(np.unique(labels)) <= 20:
        from matplotlib import colormaps

        colours = colormaps["tab10" if len(np.unique(labels)) <= 10 else "tab20"]
        for index, label in enumerate(np.unique(labels)):
            chosen = labels == label
            name = classes[label] if classes is not None and 0 <= label < len(classes) else str(label)
            axes.scatter(points[chosen, 0], points[chosen, 1], color=colours(index), label=name, **style)
        axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5), markerscale=1.5)
    else:
        made.colorbar(axes.scatter(points[:, 0], points[:, 1], c=labels, cmap="viridis", **style), ax=axes)
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_title(title, fontsize=10)
    return made
