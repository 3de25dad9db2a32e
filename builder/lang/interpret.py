"""Works a checked formula out, step by step and within bounds. Nothing is compiled or run by Python."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from builder.errors import nearest
from builder.lang.arithmetic import COMPARISONS, FUNCTIONS, OPERATORS, Budget, TooMuch, is_number, kind_of, size_of
from builder.lang.syntax import LangError, position


class Interpreter:
    """Values of the nodes of one formula, given its names."""

    def __init__(self, names: Mapping[str, Any], lines: Sequence[str]) -> None:
        self.names: dict[str, Any] = dict(names)
        self.lines = lines
        self.budget = Budget()

    def run(self, node: ast.expr) -> Any:
        """The formula's value.

        Raises:
            LangError: it has none.
        """
        try:
            return self.value(node)
        except RecursionError:
            raise LangError("the formula is nested too deeply") from None

    def value(self, node: ast.expr) -> Any:
        """A node's value."""
        work = getattr(self, f"_{type(node).__name__}")
        try:
            self.budget.spend(1)
            return work(node)
        except ZeroDivisionError:
            raise self._error(node, "division by zero") from None
        except (ArithmeticError, ValueError, TypeError, LookupError, TooMuch) as error:
            raise self._error(node, str(error)) from None

    # One method for each kind of node that the reader admits.

    def _Constant(self, node: ast.Constant) -> Any:
        return node.value

    def _Name(self, node: ast.Name) -> Any:
        if node.id in self.names:
            return self.names[node.id]
        hint = f"{node.id} is a function: {node.id}(…)" if node.id in FUNCTIONS else None
        raise self._error(node, f"unknown name {node.id!r}", nearest=nearest(node.id, self.names), hint=hint)

    def _Attribute(self, node: ast.Attribute) -> Any:
        owner, name = self.value(node.value), node.attr
        if not isinstance(owner, Mapping):
            raise self._error(node, f"{ast.unparse(node.value)!r} is {kind_of(owner)} and has no {name!r}")
        if name not in owner:
            near = nearest(name, owner)
            hint = None if near or not owner else f"it has {', '.join(map(str, owner))}"
            raise self._error(node, f"{ast.unparse(node.value)!r} has no {name!r}", nearest=near, hint=hint)
        return owner[name]

    def _Subscript(self, node: ast.Subscript) -> Any:
        owner = self.value(node.value)
        if not isinstance(owner, str | list | tuple | Mapping):
            raise TypeError(f"{kind_of(owner)} has no items")
        if isinstance(node.slice, ast.Slice):
            if isinstance(owner, Mapping):
                raise TypeError("a mapping can't be sliced")
            return self.budget.take(owner[self._slice(node.slice)])
        key = self.value(node.slice)
        if isinstance(owner, Mapping):
            if key not in owner:
                raise self._error(
                    node, f"no key {kind_of(key) if is_number(key) else repr(key)[:60]}", nearest=nearest(key, owner)
                )
            return owner[key]
        return owner[key]

    def _slice(self, node: ast.Slice) -> slice:
        return slice(*(None if part is None else self.value(part) for part in (node.lower, node.upper, node.step)))

    def _Call(self, node: ast.Call) -> Any:
        assert isinstance(node.func, ast.Name)
        arguments = [self.value(argument) for argument in node.args]
        for argument in arguments:
            self.budget.take(argument)
        name = node.func.id
        try:
            return self.budget.take(FUNCTIONS[name](*arguments))
        except (ArithmeticError, ValueError, TypeError) as error:
            raise ValueError(f"{name}({', '.join(map(_short, arguments))}) can't be worked out: {error}") from None

    def _BinOp(self, node: ast.BinOp) -> Any:
        left, right = self.value(node.left), self.value(node.right)
        symbol, compute = OPERATORS[type(node.op)]
        result = compute(left, right)
        if result is NotImplemented:
            raise TypeError(f"{kind_of(left)} {symbol} {kind_of(right)} can't be worked out")
        return self.budget.take(result)

    def _UnaryOp(self, node: ast.UnaryOp) -> Any:
        value = self.value(node.operand)
        if isinstance(node.op, ast.Not):
            return not value
        if not is_number(value):
            raise TypeError(f"{kind_of(value)} has no sign")
        return -value if isinstance(node.op, ast.USub) else +value

    def _BoolOp(self, node: ast.BoolOp) -> Any:
        value = None
        for part in node.values:
            value = self.value(part)
            if bool(value) is isinstance(node.op, ast.Or):
                break
        return value

    def _Compare(self, node: ast.Compare) -> bool:
        left = self.value(node.left)
        for operator, part in zip(node.ops, node.comparators, strict=True):
            right = self.value(part)
            self.budget.spend(size_of(left) + size_of(right))
            if not COMPARISONS[type(operator)](left, right):
                return False
            left = right
        return True

    def _IfExp(self, node: ast.IfExp) -> Any:
        return self.value(node.body if self.value(node.test) else node.orelse)

    def _List(self, node: ast.List) -> Any:
        return self.budget.take([self.value(part) for part in node.elts])

    def _Tuple(self, node: ast.Tuple) -> Any:
        return self.budget.take(tuple(self.value(part) for part in node.elts))

    def _Dict(self, node: ast.Dict) -> Any:
        pairs = [(self.value(key), self.value(part)) for key, part in zip(node.keys, node.values, strict=True) if key]
        for key, _ in pairs:
            self.budget.take(key)
        return self.budget.take(dict(pairs))

    def _ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> Any:
        outside = dict(self.names)
        try:
            return self.budget.take([self.value(node.elt) for _ in self._rounds(node.generators)])
        finally:
            self.names = outside

    _GeneratorExp = _ListComp

    def _rounds(self, generators: Sequence[ast.comprehension]) -> Iterator[None]:
        """Bind the names of a comprehension, once for each of its rounds."""
        if not generators:
            yield
            return
        first, *others = generators
        values = self.value(first.iter)
        if not isinstance(values, str | list | tuple | Mapping):
            raise TypeError(f"{kind_of(values)} can't be looped over")
        for value in values:
            self.budget.spend(1)
            self._bind(first.target, value)
            if all(self.value(condition) for condition in first.ifs):
                yield from self._rounds(others)

    def _bind(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.names[target.id] = value
            return
        assert isinstance(target, ast.Tuple | ast.List)
        if not isinstance(value, list | tuple) or len(value) != len(target.elts):
            raise TypeError(f"{kind_of(value)} can't be unpacked into {len(target.elts)} names")
        for name, part in zip(target.elts, value, strict=True):
            self._bind(name, part)

    def _error(self, node: ast.AST, message: str, **more: Any) -> LangError:
        return LangError(message, *position(node, self.lines), **more)


def _short(value: Any) -> str:
    return repr(value) if is_number(value) or isinstance(value, str) and len(value) < 40 else kind_of(value)
