"""Curves of runs as a picture, drawn by matplotlib."""

from __future__ import annotations

import io
import math
import pathlib
from collections.abc import Mapping, Sequence

from builder.durable import write_bytes
from builder.errors import UsageError
from builder.report.charts import COLOURS
from builder.runs.curves import Curve

COLUMNS = 2
SIZE = (6.4, 3.8)
"""Of one chart, in inches."""


def write_picture(runs: Sequence[tuple[str, Mapping[str, Curve]]], path: pathlib.Path) -> None:
    """Draw a chart for each metric, with the curves of all runs, into a `.png` or `.svg`; training is dashed.

    Raises:
        UsageError: no run has a curve.
        RunError: the system refuses.
    """
    from matplotlib.figure import Figure

    names = [name for _, curves in runs for name in curves]
    metrics = dict.fromkeys(name.partition("/")[2] for name in names if name.startswith(("train/", "val/")))
    shown = [metric for metric in metrics if not metric.endswith("_step")]
    if not shown:
        raise UsageError("there is nothing to draw: none of these runs has a curve")
    columns = min(COLUMNS, len(shown))
    rows = math.ceil(len(shown) / columns)
    figure = Figure(figsize=(SIZE[0] * columns, SIZE[1] * rows), layout="constrained")
    for index, metric in enumerate(shown):
        axes = figure.add_subplot(rows, columns, index + 1)
        _draw(axes, metric, runs)
    written = io.BytesIO()
    figure.savefig(written, format=path.suffix.lower().removeprefix("."), dpi=150)
    write_bytes(path, written.getvalue())


def _draw(axes: object, metric: str, runs: Sequence[tuple[str, Mapping[str, Curve]]]) -> None:
    for index, (run, curves) in enumerate(runs):
        for split, style in (("train", "--"), ("val", "-")):
            curve = curves.get(f"{split}/{metric}")
            if curve is not None:
                thin = curve.thinned()
                marker = "o" if len(thin.steps) == 1 else None
                axes.plot(thin.steps, thin.values, style, marker=marker, color=COLOURS[index % len(COLOURS)],  # type: ignore[attr-defined]
                          label=f"{run}, {split}".replace("$", r"\$"))  # fmt: skip
    axes.set(title=metric.replace("$", r"\$"), xlabel="step")  # type: ignore[attr-defined]
    axes.grid(alpha=0.3)  # type: ignore[attr-defined]
    axes.legend(fontsize="small")  # type: ignore[attr-defined]
