"""A drawing as one HTML file in which blocks open and close at a click; it fetches nothing."""

from __future__ import annotations

import json
from html import escape

from builder.inspect.graph.layout import lines_of
from builder.inspect.graph.level import Block, Drawing, Level, labels
from builder.inspect.graph.rows import rows_of
from builder.inspect.graph.style import DARK, FONT, LIGHT, variables
from builder.inspect.graph.svg import classes


def page(drawing: Drawing, depth: int = 1) -> str:
    """The drawing as a page, blocks open down to `depth` at first."""
    notes = "".join(f"<p>{escape(note)}</p>" for note in drawing.notes)
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(drawing.name)}</title>\n'
        f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style></head>\n'
        f"<body><header><h1>{escape(drawing.name)}</h1><p>{escape(drawing.facts)}</p>{notes}"
        '<p><button id="open">open all</button> <button id="close">close all</button></p></header>\n'
        f"<main>{_level(drawing.level, depth)}</main>\n<script>{_SCRIPT}</script></body></html>\n"
    )


def _level(level: Level, depth: int) -> str:
    rows, names = rows_of(level), labels(level.wires)
    said: set[tuple[int, str]] = set()
    wires = []
    for pair, route in rows.routes.items():
        label = names[pair] if (pair[0], names[pair]) not in said else ""
        said.add((pair[0], names[pair]))
        wires.append({"route": route, "label": label})
    cells = "".join(
        f'<div class="row">{"".join(_node(node, level, rows.blocks, depth) for node in row)}</div>'
        for row in rows.rows
    )  # fmt: skip
    return f'<div class="level" data-wires="{escape(json.dumps(wires))}"><svg class="wires"></svg>{cells}</div>'


def _node(node: int, level: Level, blocks: int, depth: int) -> str:
    inner = _block(level.blocks[node], depth) if node < blocks else ""
    return f'<div class="{"cell" if node < blocks else "bend"}" data-node="{node}">{inner}</div>'


def _block(block: Block, depth: int) -> str:
    kind = classes(block.kind, block.marks)
    tip = f' title="{escape(block.path)}"' if block.path else ""
    lines = "".join(f'<span class="{line}">{escape(text)}</span>' for text, line in lines_of(block))
    if block.inside is None:
        return f'<div class="box {kind}"{tip}>{lines}</div>'
    is_open = depth > 1
    return (
        f'<div class="box {kind} opens{" is-open" if is_open else ""}">'
        f'<button class="head" aria-expanded="{str(is_open).lower()}"{tip}>{lines}</button>'
        f'<div class="inside">{_level(block.inside, depth - 1)}</div></div>'
    )


_STYLE = f"""
:root {{ color-scheme: light dark; {variables(LIGHT)} }}
@media (prefers-color-scheme: dark) {{ :root {{ {variables(DARK)} }} }}
body {{ margin: 1.2rem; background: var(--g-paper); color: var(--g-text); font: 12px/1.3 {FONT}; }}
h1 {{ font-size: 1.3rem; margin: 0; }} header p {{ margin: .3rem 0; color: var(--g-faint); }}
button {{ font: inherit; color: inherit; cursor: pointer; }}
.level {{ position: relative; display: inline-flex; flex-direction: column; align-items: center; gap: 34px; }}
.wires {{ position: absolute; inset: 0; width: 100%; height: 100%; overflow: visible; pointer-events: none; }}
.row {{ display: flex; gap: 22px; justify-content: center; align-items: center; align-self: stretch; }}
.bend {{ width: 10px; align-self: stretch; }}
.box {{ position: relative; border: 1px solid var(--g-line); border-radius: 6px; background: var(--g-module);
  padding: 5px 12px; text-align: center; white-space: nowrap; }}
.box span {{ display: block; }}
.name {{ font-weight: 600; }} .type, .detail {{ color: var(--g-faint); font-size: 11px; }}
.function {{ background: var(--g-function); border-color: var(--g-function-line); border-radius: 99px;
  padding: 2px 10px; }}
.tensor {{ background: var(--g-tensor); border-color: var(--g-tensor-line); padding: 2px 10px; }}
.input, .output {{ background: var(--g-end); border-radius: 99px; padding: 2px 12px; }}
.entry, .exit {{ width: 10px; height: 10px; padding: 0; border: 0; border-radius: 99px; background: var(--g-wire); }}
.box span.function, .box span.tensor, .box span.input, .box span.output {{ background: none; border: 0; padding: 0; }}
.opens {{ background: var(--g-closed); padding: 0; }}
.opens > .head {{ display: block; width: 100%; border: 0; background: none; padding: 5px 12px; }}
.opens > .head::before {{ content: "+"; float: left; color: var(--g-faint); margin-right: 8px; }}
.opens > .inside {{ display: none; padding: 4px 14px 14px; }}
.is-open {{ background: var(--g-open); }} .is-open > .inside {{ display: block; }}
.is-open > .head {{ text-align: left; }} .is-open > .head::before {{ content: "–"; }}
.is-open > .head > span {{ display: inline; margin-right: 8px; }}
.shared {{ border: 2px solid var(--g-shared); }} .frozen {{ border: 2px dashed var(--g-frozen); }}
.wires path {{ fill: none; stroke: var(--g-wire); stroke-width: 1.2; }}
.wires .tip {{ fill: var(--g-wire); stroke: none; }}
.wires text {{ fill: var(--g-faint); font-size: 10px; paint-order: stroke; stroke: var(--g-paper); stroke-width: 3px; }}
"""

_SCRIPT = """
const NS = "http://www.w3.org/2000/svg";
function made(svg, name, attributes, text) {
  const element = svg.appendChild(document.createElementNS(NS, name));
  for (const key in attributes) element.setAttribute(key, attributes[key]);
  if (text) element.textContent = text;
}
function draw(level) {
  const svg = level.querySelector(":scope > .wires"), home = level.getBoundingClientRect(), nodes = {};
  for (const node of level.querySelectorAll(":scope > .row > [data-node]")) {
    const box = node.getBoundingClientRect();
    nodes[node.dataset.node] = {x: box.left + box.width / 2 - home.left, top: box.top - home.top,
                                bottom: box.bottom - home.top};
  }
  svg.replaceChildren();
  for (const wire of JSON.parse(level.dataset.wires)) {
    let last = nodes[wire.route[0]], path = `M${last.x},${last.bottom}`;
    wire.route.slice(1).forEach((index, step) => {
      const next = nodes[index], middle = (last.bottom + next.top) / 2;
      path += `C${last.x},${middle} ${next.x},${middle} ${next.x},${next.top}`;
      if (step < wire.route.length - 2) path += `L${next.x},${next.bottom}`;
      if (!step && wire.label)
        wire.at = [(last.x + next.x) / 2 + 5, (Math.max(last.bottom, next.top - 34) + next.top) / 2 + 3];
      last = next;
    });
    made(svg, "path", {d: path});
    made(svg, "path", {class: "tip", d: `M${last.x},${last.top}l-3.5,-7l7,0z`});
    if (wire.at) made(svg, "text", {x: wire.at[0], y: wire.at[1]}, wire.label);
  }
}
function redraw() { document.querySelectorAll(".level").forEach(level => level.offsetParent && draw(level)); }
function turn(block, open) {
  block.classList.toggle("is-open", open);
  block.firstElementChild.setAttribute("aria-expanded", block.classList.contains("is-open"));
}
document.querySelectorAll(".head").forEach(head => head.onclick = () => { turn(head.parentElement); redraw(); });
for (const [id, open] of [["open", true], ["close", false]])
  document.getElementById(id).onclick = () => {
    document.querySelectorAll(".opens").forEach(block => turn(block, open)); redraw();
  };
redraw(); addEventListener("resize", redraw);
"""
