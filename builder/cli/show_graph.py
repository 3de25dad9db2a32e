"""`builder show graph`: a model as a picture."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from builder.cli.options import Common
from builder.cli.show_model import Words, chosen_model
from builder.errors import UsageError, nearest

if TYPE_CHECKING:
    from builder.inspect.graph.level import Drawing

FORMS = (".svg", ".png", ".html", ".dot")


def graph(
    common: Common,
    words: Words = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="FILE", help="Where to, as .svg, .png, .html or .dot.")
    ] = Path("model.svg"),
    depth: Annotated[int, typer.Option("--depth", min=0, metavar="N", help="How deep blocks are open.")] = 1,
) -> None:
    """Draw a model: its parts as blocks, what flows between them with its shapes, residuals and all.

    Blocks alike that follow each other are drawn once (× 12). In HTML blocks open and close at a click. Graphviz lays
    the drawing out where it is installed.
    """
    if output.suffix.lower() not in FORMS:
        near = nearest(output.suffix, FORMS)
        hint = f"\n  did you mean {near[0]!r}?" if near else ""
        raise UsageError(f"--output {output}: a drawing is written as one of {', '.join(FORMS)}{hint}")
    if output.parent != Path() and not output.parent.is_dir():
        raise UsageError(f"--output {output}: there is no folder {str(output.parent)!r}")
    chosen = chosen_model(common, words)
    from builder.durable import write_bytes
    from builder.preview import draw_model

    drawing = draw_model(chosen)
    for note in drawing.notes:
        print(f"note: {note}", file=sys.stderr)
    write_bytes(output, _written(drawing, output.suffix.lower(), depth))
    print(output)


def _written(drawing: Drawing, form: str, depth: int) -> bytes:
    if form == ".png":
        from builder.inspect.graph.png import png

        return png(drawing, depth)
    if form == ".html":
        from builder.inspect.graph.page import page

        return page(drawing, depth).encode()
    if form == ".dot":
        from builder.inspect.graph.dot import text

        return text(drawing, depth).encode()
    from builder.inspect.graph.svg import svg

    return svg(drawing, depth).encode()
