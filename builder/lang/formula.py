"""Formulas (`=2 * width`): expressions over a definition's args, checked when read and worked out within bounds."""

from __future__ import annotations

import ast
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from builder.errors import nearest
from builder.lang.arithmetic import FUNCTIONS
from builder.lang.interpret import Interpreter
from builder.lang.syntax import LangError, children, constant_problem, construct, parse, position

__all__ = ["Formula", "LangError", "parse_formula"]

MAX_FORMULA = 4096
MAX_KNOWN = 256
"""Values that a formula remembers."""


@dataclass(frozen=True, slots=True)
class Formula:
    """A checked formula. `names` are its free names; `dotted` those with their attributes: `data.num_classes`."""

    text: str
    names: frozenset[str]
    dotted: frozenset[str]
    tree: ast.expr = field(repr=False, compare=False)
    indent: int = field(default=0, repr=False, compare=False)
    _known: dict[tuple[Any, ...], Any] = field(default_factory=dict, repr=False, compare=False)
    """Values worked out before, by those of the names; where all are whole numbers."""

    def evaluate(self, names: Mapping[str, Any]) -> Any:
        """The formula's value: a number, text, None, or a list, tuple or dict of those (or a value of `names`).

        Args:
            names: what its names stand for; `data.num_classes` is `names["data"]["num_classes"]`.

        Raises:
            LangError: it can't be worked out: an unknown name, a division by zero, a wrong type, too many steps.
        """
        if type(self.tree) is ast.Name and self.tree.id in names:  # most formulas name an argument
            return names[self.tree.id]
        given = tuple([names.get(name) for name in self.names])
        if any(type(value) is not int for value in given):
            return self._worked_out(names)
        if given not in self._known:
            value = self._worked_out(names)
            if type(value) not in (int, float, bool, str) or len(self._known) == MAX_KNOWN:
                return value
            self._known[given] = value
        return self._known[given]

    def _worked_out(self, names: Mapping[str, Any]) -> Any:
        try:
            return Interpreter(names, self.text[self.indent :].splitlines()).run(self.tree)
        except LangError as error:
            error.column += self.indent if error.line == 1 else 0
            raise


@lru_cache(maxsize=1024)
def parse_formula(text: str) -> Formula:
    """Check a formula, given without its leading `=`; a text that was checked before is the formula that it was then.

    Raises:
        LangError: it is not of the formula language; the first fault found.
    """
    indent = len(text) - len(text.lstrip(" \t"))
    try:
        tree = parse(text[indent:], "eval", MAX_FORMULA)
        assert isinstance(tree, ast.Expression)
        reader = _Reader(text[indent:].splitlines())
        reader.check(tree.body, frozenset())
    except LangError as error:
        error.column += indent if error.line == 1 else 0
        raise
    except RecursionError:
        raise LangError("the formula is nested too deeply") from None
    return Formula(text, frozenset(reader.names), frozenset(reader.dotted), tree.body, indent)


class _Reader:
    """Checks a formula's syntax and collects its free names."""

    allowed = (
        ast.Constant | ast.Name | ast.Attribute | ast.Subscript | ast.Slice | ast.Call | ast.BinOp | ast.UnaryOp
        | ast.BoolOp | ast.Compare | ast.IfExp | ast.Tuple | ast.List | ast.Dict | ast.ListComp | ast.GeneratorExp
        | ast.Add | ast.Sub | ast.Mult | ast.Div | ast.FloorDiv | ast.Mod | ast.Pow | ast.Not | ast.UAdd | ast.USub
        | ast.And | ast.Or | ast.cmpop | ast.expr_context
    )  # fmt: skip

    def __init__(self, lines: list[str]) -> None:
        self.lines = lines
        self.names: set[str] = set()
        self.dotted: set[str] = set()

    def check(self, node: ast.AST, bound: frozenset[str]) -> None:
        """Check a node and all below it; `bound` are the names of the comprehensions around it."""
        if not isinstance(node, self.allowed):
            name, hint = construct(node)
            raise self._error(node, f"{name} is not part of a formula", hint=hint)
        match node:
            case ast.Constant(value):
                self._constant(node, value)
            case ast.Name(name):
                self._name(node, name, bound)
            case ast.Attribute():
                self._attribute(node, bound)
            case ast.Call():
                self._call(node, bound)
            case ast.ListComp() | ast.GeneratorExp():
                self._comprehension(node, bound)
            case ast.Compare():
                self._compare(node, bound)
            case ast.Dict(keys) if None in keys:
                raise self._error(node, "'**' is not part of a formula")
            case _:
                self._children(node, bound)

    def _children(self, node: ast.AST, bound: frozenset[str]) -> None:
        for child in children(node):
            self.check(child, bound)

    def _constant(self, node: ast.AST, value: object) -> None:
        problem = constant_problem(value)
        if problem is None and isinstance(value, complex):
            problem = "a complex number is not part of a formula"
        if problem is None and value is Ellipsis:
            problem = "'...' is not part of a formula"
        if problem is not None:
            raise self._error(node, problem)

    def _name(self, node: ast.AST, name: str, bound: Collection[str]) -> None:
        if name.startswith("_") and name not in bound:
            raise self._error(node, f"the name {name!r} begins with an underscore")
        if name not in bound:
            self.names.add(name)
            self.dotted.add(name)

    def _attribute(self, node: ast.Attribute, bound: frozenset[str]) -> None:
        parts, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        if not isinstance(base, ast.Name):
            raise self._error(node, f"attribute {node.attr!r} is not part of a formula", hint="facts are data.<name>")
        for part in parts:
            if part.startswith("_"):
                raise self._error(node, f"the name {part!r} begins with an underscore")
        known = base.id in self.dotted
        self._name(base, base.id, bound)
        if base.id not in bound:
            self.dotted.add(".".join([base.id, *reversed(parts)]))
            if not known:
                self.dotted.discard(base.id)

    def _call(self, node: ast.Call, bound: frozenset[str]) -> None:
        if not isinstance(node.func, ast.Name):
            raise self._error(node.func, "only functions can be called", hint=f"they are {', '.join(FUNCTIONS)}")
        if node.func.id not in FUNCTIONS:
            near = nearest(node.func.id, FUNCTIONS)
            hint = None if near else f"the functions are {', '.join(FUNCTIONS)}"
            raise self._error(node.func, f"unknown function {node.func.id!r}", nearest=near, hint=hint)
        if node.keywords:
            raise self._error(node.keywords[0], f"{node.func.id} takes no arguments by name")
        for argument in node.args:
            self.check(argument, bound)

    def _comprehension(self, node: ast.ListComp | ast.GeneratorExp, bound: frozenset[str]) -> None:
        for generator in node.generators:
            if generator.is_async:
                raise self._error(generator.target, "async is not part of a formula")
            self.check(generator.iter, bound)
            bound |= self._targets(generator.target)
            for condition in generator.ifs:
                self.check(condition, bound)
        self.check(node.elt, bound)

    def _targets(self, target: ast.expr) -> frozenset[str]:
        names = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
        for name in names:
            if not isinstance(name, ast.Name) or (name.id.startswith("_") and name.id != "_"):
                raise self._error(name, "a name is expected after `for`")
        return frozenset(name.id for name in names if isinstance(name, ast.Name))

    def _compare(self, node: ast.Compare, bound: frozenset[str]) -> None:
        for operator, operand in zip(node.ops, node.comparators, strict=True):
            none = isinstance(operand, ast.Constant) and operand.value is None
            if isinstance(operator, ast.Is | ast.IsNot) and not none:
                raise self._error(operand, "'is' is only for None", hint="use ==")
        self._children(node, bound)

    def _error(self, node: ast.AST, message: str, **more: Any) -> LangError:
        return LangError(message, *position(node, self.lines), **more)
