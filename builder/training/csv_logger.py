"""Metrics as a table on disk, one row per step."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from builder.training.metric_log import Row, row_of

PREFIXES = ("epoch", "step", "train/", "val/", "test/")
"""The order of the columns; others follow."""


class CSVLogger(Logger):
    """Writes `metrics.csv` into `save_dir`: a column per metric, a row per step, numbers with all their digits.

    What is logged of one step stands in one row. Every row is on disk as soon as it is logged.
    """

    def __init__(self, save_dir: str | os.PathLike[str]) -> None:
        super().__init__()
        self.path = Path(save_dir) / "metrics.csv"
        self._columns: list[str] = []
        self._rows: list[dict[str, Any]] = []
        self._offset = 0

    @property
    def name(self) -> str:
        """Empty: there is no folder of this logger's own."""
        return ""

    @property
    def version(self) -> str:
        """Empty: there is no folder of this logger's own."""
        return ""

    @property
    def save_dir(self) -> str:
        """The folder of `metrics.csv`."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config is saved elsewhere."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add the metrics to the row of their step."""
        if not self._rows or self._rows[-1].get("step") != step:
            self._offset = self.path.stat().st_size if self.path.exists() else 0
        if self._take(row_of(metrics, step)):
            self._rewrite()
        else:
            self._replace_last()

    def rewind(self, rows: Sequence[Row]) -> None:
        """Make the table of these rows alone, each as it was logged."""
        self._columns, self._rows = [], []
        for row in rows:
            self._take(row)
        if rows:
            self._rewrite()
        else:
            self.path.unlink(missing_ok=True)

    def _take(self, row: Row) -> bool:
        """Put what was logged at once into the row of its step; whether the table has got a column by it."""
        if not self._rows or self._rows[-1].get("step") != row["step"]:
            self._rows.append({"step": row["step"]})
        self._rows[-1] |= row
        new = [name for name in self._rows[-1] if name not in self._columns]
        if new:
            self._columns = sorted([*self._columns, *new], key=_rank)
        return bool(new)

    def _rewrite(self) -> None:
        """Write the whole table, since it has got a column."""
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        rows = [dict(zip(self._columns, self._columns, strict=True)), *self._rows]
        texts = [self._text(row) for row in rows]
        temporary.write_text("".join(texts), encoding="utf-8", newline="")
        os.replace(temporary, self.path)
        self._offset = sum(len(text.encode()) for text in texts[:-1])

    def _replace_last(self) -> None:
        with open(self.path, "r+b") as file:
            file.truncate(self._offset)
            file.seek(self._offset)
            file.write(self._text(self._rows[-1]).encode())

    def _text(self, row: Mapping[str, Any]) -> str:
        buffer = io.StringIO()
        csv.DictWriter(buffer, self._columns, restval="", lineterminator="\n").writerow(row)
        return buffer.getvalue()


def _rank(column: str) -> int:
    return next((rank for rank, prefix in enumerate(PREFIXES) if column.startswith(prefix)), len(PREFIXES))
