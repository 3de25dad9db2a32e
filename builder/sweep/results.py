"""What came of a sweep: the best trials, a table of all, and a link to the best run."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from builder.durable import told, write_file, write_text
from builder.sweep.book import COMPLETE, Row

BEST = "best"


def best_rows(rows: Sequence[Row], modes: Sequence[str]) -> list[Row]:
    """The complete trials, best first; of several objectives those that no other is better than in all (Pareto)."""
    signs = [1 if mode == "min" else -1 for mode in modes]
    costs = {row.number: [sign * value for sign, value in zip(signs, row.values, strict=True)]
             for row in rows if row.state == COMPLETE and row.values is not None}  # fmt: skip
    complete = [row for row in rows if row.number in costs]
    if len(modes) == 1:
        return sorted(complete, key=lambda row: (costs[row.number], row.number))
    front = [row for row in complete if not any(_beats(costs[one.number], costs[row.number]) for one in complete)]
    return sorted(front, key=lambda row: (costs[row.number], row.number))


def _beats(ours: Sequence[float], theirs: Sequence[float]) -> bool:
    pairs = list(zip(ours, theirs, strict=True))
    return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)


def table(rows: Sequence[Row], axes: Sequence[str], objectives: Sequence[str]) -> list[dict[str, Any]]:
    """A row for each trial: its number and state, values and their spread, its overrides, and what else is known."""
    found = []
    for row in rows:
        cells: dict[str, Any] = {"trial": row.number, "state": row.state}
        values: Sequence[float | None] = row.values or [None] * len(objectives)
        cells |= dict(zip(objectives, values, strict=False))
        if any(one.spread for one in rows):
            spread: Sequence[float | None] = row.spread or [None] * len(objectives)
            cells |= {f"{name} std": value for name, value in zip(objectives, spread, strict=True)}
        cells |= {axis: row.point.get(axis) for axis in axes}
        cells |= {"seconds": row.seconds, "reason": row.reason, "run": " ".join(row.runs) or None}
        found.append(cells)
    return found


def write_results(folder: Path, rows: Sequence[Row], axes: Sequence[str], objectives: Sequence[str]) -> None:
    """Write `results.csv`, and `results.parquet` where polars is installed.

    Raises:
        RunError: the system refuses.
    """
    cells = table(rows, axes, objectives)
    text = io.StringIO()
    writer = csv.DictWriter(text, list(cells[0]) if cells else ["trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(cells)
    write_text(folder / "results.csv", text.getvalue())
    try:
        import polars
    except ModuleNotFoundError:
        return
    frame = polars.DataFrame(_columns(cells))
    write_file(folder / "results.parquet", lambda file: frame.write_parquet(file))


def _columns(cells: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The columns, with numbers where all that is in one is a number."""
    names = list(cells[0]) if cells else []
    return {name: _numbers([row[name] for row in cells]) for name in names}


def _numbers(values: list[Any]) -> list[Any]:
    try:
        return [None if value is None else float(value) if isinstance(value, str) else value for value in values]
    except ValueError:
        return values


def link_best(folder: Path, best: Sequence[Row]) -> None:
    """Let `best` in the sweep's folder be the run of the best trial (of its first training).

    Raises:
        RunError: the system refuses.
    """
    if not best or not best[0].runs:
        return
    target = os.path.relpath(best[0].runs[0], folder)
    temporary = folder / f".{BEST}.{os.getpid()}"
    with told("link", folder / BEST):
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target, target_is_directory=True)
        os.replace(temporary, folder / BEST)
