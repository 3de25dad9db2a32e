"""What gave each parameter of a model its initial value, as rows, as JSON, and as a table."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from builder.weights.collapse import Line, collapse
from builder.weights.initialise import Touched

HEADER = ("parameter", "shape", "mean", "std", "initialised by", "")
UNTOUCHED = "PyTorch's default"
"""What the table says of a parameter that no rule filled."""


@dataclass(frozen=True, slots=True)
class InitRow:
    """A parameter, by its first name, and its values; `rule` is the one that filled it last, None for no rule, and
    `fill` that of its keys which did.

    `mean` and `std` (that of all values, not an estimate) are None on the meta device and where there is no value.
    """

    parameter: str
    shape: tuple[int, ...]
    rule: str | None
    fill: str | None
    origin: str | None
    mean: float | None
    std: float | None


@dataclass(frozen=True, slots=True)
class InitReport:
    """One row a parameter, in the model's order; and the keys of optional rules that took none, with their origins."""

    rows: tuple[InitRow, ...]
    idle: tuple[tuple[str, str], ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The rows as plain values."""
        return {
            "parameters": [asdict(row) | {"shape": list(row.shape)} for row in self.rows],
            "rules_that_took_nothing": [{"rule": rule, "origin": origin} for rule, origin in self.idle],
        }


def init_report(model: nn.Module, touched: Touched | None = None) -> InitReport:
    """The report on a model that was just made, `touched` by rules as noted then."""
    idle = touched.idle() if touched is not None else []
    return InitReport(
        tuple(_row(name, parameter, touched) for name, parameter in model.named_parameters()),
        tuple((cause.rule, str(cause.origin)) for cause in idle),
    )


@torch.no_grad()
def _row(name: str, parameter: nn.Parameter, touched: Touched | None) -> InitRow:
    cause = touched.cause(parameter) if touched is not None else None
    rule, fill, origin = (None, None, None) if cause is None else (cause.rule, cause.fill, str(cause.origin))
    mean: float | None = None
    std: float | None = None
    if parameter.numel() and parameter.is_floating_point() and not parameter.is_meta:
        mean, std = parameter.mean(dtype=torch.float32).item(), parameter.std(unbiased=False).item()
    return InitRow(name, tuple(parameter.shape), rule, fill, origin, mean, std)


def lines(report: InitReport) -> list[str]:
    """The report as a table; equal layers, initialised alike, share a line."""
    rows = {row.parameter: row for row in report.rows}
    grouped = collapse((row.parameter, (row.shape, row.fill, row.origin)) for row in report.rows)
    cells = [HEADER, *(_cells(line, [rows[name] for name in _names(line.name)]) for line in grouped)]
    if not any(row[2] for row in cells[1:]):  # a model without values
        cells = [(*row[:2], *row[4:]) for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
    table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return [*table, *(f"Nothing for {rule} ({origin})." for rule, origin in report.idle)]


def _cells(line: Line[Any], rows: Sequence[InitRow]) -> tuple[str, ...]:
    shape, fill, origin = line.common
    means, stds = ([value for row in rows if (value := getattr(row, key)) is not None] for key in ("mean", "std"))
    where = f"({origin})" if origin else ""
    return (line.name, "×".join(map(str, shape)) or "scalar", _range(means), _range(stds), fill or UNTOUCHED, where)


def _range(values: Sequence[float]) -> str:
    """The least and the largest of some values, one number where they look the same."""
    if not values:
        return ""
    least, largest = (f"{value:.3g}" for value in (min(values), max(values)))
    return least if least == largest else f"{least}..{largest}"


def _names(pattern: str) -> Iterator[str]:
    """The names that a line stands for: `{0..2}` is 0, 1 and 2."""
    parts = re.split(r"\{(\d+)\.\.(\d+)\}", pattern)
    ranges = [range(int(first), int(last) + 1) for first, last in zip(parts[1::3], parts[2::3], strict=True)]
    for numbers in itertools.product(*ranges):
        fillers = [*map(str, numbers), ""]
        yield "".join(text + filler for text, filler in zip(parts[0::3], fillers, strict=True))
