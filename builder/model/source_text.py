"""Python expressions → one line of text as a formatter leaves it: PEP 8, double quotes, no parentheses without need.

Covers the expressions of the model language and of constructors.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

OPERATORS: dict[type[ast.AST], tuple[str, int]] = {
    ast.Or: ("or", 2), ast.And: ("and", 3), ast.Not: ("not ", 4),
    ast.Eq: ("==", 5), ast.NotEq: ("!=", 5), ast.Lt: ("<", 5), ast.LtE: ("<=", 5), ast.Gt: (">", 5), ast.GtE: (">=", 5),
    ast.Is: ("is", 5), ast.IsNot: ("is not", 5), ast.In: ("in", 5), ast.NotIn: ("not in", 5),
    ast.BitOr: ("|", 6), ast.BitXor: ("^", 7), ast.BitAnd: ("&", 8), ast.LShift: ("<<", 9), ast.RShift: (">>", 9),
    ast.Add: ("+", 10), ast.Sub: ("-", 10),
    ast.Mult: ("*", 11), ast.Div: ("/", 11), ast.FloorDiv: ("//", 11), ast.Mod: ("%", 11), ast.MatMult: ("@", 11),
    ast.UAdd: ("+", 12), ast.USub: ("-", 12), ast.Invert: ("~", 12), ast.Pow: ("**", 13),
}  # fmt: skip
"""Text and precedence of each operator."""

_CONDITION, COMPARISON, _UNARY, POWER, ATOM = 1, 5, 12, 13, 14
_LEVELS: dict[type[ast.AST], int] = {
    ast.Tuple: 0, ast.Starred: 0, ast.GeneratorExp: 0, ast.IfExp: _CONDITION, ast.Compare: COMPARISON
}  # fmt: skip


def level_of(node: ast.AST) -> int:
    """How tightly an expression holds together; one inside a tighter one needs parentheses."""
    if isinstance(node, ast.Tuple) and not node.elts:
        return ATOM
    if isinstance(node, ast.BinOp | ast.BoolOp | ast.UnaryOp):
        return OPERATORS[type(node.op)][1]
    return _LEVELS.get(type(node), ATOM)


def flat(node: ast.AST, least: int = 1) -> str:
    """An expression on one line, in parentheses if it holds together less tightly than `least`."""
    text = _BY_TYPE[type(node)](node)
    return f"({text})" if level_of(node) < least else text


def flat_item(node: ast.AST) -> str:
    """One of several that commas part."""
    return flat(node, 0 if isinstance(node, ast.Starred) else 1)


def _constant(node: ast.Constant) -> str:
    value = node.value
    if value is Ellipsis:
        return "..."
    if isinstance(value, str):
        text = repr(value)
        if "\\" in value and value.isprintable() and '"' not in value and not value.endswith("\\"):
            return f'r"{value}"'
        return text if '"' in value else f'"{text[1:-1]}"'.replace("\\'", "'")
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):
        return f'float("{value}")'
    return re.sub(r"e([-+])0(\d)$", r"e\1\2", repr(value)).replace("e+", "e")


def _sequence(items: Sequence[ast.AST], brackets: str) -> str:
    inside = ", ".join(flat_item(item) for item in items)
    return f"{brackets[0]}{inside}{brackets[1]}"


def _tuple(node: ast.Tuple) -> str:
    """Without parentheses; whoever needs them asks by level."""
    if not node.elts:
        return "()"
    return flat_item(node.elts[0]) + "," if len(node.elts) == 1 else ", ".join(flat_item(item) for item in node.elts)


def arguments_of(node: ast.Call) -> list[tuple[str, ast.expr]]:
    """The arguments of a call, each with the text that stands before it."""
    by_name = [(f"{item.arg}=", item.value) if item.arg else _spread(item.value) for item in node.keywords]
    return [("", item) for item in node.args] + by_name


def _spread(node: ast.expr) -> tuple[str, ast.expr]:
    """`**mapping`."""
    return "*", ast.Starred(node, ast.Load())


def _call(node: ast.Call) -> str:
    if len(node.args) == 1 and not node.keywords and isinstance(node.args[0], ast.GeneratorExp):
        return f"{flat(node.func, ATOM)}({flat(node.args[0], 0)})"
    inside = ", ".join(prefix + flat_item(item) for prefix, item in arguments_of(node))
    return f"{flat(node.func, ATOM)}({inside})"


def _attribute(node: ast.Attribute) -> str:
    number = isinstance(node.value, ast.Constant) and type(node.value.value) in (int, float)
    return f"({flat(node.value)}).{node.attr}" if number else f"{flat(node.value, ATOM)}.{node.attr}"


def _binary(node: ast.BinOp) -> str:
    text, level = OPERATORS[type(node.op)]
    if isinstance(node.op, ast.Pow):
        left, right = flat(node.left, POWER + 1), flat(node.right, _UNARY)
        return (
            f"{left}**{right}"
            if left[0] != "(" and _simple(node.left) and _simple(node.right)
            else f"{left} ** {right}"
        )
    return f"{left_of(node)} {text} {flat(node.right, level + 1)}"


def left_of(node: ast.BinOp) -> str:
    """The text of the left operand."""
    return flat(node.left, OPERATORS[type(node.op)][1] + mixed(node))


def mixed(node: ast.BinOp) -> bool:
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
    text, level = OPERATORS[type(node.op)]
    return f" {text} ".join(flat(value, OPERAND.get(text, level + 1)) for value in node.values)


def _unary(node: ast.UnaryOp) -> str:
    text, level = OPERATORS[type(node.op)]
    return text + flat(node.operand, ATOM if level_of(node.operand) == POWER else level)


def _compare(node: ast.Compare) -> str:
    pairs = zip(node.ops, node.comparators, strict=True)
    rest = "".join(f" {OPERATORS[type(op)][0]} {flat(item, COMPARISON + 1)}" for op, item in pairs)
    return flat(node.left, COMPARISON + 1) + rest


def _condition(node: ast.IfExp) -> str:
    return f"{flat(node.body, 2)} if {flat(node.test, 2)} else {flat(node.orelse, 1)}"


def _subscript(node: ast.Subscript) -> str:
    return f"{flat(node.value, ATOM)}[{flat(node.slice, 0)}]"


def _slice(node: ast.Slice) -> str:
    parts = [node.lower, node.upper] + ([node.step] if node.step else [])
    if all(part is None or _bare(part) for part in parts):
        return ":".join(flat(part) if part else "" for part in parts)
    texts = [flat(part) if part else "" for part in parts]
    text = texts[0] + (" :" if texts[0] else ":")
    for index, part in enumerate(texts[1:]):
        text += (" " + part if part else "") + (" :" if index == 0 and len(texts) == 3 else "")
    return text


def _bare(node: ast.AST) -> bool:
    """Whether no space stands between it and the colon of a slice."""
    if isinstance(node, ast.UnaryOp) and not isinstance(node.op, ast.Not):
        node = node.operand
    return isinstance(node, ast.Name | ast.Constant)


def _dict(node: ast.Dict) -> str:
    return "{" + ", ".join(prefix + flat_item(value) for prefix, value in entries_of(node)) + "}"


def entries_of(node: ast.Dict) -> list[tuple[str, ast.expr]]:
    """The values of a dict, each with the text that stands before it."""
    pairs = zip(node.keys, node.values, strict=True)
    return [(f"{flat(key)}: ", value) if key is not None else _spread(value) for key, value in pairs]


def clauses_of(node: Any) -> list[str]:
    """The `for` and `if` clauses of a comprehension."""
    clauses = []
    for part in node.generators:
        clauses.append(f"for {flat(part.target, 0)} in {flat(part.iter, 2)}")
        clauses.extend(f"if {flat(test, 2)}" for test in part.ifs)
    return clauses


def comprehension(node: Any) -> str:
    """The inside of a comprehension."""
    element = f"{flat(node.key)}: {flat(node.value)}" if isinstance(node, ast.DictComp) else flat(node.elt)
    return " ".join([element, *clauses_of(node)])


OPERAND = {"or": 4}
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
    ast.Starred: lambda node: f"*{flat(node.value, 6)}",
    ast.Subscript: _subscript,
    ast.Slice: _slice,
    ast.ListComp: lambda node: f"[{comprehension(node)}]",
    ast.GeneratorExp: comprehension,
    ast.DictComp: lambda node: f"{{{comprehension(node)}}}",
}
