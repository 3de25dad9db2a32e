"""Tables of a page, and plain values of any shape as such."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from builder.report.markup import Markup, join, tag
from builder.runs.table import shown

DEEPEST = 6
"""Levels of a nested value that are shown as tables; what lies below is shown as JSON."""
MOST_ROWS = 1000
"""Of a table; the file that it was made from has the others."""


def table(
    head: Sequence[object], rows: Iterable[Sequence[object]], numbers: Collection[int] = (), label: str | None = None
) -> Markup:
    """A table; `numbers` are the columns that are written to the right. Only the first `MOST_ROWS` rows are shown."""
    rows = list(rows)
    more = len(rows) - MOST_ROWS
    side = ["number" if index in numbers else None for index in range(len(head))]
    top = tag("tr", *(tag("th", cell, class_=kind, scope="col") for cell, kind in zip(head, side, strict=True)))
    body = [
        tag("tr", *(tag("td", cell, class_=kind) for cell, kind in zip(row, side, strict=True)))
        for row in rows[:MOST_ROWS]
    ]
    made = tag("table", tag("thead", top), tag("tbody", *body), aria_label=label)
    note = tag("p", f"and {more:,} more", class_="note") if more > 0 else None
    return tag("div", made, note, class_="scroll")


def facts(items: Mapping[str, object] | Iterable[tuple[str, object]]) -> Markup:
    """Names with their values; those without one are left out."""
    pairs = items.items() if isinstance(items, Mapping) else items
    kept = [(name, value) for name, value in pairs if value not in (None, "")]
    return tag("dl", *(join((tag("dt", name), tag("dd", value))) for name, value in kept), class_="facts")


def value(found: Any, depth: int = 0) -> Markup:
    """A plain value of any shape: lists of mappings as tables, mappings as lists of names and values."""
    if depth < DEEPEST and isinstance(found, Mapping):
        if not found:
            return tag("span", "none", class_="note")
        return facts([(str(key), value(item, depth + 1)) for key, item in found.items()])
    if depth < DEEPEST and isinstance(found, list) and found and all(isinstance(item, Mapping) for item in found):
        return _rows(found, depth)
    if isinstance(found, list):
        return _listed(found)
    return _scalar(found)


def _rows(found: Sequence[Mapping[str, Any]], depth: int) -> Markup:
    columns = list(dict.fromkeys(key for row in found for key in row))
    told = [column for column in columns if any(row.get(column) not in (None, "", [], {}) for row in found)]
    numbers = {index for index, column in enumerate(told)
               if all(type(row.get(column)) in (int, float, type(None)) for row in found)}  # fmt: skip
    return table(told, [[value(row.get(column), depth + 1) for column in told] for row in found], numbers)


def _listed(found: Sequence[Any]) -> Markup:
    text = ", ".join(map(_text, found))
    if len(text) <= 120:
        return _scalar(f"[{text}]" if any(isinstance(item, int | float) for item in found) else text)
    shown_first = tag("summary", f"{len(found)} items")
    return tag("details", shown_first, tag("p", text))


def _scalar(found: Any) -> Markup:
    return tag("span", _text(found))


def _text(found: Any) -> str:
    return f"{found:,}" if type(found) is int and abs(found) >= 10_000 else shown("", found)
