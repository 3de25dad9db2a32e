"""How results are written: colour on a terminal only, tables, JSON, and YAML that shows where each value comes from."""

from __future__ import annotations

import json
import os
import shutil
import sys
import textwrap
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

import typer


def is_terminal(stream: TextIO) -> bool:
    """Whether a person reads what is written to a stream."""
    return stream.isatty()


def in_colour(stream: TextIO) -> bool:
    """Whether to colour: on a terminal, unless NO_COLOR is set or the terminal can't."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def styled(text: str, stream: TextIO | None = None, **style: Any) -> str:
    """A text in a style of `typer.style`, where `stream` (standard output) shows colour."""
    return typer.style(text, **style) if in_colour(stream or sys.stdout) else text


def terminal_width() -> int | None:
    """The columns of the terminal; None if standard output isn't one, so that nothing is cut."""
    return shutil.get_terminal_size().columns if is_terminal(sys.stdout) else None


def print_json(value: Any) -> None:
    """Write a value for programs; what JSON doesn't know (paths) as text."""
    print(json.dumps(value, indent=2, ensure_ascii=False, default=str))


def print_table(rows: Iterable[Sequence[str]], indent: str = "", first: dict[str, Any] | None = None) -> None:
    """Write rows with aligned columns, the last one cut at the terminal's edge; `first` styles the first column."""
    rows = [tuple(row) for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        line = cut("  ".join(cells).rstrip(), indent)
        print(indent + styled(line[: widths[0]], **(first or {"bold": True})) + line[widths[0] :])


def cut(line: str, indent: str = "") -> str:
    """A line without what would go beyond the terminal's edge."""
    width = terminal_width()
    if width is None or len(indent) + len(line) <= width:
        return line
    return line[: max(width - len(indent) - 1, 1)] + "…"


def wrapped(text: str, hanging: str) -> list[str]:
    """A text as lines of the terminal's width, all but the first indented by `hanging`; one line elsewhere."""
    width = terminal_width()
    if width is None:
        return [text]
    return textwrap.wrap(text, width, subsequent_indent=hanging, break_long_words=False, break_on_hyphens=False)
