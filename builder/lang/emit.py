"""A checked syntax tree to a real function, whose file, lines and columns are those of the YAML."""

from __future__ import annotations

import ast
import builtins
import linecache
import os
import types
import warnings
import zlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from builder.errors import Origin, Path, dotted
from builder.lang.names import BUILTINS
from builder.lang.syntax import PARSE_ERRORS, Source, parse_error, walk

_LEFT_OUT = frozenset("breakpoint compile copyright credits eval exec exit help input license open print quit".split())

RUNTIME_BUILTINS = {name: value for name, value in vars(builtins).items() if name not in _LEFT_OUT}
"""`__builtins__` of emitted functions. A config can name none of them: those of the language are globals of their own.

They are there for PyTorch. `torch.compile` guards on each builtin used by the code that it traces, its own layers' too,
by way of the outermost function's `__builtins__`; PyTorch's C code imports parts of itself by way of those of the
function that called it (`x[[0, 1]]` fails without).
"""

VALUES = "_values"
"""The parameter of an emitted expression; no name of the language begins with an underscore."""


class _ToSelf(ast.NodeTransformer):
    """`conv` → `self.conv`."""

    def __init__(self, owned: Collection[str]) -> None:
        self.owned = owned

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.owned:
            return node
        owner = ast.copy_location(ast.Name("self", ast.Load()), node)
        return ast.copy_location(ast.Attribute(owner, node.id, node.ctx), node)


class _ToItems(ast.NodeTransformer):
    """`output` → `_values["output"]`, and `output.depth` → `_values["output"]["depth"]` for a mapping."""

    def __init__(self, names: Collection[str], mappings: Collection[str]) -> None:
        self.names, self.mappings = names, mappings

    def visit_Name(self, node: ast.Name) -> ast.expr:
        if node.id not in self.names:
            return node
        return self._item(ast.copy_location(ast.Name(VALUES, ast.Load()), node), node.id, node)

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        if isinstance(node.value, ast.Name) and node.value.id in self.mappings:
            return self._item(self.visit_Name(node.value), node.attr, node)
        return self.generic_visit(node)

    def _item(self, owner: ast.expr, key: str, at: ast.expr) -> ast.Subscript:
        constant = ast.copy_location(ast.Constant(key), at)
        return ast.copy_location(ast.Subscript(owner, constant, ast.Load()), at)


class _Rename(ast.NodeTransformer):
    """`relu(x)` → `F.relu(x)`, for printing."""

    def __init__(self, renamed: Mapping[str, str]) -> None:
        self.renamed = renamed

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return ast.Name(self.renamed.get(node.id, node.id), node.ctx)


def method(name: str, inputs: Mapping[str, bool], body: list[ast.stmt], owned: Collection[str]) -> ast.FunctionDef:
    """`def <name>(self, <inputs>)` with the names that the module owns taken from self. Changes `body`."""
    signature = ", ".join(["self", *(f"{key}=None" if optional else key for key, optional in inputs.items())])
    return _define(f"def {name}({signature}): pass", [_ToSelf(owned).visit(statement) for statement in body])


def item_function(name: str, result: ast.expr, names: Collection[str], mappings: Collection[str]) -> ast.FunctionDef:
    """`def <name>(_values)` that returns the expression over the items of its argument. Changes `result`."""
    value = _ToItems(names, mappings).visit(result)
    return _define(f"def {name}({VALUES}): pass", [ast.copy_location(ast.Return(value), result)])


def _define(template: str, body: list[ast.stmt]) -> ast.FunctionDef:
    function = ast.parse(template).body[0]
    assert isinstance(function, ast.FunctionDef)
    for node in walk(function):
        if "lineno" in node._attributes:
            ast.copy_location(node, body[0])
    function.body = body
    return function


def compiled(function: ast.FunctionDef, source: Source) -> types.CodeType | None:
    """The function's code, placed in the YAML file; None with a fault noted if Python refuses it. Moves `function`."""
    origin = source.origin
    first = 1 if origin.file is None or origin.text_line is None else origin.text_line
    indent = 0 if origin.file is None or origin.text_line is None else origin.text_indent
    for node in walk(function):
        if "lineno" in node._attributes:
            _move(node, first - 1, indent)
    filename = file_of(origin, source.path, source.text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            code = compile(ast.Module([function], []), filename, "exec", dont_inherit=True)
    except PARSE_ERRORS as error:
        known = parse_error(error, source.lines, first)
        source.add(known, known.message)
        return None
    _show(filename, source.lines, first, indent)
    return next(constant for constant in code.co_consts if isinstance(constant, types.CodeType))


def _move(node: Any, lines: int, columns: int) -> None:
    node.lineno += lines
    node.end_lineno += lines
    node.col_offset += columns
    node.end_col_offset += columns


def file_of(origin: Origin, path: Path, text: str) -> str:
    """The file that tracebacks name: the YAML file, or one made up for a text that stands in none."""
    if origin.file is not None and origin.text_line is not None:
        return origin.file
    kind = "override" if origin.override is not None else "text"
    return f"<{kind} {dotted(path)} {zlib.crc32(text.encode('utf-8', 'replace')):08x}>"


def _show(filename: str, lines: Sequence[str], first: int, indent: int) -> None:
    """Let tracebacks show the text where they can't read the file. An entry without a time is never checked again."""
    if os.path.exists(filename):
        return
    known = linecache.cache.get(filename)
    shown = list(known[2]) if known is not None and len(known) == 4 else []
    shown += ["\n"] * (first - 1 + len(lines) - len(shown))
    shown[first - 1 : first - 1 + len(lines)] = [f"{' ' * indent}{line}\n" for line in lines]
    linecache.cache[filename] = (sum(map(len, shown)), None, shown, filename)


def bound(
    code: types.CodeType,
    functions: Mapping[str, Any],
    used: Iterable[str],
    qualname: str,
    defaults: tuple[None, ...] = (),
) -> types.FunctionType:
    """A function of that code which sees the functions used, the builtins of the language, and nothing else.

    Its globals have no `__name__`: `torch.compile` would look the functions up in the module of that name.
    """
    names: dict[str, Any] = {"__builtins__": RUNTIME_BUILTINS}
    for name in used:
        names[name] = BUILTINS[name] if name in BUILTINS else functions[name]
    function = types.FunctionType(code.replace(co_qualname=qualname), names, code.co_name, defaults or None)
    function.__qualname__ = qualname
    return function


def printed(
    function: ast.FunctionDef, functions: Mapping[str, str], hidden: Collection[str]
) -> tuple[str, dict[int, int]]:
    """The function as Python source, and the YAML line of each of its lines where a statement begins.

    Args:
        function: with the positions of the YAML.
        functions: what to print for the name of a function: `{"relu": "F.relu"}`.
        hidden: names that are inputs, not the functions of those names.
    """
    renamed = {name: text for name, text in functions.items() if name not in hidden}
    text = ast.unparse(function)
    again = ast.parse(text)
    pairs = zip(_statements(again.body[0]), _statements(function), strict=True)
    lines = {new.lineno: old.lineno for new, old in pairs}
    text = ast.unparse(_Rename(renamed).visit(again))
    return text, lines


def _statements(function: ast.AST) -> list[ast.stmt]:
    return [node for node in ast.walk(function) if isinstance(node, ast.stmt) and not isinstance(node, ast.FunctionDef)]
