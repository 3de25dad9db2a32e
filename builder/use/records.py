"""Records of CSV, JSON lines and Parquet, one after the other, each with where it stands; what is no record is told."""

from __future__ import annotations

import csv
import io
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from builder.data.table_file import PARQUET, SEPARATORS, polars
from builder.durable import told
from builder.errors import UsageError, nearest

STDIN = "-"
JSON_LINES = (".jsonl", ".ndjson")
FORMATS = ("csv", "jsonl", "parquet")
SLICE = 4096
"""Rows of a Parquet file that are read at a time."""


@dataclass(frozen=True, slots=True)
class Record:
    """A record and its line in the file (in Parquet its row, from 1); `reason` says why it is none, if it isn't."""

    line: int
    values: Mapping[str, Any] | None
    reason: str | None = None


def format_of(path: str, default: str) -> str | None:
    """The format of a file of records by its name, `default` for standard input; None if its name says nothing."""
    if path == STDIN:
        return default
    suffix = Path(path).suffix.lower()
    kinds = {"csv": tuple(SEPARATORS), "jsonl": JSON_LINES, "parquet": PARQUET}
    return next((form for form, suffixes in kinds.items() if suffix in suffixes), None)


def records(path: str, form: str, separator: str | None = None) -> Iterator[Record]:
    """The records of a file, or of standard input for `-`, read as they are asked for.

    Raises:
        UsageError: there is no such file, or it can't be read so.
        RunError: the system refuses.
    """
    if form == "parquet":
        yield from _parquet(path)
        return
    with _opened(path) as file:
        if form == "jsonl":
            yield from _json_lines(file)
        else:
            yield from _csv(file, separator or SEPARATORS.get(Path(path).suffix.lower(), ","))


@contextmanager
def _opened(path: str) -> Iterator[BinaryIO]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    file = existing(path)
    with told("read", file), open(file, "rb") as opened:
        yield opened


def existing(path: str) -> Path:
    """The file at a path.

    Raises:
        UsageError: there is none; names those that are near.
    """
    file = Path(path)
    if file.is_file():
        return file
    names = [item.name for item in file.parent.iterdir()] if file.parent.is_dir() else []
    near = [str(file.parent / name) for name in nearest(file.name, names)]
    what = f"{path} is a folder, not a file" if file.is_dir() else f"there is no file {path}"
    raise UsageError(what + (f"; did you mean {' or '.join(map(repr, near))}?" if near else ""))


def _csv(file: BinaryIO, separator: str) -> Iterator[Record]:
    # Bytes that aren't UTF-8 come as lone surrogates, so that their row alone is lost.
    text = io.TextIOWrapper(file, "utf-8-sig", "surrogateescape", newline="")
    try:
        yield from _csv_rows(csv.reader(text, delimiter=separator))
    finally:
        text.detach()


def _csv_rows(reader: Any) -> Iterator[Record]:
    header: list[str] | None = None
    while True:
        try:
            fields = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield Record(reader.line_num, None, f"it can't be read: {error}")
            continue
        if not fields:
            continue
        if header is None:
            header = _header(fields)
        elif len(fields) != len(header):
            count = "1 field" if len(fields) == 1 else f"{len(fields)} fields"
            yield Record(reader.line_num, None, f"it has {count}, the header {len(header)}")
        elif not all(map(_is_text, fields)):
            yield Record(reader.line_num, None, "it isn't UTF-8 text")
        else:
            yield Record(reader.line_num, dict(zip(header, fields, strict=True)))


def _header(fields: list[str]) -> list[str]:
    if not all(map(_is_text, fields)):
        raise UsageError("the first line isn't UTF-8 text")
    twice = [name for name in dict.fromkeys(fields) if fields.count(name) > 1]
    if twice:
        raise UsageError(f"two columns are called {twice[0]!r}")
    return fields


def _is_text(text: str) -> bool:
    return text.isascii() or not any("\udc80" <= char <= "\udcff" for char in text)


def _json_lines(file: BinaryIO) -> Iterator[Record]:
    for number, line in enumerate(file, 1):
        if not line.strip():
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError) as error:
            said = "it isn't UTF-8 text" if isinstance(error, UnicodeDecodeError) else f"it is no JSON: {error}"
            yield Record(number, None, said)
            continue
        if isinstance(value, dict):
            yield Record(number, value)
        else:
            yield Record(number, None, f"it is a JSON {_kind(value)}, no object")


def _kind(value: Any) -> str:
    return {list: "array", str: "text", bool: "truth value", type(None): "null"}.get(type(value), "number")


def _parquet(path: str) -> Iterator[Record]:
    pl = polars()
    source: Any = io.BytesIO(sys.stdin.buffer.read()) if path == STDIN else existing(path)
    try:
        frame = pl.scan_parquet(source)
        for start in range(0, sys.maxsize, SLICE):
            part = frame.slice(start, SLICE).collect()
            for row, values in enumerate(part.iter_rows(named=True), start + 1):
                yield Record(row, values)
            if len(part) < SLICE:
                return
    except (pl.exceptions.PolarsError, OSError) as error:
        raise UsageError(f"{path} can't be read as Parquet: {str(error).strip().splitlines()[0]}") from error
