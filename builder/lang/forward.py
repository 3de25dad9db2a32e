"""The forward language: restricted Python, checked when a config is read and compiled once to a real function."""

from __future__ import annotations

import ast
import types
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from builder.errors import DEFAULT, ConfigError, Fault, Origin, Path
from builder.lang import emit, guard
from builder.lang.check import Expressions
from builder.lang.flow import Statements, assigned
from builder.lang.names import name_problem
from builder.lang.scope import LayerName, Reference, Scope
from builder.lang.syntax import LangError, Source
from builder.lang.used import Used

__all__ = ["Expression", "Forward", "LayerName", "Reference", "Scope", "parse_expression", "parse_forward"]

MAX_FORWARD = 65536
MAX_EXPRESSION = 4096


@dataclass(frozen=True, slots=True)
class Forward:
    """A checked `forward`.

    Names are in order of first use: `functions` (with constants) and `builtins` are globals of the function, `args`,
    `parameters`, `layers` and the buffers it `reads` and `writes` are attributes of its module. `references` are paths
    that only the built module can tell. `function` is the syntax tree of the method.
    """

    text: str
    origin: Origin
    path: Path
    inputs: Mapping[str, bool]
    functions: tuple[str, ...]
    builtins: tuple[str, ...]
    args: tuple[str, ...]
    parameters: tuple[str, ...]
    layers: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    references: tuple[Reference, ...]
    function: ast.FunctionDef
    code: types.CodeType

    def bind(
        self, functions: Mapping[str, Any], class_name: str = "Module", *, guarded: bool = False
    ) -> types.FunctionType:
        """The method, to be put on a class of that name.

        Args:
            functions: what the names in `self.functions` stand for; others are left aside.
            class_name: the class of which `__qualname__` tells.
            guarded: with a step paid for whatever may go on for ever, inside of `guard.bounded()`.

        Raises:
            KeyError: `functions` lacks one.
        """
        defaults = (None,) * sum(self.inputs.values())
        used = (*self.functions, *self.builtins)
        code = guard.guarded(self.function, self.code.co_filename) if guarded else self.code
        function = emit.bound(code, functions, used, f"{class_name}.{self.function.name}", defaults)
        return guard.with_helpers(function) if guarded else function

    def to_source(self, functions: Mapping[str, str] | None = None) -> str:
        """The method as plain Python; `functions` says what to print for a function: `{"relu": "F.relu"}`."""
        return emit.printed(self.function, functions or {}, self.inputs)[0]

    def source_lines(self) -> dict[int, int]:
        """The YAML line (the text's, if it stands in no file) of each line of `to_source()` that begins a statement."""
        return emit.printed(self.function, {}, self.inputs)[1]


@dataclass(frozen=True, slots=True)
class Expression:
    """A checked expression over named values, such as a loss.

    `names` are the values it uses, `lookups` the keys it takes from mappings: (`output`, `depth`) for `output.depth`.
    """

    text: str
    origin: Origin
    path: Path
    names: tuple[str, ...]
    lookups: tuple[tuple[str, str], ...]
    functions: tuple[str, ...]
    builtins: tuple[str, ...]
    function: ast.FunctionDef
    code: types.CodeType

    def bind(self, functions: Mapping[str, Any], *, guarded: bool = False) -> types.FunctionType:
        """A function that takes a mapping from names to values and gives the expression's value.

        Args:
            functions: what the names in `self.functions` stand for.
            guarded: with a step paid for whatever may go on for ever, inside of `guard.bounded()`.

        Raises:
            KeyError: `functions` lacks one of `self.functions`.
        """
        guarded = guarded and guard.needs_guard(self.function)
        code = guard.guarded(self.function, self.code.co_filename) if guarded else self.code
        function = emit.bound(code, functions, (*self.functions, *self.builtins), self.function.name)
        return guard.with_helpers(function) if guarded else function


def parse_forward(
    text: str, scope: Scope, *, origin: Origin = DEFAULT, path: Path = ("forward",), name: str = "forward"
) -> Forward:
    """Check the body of a `forward` and compile it.

    Args:
        text: restricted Python; see the language's page.
        scope: what its names stand for.
        origin: of the text, so that faults and tracebacks name lines of the YAML.
        path: of the text in the config; its last key is that of the forward in its definition.
        name: of the method.

    Raises:
        ConfigError: with all faults found.
    """
    source = Source(text, origin, path)
    forward = None
    try:
        forward = _forward(source, scope, name)
    except RecursionError:
        source.add(LangError(""), "the code is nested too deeply")
    if source.faults or forward is None:
        raise ConfigError(*source.faults)
    return forward


def _forward(source: Source, scope: Scope, name: str) -> Forward | None:
    _check_declared(source, scope)
    tree = source.parse("exec", MAX_FORWARD)
    if tree is None:
        return None
    assert isinstance(tree, ast.Module)
    if not tree.body:
        source.add(tree, "forward is empty", hint="leave it out to call the layers one after the other")
        return None
    check = Expressions(source, scope, assigned(tree.body))
    statements = Statements(source, check)
    statements.block(tree.body)
    if not statements.returns:
        source.add(tree.body[-1], "forward never returns a value", expected="return …")
    source.sort()
    _check_all_used(source, scope, check.used)
    if source.faults:
        return None
    function = emit.method(name, scope.inputs, tree.body, {*check.owned, "training"})
    code = emit.compiled(function, source)
    return None if code is None else _made(source, scope, check.used, function, code)


def _made(source: Source, scope: Scope, used: Used, function: ast.FunctionDef, code: types.CodeType) -> Forward:
    return Forward(
        source.text, source.origin, source.path, dict(scope.inputs), tuple(used.functions), tuple(used.builtins),
        tuple(used.args), tuple(used.parameters), tuple(used.layers), tuple(used.reads), tuple(used.writes),
        tuple(dict.fromkeys(used.references.values())), function, code,
    )  # fmt: skip


def _check_declared(source: Source, scope: Scope) -> None:
    """Names that can't be declared, that are declared twice, and inputs in an order that Python doesn't have."""
    owned = scope.owned()
    groups = [scope.inputs, scope.args, scope.parameters, scope.buffers, scope.layers]
    for name in dict.fromkeys(name for group in groups for name in group):
        needs_no_name = name in scope.layers and not name.isidentifier()
        problem = None if needs_no_name else name_problem(name, attribute=name in owned)
        if problem is not None:
            _declared_fault(source, scope, name, f"the name {name!r} {problem}")
        if name in scope.inputs and name in owned:
            _declared_fault(source, scope, name, f"the input {name!r} is called like {owned[name]}")
        elif sum(name in group for group in groups) > 1:
            _declared_fault(source, scope, name, f"{name!r} is declared twice, also as {owned[name]}")
    optional = None
    for name, may_miss in scope.inputs.items():
        if may_miss:
            optional = name
        elif optional is not None:
            _declared_fault(source, scope, name, f"the input {name!r} must come before the optional input {optional!r}")


def _check_all_used(source: Source, scope: Scope, used: Used) -> None:
    for name in scope.inputs:
        if name not in used.inputs:
            _declared_fault(source, scope, name, f"the input {name!r} is never used in forward")
    for name, layer in scope.layers.items():
        if name in used.layers or layer.unused:
            continue
        hint = "call it, or say `unused: true` in it"
        if not name.isidentifier():
            hint = "forward can only call layers that have names; name them under `layers`"
        _declared_fault(source, scope, name, f"the layer {name!r} is never used in forward", hint)


def _declared_fault(source: Source, scope: Scope, name: str, message: str, hint: str | None = None) -> None:
    """Note a fault of a declared name, at the place where it was declared if that is known."""
    section = "inputs" if name in scope.inputs else "layers" if name in scope.layers else None
    origin = scope.origins.get(name)
    if origin is None and name in scope.layers and section == "layers":
        origin = scope.layers[name].origin
    path = (*source.path[:-1], section, name) if section and source.path else source.path
    source.faults.append(Fault(message, path, origin or source.origin, hint=hint))


def parse_expression(
    text: str,
    names: Iterable[str],
    functions: Collection[str],
    *,
    mappings: Iterable[str] = (),
    constants: Collection[str] = (),
    origin: Origin = DEFAULT,
    path: Path = ("expression",),
) -> Expression:
    """Check one expression of the forward language over named values, and compile it.

    Args:
        text: such as `cross_entropy(output, target)`.
        names: the values that it may use.
        functions: the registered functions.
        mappings: names whose attributes are keys: `output.depth` is `output["depth"]`.
        constants: registered values that aren't called.
        origin: of the text.
        path: of the text in the config.

    Raises:
        ConfigError: with all faults found.
    """
    source = Source(text, origin, path)
    scope = Scope(dict.fromkeys(names, False), functions=functions, constants=constants)
    expression = None
    try:
        expression = _expression(source, scope, tuple(mappings))
    except RecursionError:
        source.add(LangError(""), "the code is nested too deeply")
    if source.faults or expression is None:
        raise ConfigError(*source.faults)
    return expression


def _expression(source: Source, scope: Scope, mappings: tuple[str, ...]) -> Expression | None:
    tree = source.parse("eval", MAX_EXPRESSION)
    if tree is None:
        return None
    assert isinstance(tree, ast.Expression)
    check = Expressions(source, scope, mappings=mappings)
    check.value(tree.body)
    source.sort()
    if source.faults:
        return None
    used = check.used
    function = emit.item_function("expression", tree.body, scope.inputs, mappings)
    code = emit.compiled(function, source)
    if code is None:
        return None
    return Expression(
        source.text, source.origin, source.path, tuple(used.inputs), tuple(used.lookups), tuple(used.functions),
        tuple(used.builtins), function, code,
    )  # fmt: skip
