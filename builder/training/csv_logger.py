"""Metrics as a table on disk, one row per step."""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from pytorch_lightning.utilities.rank_zero import rank_zero_only

from builder.training.metric_log import FileLogger, Row, row_of

PREFIXES = ("epoch", "step", "train/", "val/", "test/")
"""The order of the columns; others follow."""


class CSVLogger(FileLogger):
    """Writes `metrics.csv` into `save_dir`: a column per metric, a row per step, numbers with all their digits.

    What is logged of one step stands in one row. Every row is on disk as soon as it is logged.
    """

    def __init__(self, save_dir: str | os.PathLike[str]) -> None:
        super().__init__(Path(save_dir) / "metrics.csv")
        self._columns: dict[str, int] = {}
        """The columns in their order, each with its rank in that."""
        self._rows: list[dict[str, Any]] = []
        self._file: int | None = None
        self._offset = self._end = 0
        """Where the last row begins in the file, and where it ends."""

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add the metrics to the row of their step."""
        if not self._rows or self._rows[-1].get("step") != step:
            self._offset = self._end
        if self._take(row_of(metrics, step)):
            self._rewrite()
        else:
            self._replace_last()

    def rewind(self, rows: Sequence[Row]) -> None:
        """Make the table of these rows alone, each as it was logged."""
        self._columns, self._rows, self._offset, self._end = {}, [], 0, 0
        self._close()
        for row in rows:
            self._take(row)
        if rows:
            self._rewrite()
        else:
            self.path.unlink(missing_ok=True)

    def finalize(self, status: str) -> None:
        """Close the file; it is opened again if more is logged."""
        self._close()

    def _take(self, row: Row) -> bool:
        """Put what was logged at once into the row of its step; whether the table has got a column by it."""
        if not self._rows or self._rows[-1].get("step") != row["step"]:
            self._rows.append({"step": row["step"]})
        self._rows[-1] |= row
        new = {name: _rank(name) for name in self._rows[-1] if name not in self._columns}
        if new:
            self._columns = dict(sorted({**self._columns, **new}.items(), key=itemgetter(1)))
        return bool(new)

    def _rewrite(self) -> None:
        """Write the whole table, since it has got a column."""
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        head = io.StringIO()
        csv.writer(head, lineterminator="\n").writerow(self._columns)
        lines = [head.getvalue().encode(), *(self._line(row) for row in self._rows)]
        temporary.write_bytes(b"".join(lines))
        os.replace(temporary, self.path)
        self._close()
        self._end = sum(map(len, lines))
        self._offset = self._end - len(lines[-1])

    def _replace_last(self) -> None:
        line = self._line(self._rows[-1])
        if self._file is None:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CLOEXEC)
        if self._offset + len(line) < self._end:
            os.ftruncate(self._file, self._offset)
        os.pwrite(self._file, line, self._offset)
        self._end = self._offset + len(line)

    def _close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _line(self, row: Mapping[str, Any]) -> bytes:
        """A row of numbers, which need no quotes; with all their digits."""
        values = ["" if (value := row.get(column)) is None else repr(value) for column in self._columns]
        return (",".join(values) + "\n").encode()


def _rank(column: str) -> int:
    return next((rank for rank, prefix in enumerate(PREFIXES) if column.startswith(prefix)), len(PREFIXES))
