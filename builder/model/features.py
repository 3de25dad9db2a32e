"""A model up to one of its layers: the definition that computes what that layer would be given."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any

from builder.lang.formula import parse_formula
from builder.lang.syntax import LangError


class Uncuttable(ValueError):
    """A definition can't be cut at that layer; says why."""


def cut(raw: Mapping[str, Any], until: str | None) -> tuple[dict[str, Any], str]:
    """The definition without the layer `until` (the last, if None) and all that comes after it, and that layer's name.

    In a `forward`, the statement that calls the layer becomes `return` of what it calls it with; the lines before it
    stay where they are. Layers, inputs and arguments that are no longer used are left out.

    Raises:
        Uncuttable: there is no such layer, or the place where it is called can't be the end.
    """
    layers = raw.get("layers")
    if not isinstance(layers, dict) or not layers:
        raise Uncuttable("its layers have no names")
    name = list(layers)[-1] if until is None else until
    if name not in layers:
        raise Uncuttable(f"it has no layer {name!r}")
    out = {key: value for key, value in raw.items() if key != "tie"}
    if "forward" in raw:
        out["forward"] = _cut_forward(str(raw["forward"]), name)
        used = _names(out["forward"])
        out["layers"] = {key: layer for key, layer in layers.items() if key in used}
        out |= _kept_inputs(raw, used)
    else:
        out["layers"] = dict(list(layers.items())[: list(layers).index(name)])
    if not out["layers"] and "forward" not in out:
        raise Uncuttable(f"{name!r} is its first layer")
    args = _kept_args(raw.get("args") or {}, out)
    return {key: value for key, value in out.items() if key != "args"} | ({"args": args} if args else {}), name


def _kept_inputs(raw: Mapping[str, Any], used: set[str]) -> dict[str, Any]:
    inputs = raw.get("inputs")
    if isinstance(inputs, dict):
        return {"inputs": {key: value for key, value in inputs.items() if key in used}}
    return {"inputs": [key for key in inputs if key in used]} if isinstance(inputs, list) else {}


def _cut_forward(text: str, name: str) -> str:
    """The text up to the statement that calls the layer, and the return of its input in that statement's place."""
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise Uncuttable("its forward can't be read") from error
    for statement in statements:
        calls = [node for node in ast.walk(statement) if _calls(node, name)]
        if not calls:
            continue
        if not isinstance(statement, ast.Assign | ast.Return | ast.AugAssign) or len(calls) > 1:
            raise Uncuttable(f"{name!r} is called inside of a loop or a condition, or more than once in a statement")
        (call,) = calls
        assert isinstance(call, ast.Call)
        if len(call.args) != 1 or call.keywords:
            raise Uncuttable(f"{name!r} is called with more than one argument")
        given = ast.get_source_segment(text, call.args[0])
        lines = text.splitlines()[: statement.lineno - 1]
        return "\n".join([*lines, f"return ({given})\n"])
    raise Uncuttable(f"its forward never calls {name!r}")


def _calls(node: ast.AST, name: str) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name


def _names(text: str) -> set[str]:
    return {node.id for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Name)}


def _kept_args(args: Mapping[str, Any], rest: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments that are still used, by formulas, by `forward`, or by the defaults of others that are."""
    body = {key: value for key, value in rest.items() if key != "args"}
    used = set(_formula_names(body)) | (_names(rest["forward"]) if "forward" in rest else set())
    kept: set[str] = set()
    while fresh := (used & set(args)) - kept:
        kept |= fresh
        used |= {name for key in fresh for name in _formula_names(args[key])}
    return {key: value for key, value in args.items() if key in kept}


def _formula_names(value: Any) -> Iterator[str]:
    if isinstance(value, Mapping):
        for item in value.values():
            yield from _formula_names(item)
    elif isinstance(value, list):
        for item in value:
            yield from _formula_names(item)
    elif isinstance(value, str) and value.startswith("="):
        try:
            yield from parse_formula(value[1:]).names
        except LangError:
            return
