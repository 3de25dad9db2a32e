"""The curves of a run, read from its `metrics.csv`."""

from __future__ import annotations

import csv
import math
import pathlib
from collections.abc import Sequence
from dataclasses import dataclass

from builder.durable import told

FILE = "metrics.csv"
PLACES = ("epoch", "step")
"""Columns that say where a row was logged."""
MOST_POINTS = 2000
"""Of a curve in a picture; more can't be told apart."""


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric over training: `steps` and `epochs` count from 0, as they were logged; values may be nan or infinite."""

    name: str
    steps: tuple[int, ...]
    epochs: tuple[int, ...]
    values: tuple[float, ...]

    def thinned(self, most: int = MOST_POINTS) -> Curve:
        """At most `most` points: of each stretch its lowest and its highest value, so that no spike is lost."""
        if len(self.values) <= most:
            return self
        size = -(-2 * len(self.values) // most)
        kept: list[int] = []
        for start in range(0, len(self.values), size):
            stretch = range(start, min(start + size, len(self.values)))
            finite = [index for index in stretch if math.isfinite(self.values[index])] or list(stretch)
            ends = {min(finite, key=self.values.__getitem__), max(finite, key=self.values.__getitem__)}
            kept += sorted(ends)
        kept = sorted({0, *kept, len(self.values) - 1})
        return Curve(self.name, *(tuple(part[index] for index in kept)
                                  for part in (self.steps, self.epochs, self.values)))  # type: ignore[arg-type] # fmt: skip


def curves(run: pathlib.Path) -> dict[str, Curve]:
    """All curves of a run by the names of their metrics, in the table's order; none if it has no `metrics.csv`.

    What can't be read as a number is left out, such as the end of a row that is being written.

    Raises:
        RunError: the system refuses.
    """
    path = run / FILE
    if not path.is_file():
        return {}
    points: dict[str, list[tuple[int, int, float]]] = {}
    with told("read", path), open(path, newline="", encoding="utf-8", errors="replace") as file:
        rows = csv.reader(file)
        columns = next(rows, [])
        for row in rows:
            _take(dict(zip(columns, row, strict=False)), points)
    return {name: _curve(name, points[name]) for name in columns if points.get(name)}


def _take(row: dict[str, str], points: dict[str, list[tuple[int, int, float]]]) -> None:
    step, epoch = _number(row.get("step", "")), _number(row.get("epoch", ""))
    if step is None:
        return
    for name, text in row.items():
        value = _number(text) if name not in PLACES else None
        if value is not None:
            points.setdefault(name, []).append((int(step), int(epoch or 0), value))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _curve(name: str, points: Sequence[tuple[int, int, float]]) -> Curve:
    steps, epochs, values = zip(*points, strict=True)
    return Curve(name, steps, epochs, values)
