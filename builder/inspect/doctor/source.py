"""The source of a layer's class: its syntax tree, and the lines on which its attributes are assigned."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from builder.inspect.doctor.finding import FINE


@dataclass(frozen=True, slots=True)
class Source:
    """A class of users: its file, its tree, and the lines of the file."""

    cls: type[nn.Module]
    file: str
    tree: ast.ClassDef
    lines: tuple[str, ...]

    @property
    def methods(self) -> list[ast.FunctionDef]:
        """The functions in its body."""
        return [node for node in self.tree.body if isinstance(node, ast.FunctionDef)]

    def method(self, name: str) -> ast.FunctionDef | None:
        """One of them."""
        return next((method for method in self.methods if method.name == name), None)

    def is_fine(self, line: int) -> bool:
        """Whether a comment says that a line isn't to be told of."""
        return 0 < line <= len(self.lines) and FINE in self.lines[line - 1]

    def line_of(self, attribute: str) -> int | None:
        """The line on which `self.attribute` is first assigned."""
        lines = [line for method in self.methods for name, _, line in assigned(method) if name == attribute]
        return min(lines, default=None)

    def named(self, node: ast.AST) -> Any:
        """What a dotted name stands for where the class is defined; None if it isn't known."""
        found: Any = None
        if isinstance(node, ast.Name):
            found = vars(sys.modules[self.cls.__module__]).get(node.id)
        elif isinstance(node, ast.Attribute):
            outer = self.named(node.value)
            found = getattr(outer, node.attr, None) if inspect.ismodule(outer) else None
        return found


def source_of(cls: type[nn.Module]) -> Source | None:
    """The source of a class; None where there is none to be read."""
    try:
        file = inspect.getsourcefile(cls)
        lines, start = inspect.getsourcelines(cls)
        text = Path(file or "").read_text(encoding="utf-8")
        tree = ast.parse(text)
    except (OSError, TypeError, SyntaxError, ValueError):
        return None
    end = start + len(lines)
    nodes = (node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == cls.__name__)
    node = next((node for node in nodes if start <= node.lineno <= end), None)
    return None if node is None or file is None else Source(cls, _shown(file), node, tuple(text.splitlines()))


def _shown(file: str) -> str:
    """The path as one would type it."""
    path = Path(file)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else file


def assigned(method: ast.FunctionDef) -> Iterator[tuple[str, ast.expr | None, int]]:
    """Each assignment to an attribute of `self` in a method: its name, what is assigned, the line."""
    me = method.args.args[0].arg if method.args.args else "self"
    for node in ast.walk(method):
        targets = node.targets if isinstance(node, ast.Assign) else []
        if isinstance(node, ast.AnnAssign | ast.AugAssign):
            targets = [node.target]
        for target in targets:
            several = target.elts if isinstance(target, ast.Tuple | ast.List) else [target]
            for each in several:
                if isinstance(each, ast.Attribute) and isinstance(each.value, ast.Name) and each.value.id == me:
                    value = node.value if each is target else None  # type: ignore[attr-defined]
                    yield each.attr, value, node.lineno  # type: ignore[attr-defined]


def user_classes(registered: type) -> list[type[nn.Module]]:
    """A registered class, those that it comes from, and the other modules in their files: all that users wrote."""
    found: dict[type[nn.Module], None] = {}
    for cls in registered.__mro__:
        if is_users(cls):
            module = sys.modules.get(cls.__module__)
            found[cls] = None
            for other in vars(module).values() if module is not None else ():
                if isinstance(other, type) and is_users(other) and other.__module__ == cls.__module__:
                    found[other] = None
    return list(found)


def is_users(cls: type) -> bool:
    """Whether a class is a module that isn't PyTorch's, torchmetrics' or ours."""
    own = cls.__module__.partition(".")[0] in ("torch", "builder", "torchmetrics", "builtins")
    return issubclass(cls, nn.Module) and not own
