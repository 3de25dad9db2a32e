"""The model of a run in its report: figures, a drawing, a table of its layers, its code."""

from __future__ import annotations

import pathlib
from collections.abc import Mapping, Sequence
from typing import Any

from builder.durable import told
from builder.quantities import in_bytes, rounded
from builder.report.markup import Markup, tag
from builder.report.page import details, picture, shares
from builder.report.tables import table
from builder.runs.compare import read_json

SUMMARY = "reports/model.json"
DRAWING = "reports/model.svg"


def model_section(run: pathlib.Path) -> list[Markup]:
    """What the folder tells of the model; nothing if that is nothing."""
    found, made = read_json(run / SUMMARY), []
    if isinstance(found, dict):
        layers = _table(found.get("modules") or [])
        made += [shares(_figures(found)), tag("div", *_drawing(run), layers, class_="beside")]
    code = run / "model.py"
    if code.is_file():
        made.append(details("as plain PyTorch", tag("pre", _read(code))))
    return made


def _figures(found: Mapping[str, Any]) -> dict[str, object]:
    sizes = ", ".join(f"{name}={size}" for name, size in (found.get("sizes") or {}).items())
    at = f", {sizes}" if sizes else ""
    figures: dict[str, object] = {"parameters": f"{found.get('parameters', 0):,}"}
    if found.get("trainable") != found.get("parameters"):
        figures["of them trained"] = f"{found.get('trainable', 0):,}"
    if found.get("flops") is not None:
        figures[f"FLOPs forward{at}"] = rounded(found["flops"])
    needed = (found.get("memory") or {}).get("total")
    if needed is not None:
        figures[f"memory to train{at}"] = in_bytes(needed)
    return figures


def _drawing(run: pathlib.Path) -> list[Markup]:
    path = run / DRAWING
    return [picture(_read(path), "the model, drawn")] if path.is_file() else []


def _table(modules: Sequence[Mapping[str, Any]]) -> Markup:
    rows = [_row(each) for each in modules]
    head = ("layer", "type", "input", "output", "parameters", "FLOPs", "")
    return table(head, rows, {4, 5}, "layers of the model")


def _row(each: Mapping[str, Any]) -> list[object]:
    path = str(each.get("path", ""))
    depth = path.count(".") + 1 if path else 0
    name = path.rpartition(".")[2] or "(the model)"
    return [
        "\u2003" * depth + name, each.get("type"), _shapes(each.get("inputs")), _shapes(each.get("outputs")),
        f"{each['parameters']:,}" if each.get("parameters") else "",
        rounded(each["flops"]) if each.get("flops") else "", "; ".join(map(str, each.get("notes") or ())),
    ]  # fmt: skip


def _shapes(shapes: Any) -> str:
    return ", ".join(f"[{', '.join(map(str, shape))}]" for shape in shapes or ())


def _read(path: pathlib.Path) -> str:
    with told("read", path):
        return path.read_text(encoding="utf-8", errors="replace")
