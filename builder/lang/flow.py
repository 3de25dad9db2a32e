"""Checks the statements of a `forward`: what may be assigned, what is never reached, what is returned."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Sequence

from builder.lang import targets, values
from builder.lang.check import Expressions, Loop
from builder.lang.names import CONTEXTS
from builder.lang.syntax import CONSTRUCTS, Source, children
from builder.lang.values import Value


def assigned(body: Sequence[ast.AST]) -> dict[str, ast.Name]:
    """The names that statements assign, each with the first place; not those that live in a comprehension only."""
    found: dict[str, ast.Name] = {}
    for node in body:
        for name in _stored(node):
            found.setdefault(name.id, name)
    return found


def _stored(node: ast.AST) -> Iterator[ast.Name]:
    if isinstance(node, ast.comprehension):
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
        yield node
    for child in children(node):
        yield from _stored(child)


class Statements:
    """Checks statements, following which locals may have been assigned on the way to each.

    `live`: the place after the last statement can be reached; `returns`: some path returns a value.
    """

    def __init__(self, source: Source, expressions: Expressions) -> None:
        self.source, self.expressions = source, expressions
        self.live, self.returns = True, False

    def block(self, body: Sequence[ast.stmt]) -> None:
        """Check statements that run one after the other."""
        for statement in body:
            if not self.live:
                self.source.add(statement, "this statement is never reached")
                self.live = True
            check = getattr(self, f"_{type(statement).__name__}", None)
            if check is None:
                self.source.refuse(statement)
            else:
                check(statement)

    # One method for each kind of statement that the language has.

    def _Assign(self, node: ast.Assign) -> None:
        value = self.expressions.value(node.value)
        for target in node.targets:
            targets.bind(self.expressions, target, value, buffers=True)

    def _AugAssign(self, node: ast.AugAssign) -> None:
        target = node.target
        if isinstance(target, ast.Name):
            self.expressions.value(ast.copy_location(ast.Name(target.id, ast.Load()), target))
        self.expressions.operand(node.value)
        targets.bind(self.expressions, target, None, buffers=True)

    def _Expr(self, node: ast.Expr) -> None:
        self.expressions.value(node.value)
        if not isinstance(node.value, ast.Call) and type(node.value).__name__ not in CONSTRUCTS:
            self.source.add(node, "this value is not used", hint="assign it to a name or return it")

    def _Pass(self, node: ast.Pass) -> None:
        pass

    def _Return(self, node: ast.Return) -> None:
        if node.value is None:
            self.source.add(node, "return without a value")
        else:
            self.expressions.value(node.value)
        self.live, self.returns = False, True

    def _Break(self, node: ast.Break | ast.Continue) -> None:
        if not self.expressions.loops:
            self.source.add(node, f"{type(node).__name__.lower()} stands in no loop")
        self.live = False

    _Continue = _Break

    def _If(self, node: ast.If) -> None:
        self.expressions.value(node.test)
        certain = [loop.certain for loop in self.expressions.loops]
        self._uncertain()
        before = dict(self.expressions.env)
        first, first_live = self._branch(node.body, before)
        second, second_live = self._branch(node.orelse, before)
        self.live = first_live or second_live
        if first_live and second_live:
            self.expressions.env = _merge(first, second)
            for loop, was in zip(self.expressions.loops, certain, strict=True):
                loop.certain = was
        else:
            self.expressions.env = first if first_live else second

    def _branch(self, body: Sequence[ast.stmt], before: dict[str, Value]) -> tuple[dict[str, Value], bool]:
        self.expressions.env, self.live = dict(before), True
        self.block(body)
        return self.expressions.env, self.live

    def _uncertain(self) -> None:
        for loop in self.expressions.loops:
            loop.certain = False

    def _For(self, node: ast.For) -> None:
        check = self.expressions
        element = check.loop_over(node.iter)
        if node.orelse:
            self.source.add(node.orelse[0], "'else' of a loop is not part of the language")
        certain = [loop.certain for loop in check.loops]
        self._uncertain()
        names = assigned(node.body)
        before = dict(check.env)
        check.env |= {name: None for name in names if name in check.env}
        targets.bind(check, node.target, element)
        check.loops.append(Loop(names))
        self.block(node.body)
        check.loops.pop()
        for loop, was in zip(check.loops, certain, strict=True):
            loop.certain = was
        check.env = _merge(before, check.env | dict.fromkeys(names))
        self.live = True

    def _With(self, node: ast.With) -> None:
        for item in node.items:
            self._context(item)
        self.block(node.body)

    def _context(self, item: ast.withitem) -> None:
        call, functions = item.context_expr, self.expressions.scope.functions
        known = sorted(CONTEXTS.intersection(functions))
        if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id in known):
            self.source.add(
                call, "this can't stand in `with`", expected=" or ".join(f"{name}()" for name in known) or None
            )
            return
        if item.optional_vars is not None:
            self.source.add(item.optional_vars, "'as' after `with` is not part of the language")
        self.expressions.used.functions[call.func.id] = None
        self.expressions.arguments(call)


def _merge(first: dict[str, Value], second: dict[str, Value]) -> dict[str, Value]:
    """What is known where two paths meet: a name that only one of them assigned may be assigned."""
    both = first.keys() & second.keys()
    return {**first, **second, **{name: values.join((first[name], second[name])) for name in both}}
