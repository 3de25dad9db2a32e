"""A drawing as a PNG: by Graphviz where its `dot` is installed, by matplotlib from our own layout where not."""

from __future__ import annotations

import io

from builder.errors import UsageError
from builder.inspect.graph import dot
from builder.inspect.graph.layout import SIZE, SMALL, Picture, lay_out
from builder.inspect.graph.level import Drawing
from builder.inspect.graph.style import LIGHT

DPI = 144
"""Pixels of the picture to an inch, of which a drawing has 96."""
MOST_PIXELS = 60_000
"""On a side; matplotlib takes no more than 2**16."""

SIZES = {"name": SIZE, "shape": SMALL, "detail": SIZE - 1, "type": SIZE - 1}


def png(drawing: Drawing, depth: int = 1, *, graphviz: bool | None = None) -> bytes:
    """The drawing as a PNG with light colours; `graphviz` as for `svg`.

    Raises:
        DotFailed: `dot` couldn't.
        UsageError: it would be too large.
    """
    if dot.is_there() if graphviz is None else graphviz:
        return dot.png(drawing, depth)
    return written(lay_out(drawing, depth))


def written(picture: Picture) -> bytes:
    """A picture as a PNG.

    Raises:
        UsageError: it is too large.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    if max(picture.width, picture.height) * DPI / 96 > MOST_PIXELS:
        raise UsageError("the picture would be too large for a PNG\n  hint:     a smaller --depth, or SVG")
    figure = Figure(figsize=(picture.width / 96, picture.height / 96), dpi=DPI, facecolor=LIGHT["paper"])
    FigureCanvasAgg(figure)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set_axis_off()
    axes.set_xlim(0, picture.width)
    axes.set_ylim(picture.height, 0)
    _boxes(axes, picture)
    _lines(axes, picture)
    for text in picture.texts:
        colour = LIGHT["faint"] if text.kind in ("shape", "detail", "type") else LIGHT["text"]
        axes.text(
            text.x, text.y, text.text, fontsize=SIZES.get(text.kind, SIZE) * 72 / 96, color=colour,
            fontweight="bold" if text.kind == "name" else "normal", ha="left" if text.left else "center",
            va="baseline", parse_math=False,
        )  # fmt: skip
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DPI)
    return buffer.getvalue()


def _boxes(axes: object, picture: Picture) -> None:
    from matplotlib.patches import FancyBboxPatch

    for box in picture.boxes:
        kind = "end" if box.kind in ("input", "output") else "wire" if box.kind in ("entry", "exit") else box.kind
        marks = [word for word in ("frozen", "shared") if any(mark.startswith(word) for mark in box.marks)]
        radius = box.height / 2 if box.kind in ("input", "output", "function", "entry", "exit") else 6
        patch = FancyBboxPatch(
            (box.x, box.y), box.width, box.height, boxstyle=f"round,pad=0,rounding_size={radius}",
            facecolor=LIGHT[kind], edgecolor=LIGHT[marks[0]] if marks else LIGHT.get(f"{kind}_line", LIGHT["line"]),
            linewidth=1.6 if marks else 0.8, linestyle="--" if "frozen" in marks else "-",
        )  # fmt: skip
        axes.add_patch(patch)  # type: ignore[attr-defined]


def _lines(axes: object, picture: Picture) -> None:
    from matplotlib.patches import PathPatch, Polygon
    from matplotlib.path import Path

    for line in picture.lines:
        (x, y), *rest = line.points
        points, codes = [(x, y)], [Path.MOVETO]
        for index, (to_x, to_y) in enumerate(rest):
            if index % 2:
                points.append((to_x, to_y))
                codes.append(Path.LINETO)
            else:
                middle = (y + to_y) / 2
                points += [(x, middle), (to_x, middle), (to_x, to_y)]
                codes += [Path.CURVE4] * 3
            x, y = to_x, to_y
        wire = PathPatch(Path(points, codes), facecolor="none", edgecolor=LIGHT["wire"], linewidth=0.9)
        axes.add_patch(wire)  # type: ignore[attr-defined]
        head = Polygon([(x, y), (x - 3.5, y - 7), (x + 3.5, y - 7)], closed=True, color=LIGHT["wire"], linewidth=0)
        axes.add_patch(head)  # type: ignore[attr-defined]
