"""What was loaded, from where, and what wasn't: as lines for people, and as JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from builder.errors import printable
from builder.weights.collapse import collapse, collapsed_names

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Row:
    """One tensor: its key in the file, its name in the model, its shapes and dtypes there and here.

    `given` is the name that the rules gave it, before that of the submodule it is loaded into; `how` is how it was
    resized, empty if it wasn't.
    """

    key: str
    given: str
    name: str
    source_shape: Shape
    shape: Shape
    source_dtype: torch.dtype
    dtype: torch.dtype
    how: str = ""

    def to_json(self) -> dict[str, Any]:
        """The row for programs."""
        row = {"key": self.key, "name": self.name, "shape": list(self.shape), "dtype": dtype_name(self.dtype)}
        if self.source_shape != self.shape:
            row["source_shape"] = list(self.source_shape)
        if self.source_dtype != self.dtype:
            row["source_dtype"] = dtype_name(self.source_dtype)
        return {**row, "how": self.how} if self.how else row


@dataclass(frozen=True, slots=True)
class FileRead:
    """A file that was read; `sha256` is None where only its header was."""

    path: str
    sha256: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The file for programs."""
        return {"path": self.path, "sha256": self.sha256}


@dataclass(frozen=True, slots=True)
class SourceReport:
    """What one source gave.

    Attributes:
        path: the file or index that was read.
        source: the `path` as the config says it.
        into: the submodule, empty for the whole model.
        format: of the file, in words.
        keys: how many tensors the file has.
        notes: what was unwrapped, what old files may lack, what was allowed for and doesn't occur, odd values.
        rules: each rule, and how many keys it hit.
        loaded: all rows that were copied; those renamed, resized and converted are among them.
        skipped: rows that keep their initial values since the shapes differ.
        dropped: keys that a rule dropped.
        missing: names of the model that no source gave, and that may be missing.
        unexpected: names that the rules gave and the model doesn't have.
        share: how much of the submodule's parameters was loaded, by elements.
        files: the file or index, and the shards.
    """

    path: str
    source: str
    into: str
    format: str
    keys: int
    notes: tuple[str, ...]
    rules: tuple[tuple[str, int], ...]
    loaded: tuple[Row, ...]
    skipped: tuple[Row, ...]
    dropped: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    share: float
    files: tuple[FileRead, ...]

    @property
    def renamed(self) -> list[Row]:
        """Rows to which the rules gave another name."""
        return [row for row in self.loaded if row.key != row.given]

    @property
    def resized(self) -> list[Row]:
        """Rows whose shape was changed."""
        return [row for row in self.loaded if row.how]

    @property
    def converted(self) -> list[Row]:
        """Rows whose dtype was changed."""
        return [row for row in self.loaded if row.source_dtype != row.dtype]

    def to_json(self) -> dict[str, Any]:
        """The report for programs, each tensor by itself."""
        tables = {name: [row.to_json() for row in getattr(self, name)] for name in ("loaded", "resized", "skipped")}
        return {
            "path": self.path, "source": self.source, "into": self.into, "format": self.format, "keys": self.keys,
            "files": [file.to_json() for file in self.files],
            "notes": list(self.notes), "rules": [{"rule": rule, "hits": hits} for rule, hits in self.rules],
            "share": self.share, **tables,
            "renamed": {row.key: row.given for row in self.renamed},
            "converted": {row.name: [dtype_name(row.source_dtype), dtype_name(row.dtype)] for row in self.converted},
            "dropped": list(self.dropped), "missing": list(self.missing), "unexpected": list(self.unexpected),
        }  # fmt: skip

    def lines(self, *, brief: bool = False) -> list[str]:
        """The report for people, layers that repeat on one line; `brief`: without what was loaded as it should be."""
        place = f"{self.path} into {self.into}" if self.into else self.path
        return [
            f"{place}: {len(self.loaded)} of {self.keys} tensors loaded, {self.share:.1%} of the parameters",
            f"  format: {self.format}",
            *(f"  note: {note}" for note in self.notes),
            *_table("rules", [(rule, f"{hits} {'key' if hits == 1 else 'keys'}") for rule, hits in self.rules]),
            *([] if brief else self._as_planned()),
            *_table("resized", _rows(self.resized, lambda row: (_shapes(row), row.how)), len(self.resized)),
            *_table("skipped, keeping their initial values", _rows(self.skipped, lambda row: (_shapes(row),)),
                    len(self.skipped)),
            *_table("converted", _conversions(self.converted), len(self.converted)),
            *_table("dropped", _singles(self.dropped), len(self.dropped)),
            *_table("missing, keeping their initial values", _singles(self.missing), len(self.missing)),
            *_table("unexpected, not loaded", _singles(self.unexpected), len(self.unexpected)),
        ]  # fmt: skip

    def _as_planned(self) -> list[str]:
        own = [row for row in self.loaded if row.key == row.given]
        return [
            *_table("loaded under their own names", _rows(own, lambda row: (str(list(row.shape)),)), len(own)),
            *_table("loaded under other names", _renames(self.renamed), len(self.renamed)),
        ]


@dataclass(frozen=True, slots=True)
class LoadReport:
    """What the section `load:` did, or would do: one report a source."""

    sources: tuple[SourceReport, ...]

    @property
    def notes(self) -> list[str]:
        """The notes of all sources, each with the file that it is about."""
        return [f"{source.path}: {note}" for source in self.sources for note in source.notes]

    def to_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {"sources": [source.to_json() for source in self.sources]}

    def lines(self, *, brief: bool = False) -> list[str]:
        """The report for people; `brief`: without what was loaded as it should be."""
        return [printable(line) for source in self.sources for line in source.lines(brief=brief)]


def dtype_name(dtype: torch.dtype) -> str:
    """A dtype as a config writes it: `float32`."""
    return str(dtype).removeprefix("torch.")


def _shapes(row: Row) -> str:
    return f"{list(row.source_shape)} → {list(row.shape)}"


def _rows(rows: Iterable[Row], tell: Callable[[Row], tuple[str, ...]]) -> list[tuple[str, ...]]:
    return [(line.name, *line.common) for line in collapse((row.name, tell(row)) for row in rows)]


def _renames(rows: list[Row]) -> list[tuple[str, ...]]:
    """Keys and the names they got, those on one line that differ in numbers only, the same ones in both."""
    shapes: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        shapes.setdefault((_without_numbers(row.key), _without_numbers(row.given)), []).append(row)
    found: list[tuple[str, ...]] = []
    for group in shapes.values():
        keys, names = collapsed_names(row.key for row in group), collapsed_names(row.given for row in group)
        if len(keys) != len(names):
            keys, names = [row.key for row in group], [row.given for row in group]
        found += [(key, f"→ {name}") for key, name in zip(keys, names, strict=True)]
    return found


def _without_numbers(name: str) -> str:
    return "".join("#" if segment.isdecimal() else segment for segment in re.split(r"([./])", name))


def _conversions(rows: Iterable[Row]) -> list[tuple[str, ...]]:
    counts: dict[str, int] = {}
    for row in rows:
        change = f"{dtype_name(row.source_dtype)} → {dtype_name(row.dtype)}"
        counts[change] = counts.get(change, 0) + 1
    return [(change, f"{count} tensor{'s' if count > 1 else ''}") for change, count in counts.items()]


def _singles(names: Iterable[str]) -> list[tuple[str, ...]]:
    return [(name,) for name in collapsed_names(names)]


def _table(title: str, rows: list[tuple[str, ...]], count: int | None = None) -> list[str]:
    if not rows:
        return []
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    cells = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [f"  {title}{f' ({count})' if count is not None else ''}:", *(f"    {cell}" for cell in cells)]
