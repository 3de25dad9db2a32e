"""The metrics of a run by epoch, read from its `metrics.csv`."""

from __future__ import annotations

import csv
from pathlib import Path

from builder.durable import told


def read_history(run: Path) -> dict[int, dict[str, float]]:
    """The values of train and val by epoch, from 0; nothing if the run has no such table.

    Raises:
        RunError: it can't be read.
    """
    path = run / "metrics.csv"
    if not path.is_file():
        return {}
    found: dict[int, dict[str, float]] = {}
    with told("read", path), open(path, newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            if not (row.get("epoch") or "").isdigit():
                continue
            values = {name: float(text) for name, text in row.items() if text and name.startswith(("train/", "val/"))}
            if values:
                found.setdefault(int(row["epoch"]), {}).update(values)
    return found
