"""The page of a sweep, `report.html`: one file that needs nothing else, also without a network."""

from __future__ import annotations

import html
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.durable import write_text
from builder.sweep.book import COMPLETE, FAILED, PRUNED, Row
from builder.sweep.history import read_history
from builder.sweep.objectives import Objective
from builder.sweep.pages import PAGE
from builder.sweep.search import optuna
from builder.sweep.shown import counted, point_text, values_text

if TYPE_CHECKING:
    from plotly.graph_objects import Figure

BEST = 10
"""The best trials that are listed."""
CURVES = 60
"""The most learning curves that are drawn."""


@dataclass(frozen=True, slots=True)
class Part:
    """A section of the page."""

    title: str
    body: str


def write_report(
    folder: Path, study: Any, objectives: Sequence[Objective], monitor: str, rows: Sequence[Row], best: Sequence[Row]
) -> None:
    """Write `report.html` into the sweep's folder.

    Raises:
        RunError: the system refuses.
    """
    parts = list(_parts(study, objectives, monitor, rows, best))
    from plotly.offline import get_plotlyjs

    sections = "\n".join(f"<section><h2>{html.escape(part.title)}</h2>\n{part.body}\n</section>" for part in parts)
    states = [row.state for row in rows]
    counts = counted({state: states.count(state) for state in dict.fromkeys(states)})
    sought = ", ".join(f"{one.name} ({one.mode})" for one in objectives)
    page = PAGE.format(name=html.escape(folder.name), counts=html.escape(counts), sought=html.escape(sought),
                       sections=sections, plotly=get_plotlyjs())  # fmt: skip
    write_text(folder / "report.html", page)


def _parts(
    study: Any, objectives: Sequence[Objective], monitor: str, rows: Sequence[Row], best: Sequence[Row]
) -> Iterator[Part]:
    title = "Best trials" if len(objectives) == 1 else "Trials that none is better than in all (Pareto front)"
    yield Part(title, _best(best[:BEST] if len(objectives) == 1 else best, objectives))
    plots = optuna().visualization
    several = len(objectives) > 1
    names = [one.name for one in objectives]
    if several:
        yield from _drawn("Pareto front", lambda: plots.plot_pareto_front(study, target_names=names))
    for index, name in enumerate(names):
        of: dict[str, Any] = {"target_name": name}
        if several:
            of["target"] = lambda trial, index=index: trial.values[index]
        about = f": {name}" if several else ""
        yield from _drawn(f"History{about}", lambda of=of: plots.plot_optimization_history(study, **of))  # type: ignore[misc]
        yield from _drawn(f"Parallel coordinates{about}", lambda of=of: plots.plot_parallel_coordinate(study, **of))  # type: ignore[misc]
        yield from _drawn(f"Importance of what was varied{about}",
                          lambda of=of: plots.plot_param_importances(study, **of))  # type: ignore[misc]  # fmt: skip
        yield from _drawn(f"Slices{about}", lambda of=of: plots.plot_slice(study, **of))  # type: ignore[misc]
    yield from _drawn(f"Learning curves: {monitor}", lambda: _curves(rows, best, monitor))
    lost = [row for row in rows if row.state in (PRUNED, FAILED)]
    if lost:
        yield Part("Pruned and failed trials", _lost(lost))


def _drawn(title: str, draw: Callable[[], Figure | None]) -> Iterator[Part]:
    """A figure as a section; where there is too little to draw, the reason in its place."""
    try:
        with warnings.catch_warnings():
            # What Optuna remarks on few or equal values is seen in the figure.
            warnings.simplefilter("ignore", UserWarning)
            figure = draw()
    except (ValueError, RuntimeError, ZeroDivisionError) as error:
        reason = (str(error).strip().splitlines() or ["too few trials"])[0]
        yield Part(title, f"<p class=none>{html.escape(reason)}</p>")
        return
    if figure is None or not figure.data:
        yield Part(title, "<p class=none>too few complete trials</p>")
        return
    figure.update_layout(title=None, template="plotly_white", margin={"l": 60, "r": 20, "t": 20, "b": 50},
                         font={"family": "system-ui, sans-serif", "size": 13})  # fmt: skip
    yield Part(title, figure.to_html(full_html=False, include_plotlyjs=False, config={"displaylogo": False}))


def _best(best: Sequence[Row], objectives: Sequence[Objective]) -> str:
    if not best:
        return "<p class=none>no trial is complete</p>"
    head = "<tr><th>trial</th><th>value</th><th>overrides, ready to paste</th><th>run</th></tr>"
    lines = [
        f"<tr><td>{row.number}</td><td>{html.escape(values_text(row.values or (), objectives, row.spread))}</td>"
        f"<td><code>{html.escape(point_text(row.point))}</code></td><td>{_runs(row)}</td></tr>"
        for row in best
    ]
    return f"<table>{head}{''.join(lines)}</table>"


def _lost(rows: Sequence[Row]) -> str:
    head = "<tr><th>trial</th><th>state</th><th>reason</th><th>overrides</th><th>run</th></tr>"
    lines = [
        f"<tr><td>{row.number}</td><td>{row.state}</td><td>{html.escape(row.reason or '')}</td>"
        f"<td><code>{html.escape(point_text(row.point))}</code></td><td>{_runs(row)}</td></tr>"
        for row in rows
    ]
    return f"<table>{head}{''.join(lines)}</table>"


def _runs(row: Row) -> str:
    return "<br>".join(f"<code>{html.escape(run)}</code>" for run in row.runs)


def _curves(rows: Sequence[Row], best: Sequence[Row], monitor: str) -> Figure | None:
    """The monitored value by epoch, a line for each trial; the best one is thick."""
    import plotly.graph_objects as go

    figure = go.Figure()
    first = {row.number for row in best[:1]}
    drawn = [*[row for row in rows if row.number not in first], *best[:1]][-CURVES:]
    colours: Mapping[str, str] = {COMPLETE: "#7a9cc6", PRUNED: "#d8b365", FAILED: "#c65b5b"}
    for row in drawn:
        curve = _curve(row, monitor)
        if not curve:
            continue
        is_best = row.number in first
        line = {"width": 3 if is_best else 1, "color": "#1b3a6b" if is_best else colours.get(row.state, "#999999")}
        figure.add_scatter(x=[epoch + 1 for epoch in curve], y=list(curve.values()), mode="lines", line=line,
                           name=f"trial {row.number}, {row.state}", hovertext=point_text(row.point),
                           showlegend=is_best)  # fmt: skip
    figure.update_xaxes(title="epoch").update_yaxes(title=monitor)
    return figure if figure.data else None


def _curve(row: Row, monitor: str) -> dict[int, float]:
    """The values of the trial's first training."""
    if not row.runs:
        return {}
    history = read_history(Path(row.runs[0]))
    return {epoch: values[monitor] for epoch, values in sorted(history.items()) if monitor in values} or dict(row.curve)
