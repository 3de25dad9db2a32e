"""What the names and values of a config are in a plain PyTorch file, and what that file must import for them."""

from __future__ import annotations

import ast
import builtins
import keyword
import math
from collections.abc import Iterable, Iterator, Mapping
from types import ModuleType
from typing import Any

import torch
from torch import nn

from builder import registry
from builder.lang.arithmetic import FUNCTIONS
from builder.lang.formula import Formula, parse_formula
from builder.model.pending import Names
from builder.model.source_layout import INDENT, WIDTH
from builder.model.spec import Definition, Node

NAMESPACES: tuple[tuple[str, ModuleType], ...] = (
    ("nn", nn), ("F", nn.functional), ("torch", torch), ("torch.linalg", torch.linalg), ("torch.fft", torch.fft),
    ("torch.special", torch.special), ("nn.init", nn.init),
    ("nn.utils.parametrizations", nn.utils.parametrizations),
)  # fmt: skip
"""Where objects of torch are looked for, as written."""

STANDARD = ("math", "re", "OrderedDict", "torch", "nn", "F")
"""Names that a file may import from Python and PyTorch."""


class Imports:
    """The names a file imports. `bound` are names that its functions give values of their own."""

    def __init__(self, bound: Iterable[str]) -> None:
        self.bound = frozenset(bound)
        self.taken = {*self.bound, *STANDARD, *dir(builtins), *keyword.kwlist}
        self._objects: dict[int, str] = {}
        self._users: dict[str, list[str]] = {}
        self._notes: list[str] = []

    def of(self, value: object, name: str) -> str:
        """The text that stands for an object of torch, or one that a user has registered as `name`."""
        for prefix, namespace in NAMESPACES:
            if getattr(namespace, name, None) is value or getattr(namespace, _own_name(value), None) is value:
                found = name if getattr(namespace, name, None) is value else _own_name(value)
                return f"{self.module(prefix)}.{found}"
        return self._objects.get(id(value)) or self._import(value)

    def module(self, prefix: str) -> str:
        """A module's name as imported: `F` is spelt out where a function has a variable `F`."""
        if prefix == "F" and "F" in self.bound:
            return f"{self.module('nn')}.functional"
        head, dot, rest = prefix.partition(".")
        return (f"{head}_" if head in self.bound else head) + dot + rest

    def _import(self, value: object) -> str:
        name, module = _own_name(value), str(getattr(value, "__module__", "__main__"))
        shown = self.unique(name)
        if getattr(value, "__qualname__", name) != name:
            self._notes.append(f"# {name} is not at the top level of {module}; it must move there to be imported.")
        self._users.setdefault(module, []).append(name if shown == name else f"{name} as {shown}")
        self._objects[id(value)] = shown
        return shown

    def unique(self, name: str) -> str:
        """A name like this one that nothing else has."""
        tries = (name, *(f"{name}{number}" for number in range(2, 10_000)))
        found = next(item for item in tries if item not in self.taken)
        self.taken.add(found)
        return found

    def lines(self, used: set[str]) -> list[str]:
        """The import statements, for a file that uses these names; groups are parted by empty lines."""
        standard = [
            self._standard("import math", "math", used),
            self._standard("import re", "re", used),
            self._standard("from collections import OrderedDict", "OrderedDict", used),
        ]
        pytorch = [self._standard("import torch", "torch", used)]
        pytorch += ["import torch.nn.functional as F" if "F" in used and "F" not in self.bound else ""]
        pytorch += [self._standard("from torch import nn", "nn", used)]
        users = [*self._notes, *(line for module in sorted(self._users) for line in self._from(module))]
        groups = [[line for line in group if line] for group in (standard, pytorch, users)]
        return "\n\n".join("\n".join(group) for group in groups if group).split("\n")

    def _standard(self, line: str, name: str, used: set[str]) -> str:
        alias = self.module(name)
        return "" if alias not in used else line if alias == name else f"{line} as {alias}"

    def _from(self, module: str) -> list[str]:
        items = sorted(self._users[module], key=lambda item: (not item.isupper(), not item[:1].isupper(), item))
        line = f"from {module} import {', '.join(items)}"
        return (
            [line] if len(line) <= WIDTH else [f"from {module} import (", *(f"{INDENT}{item}," for item in items), ")"]
        )


def _own_name(value: object) -> str:
    return str(getattr(value, "__name__", type(value).__name__))


def bound_names(parts: Iterable[Definition]) -> set[str]:
    """Arguments, inputs and variables of definitions."""
    found: set[str] = set()
    for part in parts:
        found |= {*part.args, *(item.name for item in part.inputs)}
        if part.forward is not None:
            found |= bound_names_of(part.forward.function)
    return found


def bound_names_of(function: ast.AST) -> set[str]:
    """The variables of a function."""
    nodes = ast.walk(function)
    return {node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}


def _formulas(value: Any) -> Iterator[Formula]:
    if isinstance(value, Formula):
        yield value
    elif isinstance(value, Definition):
        for argument in value.args.values():
            yield from _formulas(argument.default)
        for layer in value.layers:
            yield from _formulas(layer)
    elif isinstance(value, Node):
        for item in (*value.arguments.values(), value.repeat, value.element, *value.children, value.when):
            yield from _formulas(item)
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _formulas(item)


def free_names(value: Any) -> set[str]:
    """The names that the formulas in a value use, facts of the data apart."""
    return set().union(*(item.names for item in _formulas(value))) - {"data"}


def literal(value: Any, *, lists: bool = False) -> str:
    """A plain value as one writes it in Python; a list as a tuple, unless `lists`."""
    if isinstance(value, list | tuple):
        return sequence([literal(item, lists=lists) for item in value], lists and isinstance(value, list))
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {literal(item, lists=lists)}" for key, item in value.items()) + "}"
    if isinstance(value, torch.dtype):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return f'float("{value}")'
    return repr(value)


def parsed(text: str) -> Any:
    """The syntax tree of an expression."""
    return ast.parse(text, mode="eval").body


def sequence(items: list[str], as_list: bool) -> str:
    """The text of a list or tuple of these."""
    if as_list:
        return f"[{', '.join(items)}]"
    return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"


class Formulas(ast.NodeTransformer):
    """A formula as Python: facts of the data as values, names by `renamed`, functions from `math`, lists as tuples.

    All lists of a config become tuples, so that what formulas do with them comes out the same.
    """

    def __init__(self, data: Names, renamed: Mapping[str, str], imports: Imports) -> None:
        self.data, self.renamed, self.imports = data, renamed, imports

    def text(self, formula: Formula) -> str:
        """The formula's text."""
        return ast.unparse(self.visit(parsed(ast.unparse(formula.tree))))

    def visit(self, node: ast.AST) -> Any:
        """The node rewritten; the largest parts that use nothing but facts become their values."""
        names = {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}
        if isinstance(node, ast.expr) and "data" in names and names - {"data"} <= set(FUNCTIONS):
            value = parse_formula(ast.unparse(node)).evaluate({"data": self.data})
            return parsed(literal(value))
        return super().visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """`sqrt(x)` → `math.sqrt(x)`, and `range(n)`, which is a list in formulas, → `tuple(range(n))`."""
        call = self._call(node)
        return ast.Call(ast.Name("tuple", ast.Load()), [call], []) if _called(node) == "range" else call

    def visit_List(self, node: ast.List) -> ast.AST:
        """`[a, b]` → `(a, b)`."""
        return ast.Tuple([self.visit(item) for item in node.elts], node.ctx)

    def visit_ListComp(self, node: ast.ListComp) -> ast.AST:
        """`[f(x) for x in y]` → `tuple(f(x) for x in y)`."""
        loops = [self.visit(part) for part in node.generators]
        return ast.Call(ast.Name("tuple", ast.Load()), [ast.GeneratorExp(self.visit(node.elt), loops)], [])

    def visit_comprehension(self, node: ast.comprehension) -> ast.AST:
        """A loop over a range needs no list."""
        plain = isinstance(node.iter, ast.Call) and _called(node.iter) == "range"
        over = self._call(node.iter) if plain else self.visit(node.iter)  # type: ignore[arg-type]
        return ast.comprehension(self.visit(node.target), over, [self.visit(test) for test in node.ifs], 0)

    def _call(self, node: ast.Call) -> ast.Call:
        name = _called(node)
        if not hasattr(builtins, name):
            name = f"{self.imports.module('math')}.{name}"
        return ast.Call(parsed(name), [self.visit(item) for item in node.args], [])

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """`i` → the counter of the repeat around it."""
        return ast.Name(self.renamed.get(node.id, node.id), node.ctx)


def _called(node: ast.Call) -> str:
    assert isinstance(node.func, ast.Name)
    return node.func.id


class ForwardNames(ast.NodeTransformer):
    """The functions in a `forward` as the file imports them: `relu(x)` → `F.relu(x)`."""

    def __init__(self, functions: Iterable[str], local: set[str], imports: Imports) -> None:
        self.texts = {
            name: imports.of(registry.functions.get(name), name) for name in functions if name in registry.functions
        }
        self.local = local

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A registered function, unless a variable has its name here."""
        if node.id not in self.texts or node.id in self.local or isinstance(node.ctx, ast.Store):
            return node
        return ast.copy_location(parsed(self.texts[node.id]), node)
