"""The page of a sweep, `report.html`: one file that needs nothing else, also without a network."""

from __future__ import annotations

import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.report.charts import COLOURS, Chart, label, line
from builder.report.markup import Markup, join, tag
from builder.report.page import Page, badge
from builder.report.tables import table
from builder.sweep.book import COMPLETE, FAILED, PRUNED, Row
from builder.sweep.history import read_history
from builder.sweep.objectives import Objective
from builder.sweep.search import optuna
from builder.sweep.shown import counted, point_text, values_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

REPORT = "report.html"
BEST = 10
"""The best trials that are listed."""
CURVES = 60
"""The most learning curves that are drawn."""
STATES: Mapping[str, str] = {COMPLETE: "finished", PRUNED: "interrupted", FAILED: "failed"}
"""The kinds of badges that stand for states of trials."""
SCALE = ((0.0, COLOURS[0]), (0.5, COLOURS[3]), (1.0, COLOURS[1]))
MIDDLE = "#7f8896"
"""A grey that can be read on light and on dark."""
OURS = ("template", "title", "width", "height", "paper_bgcolor", "plot_bgcolor", "font")
"""What the page says of every figure's layout."""


def write_report(
    folder: Path, study: Any, objectives: Sequence[Objective], monitor: str, rows: Sequence[Row], best: Sequence[Row]
) -> None:
    """Write `report.html` into the sweep's folder.

    Raises:
        RunError: the system refuses.
    """
    sweep_page(folder, study, objectives, monitor, rows, best).write(folder / REPORT)


def sweep_page(
    folder: Path, study: Any, objectives: Sequence[Objective], monitor: str, rows: Sequence[Row], best: Sequence[Row]
) -> Page:
    """The page of a sweep whose trials are `rows`, the best of them first in `best`."""
    states = [row.state for row in rows]
    counts = counted({state: states.count(state) for state in dict.fromkeys(states)})
    sought = ", ".join(f"{one.name} ({one.mode})" for one in objectives)
    page = Page(folder.name, f"{counts}; sought: {sought}")
    several = len(objectives) > 1
    title = "Trials that none is better than in all (Pareto front)" if several else "Best trials"
    page.section(title, _best(folder, best if several else best[:BEST], objectives))
    for heading, parts in _figures(study, objectives).items():
        page.section(heading, *parts)
    page.section("Learning curves", _curves(rows, best, monitor))
    lost = [row for row in rows if row.state in (PRUNED, FAILED)]
    page.section("Pruned and failed trials", _lost(folder, lost) if lost else None)
    page.section("All trials", _all(folder, rows, objectives))
    return page


def _figures(study: Any, objectives: Sequence[Objective]) -> dict[str, list[object]]:
    """Optuna's figures by section; of several objectives one for each, where that makes sense."""
    plots, names = optuna().visualization, [one.name for one in objectives]
    several = len(names) > 1
    found: dict[str, list[object]] = {}
    if several:
        found["Pareto front"] = [_drawn("Pareto front", partial(plots.plot_pareto_front, study, target_names=names))]
    kinds = {
        "History": plots.plot_optimization_history, "Parallel coordinates": plots.plot_parallel_coordinate,
        "Importance of what was varied": plots.plot_param_importances, "Slices": plots.plot_slice,
    }  # fmt: skip
    for heading, plot in kinds.items():
        for index, name in enumerate(names):
            of: dict[str, Any] = {"target_name": name}
            if several:
                of["target"] = partial(_value, index)
            found.setdefault(heading, []).append(_drawn(f"{heading}: {name}", partial(plot, study, **of)))
    return found


def _value(index: int, trial: Any) -> float:
    """One of the values of a trial."""
    return float(trial.values[index])


def _drawn(title: str, draw: Callable[[], Figure]) -> Chart | Markup:
    """A figure as a chart; where there is too little to draw, the reason in its place."""
    try:
        with warnings.catch_warnings():
            # What Optuna remarks on few or equal values is seen in the figure.
            warnings.simplefilter("ignore", UserWarning)
            figure = draw()
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        reason = (str(error).strip().splitlines() or ["too few trials"])[0]
        return tag("p", f"{title}: {reason}", class_="note")
    if not figure.data:
        return tag("p", f"{title}: too few complete trials", class_="note")
    plain = json.loads(figure.to_json())
    layout = {key: value for key, value in plain["layout"].items() if key not in OURS}
    if _coloured(plain["data"]):
        layout["margin"] = {"l": 60, "r": 130, "t": 8, "b": 40}  # the scale stands beside the chart's buttons
    return Chart(title, plain["data"], {"hovermode": "closest", **layout})


def _coloured(data: Sequence[dict[str, Any]]) -> bool:
    """Put the colours of numbers, which are for a white page, into ones for any; whether there are such."""
    found = False
    for trace in data:
        for part in (trace.get("marker"), trace.get("line")):
            if isinstance(part, dict) and "colorscale" in part:
                part["colorscale"], found = SCALE, True
        if trace.get("type") == "parcoords":
            trace |= {"tickfont": {"color": MIDDLE}, "rangefont": {"color": MIDDLE}}
    return found


def _best(folder: Path, best: Sequence[Row], objectives: Sequence[Objective]) -> Markup:
    if not best:
        return tag("p", "no trial is complete", class_="note")
    rows = [[row.number, values_text(row.values or (), objectives, row.spread), tag("code", point_text(row.point)),
             _runs(folder, row)] for row in best]  # fmt: skip
    return table(["trial", "value", "overrides, ready to paste", "run"], rows)


def _lost(folder: Path, lost: Sequence[Row]) -> Markup:
    rows = [[row.number, _state(row), row.reason or "", tag("code", point_text(row.point)), _runs(folder, row)]
            for row in lost]  # fmt: skip
    return table(["trial", "state", "reason", "overrides", "run"], rows)


def _all(folder: Path, rows: Sequence[Row], objectives: Sequence[Objective]) -> Markup | None:
    """Every trial: what stands in the charts, for those who can't see them."""
    names = [one.name for one in objectives]
    cells = [[row.number, _state(row), *(f"{value:.6g}" for value in row.values or ()),
              *([""] * (0 if row.values else len(names))), "" if row.seconds is None else f"{row.seconds:.1f}",
              tag("code", point_text(row.point)), _runs(folder, row)] for row in rows]  # fmt: skip
    head = ["trial", "state", *names, "seconds", "overrides", "run"]
    return table(head, cells, {*range(2, 3 + len(names))}) if rows else None


def _state(row: Row) -> Markup:
    return badge(row.state, STATES.get(row.state, row.state))


def _runs(folder: Path, row: Row) -> Markup:
    """The runs of a trial, as links to their own pages where they have some."""
    return join([tag("div", _run(folder, run)) for run in row.runs])


def _run(folder: Path, run: str) -> Markup:
    name = tag("code", run)
    page = Path(run) / REPORT
    return tag("a", name, href=os.path.relpath(page, folder)) if page.is_file() else name


def _curves(rows: Sequence[Row], best: Sequence[Row], monitor: str) -> Chart | Markup:
    """The monitored value by epoch, a line for each trial; the best one stands out."""
    first = {row.number for row in best[:1]}
    drawn = [*[row for row in rows if row.number not in first], *best[:1]][-CURVES:]
    curves = [(row, curve) for row in drawn if (curve := _curve(row, monitor))]
    if not curves:
        return tag("p", "no trial has come to the end of an epoch", class_="note")
    data = list(_lines(curves, first))
    layout = {"xaxis": {"title": {"text": "epoch"}}, "yaxis": {"title": {"text": label(monitor)}},
              "hovermode": "closest"}  # fmt: skip
    epochs = sorted({epoch for _, curve in curves for epoch in curve})
    cells = [[epoch + 1, *(f"{curve[epoch]:.6g}" if epoch in curve else "" for _, curve in curves)] for epoch in epochs]
    head = ["epoch", *(f"trial {row.number}" for row, _ in curves)]
    values = tag("details", tag("summary", "values"), table(head, cells, range(len(head))))
    return Chart(monitor, data, layout, values)


def _lines(curves: Sequence[tuple[Row, Mapping[int, float]]], first: set[int]) -> Iterator[dict[str, Any]]:
    colours: Mapping[str, str] = {COMPLETE: COLOURS[0], PRUNED: COLOURS[1], FAILED: COLOURS[4]}
    named: set[str] = set()
    for row, curve in curves:
        is_best = row.number in first
        kind = "best" if is_best else row.state
        colour = COLOURS[2] if is_best else colours.get(row.state, COLOURS[5])
        epochs = [epoch + 1 for epoch in curve]
        drawn = line(kind, epochs, list(curve.values()), colour=colour, faint=not is_best, group=kind)
        # A legend has a line for each kind, not for each trial.
        yield drawn | {"text": f"trial {row.number}: {label(point_text(row.point))}", "showlegend": kind not in named,
                       "hovertemplate": "%{text}<br>epoch %{x}: %{y}<extra></extra>"}  # fmt: skip
        named.add(kind)


def _curve(row: Row, monitor: str) -> dict[int, float]:
    """The values of the trial's first training."""
    if not row.runs:
        return {}
    history = read_history(Path(row.runs[0]))
    found = {epoch: values[monitor] for epoch, values in sorted(history.items()) if monitor in values}
    return {epoch: value for epoch, value in (found or dict(row.curve)).items() if not math.isnan(value)}
