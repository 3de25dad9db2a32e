"""A drawing laid out by Graphviz: its text in the language DOT, and what the command `dot` makes of it."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from html import escape

from builder.errors import BuilderError
from builder.inspect.graph.level import Block, Drawing, Level, Wire, labels
from builder.inspect.graph.style import LIGHT, STYLE

COMMAND = "dot"
LIMIT = 120
"""Seconds that `dot` may take."""


class DotFailed(BuilderError):
    """Graphviz couldn't lay the drawing out."""


def is_there() -> bool:
    """Whether Graphviz is installed."""
    return shutil.which(COMMAND) is not None


def svg(drawing: Drawing, depth: int = 1) -> str:
    """The drawing as an `<svg>` element.

    Raises:
        DotFailed: `dot` couldn't.
    """
    made = _run(text(drawing, depth), "svg").decode()
    start = made.index("<svg")
    made = made[start:].replace("<svg ", '<svg class="builder-graph dot" ', 1)
    made = re.sub(r"(<svg[^>]*>)", lambda found: f"{found[1]}\n<style>{STYLE}{_DOT_STYLE}</style>", made, count=1)
    return re.sub(r"<!--.*?-->\n?", "", made, flags=re.DOTALL)


def png(drawing: Drawing, depth: int = 1) -> bytes:
    """The drawing as a picture of twice the usual resolution.

    Raises:
        DotFailed: `dot` couldn't.
    """
    return _run(text(drawing, depth), "png", "-Gdpi=144")


def _run(source: str, form: str, *options: str) -> bytes:
    try:
        done = subprocess.run(
            [COMMAND, f"-T{form}", *options], input=source.encode(), capture_output=True, timeout=LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        raise DotFailed(
            f"Graphviz's dot didn't lay the drawing out within {LIMIT} s\n  hint:     a smaller --depth"
        ) from None
    if done.returncode:
        raise DotFailed(f"Graphviz's dot failed: {done.stderr.decode(errors='replace').strip()}")
    return done.stdout


_DOT_STYLE = """
.builder-graph.dot > g > polygon { fill: var(--g-paper); }
.builder-graph.dot .box path, .builder-graph.dot .box polygon, .builder-graph.dot .box ellipse { fill: inherit;
  stroke: inherit; stroke-width: inherit; stroke-dasharray: inherit; }
.builder-graph.dot .edge path { stroke: var(--g-wire); }
.builder-graph.dot .edge polygon { fill: var(--g-wire); stroke: var(--g-wire); }
.builder-graph.dot .box text { stroke: none; font-size: 11px; }
.builder-graph.dot .edge text { fill: var(--g-faint); font-size: 9px; }
"""


def text(drawing: Drawing, depth: int = 1) -> str:
    """The drawing in DOT, blocks open down to `depth`."""
    level = drawing.level if depth >= 1 else Level((Block(0, "module", drawing.name, drawing.facts),), ())
    colours = LIGHT
    head = [
        "digraph model {",
        f'  graph [tooltip={_quoted(drawing.name)}, bgcolor="{colours["paper"]}", fontname="DejaVu Sans", '
        "fontsize=11, nodesep=0.3, ranksep=0.38, pad=0.2, compound=true]",
        '  node [fontname="DejaVu Sans", fontsize=11, style="filled,rounded", shape=box, margin="0.14,0.07", '
        "height=0.3]",
        f'  edge [fontname="DejaVu Sans", fontsize=9, color="{colours["wire"]}", fontcolor="{colours["faint"]}", '
        "arrowsize=0.6]",
    ]
    return "\n".join([*head, *_level(level, depth, "  "), *_wires(level, depth), "}"]) + "\n"


def _level(level: Level, depth: int, indent: str) -> Iterator[str]:
    for block in level.blocks:
        if block.kind in ("entry", "exit"):
            continue
        if block.inside is not None and depth > 1:
            yield f"{indent}subgraph cluster_{block.key} {{"
            yield f"{indent}  label={_quoted(' · '.join(_lines(block)))}; labeljust=l; {_look(block, 'open')}"
            yield from _level(block.inside, depth - 1, indent + "  ")
            yield f"{indent}}}"
        else:
            kind = "closed" if block.inside is not None else block.kind
            yield f"{indent}n{_name(block)} [label={_quoted(*_lines(block))}, {_look(block, kind)}]"
    if not level.wires:
        closed = [block for block in level.blocks if block.inside is None or depth <= 1]
        for one, other in zip(closed, closed[1:], strict=False):
            yield f"{indent}n{_name(one)} -> n{_name(other)} [style=invis]"


def _lines(block: Block) -> list[str]:
    lines = [block.name, *([block.title] if block.type else []), *block.details, *block.marks]
    return [line for line in lines if line]


def _name(block: Block) -> str:
    return str(block.key).replace("-", "_")


def _look(block: Block, kind: str) -> str:
    """The attributes of a block or cluster: colours of the light theme, and classes by which the SVG has others."""
    marks = [word for word in ("frozen", "shared") if any(mark.startswith(word) for mark in block.marks)]
    fill = LIGHT["end"] if kind in ("input", "output") else LIGHT[kind]
    line = LIGHT[marks[0]] if marks else LIGHT.get(f"{kind}_line", LIGHT["line"])
    style = ["filled", "rounded", *(["dashed"] if "frozen" in marks else [])]
    look = f'class="box {" ".join([kind, *marks])}", style="{",".join(style)}", fillcolor="{fill}", color="{line}"'
    look += f', fontcolor="{LIGHT["text"]}", penwidth={2 if marks else 1}, tooltip={_quoted(block.path or block.name)}'
    return look.replace(", ", "; ") if kind == "open" else look


def _wires(level: Level, depth: int) -> Iterator[str]:
    """The wires between blocks that show, whichever levels these lie in."""
    flat = [Wire(int(source.key), 0, int(target.key), 0, wire.shape) for source, target, wire in _flat(level, depth)]
    for (source, target), label in labels(list(dict.fromkeys(flat))).items():
        ends = [str(end).replace("-", "_") for end in (source, target)]
        yield f"  n{ends[0]} -> n{ends[1]} [label={_quoted(f' {label} ')}]"


def _flat(level: Level, depth: int) -> Iterator[tuple[Block, Block, Wire]]:
    """Each wire of a level and of those open in it, from a block that shows to one that does."""
    for wire in level.wires:
        if level.blocks[wire.source].kind == "entry" or level.blocks[wire.target].kind == "exit":
            continue  # what enters or leaves is drawn where it comes from or goes to further out
        for source in _givers(level, wire.source, wire.port, depth):
            for target in _takers(level, wire.target, wire.at, depth):
                yield source, target, wire
    for block in level.blocks:
        if block.inside is not None and depth > 1:
            yield from _flat(block.inside, depth - 1)


def _givers(level: Level, index: int, port: int, depth: int) -> Iterator[Block]:
    """The blocks that show and give what comes out of a block's port; beyond it, where it only passes through."""
    block = level.blocks[index]
    if block.kind == "entry":
        return
    if block.inside is None or depth <= 1:
        yield block
        return
    last = len(block.inside.blocks) - 1
    for wire in block.inside.wires:
        if wire.target == last and wire.at == port:
            yield from _givers(block.inside, wire.source, wire.port, depth - 1)
            if block.inside.blocks[wire.source].kind == "entry":
                for outer in level.wires:
                    if outer.target == index and outer.at == wire.port:
                        yield from _givers(level, outer.source, outer.port, depth)


def _takers(level: Level, index: int, at: int, depth: int) -> Iterator[Block]:
    """The blocks that show and take what goes into a block's port."""
    block = level.blocks[index]
    if block.inside is None or depth <= 1:
        yield block
        return
    for wire in block.inside.wires:
        if wire.source == 0 and wire.port == at and block.inside.blocks[wire.target].kind != "exit":
            yield from _takers(block.inside, wire.target, wire.at, depth - 1)


def _quoted(*lines: str) -> str:
    """Lines as a quoted string of DOT in which nothing has a meaning."""
    escaped = (escape(line, quote=False).replace("\\", "\\\\").replace('"', '\\"') for line in lines)
    return '"' + "\\n".join(line.replace("\n", " ").replace("\r", " ") for line in escaped) + '"'
