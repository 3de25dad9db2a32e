"""A summary as text: a table of the layers, and what they come to."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from builder.inspect.dimensions import NamedShape
from builder.inspect.summary import Row, Summary, collapsed, walk
from builder.quantities import in_bytes, rounded

HEADER = ("layer", "type", "input", "output", "parameters", "FLOPs", "trained", "")
RIGHT = (4, 5)
"""Columns of numbers."""
INPUT, PARAMETERS, TRAINED = 2, 4, 6
SHORTENED = (1, 0, 3)
"""Columns whose cells are cut, in turn, where nothing else helps."""
SHORTEST = 10


@dataclass(frozen=True, slots=True)
class _Style:
    """How wide the table may be written."""

    spaced: bool = True
    exact: bool = True
    inputs: bool = True


STYLES = (_Style(), _Style(spaced=False), _Style(spaced=False, exact=False), _Style(False, False, inputs=False))
"""From wide to narrow."""


def lines(summary: Summary, depth: int | None = None, width: int | None = None) -> list[str]:
    """The whole text; `width` columns wide at most, and as wide as it needs to be if that is None."""
    rows = list(walk(collapsed(summary.root), depth))
    table, style = _fitted(rows, width)
    notes = [] if style.inputs else ["Input shapes are left out: the terminal is too narrow for them."]
    phases = ["", *summary.phases] if summary.phases else []
    return [*table, "", *totals(summary), *phases, *notes]


def _fitted(rows: Sequence[tuple[Row, int]], width: int | None) -> tuple[list[str], _Style]:
    """The table in the first style that fits; in the last one with cells cut, if none does."""
    for style in STYLES:
        cells = [_header(style), *(_cells(row, depth, style) for row, depth in rows)]
        columns = [index for index in range(len(HEADER)) if index not in _left_out(rows, style)]
        widths = {index: max(len(line[index]) for line in cells) for index in columns}
        if width is None or _total(widths) <= width:
            break
    else:
        assert width is not None
        _narrow(widths, width)
    return [
        "  ".join(_aligned(line[index], index, widths[index]) for index in columns).rstrip() for line in cells
    ], style


def _header(style: _Style) -> tuple[str, ...]:
    return HEADER if style.exact else tuple("params" if name == HEADER[PARAMETERS] else name for name in HEADER)


def _left_out(rows: Sequence[tuple[Row, int]], style: _Style) -> Iterator[int]:
    if not style.inputs:
        yield INPUT
    if not style.exact and all(row.trained in ("yes", "") for row, _ in rows):
        yield TRAINED  # the totals say so


def _total(widths: dict[int, int]) -> int:
    return sum(size + 2 for size in widths.values() if size) - 2


def _narrow(widths: dict[int, int], width: int) -> None:
    for index in SHORTENED:
        if index in widths and (over := _total(widths) - width) > 0:
            widths[index] = max(min(widths[index], SHORTEST), widths[index] - over)


def _aligned(text: str, index: int, width: int) -> str:
    if len(text) > width:
        return text[: width - 1] + "…"
    return text.rjust(width) if index in RIGHT else text.ljust(width)


def _cells(row: Row, depth: int, style: _Style) -> tuple[str, ...]:
    copies = f"{row.copies} × " if row.copies > 1 else ""
    count: Callable[[int], str] = "{:,}".format if style.exact else rounded
    return (
        "  " * depth + row.name,
        copies + row.type,
        _shapes(row.inputs, style.spaced),
        _shapes(row.outputs, style.spaced),
        count(row.parameters) if row.parameters or row.trained else "",
        rounded(row.flops) if row.flops else "",
        row.trained,
        "; ".join(row.notes),
    )


def _shapes(shapes: Sequence[NamedShape], spaced: bool) -> str:
    """`[B, T], 2 × [B, 8]`; shapes that follow each other and are alike are drawn together."""
    comma = ", " if spaced else ","
    parts: list[tuple[str, int]] = []
    for shape in shapes:
        text = f"[{comma.join(shape)}]"
        if parts and parts[-1][0] == text:
            parts[-1] = text, parts[-1][1] + 1
        else:
            parts.append((text, 1))
    return ", ".join(text if times == 1 else f"{times} × {text}" for text, times in parts)


def totals(summary: Summary) -> Iterator[str]:
    """What the layers come to, a line each."""
    root = summary.root
    share = "all" if root.trainable == root.parameters else f"{root.trainable:,} of them" if root.trainable else "none"
    yield f"parameters   {root.parameters:,}, {share} trained"
    if summary.not_run:
        yield f"No shapes: {summary.not_run}"
    else:
        yield f"FLOPs        {rounded(root.flops or 0)} forward{_at(summary)}; a multiply-add counts as 2"
    yield from _memory(summary)
    for name, override in summary.guessed.items():
        yield f"{name}={summary.sizes[name]} is a guess, as no data says it. To give a size: '{override}'"


def _memory(summary: Summary) -> Iterator[str]:
    needed = summary.memory
    yield f"memory       about {in_bytes(needed.total)} to train{_at(summary)}:"
    yield f"  weights      {in_bytes(needed.weights):>10}"
    yield f"  gradients    {in_bytes(needed.gradients):>10}"
    if needed.optimizer:
        state = "not known" if needed.optimizer_state is None else in_bytes(needed.optimizer_state)
        yield f"  optimiser    {state:>10}  state of {needed.optimizer}"
    if needed.activations is not None:
        yield f"  activations  {in_bytes(needed.activations):>10}  kept for the backward pass, inputs included"


def _at(summary: Summary) -> str:
    sizes = ", ".join(f"{name}={size}" for name, size in summary.sizes.items())
    return f" at {sizes}" if sizes else ""
