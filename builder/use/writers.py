"""Writes columns of results as they come: CSV and JSON lines row by row, Parquet and NPZ at the end."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO, Protocol

import numpy as np

from builder.data.table_file import polars
from builder.durable import plain
from builder.errors import UsageError

FORMATS = {".csv": "csv", ".tsv": "tsv", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet", ".pq": "parquet",
           ".npz": "npz"}  # fmt: skip
"""Formats by how names of files end."""

Columns = Mapping[str, Sequence[Any]]


class Writer(Protocol):
    """Takes columns of rows, and ends."""

    def write(self, columns: Columns) -> None:
        """Take more rows."""

    def close(self) -> None:
        """Write what is left."""


class _Csv:
    def __init__(self, file: BinaryIO, separator: str = ",") -> None:
        self.file, self.separator, self.names = file, separator, [""]

    def write(self, columns: Columns) -> None:
        """Rows, the names of the columns before the first."""
        text = io.StringIO()
        writer = csv.writer(text, delimiter=self.separator, lineterminator="\n")
        if self.names == [""]:
            self.names = list(columns)
            writer.writerow(self.names)
        for row in zip(*columns.values(), strict=True):
            writer.writerow([_field(name, value) for name, value in zip(columns, row, strict=True)])
        self.file.write(text.getvalue().encode(errors="backslashreplace"))
        self.file.flush()

    def close(self) -> None:
        """Nothing is left."""


def _field(name: str, value: Any) -> Any:
    """A value as a field; the names of several labels or tags apart by spaces."""
    if isinstance(value, np.ndarray):
        shape = list(value.shape)
        raise UsageError(f"{name!r} is an array {shape} for each sample: write to .npz, .jsonl or .parquet")
    return " ".join(map(str, value)) if isinstance(value, list) else value


class _JsonLines:
    def __init__(self, file: BinaryIO) -> None:
        self.file = file

    def write(self, columns: Columns) -> None:
        """A line for each row."""
        for row in zip(*columns.values(), strict=True):
            values = {name: _as_json(value) for name, value in zip(columns, row, strict=True)}
            self.file.write(
                json.dumps(values, ensure_ascii=False, default=str).encode(errors="backslashreplace") + b"\n"
            )
        self.file.flush()

    def close(self) -> None:
        """Nothing is left."""


def _as_json(value: Any) -> Any:
    return plain(value.tolist() if isinstance(value, np.ndarray) else value)


class _Gathering:
    """Keeps all columns, and writes them by `save` at the end."""

    def __init__(self, file: BinaryIO, save: Callable[[BinaryIO, dict[str, list[Any]]], None]) -> None:
        self.file, self.save, self.kept = file, save, dict[str, list[Any]]()

    def write(self, columns: Columns) -> None:
        """Keep rows."""
        for name, values in columns.items():
            self.kept.setdefault(name, []).extend(values)

    def close(self) -> None:
        """Write all that was kept."""
        self.save(self.file, self.kept)


def _save_parquet(file: BinaryIO, columns: dict[str, list[Any]]) -> None:
    lists = {
        name: [value.tolist() if isinstance(value, np.ndarray) else value for value in values]
        for name, values in columns.items()
    }
    polars().DataFrame(lists, strict=False).write_parquet(file)


def _save_npz(file: BinaryIO, columns: dict[str, list[Any]]) -> None:
    arrays = {name: _stacked(values) for name, values in columns.items()}
    np.savez(file, **arrays)  # type: ignore[arg-type]


def _stacked(values: list[Any]) -> np.ndarray[Any, Any]:
    if values and isinstance(values[0], np.ndarray) and len({value.shape for value in values}) == 1:
        return np.stack(values)
    if values and isinstance(values[0], list | np.ndarray):  # of different lengths: an .npz holds no such array
        return np.array([" ".join(map(str, np.asarray(value).flatten().tolist())) for value in values])
    return np.array(["" if value is None else value for value in values])


def make_writer(form: str, file: BinaryIO) -> Writer:
    """What writes results to an open file in one of the formats."""
    if form in ("csv", "tsv"):
        return _Csv(file, "," if form == "csv" else "\t")
    if form == "jsonl":
        return _JsonLines(file)
    if form == "parquet":
        polars()
    return _Gathering(file, _save_parquet if form == "parquet" else _save_npz)
