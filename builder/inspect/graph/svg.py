"""A drawing as SVG that stands alone or inside of a page: by Graphviz where its `dot` is installed, by us where not."""

from __future__ import annotations

from html import escape

from builder.inspect.graph import dot
from builder.inspect.graph.layout import Box, Line, Picture, Text, lay_out
from builder.inspect.graph.level import Drawing
from builder.inspect.graph.style import STYLE


def svg(drawing: Drawing, depth: int = 1, *, graphviz: bool | None = None) -> str:
    """The drawing as one `<svg>` element, blocks open down to `depth`; its colours follow the reader's, light or dark.

    `graphviz` says whether `dot` lays it out; None for where it is installed.

    Raises:
        DotFailed: `dot` couldn't.
    """
    if dot.is_there() if graphviz is None else graphviz:
        return dot.svg(drawing, depth)
    return written(lay_out(drawing, depth), drawing.name)


def written(picture: Picture, title: str) -> str:
    """A picture as SVG."""
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="builder-graph" width="{picture.width:.0f}" '
        f'height="{picture.height:.0f}" viewBox="0 0 {picture.width:.1f} {picture.height:.1f}" role="img">',
        f"<title>{escape(title)}</title>",
        f"<style>{STYLE}</style>",
        f'<rect class="paper" width="{picture.width:.1f}" height="{picture.height:.1f}"/>',
        *map(_box, picture.boxes), *map(_line, picture.lines), *map(_text, picture.texts), "</svg>",
    ]  # fmt: skip
    return "\n".join(parts) + "\n"


def classes(kind: str, marks: tuple[str, ...]) -> str:
    """The classes of a block: its kind, and `frozen` and `shared` for such marks."""
    return " ".join([kind, *(word for word in ("frozen", "shared") if any(mark.startswith(word) for mark in marks))])


def _box(box: Box) -> str:
    radius = box.height / 2 if box.kind in ("input", "output", "function", "entry", "exit") else 6
    tip = f"<title>{escape(box.tip)}</title>" if box.tip else ""
    return (
        f'<rect class="box {classes(box.kind, box.marks)}" x="{box.x:.1f}" y="{box.y:.1f}" width="{box.width:.1f}" '
        f'height="{box.height:.1f}" rx="{radius:.1f}">{tip}</rect>'
    )


def _line(line: Line) -> str:
    (x, y), *rest = line.points
    path = [f"M{x:.1f},{y:.1f}"]
    for index, (to_x, to_y) in enumerate(rest):
        middle = (y + to_y) / 2
        curve = f"C{x:.1f},{middle:.1f} {to_x:.1f},{middle:.1f} {to_x:.1f},{to_y:.1f}"
        path.append(f"L{to_x:.1f},{to_y:.1f}" if index % 2 else curve)
        x, y = to_x, to_y
    head = f'<path class="head" d="M{x:.1f},{y:.1f} l-3.5,-7 l7,0 z"/>'
    return f'<path class="wire" d="{"".join(path)}"/>{head}'


def _text(text: Text) -> str:
    anchor = "start" if text.left else "middle"
    return (
        f'<text class="{text.kind}" x="{text.x:.1f}" y="{text.y:.1f}" text-anchor="{anchor}">{escape(text.text)}</text>'
    )
