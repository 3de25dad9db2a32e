"""Charts of a page: figures of plotly's as plain JSON, which its script in the page draws.

Nothing of plotly is imported for them. What a chart shows stands under it as a table too.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from builder.report.markup import Markup, tag
from builder.report.tables import table
from builder.runs.curves import Curve

SPLITS = {"train": "train", "val": "validation", "test": "test"}
COLOURS = ("#2f6fdb", "#e8710a", "#188a50", "#b0429f", "#c3352b", "#0f8b9d", "#8a6d00", "#6a51c9")
"""Told apart by people with any kind of colour vision, on light and on dark."""

STEPS: Mapping[str, Any] = {"xaxis": {"title": {"text": "step"}}}
"""A layout whose x axis counts optimiser steps."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A figure of plotly's: its title, `data` and `layout`, plain values; `values` is the table that stands under it.

    Colours of background, text and grid are the page's, so that they follow its theme. Texts in `data` and `layout`
    have to be escaped with `label`, since plotly takes them as markup.
    """

    title: str
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any] = field(default_factory=dict)
    values: Markup | None = None

    def figure(self) -> dict[str, Any]:
        """The figure as the page's script takes it."""
        return {"data": list(self.data), "layout": dict(self.layout)}


def label(text: object) -> str:
    """A text for plotly, which takes some tags and entities as markup."""
    return str(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def line(
    name: str, x: Sequence[float], y: Sequence[float], *, colour: str, dash: str = "solid", faint: bool = False,
    group: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """A line of a chart; what isn't finite is a gap. Points are marked where there are few."""
    few = len(x) <= 60 and not faint
    return {
        "type": "scatter", "mode": "lines+markers" if few else "lines", "name": label(name),
        "x": list(x), "y": [value if math.isfinite(value) else None for value in y],
        "line": {"color": colour, "width": 1 if faint else 2, "dash": dash}, "marker": {"size": 5},
        "opacity": 0.45 if faint else 1, **({"legendgroup": label(group)} if group is not None else {}),
    }  # fmt: skip


def metric_charts(curves: Mapping[str, Curve]) -> list[Chart]:
    """A chart for each metric of a run, with its curves of training and validation."""
    grouped: dict[str, list[Curve]] = {}
    for name, curve in curves.items():
        split, _, rest = name.partition("/")
        if split in ("train", "val") and rest:
            grouped.setdefault(rest.removesuffix("_step"), []).append(curve)
    return [_metric_chart(name, lines) for name, lines in grouped.items()]


def _metric_chart(title: str, curves: Sequence[Curve]) -> Chart:
    data = []
    for curve in sorted(curves, key=lambda one: (not one.name.endswith("_step"), one.name)):
        split, faint = curve.name.partition("/")[0], curve.name.endswith("_step")
        thin = curve.thinned()
        name = f"{SPLITS[split]}, each step" if faint else SPLITS[split]
        colour = COLOURS[0 if split == "train" else 1]
        data.append(line(name, thin.steps, thin.values, colour=colour, faint=faint))
    return Chart(title, data, STEPS, values_of(curves))


def rate_chart(curves: Mapping[str, Curve]) -> Chart | None:
    """The learning rates of a run, a line for each group; None if none was logged."""
    rates = {name: curve for name, curve in curves.items() if name == "lr" or name.startswith("lr/")}
    axis = {**STEPS, "yaxis": {"rangemode": "tozero", "exponentformat": "e"}}
    return None if not rates else _plain_chart("learning rate", rates, "lr/", axis)


def other_charts(curves: Mapping[str, Curve]) -> list[Chart]:
    """What else was logged while training, such as norms and times: a chart for what begins alike."""
    grouped: dict[str, dict[str, Curve]] = {}
    for name, curve in curves.items():
        first = name.partition("/")[0]
        if first not in (*SPLITS, "lr"):  # rates stand apart from the times that they would dwarf
            grouped.setdefault(name if name.endswith("_per_s") else first, {})[name] = curve
    return [_plain_chart(first, lines, f"{first}/") for first, lines in grouped.items()]


def _plain_chart(title: str, curves: Mapping[str, Curve], prefix: str, layout: Mapping[str, Any] = STEPS) -> Chart:
    data = []
    for index, (name, curve) in enumerate(curves.items()):
        thin = curve.thinned()
        data.append(line(name.removeprefix(prefix), thin.steps, thin.values, colour=COLOURS[index % len(COLOURS)]))
    return Chart(title, data, layout, values_of(curves.values()))


def overlaid_charts(runs: Sequence[tuple[str, Mapping[str, Curve]]]) -> list[Chart]:
    """A chart for each metric with the curves of several runs, each run in one colour; training is dashed."""
    names = dict.fromkeys(name for _, curves in runs for name in curves if _is_compared(name))
    grouped: dict[str, list[str]] = {}
    for name in names:
        grouped.setdefault(name.partition("/")[2], []).append(name)
    return [_overlaid(metric, members, runs) for metric, members in grouped.items()]


def _is_compared(name: str) -> bool:
    return name.partition("/")[0] in ("train", "val") and not name.endswith("_step")


def _overlaid(metric: str, names: Sequence[str], runs: Sequence[tuple[str, Mapping[str, Curve]]]) -> Chart:
    data, shown = [], []
    for index, (run, curves) in enumerate(runs):
        for name in (name for name in names if name in curves):
            split, thin = name.partition("/")[0], curves[name].thinned()
            dash = "dot" if split == "train" else "solid"
            data.append(line(f"{run}, {SPLITS[split]}", thin.steps, thin.values, colour=COLOURS[index % len(COLOURS)],
                             dash=dash, group=run))  # fmt: skip
            shown.append(Curve(f"{run} {name}", thin.steps, thin.epochs, thin.values))
    return Chart(metric, data, STEPS, values_of(shown))


def values_of(curves: Iterable[Curve], most: int = 200) -> Markup:
    """The values of curves as a table, a row for each step, for those who can't see a chart; `most` points of each."""
    curves = [curve.thinned(most) for curve in curves]
    steps = sorted({step for curve in curves for step in curve.steps})
    found = [dict(zip(curve.steps, curve.values, strict=True)) for curve in curves]
    rows = [[step, *(f"{each[step]:.6g}" if step in each else "" for each in found)] for step in steps]
    head = ["step", *(curve.name for curve in curves)]
    return tag("details", tag("summary", "values"), table(head, rows, range(len(head))))
