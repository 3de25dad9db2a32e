"""Bounds on what a `forward` or an expression may cost while a config is checked.

A loop may be written that ends after years, and a list that no memory holds. What is run while a config is checked is
therefore compiled once more, with a step paid for each turn of a loop and for each item of what grows. What is built in
the end runs without.
"""

from __future__ import annotations

import ast
import copy
import operator
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any

MAX_STEPS = 10_000_000
"""Turns of loops, and items of lists, of all that is run to check one model."""
MAX_BITS = 100_000
"""Of an integer."""
MANY_SUMS = 12
"""Sums that need no step for each: so many of them double a list often enough to notice, not to harm."""

_left: ContextVar[list[int] | None] = ContextVar("steps left", default=None)


class TooLong(Exception):
    """What is run to check a config takes more than it may."""


@contextmanager
def bounded(steps: int | None = None) -> Iterator[None]:
    """Let what is run inside take so many steps and no more."""
    token = _left.set([MAX_STEPS if steps is None else steps])
    try:
        yield
    finally:
        _left.reset(token)


def spend(steps: int) -> None:
    """Take steps, where they are counted.

    Raises:
        TooLong: fewer are left.
    """
    left = _left.get()
    if left is not None:
        left[0] -= steps
        if left[0] < 0:
            raise TooLong("too many steps: a loop without an end, or a list that grows without one")


def _each(values: Iterable[Any]) -> Iterator[Any]:
    """What a loop goes through, with a step for each turn."""
    shape = getattr(values, "shape", None)
    if shape:
        spend(int(shape[0]))  # a tensor is taken apart before the first turn
    for value in values:
        spend(1)
        yield value


def _measured(value: Any) -> Any:
    """What a function goes through, with a step for each item of it."""
    if isinstance(value, list | tuple | dict | str | range):
        spend(len(value))
        return value
    return _each(value) if hasattr(value, "__next__") or type(value) in (zip, enumerate, reversed) else value


def _sequence(left: Any, right: Any) -> bool:
    return isinstance(left, list | tuple | str) or isinstance(right, list | tuple | str)


def _check(kind: str, left: Any, right: Any) -> None:
    """Pay for an operation on plain values; tensors cost nothing here.

    Raises:
        TooLong: its result would be too large.
    """
    if isinstance(left, str) and kind == "Mod":
        raise TypeError("a text can't be computed with")
    if _sequence(left, right):
        sizes = [len(value) if isinstance(value, list | tuple | str) else value for value in (left, right)]
        if all(isinstance(size, int) for size in sizes):
            spend(max(0, sizes[0] * sizes[1] if kind == "Mult" else sum(sizes)))
    elif isinstance(left, int) and isinstance(right, int):
        bits = {
            "Mult": left.bit_length() + right.bit_length(),
            "Pow": left.bit_length() * right if abs(left) > 1 else 0,
            "LShift": left.bit_length() + right,
        }.get(kind, 0)
        if bits > MAX_BITS:
            raise TooLong("too large a number")


_OPERATORS: Mapping[str, tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]] = {
    "Add": (operator.add, operator.iadd),
    "Mult": (operator.mul, operator.imul),
    "Pow": (operator.pow, operator.ipow),
    "LShift": (operator.lshift, operator.ilshift),
    "Mod": (operator.mod, operator.imod),
}


def _compute(kind: str, left: Any, right: Any) -> Any:
    _check(kind, left, right)
    return _OPERATORS[kind][0](left, right)


def _operand(kind: str, left: Any, right: Any) -> Any:
    """The right side of `left += right`."""
    _check(kind, left, right)
    return right


def _consuming(function: Callable[..., Any]) -> Callable[..., Any]:
    def call(*arguments: Any, **named: Any) -> Any:
        if len(arguments) == 1 or function in (sum, sorted):
            return function(_measured(arguments[0]), *arguments[1:], **named)
        return function(*arguments, **named)

    return call


_CONSUMING = {
    function.__name__: _consuming(function) for function in (list, tuple, dict, sorted, sum, min, max, any, all)
}
_HELPERS = {helper.__name__: helper for helper in (_each, _measured, _compute, _operand)}


def with_helpers(function: types.FunctionType) -> types.FunctionType:
    """A function of guarded code, with what that calls among its globals."""
    names = function.__globals__
    names.update(_HELPERS)
    names.update((name, value) for name, value in _CONSUMING.items() if name in names)
    return function


@lru_cache(maxsize=512)
def needs_guard(function: ast.FunctionDef) -> bool:
    """Whether a function may take more than a moment; most can't, and are run as they are."""
    nodes = list(ast.walk(function))
    return any(map(_is_risky, nodes)) or sum(isinstance(node, ast.Add) for node in nodes) > MANY_SUMS


def _is_risky(node: ast.AST) -> bool:
    match node:
        case ast.For() | ast.comprehension() | ast.Starred() | ast.Mult() | ast.Pow() | ast.LShift() | ast.Mod():
            return True
        case ast.Name(name):
            return name in _CONSUMING
        case ast.Call(ast.Attribute(attr="extend")):
            return True
        case ast.Assign(targets):
            return any(map(_is_slice, targets))
    return False


def _is_slice(target: ast.AST) -> bool:
    return isinstance(target, ast.Subscript) and isinstance(target.slice, ast.Slice)


@lru_cache(maxsize=512)
def guarded(function: ast.FunctionDef, filename: str) -> types.CodeType:
    """The code of a function with steps paid for; its lines are the same."""
    tree = _Guard().visit(copy.deepcopy(function))
    code = compile(ast.Module([tree], []), filename, "exec", dont_inherit=True)
    return next(constant for constant in code.co_consts if isinstance(constant, types.CodeType))


class _Guard(ast.NodeTransformer):
    """`for x in xs` → `for x in _each(xs)`, `a * b` → `_compute('Mult', a, b)`, and so on."""

    def visit_For(self, node: ast.For) -> ast.AST:
        self.generic_visit(node)
        node.iter = _called(_each, node.iter)
        return node

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        self.generic_visit(node)
        node.iter = _called(_each, node.iter)
        return node

    def visit_Starred(self, node: ast.Starred) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.ctx, ast.Load):
            node.value = _called(_measured, node.value)
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        self.generic_visit(node)
        kind = type(node.op).__name__
        return _called(_compute, ast.Constant(kind), node.left, node.right, at=node) if kind in _OPERATORS else node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST:
        self.generic_visit(node)
        kind = type(node.op).__name__
        if kind in _OPERATORS:
            target = copy.deepcopy(node.target)
            target.ctx = ast.Load()
            node.value = _called(_operand, ast.Constant(kind), target, node.value, at=node.value)
        return node

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        self.generic_visit(node)
        if any(map(_is_slice, node.targets)):
            node.value = _called(_measured, node.value)
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        self.generic_visit(node)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "extend":
            node.args = [_called(_measured, argument) for argument in node.args]
        return node


def _called(helper: Callable[..., Any], *arguments: ast.expr, at: ast.expr | None = None) -> ast.expr:
    place = at or arguments[-1]
    call = ast.Call(ast.Name(helper.__name__, ast.Load()), list(arguments), [])
    for node in (call, call.func, *arguments[: len(arguments) - 1]):
        if not hasattr(node, "lineno"):
            ast.copy_location(node, place)
    return call
