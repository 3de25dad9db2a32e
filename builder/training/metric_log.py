"""Every logged value as a line of JSON: the run's own record, from which tables and curves can be made again."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from builder.durable import make_folder, plain, told
from builder.errors import RunError

FILE = "metrics.jsonl"
NUMBERS = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}

Row = dict[str, Any]
"""What was logged at once: `step`, and values by name."""


class FileLogger(Logger):
    """A logger that writes one file, and no folder of its own; metrics alone, as the config is saved elsewhere."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

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
        """The folder of the file."""
        return str(self.path.parent)

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the config is saved elsewhere."""


class MetricLog(FileLogger):
    """Appends what is logged to `metrics.jsonl`; a line is written whole or not at all, unless the machine fails.

    A checkpoint keeps the length that the file had. A run that goes on from it cuts the file back to that.
    """

    def __init__(self, run_dir: Path) -> None:
        super().__init__(run_dir / FILE)
        self._file: int | None = None

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Append a line.

        Raises:
            RunError: the system refuses.
        """
        row = row_of(metrics, step)
        finite = all(map(math.isfinite, metrics.values()))
        line = (json.dumps(row if finite else plain(row), allow_nan=False) + "\n").encode()
        with told("write", self.path):
            written = os.write(self._opened(), line)
            while written < len(line):
                written += os.write(self._opened(), line[written:])

    def sync(self) -> int:
        """Bring all that was logged to the disk; the file's length in bytes."""
        with told("write", self.path):
            os.fsync(self._opened())
            return os.fstat(self._opened()).st_size

    def rewind(self, length: int) -> tuple[list[Row], list[Row]]:
        """Cut the file back to a length; what it holds now, and what was cut off (a last line only if it is whole).

        Raises:
            RunError: it is shorter than that, or what it holds is damaged.
        """
        with told("read", self.path):
            data = self.path.read_bytes() if self.path.exists() else b""
        if len(data) < length:
            raise RunError(f"{self.path} has {len(data)} bytes, and the checkpoint was written when it had {length}")
        try:
            kept = [_read(line) for line in data[:length].splitlines()]
        except ValueError:
            raise RunError(f"{self.path} is damaged before the point where the run goes on") from None
        cut = [line for line in data[length:].splitlines(keepends=True) if line.endswith(b"\n")]
        with told("write", self.path):
            os.ftruncate(self._opened(), length)
        self.sync()
        return kept, [row for line in cut if (row := _read_or_none(line)) is not None]

    def close(self) -> None:
        """Close the file; it is opened again if more is logged."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _opened(self) -> int:
        if self._file is None:
            make_folder(self.path.parent)
            self._file = os.open(self.path, os.O_CREAT | os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC, 0o644)
        return self._file


def row_of(metrics: Mapping[str, Any], step: int | None) -> Row:
    """The step and the values, as a line holds them."""
    return {"step": step} | {name: float(value) if name != "epoch" else int(value) for name, value in metrics.items()}


def skip_again(log_metrics: Callable[..., None], cut: Sequence[Row]) -> Callable[..., None]:
    """`log_metrics` of a service that already got the rows of `cut`: as long as the same ones come again, they aren't
    sent a second time. The last one is, since the process may have died before it was sent.
    """
    left = list(cut[:-1])

    def log(metrics: Mapping[str, Any], step: int | None = None) -> None:
        if left and left.pop(0) == row_of(metrics, step):
            return
        left.clear()
        log_metrics(metrics, step)

    return log


def _read(line: bytes) -> Row:
    row = json.loads(line)
    if not isinstance(row, dict):
        raise ValueError(line)
    return {name: NUMBERS.get(value, value) if isinstance(value, str) else value for name, value in row.items()}


def _read_or_none(line: bytes) -> Row | None:
    try:
        return _read(line)
    except ValueError:
        return None
