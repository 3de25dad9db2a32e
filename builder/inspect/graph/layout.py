"""Where everything of a drawing stands, without Graphviz: rows from top to bottom, open blocks around what is inside.

Lengths are in pixels of a drawing that isn't scaled; y grows downwards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from builder.inspect.graph.level import Block, Drawing, Level, labels
from builder.inspect.graph.rows import Rows, rows_of

GAP_X, GAP_Y, PADDING, MARGIN = 18.0, 36.0, 14.0, 12.0
LINE, LETTER, BOLD = 15.0, 6.7, 7.5
"""The height of a line of text, and about the width of a letter and of a bold one, at `SIZE`."""
SIZE, SMALL = 12.0, 10.0
DOT = 10.0
"""The width of where tensors enter an open block."""
STRAIGHT = 8.0
"""How much more a wire's passing straight through counts than a block's standing below what it takes."""

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Box:
    """A block, or the frame around an open one: its corner, size, kind and marks."""

    x: float
    y: float
    width: float
    height: float
    kind: str
    marks: tuple[str, ...] = ()
    tip: str = ""


@dataclass(frozen=True, slots=True)
class Text:
    """A line of text; x and y are those of the middle of its base line, of its beginning if `left`."""

    x: float
    y: float
    text: str
    kind: str
    left: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """A wire: the points that it leads through, straight down from each even one to the next, curved between."""

    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class Picture:
    """All that is to be drawn, in this order: boxes, lines, texts."""

    width: float
    height: float
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]
    texts: tuple[Text, ...]

    def moved(self, x: float, y: float) -> Picture:
        """The picture with everything elsewhere."""
        return Picture(
            self.width,
            self.height,
            tuple(replace(box, x=box.x + x, y=box.y + y) for box in self.boxes),
            tuple(Line(tuple((a + x, b + y) for a, b in line.points)) for line in self.lines),
            tuple(replace(text, x=text.x + x, y=text.y + y) for text in self.texts),
        )


def lay_out(drawing: Drawing, depth: int = 1) -> Picture:
    """The picture of a drawing with blocks open down to `depth`: at 1 the model's own parts show."""
    if depth < 1:
        block = Block(0, "module", drawing.name, drawing.facts)
        level = Level((block,), ())
    else:
        level = drawing.level
    inner = _level(level, depth).moved(MARGIN, MARGIN)
    return replace(inner, width=inner.width + 2 * MARGIN, height=inner.height + 2 * MARGIN)


def lines_of(block: Block) -> list[tuple[str, str]]:
    """The lines of a closed block, each with its kind."""
    if block.kind in ("entry", "exit"):
        return []
    lines: list[tuple[str, str]] = [(block.name, "name" if block.kind == "module" else block.kind)]
    lines += [(block.title, "type")] if block.type else []
    return lines + [(text, "detail") for text in (*block.details, *block.marks)]


def _level(level: Level, depth: int) -> Picture:
    parts = [_block(block, depth) for block in level.blocks]
    rows, names = rows_of(level), labels(level.wires)
    widths = [part.width for part in parts]
    heights = [max([parts[node].height for node in row if node < rows.blocks] or [0.0]) for row in rows.rows]
    tops = [sum(heights[:index]) + GAP_Y * index for index in range(len(heights))]
    centres = _centres(rows, widths, names)
    y = {node: (tops[index], heights[index]) for index, row in enumerate(rows.rows) for node in row}
    boxes: list[Box] = []
    lines: list[Line] = []
    texts: list[Text] = []
    for index, part in enumerate(parts):
        top, height = y[index]
        placed = part.moved(centres[index] - part.width / 2, top + (height - part.height) / 2)
        boxes += placed.boxes
        lines += placed.lines
        texts += placed.texts
    ends = {index: (y[index][0] + (y[index][1] - part.height) / 2, part.height) for index, part in enumerate(parts)}
    said: set[tuple[int, str]] = set()
    for pair, route in rows.routes.items():
        points = _points(route, centres, y, ends)
        lines.append(Line(points))
        if (pair[0], names[pair]) not in said:  # once below a block for all that it gives alike
            said.add((pair[0], names[pair]))
            (x1, y1), (x2, y2) = points[0], points[1]
            texts.append(Text((x1 + x2) / 2 + 5, (max(y1, y2 - GAP_Y) + y2) / 2 + 3, names[pair], "shape", left=True))
    right = max([text.x + SMALL * 0.56 * len(text.text) for text in texts] + [centre + width / 2 for centre, width in
                zip((centres[index] for index in range(len(parts))), widths, strict=True)] + [0.0])  # fmt: skip
    return Picture(right, tops[-1] + heights[-1] if tops else 0.0, tuple(boxes), tuple(lines), tuple(texts))


def _points(
    route: Sequence[int],
    centres: Mapping[int, float],
    y: Mapping[int, tuple[float, float]],
    ends: Mapping[int, tuple[float, float]],
) -> tuple[Point, ...]:
    source, *bends, target = route
    points = [(centres[source], sum(ends[source]))]
    for bend in bends:
        top, height = y[bend]
        points += [(centres[bend], top), (centres[bend], top + height)]
    return (*points, (centres[target], ends[target][0]))


def _block(block: Block, depth: int) -> Picture:
    if block.kind in ("entry", "exit"):
        return Picture(DOT, DOT, (Box(0, 0, DOT, DOT, block.kind),), (), ())
    if block.inside is not None and depth > 1:
        return _open(block, depth)
    lines = lines_of(block)
    width = max(len(text) for text, _ in lines) * LETTER + 2 * PADDING
    width = max(width, 84.0 if block.kind == "module" else 44.0)
    height = LINE * len(lines) + (12.0 if block.kind == "module" else 6.0)
    first = (height - LINE * len(lines)) / 2 + LINE - 4
    texts = [Text(width / 2, first + LINE * index, text, kind) for index, (text, kind) in enumerate(lines)]
    kind = "closed" if block.inside is not None else block.kind
    return Picture(width, height, (Box(0, 0, width, height, kind, block.marks, block.path),), (), tuple(texts))


def _open(block: Block, depth: int) -> Picture:
    assert block.inside is not None
    inner = _level(block.inside, depth - 1)
    title = " · ".join(text for text, _ in lines_of(block))
    width = max(inner.width, len(title) * BOLD) + 2 * PADDING
    height = inner.height + 2 * PADDING + LINE
    inner = inner.moved((width - inner.width) / 2, PADDING + LINE)
    return Picture(
        width, height, (Box(0, 0, width, height, "open", block.marks, block.path), *inner.boxes), inner.lines,
        (Text(PADDING, LINE, title, "name", left=True), *inner.texts),
    )  # fmt: skip


def _centres(rows: Rows, widths: Sequence[float], names: Mapping[tuple[int, int], str]) -> dict[int, float]:
    """The middle of each node: near to those above and below that it is joined to, and none over another."""
    space = {node: widths[node] if node < rows.blocks else DOT for row in rows.rows for node in row}
    for pair, route in rows.routes.items():  # beside a bend there has to be room for what is said of its wire
        for bend in route[1:2]:
            if bend >= rows.blocks:
                space[bend] = max(space[bend], len(names[pair]) * SMALL * 0.56)
    joined: dict[int, list[tuple[int, float]]] = {}
    for one, other in rows.segments():
        weight = STRAIGHT if one >= rows.blocks and other >= rows.blocks else 1.0
        joined.setdefault(one, []).append((other, weight))
        joined.setdefault(other, []).append((one, weight))
    centres: dict[int, float] = {}
    for row in rows.rows:
        _spread(row, dict.fromkeys(row, 0.0), space, centres)
    for sweep in range(24):
        for row in rows.rows if sweep % 2 == 0 else reversed(rows.rows):
            wanted = {}
            for node in row:
                near = joined.get(node, [(node, 1.0)])
                wanted[node] = sum(centres[other] * weight for other, weight in near) / sum(w for _, w in near)
            _spread(row, wanted, space, centres)
    left = min([centres[node] - space[node] / 2 for node in centres if node < rows.blocks] or [0.0])
    left = min([left, *(centre - DOT / 2 for centre in centres.values())])
    return {node: centre - left for node, centre in centres.items()}


def _spread(
    row: Sequence[int], wanted: Mapping[int, float], space: Mapping[int, float], centres: dict[int, float]
) -> None:
    """Put the nodes of a row as near as can be to where they are wanted, in the sense of least squares.

    Distances to the row's beginning turn the order and the gaps into monotony; pools of neighbours that want to be in
    each other's places share the mean of their wishes.
    """
    offsets, at = {}, 0.0
    for index, node in enumerate(row):
        at += 0.0 if index == 0 else (space[row[index - 1]] + space[node]) / 2 + GAP_X
        offsets[node] = at
    pools: list[tuple[float, int]] = []
    for node in row:
        mean, size = wanted[node] - offsets[node], 1
        while pools and pools[-1][0] > mean:
            other, count = pools.pop()
            mean, size = (mean * size + other * count) / (size + count), size + count
        pools.append((mean, size))
    starts = [mean for mean, size in pools for _ in range(size)]
    for node, start in zip(row, starts, strict=True):
        centres[node] = start + offsets[node]
