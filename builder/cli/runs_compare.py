"""A comparison of runs on the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from builder.cli.output import print_table, styled
from builder.errors import dotted, printable
from builder.runs.compare import Comparison
from builder.runs.record import ABSENT
from builder.runs.table import shown

LONGEST = 40
"""Characters of a value that are shown."""


def print_comparison(found: Comparison) -> None:
    """Print what differs, section by section."""
    runs = zip(found.labels, found.records, strict=True)
    print_table([(label, printable(str(one.path)), str(one.value("state"))) for label, one in runs])
    config = [(dotted(one.path), one.values) for one in found.settings]
    _section("config", found.labels, config, "the configs mean the same")
    _section("environment", found.labels, list(found.surroundings.items()), "")
    metrics = [(name, tuple(one.metrics.get(name, ABSENT) for one in found.records)) for name in found.metrics]
    best = tuple(ABSENT if each is None else f"{each.value:.4g} in epoch {each.epoch}" for each in found.bests)
    names = dict.fromkeys(each.metric for each in found.bests if each is not None)
    bests = [(f"best {name}", best) for name in names] if len(names) == 1 else []
    _section("metrics", found.labels, [*metrics, *bests], "none has a metric")


def _section(title: str, labels: Sequence[str], rows: Sequence[tuple[str, Sequence[Any]]], none: str) -> None:
    if not rows:
        if none:
            print(f"\n{styled(title, bold=True)}: {none}")
        return
    print()
    table = [(title, *labels)]
    table += [(printable(name), *map(cell, values)) for name, values in rows]
    print_table(table)


def cell(value: Any) -> str:
    """A value in a table: `-` for nothing, a long one cut; --json has all of it."""
    text = "-" if value is ABSENT else "null" if value is None else printable(shown("", value))
    return cut_value(text)


def cut_value(text: str) -> str:
    """The beginning of a long text."""
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
