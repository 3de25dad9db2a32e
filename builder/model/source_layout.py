"""Python syntax trees → text as a formatter leaves it: PEP 8, double quotes, one argument a line where a line is full.

Covers the expressions and statements of the model language and of constructors. Whatever is broken over lines ends in
a comma, so that a formatter that honours such commas leaves it as it is.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from typing import Any

WIDTH = 100
"""Columns of a line."""

INDENT = "    "

_OPERATORS: dict[type[ast.AST], tuple[str, int]] = {
    ast.Or: ("or", 2), ast.And: ("and", 3), ast.Not: ("not ", 4),
    ast.Eq: ("==", 5), ast.NotEq: ("!=", 5), ast.Lt: ("<", 5), ast.LtE: ("<=", 5), ast.Gt: (">", 5), ast.GtE: (">=", 5),
    ast.Is: ("is", 5), ast.IsNot: ("is not", 5), ast.In: ("in", 5), ast.NotIn: ("not in", 5),
    ast.BitOr: ("|", 6), ast.BitXor: ("^", 7), ast.BitAnd: ("&", 8), ast.LShift: ("<<", 9), ast.RShift: (">>", 9),
    ast.Add: ("+", 10), ast.Sub: ("-", 10),
    ast.Mult: ("*", 11), ast.Div: ("/", 11), ast.FloorDiv: ("//", 11), ast.Mod: ("%", 11), ast.MatMult: ("@", 11),
    ast.UAdd: ("+", 12), ast.USub: ("-", 12), ast.Invert: ("~", 12), ast.Pow: ("**", 13),
}  # fmt: skip
"""Text and precedence of each operator."""

_CONDITION, _COMPARISON, _UNARY, _POWER, _ATOM = 1, 5, 12, 13, 14
_LEVELS: dict[type[ast.AST], int] = {
    ast.Tuple: 0, ast.Starred: 0, ast.GeneratorExp: 0, ast.IfExp: _CONDITION, ast.Compare: _COMPARISON
}  # fmt: skip


def expression(node: ast.AST) -> str:
    """An expression on one line."""
    return _text(node)


def _level(node: ast.AST) -> int:
    """How tightly an expression holds together; one inside a tighter one needs parentheses."""
    if isinstance(node, ast.Tuple) and not node.elts:
        return _ATOM
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp):
        return _OPERATORS[type(node.op)][1]
    return _LEVELS.get(type(node), _ATOM)


def _text(node: ast.AST, least: int = 1) -> str:
    text = _BY_TYPE[type(node)](node)
    return f"({text})" if _level(node) < least and not text.startswith("((") else text


def _item(node: ast.AST) -> str:
    """One of several that commas part."""
    return _text(node, 0 if isinstance(node, ast.Starred) else 1)


def _constant(node: ast.Constant) -> str:
    value = node.value
    if value is Ellipsis:
        return "..."
    if isinstance(value, str):
        text = repr(value)
        return text if '"' in value else f'"{text[1:-1]}"'.replace("\\'", "'")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f'float("{value}")'
    return re.sub(r"e([-+])0(\d)$", r"e\1\2", repr(value)).replace("e+", "e")


def _sequence(items: Sequence[ast.AST], brackets: str) -> str:
    inside = ", ".join(_item(item) for item in items)
    return f"{brackets[0]}{inside}{brackets[1]}"


def _tuple(node: ast.Tuple) -> str:
    """Without parentheses; whoever needs them asks by level."""
    if not node.elts:
        return "()"
    return _item(node.elts[0]) + "," if len(node.elts) == 1 else ", ".join(_item(item) for item in node.elts)


def _arguments(node: ast.Call) -> list[tuple[str, ast.expr]]:
    """The arguments of a call, each with the text that stands before it."""
    by_name = [(f"{item.arg}=" if item.arg else "**", item.value) for item in node.keywords]
    return [("", item) for item in node.args] + by_name


def _call(node: ast.Call) -> str:
    if len(node.args) == 1 and not node.keywords and isinstance(node.args[0], ast.GeneratorExp):
        return f"{_text(node.func, _ATOM)}({_text(node.args[0], 0)})"
    inside = ", ".join(prefix + _item(item) for prefix, item in _arguments(node))
    return f"{_text(node.func, _ATOM)}({inside})"


def _attribute(node: ast.Attribute) -> str:
    number = isinstance(node.value, ast.Constant) and type(node.value.value) in (int, float)
    return f"({_text(node.value)}).{node.attr}" if number else f"{_text(node.value, _ATOM)}.{node.attr}"


def _binary(node: ast.BinOp) -> str:
    text, level = _OPERATORS[type(node.op)]
    if isinstance(node.op, ast.Pow):
        left, right = _text(node.left, _POWER + 1), _text(node.right, _UNARY)
        return (
            f"{left}**{right}"
            if left[0] != "(" and _simple(node.left) and _simple(node.right)
            else f"{left} ** {right}"
        )
    return f"{_left(node)} {text} {_text(node.right, level + 1)}"


def _left(node: ast.BinOp) -> str:
    return _text(node.left, _OPERATORS[type(node.op)][1] + _mixed(node))


def _mixed(node: ast.BinOp) -> bool:
    """Whether its left operand keeps parentheses that few readers could do without: `(a @ b) / c`."""
    products = [isinstance(item, ast.BinOp) and isinstance(item.op, ast.MatMult) for item in (node, node.left)]
    return isinstance(node.left, ast.BinOp) and products[0] != products[1]


def _simple(node: ast.AST) -> bool:
    """Whether a power of it is written without spaces."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
        return _simple(node.operand)
    if isinstance(node, ast.Attribute):
        return _simple(node.value)
    return isinstance(node, ast.Name) or (isinstance(node, ast.Constant) and not isinstance(node.value, str))


def _boolean(node: ast.BoolOp) -> str:
    text, level = _OPERATORS[type(node.op)]
    return f" {text} ".join(_text(value, _OPERAND.get(text, level + 1)) for value in node.values)


def _unary(node: ast.UnaryOp) -> str:
    text, level = _OPERATORS[type(node.op)]
    return text + _text(node.operand, _ATOM if _level(node.operand) == _POWER else level)


def _compare(node: ast.Compare) -> str:
    pairs = zip(node.ops, node.comparators, strict=True)
    rest = "".join(f" {_OPERATORS[type(op)][0]} {_text(item, _COMPARISON + 1)}" for op, item in pairs)
    return _text(node.left, _COMPARISON + 1) + rest


def _condition(node: ast.IfExp) -> str:
    return f"{_text(node.body, 2)} if {_text(node.test, 2)} else {_text(node.orelse, 1)}"


def _subscript(node: ast.Subscript) -> str:
    return f"{_text(node.value, _ATOM)}[{_text(node.slice, 0)}]"


def _slice(node: ast.Slice) -> str:
    parts = [node.lower, node.upper] + ([node.step] if node.step else [])
    if all(part is None or _bare(part) for part in parts):
        return ":".join(_text(part) if part else "" for part in parts)
    texts = [_text(part) if part else "" for part in parts]
    text = texts[0] + (" :" if texts[0] else ":")
    for index, part in enumerate(texts[1:]):
        text += (" " + part if part else "") + (" :" if index == 0 and len(texts) == 3 else "")
    return text


def _bare(node: ast.AST) -> bool:
    """Whether no space stands between it and the colon of a slice."""
    signed = isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not)
    return isinstance(node.operand if signed else node, ast.Name | ast.Constant)


def _dict(node: ast.Dict) -> str:
    return "{" + ", ".join(prefix + _text(value) for prefix, value in _entries(node)) + "}"


def _entries(node: ast.Dict) -> list[tuple[str, ast.expr]]:
    pairs = zip(node.keys, node.values, strict=True)
    return [(f"{_text(key)}: " if key is not None else "**", value) for key, value in pairs]


def _generators(node: Any) -> list[str]:
    """The `for` and `if` clauses of a comprehension."""
    clauses = []
    for part in node.generators:
        clauses.append(f"for {_text(part.target, 0)} in {_text(part.iter, 2)}")
        clauses.extend(f"if {_text(test, 2)}" for test in part.ifs)
    return clauses


def _comprehension(node: Any) -> str:
    element = f"{_text(node.key)}: {_text(node.value)}" if isinstance(node, ast.DictComp) else _text(node.elt)
    return " ".join([element, *_generators(node)])


_OPERAND = {"or": 4}
"""`(a and b) or c` has parentheses that few readers could do without."""

_BY_TYPE: dict[type[ast.AST], Any] = {
    ast.Name: lambda node: node.id,
    ast.Constant: _constant,
    ast.Attribute: _attribute,
    ast.Call: _call,
    ast.BinOp: _binary,
    ast.BoolOp: _boolean,
    ast.UnaryOp: _unary,
    ast.Compare: _compare,
    ast.IfExp: _condition,
    ast.Tuple: _tuple,
    ast.List: lambda node: _sequence(node.elts, "[]"),
    ast.Dict: _dict,
    ast.Starred: lambda node: f"*{_text(node.value, 6)}",
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.ListComp: lambda node: f"[{_comprehension(node)}]",
    ast.GeneratorExp: _comprehension,
    ast.DictComp: lambda node: f"{{{_comprehension(node)}}}",
}


def broken(
    prefix: str, node: ast.expr, suffix: str, depth: int, *, bracketed: bool = False, least: int = 0
) -> list[str]:
    """The lines of `prefix + expression + suffix`, `depth` levels in; one line if that fits.

    `bracketed`: it stands inside brackets, so that it may go on after any operator without parentheses of its own.
    """
    if isinstance(node, ast.Starred):
        return broken(f"{prefix}*", node.value, suffix, depth, bracketed=True)
    margin = INDENT * depth
    line = margin + prefix + _text(node, 1 if bracketed else least) + suffix
    if len(line) <= WIDTH:
        return [line]
    if isinstance(node, ast.Tuple) or (opened := _opened(node)) is None:
        return _parted(prefix, node, suffix, depth, bracketed)
    head, items, comma, tail = opened
    if len(margin + prefix + head) > WIDTH:
        return _parted(prefix, node, suffix, depth, bracketed)
    return [margin + prefix + head, *_inside(head, items, comma, depth + 1), margin + tail + suffix]


def _inside(head: str, items: Sequence[tuple[str, ast.expr]], comma: str, depth: int) -> Sequence[str]:
    """What stands between brackets: arguments on one line if they fit and aren't several calls, else one item a line."""
    calls = sum(isinstance(item, ast.Call) for _, item in items)
    if comma and calls < 2 and head not in ("[", "{"):
        line = INDENT * depth + ", ".join(prefix + _item(item) for prefix, item in items)
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


def _opened(node: ast.expr) -> tuple[str, list[tuple[str, ast.expr]], str, str] | None:
    """An expression that ends in brackets: the text up to them, what is in them, what follows each item, the end."""
    if isinstance(node, ast.Call) and (node.args or node.keywords) and not _fluent(node):
        items = _arguments(node)
        if len(items) == 1 and not items[0][0] and isinstance(items[0][1], ast.GeneratorExp):
            return f"{_text(node.func, _ATOM)}(", [(_CLAUSES, items[0][1])], "", ")"
        return f"{_text(node.func, _ATOM)}(", items, "," if len(items) > 1 else "", ")"
    if isinstance(node, ast.List) and node.elts:
        return "[", [("", item) for item in node.elts], ",", "]"
    if isinstance(node, ast.Dict) and node.keys:
        return "{", _entries(node), ",", "}"
    if isinstance(node, ast.ListComp | ast.DictComp):
        return (
            ("[", [(_CLAUSES, node)], "", "]") if isinstance(node, ast.ListComp) else ("{", [(_CLAUSES, node)], "", "}")
        )
    if isinstance(node, ast.Subscript) and not _fluent(node):
        many = isinstance(node.slice, ast.Tuple)
        parts = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return f"{_text(node.value, _ATOM)}[", [("", part) for part in parts], "," if many else "", "]"
    return None


def _clauses(node: Any, depth: int) -> Iterator[str]:
    margin = INDENT * depth
    if len(line := margin + _comprehension(node)) <= WIDTH:
        yield line
        return
    if isinstance(node, ast.DictComp):
        yield from broken(f"{_text(node.key)}: ", node.value, "", depth, bracketed=True)
    else:
        yield from broken("", node.elt, "", depth, bracketed=True)
    for clause in _generators(node):
        yield margin + clause


def _parted(prefix: str, node: ast.expr, suffix: str, depth: int, bracketed: bool) -> list[str]:
    """An expression in parts of one line each, at its loosest operators or at the calls of a chain."""
    margin = INDENT * depth
    parts = _parts(node)
    if len(parts) == 1:
        return [margin + prefix + _text(node, 1 if bracketed else 0) + suffix]
    if isinstance(node, ast.Tuple):
        lines = [line for _, part in parts for line in broken("", part, ",", depth + 1, bracketed=True)]
        return [f"{margin}{prefix}(", *lines, f"{margin}){suffix}"]
    if len(parts) == 2 and not bracketed and isinstance(parts[1][1], ast.expr) and (opened := _opened(parts[1][1])):
        head = f"{margin}{prefix}{_part_text(parts[0])} {parts[1][0]}{opened[0]}"
        if len(head) <= WIDTH:
            return [head, *_inside(opened[0], opened[1], opened[2], depth + 1), margin + opened[3] + suffix]
    if bracketed and not prefix and not isinstance(node, ast.IfExp):
        return list(_part_lines(parts, suffix, depth))
    line = margin + INDENT + _text(node)
    inside = [line] if len(line) <= WIDTH else _part_lines(parts, "", depth + 1)
    return [f"{margin}{prefix}(", *inside, f"{margin}){suffix}"]


def _part_text(part: tuple[str, Any]) -> str:
    return part[0] + (part[1] if isinstance(part[1], str) else _text(part[1]))


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
        return _operands(node, _OPERATORS[type(node.op)][1])
    if isinstance(node, ast.BoolOp):
        word, level = _OPERATORS[type(node.op)]
        return [
            (f"{word} " if index else "", _held(value, _OPERAND.get(word, level + 1)))
            for index, value in enumerate(node.values)
        ]
    if isinstance(node, ast.Compare):
        pairs = zip(node.ops, node.comparators, strict=True)
        rest = [(_OPERATORS[type(op)][0] + " ", _held(item, _COMPARISON + 1)) for op, item in pairs]
        return [("", _held(node.left, _COMPARISON + 1)), *rest]
    if isinstance(node, ast.IfExp):
        return [("", _held(node.body, 2)), ("if ", _held(node.test, 2)), ("else ", _held(node.orelse, 1))]
    if isinstance(node, ast.Tuple):
        return [("", item) for item in node.elts]
    return _links(node) if _fluent(node) else [("", node)]


def _held(node: ast.expr, least: int) -> ast.expr | str:
    """An operand; as text where it needs parentheses."""
    return _text(node, least) if _level(node) < least else node


def _operands(node: ast.expr, level: int) -> list[tuple[str, Any]]:
    if isinstance(node, ast.BinOp) and _OPERATORS[type(node.op)][1] == level and level != _POWER:
        word = _OPERATORS[type(node.op)][0]
        left = [("", _left(node))] if _mixed(node) else _operands(node.left, level)
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
            rest, node = _text(bare)[1:] + rest, node.func
        elif isinstance(node, ast.Subscript):
            rest, node = f"[{_text(node.slice, 0)}]{rest}", node.value
        else:
            return [("", _text(node, _ATOM) + rest), *(("", part) for part in after)]


def statement(node: ast.stmt, depth: int) -> list[str]:
    """The lines of a statement, `depth` levels in."""
    margin = INDENT * depth
    match node:
        case ast.Assign(targets=targets, value=value):
            return broken("".join(f"{_text(target, 0)} = " for target in targets), value, "", depth)
        case ast.AugAssign(target=target, op=op, value=value):
            return broken(f"{_text(target)} {_OPERATORS[type(op)][0]}= ", value, "", depth)
        case ast.Return(value=None):
            return [f"{margin}return"]
        case ast.Return(value=value):
            return broken("return ", value, "", depth)
        case ast.Expr(value=value):
            return broken("", value, "", depth)
        case ast.Pass() | ast.Break() | ast.Continue():
            return [margin + type(node).__name__.lower()]
    raise AssertionError(f"no layout for {type(node).__name__}")


def header(node: ast.stmt, depth: int) -> list[str]:
    """The lines of a compound statement up to its colon."""
    match node:
        case ast.If(test=test):
            return broken("if ", test, ":", depth, least=1)
        case ast.For(target=target, iter=over):
            return broken(f"for {_text(target, 0)} in ", over, ":", depth)
        case ast.With(items=items):
            texts = (
                _text(item.context_expr) + (f" as {_text(item.optional_vars)}" if item.optional_vars else "")
                for item in items
            )
            return [f"{INDENT * depth}with {', '.join(texts)}:"]
    raise AssertionError(f"no layout for {type(node).__name__}")
