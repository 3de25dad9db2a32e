"""Runs compared: a page with their curves overlaid, or a picture of these."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Sequence
from typing import Any

from builder.durable import plain
from builder.errors import dotted
from builder.report.charts import overlaid_charts
from builder.report.markup import Markup, tag
from builder.report.page import Page
from builder.report.tables import table
from builder.runs.compare import Comparison
from builder.runs.record import ABSENT
from builder.runs.table import shown


def write_comparison(found: Comparison, path: pathlib.Path) -> None:
    """Write a page (`.html`), or the curves as a picture (`.png`, `.svg`).

    Raises:
        RunError: the system refuses.
    """
    if path.suffix.lower() == ".html":
        comparison_page(found).write(path)
        return
    from builder.report.picture import write_picture

    write_picture(list(zip(found.labels, found.curves, strict=True)), path)


def comparison_page(found: Comparison) -> Page:
    """The page: curves, metrics, and what differs."""
    page = Page(f"{len(found.records)} runs compared", ", ".join(found.labels))
    rows = [[label, one.value("state"), shown("started", one.value("started")), shown("", one.value("epoch")), one.path]
            for label, one in zip(found.labels, found.records, strict=True)]  # fmt: skip
    page.section("Runs", table(["run", "state", "started", "epochs", "folder"], rows))
    page.section("Curves", page.charts(overlaid_charts(list(zip(found.labels, found.curves, strict=True)))))
    page.section("Metrics", _metrics(found))
    config = [(dotted(one.path), one.values) for one in found.settings]
    page.section("Config", _side_by_side("key", found.labels, config) if config else "The configs mean the same.")
    around = list(found.surroundings.items())
    page.section("Environment", _side_by_side("", found.labels, around) if around else None)
    return page


def _metrics(found: Comparison) -> Markup | None:
    rows: list[list[object]] = [
        [name, *(shown("", one.metrics.get(name)) for one in found.records)] for name in found.metrics
    ]
    for name in dict.fromkeys(best.metric for best in found.bests if best is not None):
        cells = [f"{best.value:.4g} (epoch {best.epoch})" if best is not None and best.metric == name else ""
                 for best in found.bests]  # fmt: skip
        rows.append([tag("b", f"best {name}"), *cells])
    return table(["metric", *found.labels], rows, range(1, len(found.labels) + 1)) if rows else None


def _side_by_side(title: str, labels: Sequence[str], rows: Sequence[tuple[str, Sequence[Any]]]) -> Markup:
    return table([title, *labels], [[name, *map(_cell, values)] for name, values in rows])


def _cell(value: Any) -> str:
    if value is ABSENT:
        return "–"
    if isinstance(value, dict | list | tuple):
        return json.dumps(plain(value), ensure_ascii=False, indent=1 if isinstance(value, dict) else None)
    return "null" if value is None else shown("", value)
