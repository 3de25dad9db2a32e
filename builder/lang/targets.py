"""What may stand on the left of an assignment, after `for`, and in a comprehension."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from builder.lang import values
from builder.lang.values import Items, Layers, Value

if TYPE_CHECKING:
    from builder.lang.check import Expressions


def bind(check: Expressions, target: ast.expr, value: Value, *, buffers: bool = False) -> None:
    """Check a target and remember what it now is. `buffers`: those may be assigned here."""
    match target:
        case ast.Name():
            _bind_name(check, target, value, buffers)
        case ast.Tuple() | ast.List():
            _bind_many(check, target, value, buffers)
        case ast.Starred():
            bind(check, target.value, values.each(values.element(value)), buffers=buffers)
        case ast.Subscript():
            if isinstance(check.value(target.value), Layers):
                check.source.add(target, "a layer's items can't be assigned")
            check.value(target.slice)
        case ast.Attribute():
            check.source.add(
                target, "an attribute can't be assigned", hint="declare a buffer and assign it by its name"
            )
        case _:
            check.source.refuse(target)


def _bind_name(check: Expressions, target: ast.Name, value: Value, buffers: bool) -> None:
    name = target.id
    if buffers and name in check.scope.buffers:
        check.used.writes[name] = None
        return
    if name in check.fixed:
        check.source.add(
            target, f"{name!r} is {check.fixed[name]} and can't be assigned", hint=_hint(check.fixed[name])
        )
    elif name.startswith("_") and name != "_":
        check.source.add(target, f"the name {name!r} begins with an underscore")
    check.env[name] = value


def _hint(what: str) -> str:
    if what == "a buffer":
        return "assign a buffer in a statement of its own"
    return "only buffers can be assigned" if what in ("a parameter", "an arg") else "choose another name"


def _bind_many(check: Expressions, target: ast.Tuple | ast.List, value: Value, buffers: bool) -> None:
    count = len(target.elts)
    parts: list[Value] = [values.element(value)] * count
    if isinstance(value, Items) and not any(isinstance(part, ast.Starred) for part in target.elts):
        if len(value.items) != count:
            check.source.add(target, f"{len(value.items)} values can't be unpacked into {count} names")
        else:
            parts = list(value.items)
    for part, known in zip(target.elts, parts, strict=True):
        bind(check, part, known, buffers=buffers)
