"""Checks the expressions of the forward language and notes which names they use."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from builder.lang import parts, targets, values
from builder.lang.names import ATTRIBUTES, BUILTINS, CONTEXTS, DENIED_ATTRIBUTES, DTYPE_BUILTINS, RESERVED
from builder.lang.scope import Scope
from builder.lang.syntax import Source, constant_problem, construct
from builder.lang.used import Used
from builder.lang.values import CALLED, Each, Items, Layers, Method, Tensor, Value

PYTHON_HINTS = {
    **dict.fromkeys(
        ("torch", "F", "nn", "functional", "math", "np"), "functions are called by their own name: relu(x)"
    ),
    "self": "layers, parameters and args go by their own name: conv(x)",
}


@dataclass(slots=True)
class Loop:
    """A loop around the statement being checked. `certain`: its first round, if any, runs the statement."""

    assigned: Collection[str]
    certain: bool = True


class Expressions:
    """Checks expressions; faults go to `source`, names to `used`.

    `env` holds the inputs and locals that may have been assigned here, `everywhere` all names the text assigns.
    `mappings` are names whose attributes are keys, given for an expression that stands in no module. `fixed` says of
    each name that can't be assigned what it is.
    """

    def __init__(
        self, source: Source, scope: Scope, everywhere: Collection[str] = (), mappings: Collection[str] | None = None
    ) -> None:
        self.source, self.scope, self.everywhere = source, scope, everywhere
        self.in_module, self.mappings = mappings is None, mappings or ()
        self.used = Used()
        self.env: dict[str, Value] = dict.fromkeys(scope.inputs)
        self.loops: list[Loop] = []
        self.owned = scope.owned()
        self.fixed = {
            **dict.fromkeys(scope.constants, "a constant"),
            **dict.fromkeys(scope.functions, "a function"),
            **dict.fromkeys(BUILTINS, "a builtin of the language"),
            **dict.fromkeys(RESERVED, "a name with a meaning of its own"),
            **self.owned,
        }
        if self.in_module:
            self.fixed = {name: what for name, what in self.fixed.items() if name in self.owned or name not in self.env}
        else:
            self.fixed |= dict.fromkeys(scope.inputs, "a value of the expression")

    def value(self, node: ast.expr) -> Value:
        """Check an expression; what is known of its value."""
        check = getattr(self, f"_{type(node).__name__}", None)
        if check is None:
            self.source.refuse(node)
            return None
        result: Value = check(node)
        return result

    def values(self, nodes: Iterable[ast.expr | None]) -> list[Value]:
        """Check several expressions."""
        return [self.value(node) for node in nodes if node is not None]

    def operand(self, node: ast.expr) -> None:
        """Check an expression that is computed with, which a layer can't be."""
        value = self.value(node)
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.source.add(
                node, "a text can't be computed with", hint="texts are arguments, keys and things to compare"
            )
        if isinstance(value, Layers) and "part" not in value.kinds:
            self.source.add(node, f"{value.name!r} is a {value.kind}, not a tensor", hint=f"call it: {value.name}(…)")

    def loop_over(self, node: ast.expr) -> Value:
        """Check an expression that is looped over; what is known of its elements."""
        value = self.value(node)
        if isinstance(value, Layers) and "layer" in value.kinds:
            self.source.add(
                node,
                f"{value.name!r} is a layer and can't be looped over",
                expected="a Sequential, ModuleList or ModuleDict, or a range, list or tensor",
            )
        return values.element(value)

    def arguments(self, node: ast.Call) -> list[Value]:
        """Check the arguments of a call; what is known of the positional ones."""
        found = self.values(node.args)
        for keyword in node.keywords:
            if keyword.arg is None:
                self.source.add(keyword.value, "'**' in a call is not part of the language", hint="write name=value")
            elif keyword.arg.startswith("_"):
                self.source.add(keyword, f"the name {keyword.arg!r} begins with an underscore")
            self.value(keyword.value)
        return found

    # One method for each kind of expression that the language has.

    def _Constant(self, node: ast.Constant) -> Value:
        problem = constant_problem(node.value)
        if problem is not None:
            self.source.add(node, problem)
        return None

    def _Name(self, node: ast.Name) -> Value:
        name, used, scope = node.id, self.used, self.scope
        if name in self.owned:
            return self._owned(name)
        if name in self.env:
            if name in scope.inputs:
                used.inputs[name] = None
            return self.env[name]
        if any(not loop.certain and name in loop.assigned for loop in self.loops):
            return None
        if name == "training" and self.in_module:
            return None
        if name in DTYPE_BUILTINS:
            used.builtins[name] = None
        elif name in scope.constants:
            used.functions[name] = None
        elif name in scope.functions or name in BUILTINS:
            self.source.add(node, f"the function {name!r} can only be called", expected=f"{name}(…)")
        else:
            self._unknown(node)
        return None

    def _owned(self, name: str) -> Value:
        if name in self.scope.layers:
            self.used.layers[name] = None
            return Layers({(name,): self.scope.layers[name]})
        if name in self.scope.args:
            self.used.args[name] = None
            return None
        (self.used.reads if name in self.scope.buffers else self.used.parameters)[name] = None
        return Tensor(name)

    def _unknown(self, node: ast.Name, called: bool = False) -> None:
        name = node.id
        if name in self.everywhere:
            self.source.add(node, f"{name!r} is used before it is assigned")
            return
        callables = [*self.scope.layers, *self.scope.functions, *BUILTINS]
        valid = callables if called else [*self.env, *self.owned, *self.everywhere, "training", *self.scope.constants]
        near = self.source.near(name, [choice for choice in valid if choice != name])
        self._spare(near)
        what = "function or layer" if called else "name"
        self.source.add(node, f"unknown {what} {name!r}", nearest=near, hint=PYTHON_HINTS.get(name))

    def _spare(self, names: Iterable[str]) -> None:
        """Take layers and inputs as used that were meant, most likely, by a name that is unknown."""
        self.used.layers |= dict.fromkeys(name for name in names if name in self.scope.layers)
        self.used.inputs |= dict.fromkeys(name for name in names if name in self.scope.inputs)

    def _Attribute(self, node: ast.Attribute) -> Value:
        base, name = node.value, node.attr
        if isinstance(base, ast.Name) and base.id in self.mappings:
            return self._key(node, base)
        faults = len(self.source.faults)
        value = self.value(base)
        if len(self.source.faults) > faults:
            return None
        if isinstance(base, ast.Constant) or (isinstance(base, ast.Name) and base.id in DTYPE_BUILTINS):
            self.source.add(node, f"attribute {name!r} of a constant is not part of the language")
        elif isinstance(value, Layers):
            return parts.attribute(self.source, self.used, node, value)
        else:
            self._plain_attribute(node, base)
        return None

    def _key(self, node: ast.Attribute, base: ast.Name) -> Value:
        self.value(base)
        if node.attr.startswith("_"):
            self.source.add(node, f"the name {node.attr!r} begins with an underscore")
        self.used.lookups[base.id, node.attr] = None
        return None

    def _plain_attribute(self, node: ast.Attribute, base: ast.expr) -> None:
        name = node.attr
        if name in ATTRIBUTES or (name == "type" and isinstance(base, ast.Attribute) and base.attr == "device"):
            return
        leads_out = name in DENIED_ATTRIBUTES or name.startswith("_")
        self.source.add(
            node,
            f"attribute {name!r} is not part of the language",
            expected="a method or property of a tensor that computes on it or describes it",
            nearest=() if leads_out else self.source.near(name, ATTRIBUTES),
        )

    def _Subscript(self, node: ast.Subscript) -> Value:
        value = self.value(node.value)
        self.value(node.slice)
        if isinstance(value, Items):
            index = values.integer(node.slice)
            known = index is not None and -len(value.items) <= index < len(value.items)
            return value.items[index or 0] if known else values.element(value)
        if isinstance(value, Each):
            return value if isinstance(node.slice, ast.Slice) else value.element
        return parts.subscript(self.source, self.used, node, value) if isinstance(value, Layers) else None

    def _Slice(self, node: ast.Slice) -> Value:
        self.values((node.lower, node.upper, node.step))
        return None

    def _Call(self, node: ast.Call) -> Value:
        arguments = self.arguments(node)
        function = node.func
        if isinstance(function, ast.Name) and function.id not in self.env and function.id not in self.owned:
            return self._call_function(function, arguments)
        value = self.value(function)
        if isinstance(value, Method):
            return parts.method_result(value)
        self._call_value(function, value)
        return None

    def _call_function(self, function: ast.Name, arguments: list[Value]) -> Value:
        name = function.id
        if name in CONTEXTS and name in self.scope.functions:
            self.source.add(function, f"{name!r} can only stand in `with`", expected=f"with {name}():")
        elif name in BUILTINS:
            self.used.builtins[name] = None
            return _builtin_result(name, arguments)
        elif name in self.scope.functions:
            self.used.functions[name] = None
        elif name in self.scope.constants or name == "training":
            self.source.add(function, f"{name!r} is a value and can't be called")
        elif not any(not loop.certain and name in loop.assigned for loop in self.loops):
            self._unknown(function, called=True)
        return None

    def _call_value(self, function: ast.expr, value: Value) -> None:
        name = function.id if isinstance(function, ast.Name) else ""
        if isinstance(value, Layers) and not value.kinds & CALLED:
            self.source.add(
                function,
                f"{value.name!r} is a {value.kind} and can't be called",
                hint=f"loop over it and call its layers: for layer in {value.name}",
            )
        elif isinstance(value, Tensor) or name in self.scope.args:
            what = self.owned[value.name] if isinstance(value, Tensor) else "an arg"
            self._not_callable(function, f"{name or ast.unparse(function)!r} is {what} and")
        elif name in self.scope.inputs and name not in self.everywhere:
            self._not_callable(function, f"{name!r} is an input and")
        elif isinstance(function, ast.Constant | ast.Tuple | ast.List | ast.Dict):
            self._not_callable(function, construct(function)[0])

    def _not_callable(self, function: ast.expr, what: str) -> None:
        hides = isinstance(function, ast.Name) and function.id in self.scope.functions
        hint = "it hides the function of that name; call it something else" if hides else None
        self.source.add(function, f"{what} can't be called", hint=hint)

    def _BinOp(self, node: ast.BinOp) -> Value:
        self.operand(node.left)
        self.operand(node.right)
        return None

    def _UnaryOp(self, node: ast.UnaryOp) -> Value:
        self.value(node.operand) if isinstance(node.op, ast.Not) else self.operand(node.operand)
        return None

    def _BoolOp(self, node: ast.BoolOp) -> Value:
        return values.join(self.values(node.values))

    def _Compare(self, node: ast.Compare) -> Value:
        compares_identity = all(isinstance(operator, ast.Is | ast.IsNot | ast.In | ast.NotIn) for operator in node.ops)
        for operand in (node.left, *node.comparators):
            text = isinstance(operand, ast.Constant) and isinstance(operand.value, str)
            self.value(operand) if text or compares_identity else self.operand(operand)
        return None

    def _IfExp(self, node: ast.IfExp) -> Value:
        self.value(node.test)
        return values.join(self.values((node.body, node.orelse)))

    def _Tuple(self, node: ast.Tuple | ast.List) -> Value:
        found = self.values(node.elts)
        starred = any(isinstance(part, ast.Starred) for part in node.elts)
        return values.each(values.join(found)) if starred else values.items(found)

    _List = _Tuple

    def _Starred(self, node: ast.Starred) -> Value:
        return self.loop_over(node.value)

    def _Dict(self, node: ast.Dict) -> Value:
        self.values(node.keys)
        self.values(node.values)
        return None

    def _ListComp(self, node: ast.ListComp | ast.GeneratorExp) -> Value:
        with self._generators(node.generators):
            return values.each(self.value(node.elt))

    _GeneratorExp = _ListComp

    def _DictComp(self, node: ast.DictComp) -> Value:
        with self._generators(node.generators):
            self.values((node.key, node.value))
        return None

    @contextmanager
    def _generators(self, generators: list[ast.comprehension]) -> Iterator[None]:
        outside = dict(self.env)
        for generator in generators:
            if generator.is_async:
                self.source.add(generator.target, "async is not part of the language")
            element = self.loop_over(generator.iter)
            targets.bind(self, generator.target, element)
            self.values(generator.ifs)
        yield
        self.env = outside


def _builtin_result(name: str, arguments: list[Value]) -> Value:
    elements = [values.element(argument) for argument in arguments]
    if name == "enumerate" and elements:
        return values.each(values.items((None, elements[0])))
    if name == "zip":
        return values.each(values.items(elements))
    if name in ("reversed", "list", "tuple", "sorted") and elements:
        return (
            arguments[0] if name in ("list", "tuple") and isinstance(arguments[0], Items) else values.each(elements[0])
        )
    return None
