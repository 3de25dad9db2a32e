"""The colours of drawings, light and dark."""

from __future__ import annotations

LIGHT = {
    "paper": "#ffffff", "text": "#1c2330", "faint": "#5b6675", "wire": "#7b8798", "line": "#9fb0c6",
    "module": "#f2f6fc", "closed": "#dce8f8", "open": "#f8fafd", "function": "#fff3d6", "function_line": "#d9a83a",
    "tensor": "#eaf6ea", "tensor_line": "#6aa56a", "end": "#e8eaee", "frozen": "#3d9bd1", "shared": "#b25fc4",
}  # fmt: skip
DARK = {
    "paper": "#14181f", "text": "#e6ebf2", "faint": "#9aa7b8", "wire": "#76859a", "line": "#46566c",
    "module": "#1f2733", "closed": "#26364c", "open": "#191f28", "function": "#3a3218", "function_line": "#a5812f",
    "tensor": "#1d301f", "tensor_line": "#4f8350", "end": "#2b313b", "frozen": "#5fb7e8", "shared": "#cf86df",
}  # fmt: skip
"""Colours by what they are for: the same names in both."""

FONT = "ui-sans-serif, system-ui, 'Segoe UI', 'DejaVu Sans', Arial, sans-serif"


def variables(colours: dict[str, str]) -> str:
    """Colours as variables of CSS."""
    return " ".join(f"--g-{name.replace('_', '-')}: {colour};" for name, colour in colours.items())


_RULES = f"""
.builder-graph {{ font-family: {FONT}; }}
.builder-graph .paper {{ fill: var(--g-paper); }}
.builder-graph text {{ fill: var(--g-text); font-size: 12px; }}
.builder-graph text.name {{ font-weight: 600; }}
.builder-graph text.detail, .builder-graph text.type {{ fill: var(--g-faint); font-size: 11px; }}
.builder-graph text.shape {{ fill: var(--g-faint); font-size: 10px; paint-order: stroke;
  stroke: var(--g-paper); stroke-width: 3px; stroke-linejoin: round; }}
.builder-graph .box {{ fill: var(--g-module); stroke: var(--g-line); }}
.builder-graph .box.closed {{ fill: var(--g-closed); }}
.builder-graph .box.open {{ fill: var(--g-open); stroke-dasharray: none; }}
.builder-graph .box.function {{ fill: var(--g-function); stroke: var(--g-function-line); }}
.builder-graph .box.tensor {{ fill: var(--g-tensor); stroke: var(--g-tensor-line); }}
.builder-graph .box.input, .builder-graph .box.output {{ fill: var(--g-end); }}
.builder-graph .box.entry, .builder-graph .box.exit {{ fill: var(--g-wire); stroke: none; }}
.builder-graph .box.shared {{ stroke: var(--g-shared); stroke-width: 2.5; }}
.builder-graph .box.frozen {{ stroke: var(--g-frozen); stroke-width: 2; stroke-dasharray: 5 3; }}
.builder-graph .wire {{ fill: none; stroke: var(--g-wire); stroke-width: 1.2; }}
.builder-graph .head {{ fill: var(--g-wire); }}
"""

STYLE = (
    f".builder-graph {{ {variables(LIGHT)} }}"
    f"\n@media (prefers-color-scheme: dark) {{ .builder-graph {{ {variables(DARK)} }} }}{_RULES}"
)
"""For an SVG drawing; its rules hold below the class `builder-graph` only."""
