"""Reads CSV and Parquet files whole, and says where they are wrong."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from builder.data.facts import ArgumentError, Refusal, refuse
from builder.errors import nearest
from builder.optional import require

if TYPE_CHECKING:
    import polars as pl

MISSING = ("", "NA", "N/A", "NaN", "nan", "null", "NULL")
"""What stands for a missing value in a CSV file."""
SEPARATORS = {".csv": ",", ".tsv": "\t", ".tab": "\t"}
TRUTH = {"true", "false"}
DATES: tuple[tuple[Callable[[Any], Any], str], ...] = (
    (lambda pl: pl.Date, "%Y-%m-%d"),
    (lambda pl: pl.Datetime, "%Y-%m-%d %H:%M:%S"),
    (lambda pl: pl.Datetime, "%Y-%m-%dT%H:%M:%S"),
)
"""How dates and times are written in a CSV file."""
PARQUET = (".parquet", ".pq")
MAX_TOLD = 5
"""Bad rows that are told one by one."""


def polars() -> Any:
    """The package polars.

    Raises:
        MissingExtra: it isn't installed.
    """
    return require("polars", "table", "a table")


def read_table(
    path: str, separator: str | None, missing: Sequence[str], at: tuple[str, ...] = ("path",)
) -> pl.DataFrame:
    """The table of a CSV or Parquet file; columns of a CSV file have the type that all their values have.

    Raises:
        Refusal: the file isn't there or isn't such a table; `at` is the argument that names it.
    """
    file = Path(path)
    if not file.is_file():
        raise no_file(path, at)
    suffix = file.suffix.lower()
    if suffix in PARQUET:
        return _read_parquet(file, at)
    if suffix not in SEPARATORS and separator is None:
        expected = f"a file that ends in {', '.join([*SEPARATORS, *PARQUET])}, or a separator"
        raise ArgumentError(at, "the file's kind isn't known", found=path, expected=expected)
    return _read_csv(file, separator or SEPARATORS[suffix], missing, at)


def no_file(path: str, at: tuple[str, ...] = ("path",)) -> ArgumentError:
    """What is told of a path at which no file is, with the files that are near."""
    file = Path(path)
    what = "a folder, not a file" if file.is_dir() else "no such file"
    names = [item.name for item in file.parent.iterdir()] if file.parent.is_dir() else []
    near = [str(file.parent / name) for name in nearest(file.name, names)]
    return ArgumentError(at, what, found=path, nearest=near)


def line_of(path: str, row: int, num_rows: int) -> str:
    """Where row `row` (from 0) of a table stands in its file: its line, where that is certain."""
    if Path(path).suffix.lower() not in PARQUET:
        with open(path, "rb") as file:
            if sum(1 for line in file if line.strip()) == num_rows + 1:
                return f"line {row + 2}"
    return f"row {row + 1}"


def _read_parquet(file: Path, at: tuple[str, ...]) -> pl.DataFrame:
    pl = polars()
    try:
        return pl.read_parquet(file)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise _unreadable(file, error, at) from error


def _read_csv(file: Path, separator: str, missing: Sequence[str], at: tuple[str, ...]) -> pl.DataFrame:
    pl = polars()
    refuse(_header_errors(file, separator, at))
    try:
        frame = pl.read_csv(file, separator=separator, null_values=list(missing), infer_schema=False)
    except pl.exceptions.PolarsError as error:
        refuse(_row_errors(file, separator, at))
        raise _unreadable(file, error, at) from error
    if not len(frame):
        raise ArgumentError(at, "the table has no rows", found=str(file))
    if frame[:, -1].null_count():  # rows that are too short end in missing values
        refuse(_row_errors(file, separator, at))
    return pl.DataFrame({column.name: _typed(column) for column in frame})


def _typed(column: pl.Series) -> pl.Series:
    """A column of texts as what all of them are: whole numbers, numbers, truth values, dates, or texts.

    Polars' own inference takes twenty times as long.
    """
    pl = polars()
    texts = column.str.strip_chars()
    known = texts.drop_nulls()
    if not len(known):
        return column
    for dtype in (pl.Int64, pl.Float64):
        if known[:100].cast(dtype, strict=False).null_count():
            continue
        values = texts.cast(dtype, strict=False)
        if values.null_count() == column.null_count():
            return values
    if set(known[:100].str.to_lowercase()) <= TRUTH and set(known.str.to_lowercase().unique()) <= TRUTH:
        return texts.str.to_lowercase() == "true"
    for kind, form in DATES:
        if not known[:1].str.strptime(kind(pl), form, strict=False).null_count():
            values = texts.str.strptime(kind(pl), form, strict=False)
            if values.null_count() == column.null_count():
                return values
    return column


def _unreadable(file: Path, error: Exception, at: tuple[str, ...]) -> ArgumentError:
    said = str(error).strip().split("\n")[0]
    return ArgumentError(at, f"the file can't be read: {said}", found=str(file))


def _rows(file: Path, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The rows of a CSV file, the header first, each with the line at which it ends; empty lines left out."""
    with open(file, encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=separator)
        for row in reader:
            if row:
                yield reader.line_num, row


def _header_errors(file: Path, separator: str, at: tuple[str, ...]) -> list[ArgumentError]:
    try:
        _, header = next(_rows(file, separator), (0, []))
    except UnicodeDecodeError as error:
        return [no_text(file, error, at)]
    except csv.Error as error:
        return [_unreadable(file, error, at)]
    if not header:
        return [ArgumentError(at, "the file is empty", found=str(file))]
    errors = [
        ArgumentError(at, f"two columns are called {name!r}", found=str(file))
        for name in dict.fromkeys(header)
        if header.count(name) > 1
    ]
    if all(_is_number(name) for name in header):
        message = "the first line holds numbers where the columns' names should be"
        errors.append(ArgumentError(at, message, found=separator.join(header), expected="a line of names"))
    elif len(header) == 1 and (other := [mark for mark in (";", "\t", ",", "|") if mark in header[0]]):
        message = f"the first line has one column only with the separator {separator!r}"
        hint = f'try "data.separator={other[0]!r}"'
        errors.append(ArgumentError("separator", message, found=header[0], hint=hint))
    return errors


def _row_errors(file: Path, separator: str, at: tuple[str, ...]) -> list[ArgumentError]:
    """The rows that have more or fewer fields than the header; the first few, and how many more."""
    errors: list[ArgumentError] = []
    count = 0
    try:
        rows = _rows(file, separator)
        _, header = next(rows)
        for line, row in rows:
            if len(row) != len(header):
                count += 1
                if count <= MAX_TOLD:
                    message = f"line {line} has {_fields(len(row))}, the header {len(header)}"
                    errors.append(ArgumentError(at, message, found=separator.join(row)))
    except UnicodeDecodeError as error:
        return [no_text(file, error, at)]
    except csv.Error as error:
        return [*errors, _unreadable(file, error, at)]
    if count > MAX_TOLD:
        errors.append(ArgumentError(at, f"{count - MAX_TOLD} more rows have another number of fields than the header"))
    return errors


def _fields(count: int) -> str:
    return f"{count} field" if count == 1 else f"{count} fields"


def no_text(file: Path, error: UnicodeDecodeError, at: tuple[str, ...]) -> ArgumentError:
    """What is told of a file that isn't UTF-8 text, with the first such line."""
    with open(file, "rb") as lines:
        line = next(i for i, line in enumerate(lines, 1) if not _is_utf8(line))
    message = f"line {line} isn't UTF-8 text ({error.reason})"
    return ArgumentError(at, message, found=str(file), hint=f"convert it: iconv -f latin1 -t utf-8 {file.name}")


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def read_tables(
    path: str | Mapping[str, str], separator: str | None, missing: Sequence[str]
) -> tuple[pl.DataFrame, list[str] | None]:
    """The rows of one file, or of a file for each split, with each row's split then.

    Raises:
        Refusal: a file isn't such a table, or their columns differ.
    """
    if isinstance(path, str):
        return read_table(path, separator, missing), None
    pl = polars()
    frames = {}
    errors: list[ArgumentError] = []
    for split, file in path.items():
        try:
            frames[split] = read_table(file, separator, missing, ("path", split))
        except Refusal as error:
            errors += error.errors
    refuse(errors)
    first = next(iter(frames.values()))
    for split, frame in frames.items():
        if frame.columns != first.columns:
            odd = sorted(set(frame.columns) ^ set(first.columns)) or frame.columns
            message = "the files have different columns"
            errors.append(ArgumentError(("path", split), message, found=odd, expected=", ".join(first.columns)))
    refuse(errors)
    whole = pl.concat(frames.values(), how="vertical_relaxed")
    return whole, [split for split, frame in frames.items() for _ in range(len(frame))]
