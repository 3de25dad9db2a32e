"""Python statements → lines as a formatter leaves them, broken where a line is full.

Where the model language and constructors are written as people write them, the lines are those of `ruff format`.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence
from typing import Any

from builder.model.source_text import (
    ATOM,
    COMPARISON,
    OPERAND,
    OPERATORS,
    POWER,
    arguments_of,
    clauses_of,
    comprehension,
    entries_of,
    flat,
    flat_item,
    left_of,
    level_of,
    mixed,
)  # fmt: skip

WIDTH = 100
"""Columns of a line."""

INDENT = "    "


def broken(
    prefix: str, node: ast.expr, suffix: str, depth: int, *, bracketed: bool = False, least: int = 0
) -> list[str]:
    """The lines of `prefix + expression + suffix`, `depth` levels in; one line if that fits.

    `bracketed`: it stands inside brackets, so that it may go on after any operator without parentheses of its own.
    """
    margin = INDENT * depth
    if isinstance(node, ast.Starred):
        line = margin + prefix + flat_item(node) + suffix
        return [line] if len(line) <= WIDTH else broken(f"{prefix}*", node.value, suffix, depth, bracketed=True)
    line = margin + prefix + flat(node, 1 if bracketed else least) + suffix
    if len(line) <= WIDTH:
        return [line]
    if isinstance(node, ast.Tuple) or (opened := _opened(node)) is None:
        return _parted(prefix, node, suffix, depth, bracketed)
    head, items, comma, tail = opened
    if len(margin + prefix + head) > WIDTH:
        return _parted(prefix, node, suffix, depth, bracketed)
    return [margin + prefix + head, *_inside(head, items, comma, depth + 1), margin + tail + suffix]


def _inside(head: str, items: Sequence[tuple[str, ast.expr]], comma: str, depth: int) -> Sequence[str]:
    """What stands between brackets: arguments on one line if they fit and aren't several calls, else one a line."""
    calls = sum(isinstance(item, ast.Call) for _, item in items)
    if comma and calls < 2 and head != "[" and not head.endswith(("{", " [")):
        line = INDENT * depth + ", ".join(prefix + flat_item(item) for prefix, item in items)
        if len(line) <= WIDTH:
            return [line]
    return list(_items(items, comma, depth))


def _items(items: Sequence[tuple[str, ast.expr]], comma: str, depth: int) -> Iterator[str]:
    for prefix, item in items:
        if isinstance(item, ast.ListComp | ast.GeneratorExp | ast.DictComp) and prefix == _CLAUSES:
            yield from _clauses(item, depth)
        else:
            yield from broken(prefix, item, comma, depth, bracketed=True)


_CLAUSES = "\0"
"""Stands for the inside of a comprehension, which is an element and its clauses."""


Opened = tuple[str, list[tuple[str, ast.expr]], str, str]
"""An expression that ends in brackets: the text up to them, what is in them, what follows each item, the end."""


def _opened(node: ast.expr) -> Opened | None:
    """What an expression opens into if it ends in brackets."""
    if isinstance(node, ast.UnaryOp) and level_of(node.operand) == ATOM and (opened := _opened(node.operand)):
        return OPERATORS[type(node.op)][0] + opened[0], *opened[1:]
    if isinstance(node, ast.Call) and (node.args or node.keywords) and not _fluent(node):
        items = arguments_of(node)
        if len(items) == 1 and not items[0][0] and isinstance(items[0][1], ast.GeneratorExp):
            return f"{flat(node.func, ATOM)}(", [(_CLAUSES, items[0][1])], "", ")"
        return f"{flat(node.func, ATOM)}(", items, "," if len(items) > 1 else "", ")"
    if isinstance(node, ast.List) and node.elts:
        return "[", [("", item) for item in node.elts], ",", "]"
    if isinstance(node, ast.Dict) and node.keys:
        return "{", entries_of(node), ",", "}"
    if isinstance(node, ast.ListComp | ast.DictComp):
        return (
            ("[", [(_CLAUSES, node)], "", "]") if isinstance(node, ast.ListComp) else ("{", [(_CLAUSES, node)], "", "}")
        )
    if isinstance(node, ast.Subscript) and not _fluent(node):
        many = isinstance(node.slice, ast.Tuple)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return f"{flat(node.value, ATOM)}[", [("", part) for part in parts], "," if many else "", "]"
    return None


def _clauses(node: Any, depth: int) -> Iterator[str]:
    margin = INDENT * depth
    if len(line := margin + comprehension(node)) <= WIDTH:
        yield line
        return
    if isinstance(node, ast.DictComp):
        yield from broken(f"{flat(node.key)}: ", node.value, "", depth, bracketed=True)
    else:
        yield from broken("", node.elt, "", depth, bracketed=True)
    for clause in clauses_of(node):
        yield margin + clause


def _parted(prefix: str, node: ast.expr, suffix: str, depth: int, bracketed: bool) -> list[str]:
    """An expression in parts of one line each, at its loosest operators or at the calls of a chain."""
    margin = INDENT * depth
    parts = _parts(node)
    if len(parts) == 1:
        return [margin + prefix + flat(node, 1 if bracketed else 0) + suffix]
    if isinstance(node, ast.Tuple):
        lines = [line for _, part in parts for line in broken("", part, ",", depth + 1, bracketed=True)]
        return [f"{margin}{prefix}(", *lines, f"{margin}){suffix}"]
    if not bracketed and (opened := _ending(node)) is not None and len(margin + prefix + opened[0]) <= WIDTH:
        return [margin + prefix + opened[0], *_inside(*opened[:3], depth + 1), margin + opened[3] + suffix]
    if bracketed and not prefix and not isinstance(node, ast.IfExp):
        return list(_part_lines(parts, suffix, depth))
    line = margin + INDENT + flat(node)
    inside = [line] if len(line) <= WIDTH else _part_lines(parts, "", depth + 1)
    return [f"{margin}{prefix}(", *inside, f"{margin}){suffix}"]


def _ending(node: ast.expr, least: int = 0) -> Opened | None:
    """As `_opened`, for one operator whose right operand ends in brackets; those of parentheses too."""
    level = level_of(node)
    if level < least:
        return "(", [("", node)], "", ")"
    if isinstance(node, ast.BinOp) and (least or len(_operands(node, level)) == 2):
        before, right = f"{left_of(node)} {OPERATORS[type(node.op)][0]} ", node.right
    elif isinstance(node, ast.BoolOp) and len(node.values) == 2:
        word = OPERATORS[type(node.op)][0]
        level = OPERAND.get(word, level + 1) - 1
        before, right = f"{flat(node.values[0], level + 1)} {word} ", node.values[1]
    elif isinstance(node, ast.Compare) and len(node.ops) == 1:
        before, right = f"{flat(node.left, level + 1)} {OPERATORS[type(node.ops[0])][0]} ", node.comparators[0]
    else:
        return _opened(node) if least else None
    ending = _ending(right, level + 1)
    return None if ending is None else (before + ending[0], *ending[1:])


def _part_lines(parts: list[tuple[str, Any]], suffix: str, depth: int) -> Iterator[str]:
    for index, (prefix, part) in enumerate(parts):
        end = suffix if index == len(parts) - 1 else ""
        if isinstance(part, str):
            yield INDENT * depth + prefix + part + end
        else:
            yield from broken(prefix, part, end, depth, bracketed=True)


def _parts(node: ast.expr) -> list[tuple[str, Any]]:
    """What an expression is broken into, each with the text before it."""
    if isinstance(node, ast.BinOp):
        return _operands(node, OPERATORS[type(node.op)][1])
    if isinstance(node, ast.BoolOp):
        word, level = OPERATORS[type(node.op)]
        return [
            (f"{word} " if index else "", _held(value, OPERAND.get(word, level + 1)))
            for index, value in enumerate(node.values)
        ]
    if isinstance(node, ast.Compare):
        pairs = zip(node.ops, node.comparators, strict=True)
        rest = [(OPERATORS[type(op)][0] + " ", _held(item, COMPARISON + 1)) for op, item in pairs]
        return [("", _held(node.left, COMPARISON + 1)), *rest]
    if isinstance(node, ast.IfExp):
        return [("", _held(node.body, 2)), ("if ", _held(node.test, 2)), ("else ", _held(node.orelse, 1))]
    if isinstance(node, ast.Tuple):
        return [("", item) for item in node.elts]
    return _links(node) if _fluent(node) else [("", node)]


def _held(node: ast.expr, least: int) -> ast.expr | str:
    """An operand; as text where it needs parentheses."""
    return flat(node, least) if level_of(node) < least else node


def _operands(node: ast.expr, level: int) -> list[tuple[str, Any]]:
    if isinstance(node, ast.BinOp) and OPERATORS[type(node.op)][1] == level and level != POWER:
        word = OPERATORS[type(node.op)][0]
        left = [("", left_of(node))] if mixed(node) else _operands(node.left, level)
        return [*left, (f"{word} ", _held(node.right, level + 1))]
    return [("", _held(node, level))]


def _fluent(node: ast.expr) -> bool:
    """Whether it is a chain of calls `x(…).a(…).b(…)`, which is broken before each dot."""
    links = 0
    while isinstance(node, ast.Call | ast.Attribute | ast.Subscript):
        inner = node.func if isinstance(node, ast.Call) else node.value
        links += isinstance(node, ast.Attribute) and isinstance(inner, ast.Call | ast.Subscript)
        node = inner
    return links >= 2


def _links(node: ast.expr) -> list[tuple[str, Any]]:
    """The parts of a chain: what it begins with, and each `.name(…)` that follows a call."""
    after: list[str] = []
    rest = ""
    while True:
        if isinstance(node, ast.Attribute):
            rest = f".{node.attr}{rest}"
            if isinstance(node.value, ast.Call | ast.Subscript):
                after.insert(0, rest)
                rest = ""
            node = node.value
        elif isinstance(node, ast.Call):
            bare = ast.Call(ast.Name("_"), node.args, node.keywords)
            rest, node = flat(bare)[1:] + rest, node.func
        elif isinstance(node, ast.Subscript):
            rest, node = f"[{flat(node.slice, 0)}]{rest}", node.value
        else:
            return [("", flat(node, ATOM) + rest), *(("", part) for part in after)]


def statement(node: ast.stmt, depth: int) -> list[str]:
    """The lines of a statement, `depth` levels in."""
    margin = INDENT * depth
    match node:
        case ast.Assign(targets=targets, value=value):
            return broken("".join(f"{flat(target, 0)} = " for target in targets), value, "", depth)
        case ast.AugAssign(target=target, op=op, value=value):
            return broken(f"{flat(target)} {OPERATORS[type(op)][0]}= ", value, "", depth)
        case ast.Return(value=None):
            return [f"{margin}return"]
        case ast.Return(value=value):
            return broken("return ", value, "", depth)  # type: ignore[arg-type]
        case ast.Expr(value=value):
            return broken("", value, "", depth)
        case ast.Pass() | ast.Break() | ast.Continue():
            return [margin + type(node).__name__.lower()]
    raise AssertionError(f"no layout for {type(node).__name__}")


def block(node: ast.stmt, depth: int) -> list[str]:
    """The lines of a statement and of all that it holds."""
    if not isinstance(node, ast.If | ast.For):
        return statement(node, depth)
    lines = header(node, depth) + [line for inner in node.body for line in block(inner, depth + 1)]
    otherwise = node.orelse
    if len(otherwise) == 1 and isinstance(otherwise[0], ast.If):
        first, *rest = block(otherwise[0], depth)
        return [*lines, first.replace("if", "elif", 1), *rest]
    inside = [line for inner in otherwise for line in block(inner, depth + 1)]
    return [*lines, f"{INDENT * depth}else:", *inside] if inside else lines


def header(node: ast.stmt, depth: int) -> list[str]:
    """The lines of a compound statement up to its colon."""
    match node:
        case ast.If(test=test):
            return broken("if ", test, ":", depth, least=1)
        case ast.For(target=target, iter=over):
            return broken(f"for {flat(target, 0)} in ", over, ":", depth)
        case ast.With(items=items):
            texts = (
                flat(item.context_expr) + (f" as {flat(item.optional_vars)}" if item.optional_vars else "")
                for item in items
            )
            return [f"{INDENT * depth}with {', '.join(texts)}:"]
    raise AssertionError(f"no layout for {type(node).__name__}")
