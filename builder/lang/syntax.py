"""Text to a bounded syntax tree, with every way in which that can fail told as a fault; shared by both languages."""

from __future__ import annotations

import ast
import dataclasses
import warnings
from collections.abc import Iterator, Sequence
from typing import Literal

from builder.errors import Fault, Origin, Path

MAX_NESTING = 100
"""Levels of the syntax tree; a program that a person wrote has some twenty."""
MAX_BRACKETS = 40
"""Open brackets at once, counted before parsing: Python's parser takes exponential time on some deep nests."""
MAX_INT = 2**64
MAX_STRING = 1000

PARSE_ERRORS = (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError)
"""All that Python's parser and compiler raise on some text."""

CONSTRUCTS: dict[str, tuple[str, str | None]] = {
    "AnnAssign": ("a type annotation", "leave the annotation out: name = value"),
    "Assert": ("assert", None),
    "AsyncFor": ("async", None),
    "AsyncFunctionDef": ("async", None),
    "AsyncWith": ("async", None),
    "Await": ("await", None),
    "Bytes": ("a bytes constant", None),
    "ClassDef": ("a class", "write it as a block of its own under `blocks`"),
    "Delete": ("del", "let the name go out of use"),
    "FormattedValue": ("an f-string", "write the text as it is"),
    "FunctionDef": ("a function definition", "write it as a block of its own under `blocks`"),
    "Global": ("global", None),
    "Import": ("import", "registered functions are called by their name: relu(x)"),
    "ImportFrom": ("import", "registered functions are called by their name: relu(x)"),
    "JoinedStr": ("an f-string", "write the text as it is"),
    "Lambda": ("lambda", "write the expression where it is used"),
    "Match": ("match", "use if, elif and else"),
    "NamedExpr": (":=", "assign on a line of its own"),
    "Nonlocal": ("nonlocal", None),
    "Raise": ("raise", None),
    "Set": ("a set", "use a tuple or a list"),
    "SetComp": ("a set comprehension", "use a list comprehension"),
    "TemplateStr": ("a t-string", "write the text as it is"),
    "Try": ("try", None),
    "TryStar": ("try", None),
    "TypeAlias": ("a type alias", None),
    "While": ("while", "loop over a range: for i in range(n)"),
    "Yield": ("yield", "collect the values in a list and return it"),
    "YieldFrom": ("yield", "collect the values in a list and return it"),
}
"""Python that neither language has: its name in plain words, and what to write in its place."""


class Source:
    """The text of one value, the place it was written, and the faults found in it."""

    def __init__(self, text: str, origin: Origin, path: Path) -> None:
        self.text, self.origin, self.path = text, origin, path
        self.lines = text.splitlines()
        self.faults: list[Fault] = []

    def place(self, line: int, column: int = 0) -> Origin:
        """The origin of a place in the text: `line` from 1, `column` in bytes of UTF-8 from 0, as in the syntax tree."""
        origin = self.origin.at_text(line)
        if origin is self.origin or origin.column is None or not 1 <= line <= len(self.lines):
            return origin
        before = self.lines[line - 1].encode("utf-8", "replace")[:column].decode("utf-8", "ignore")
        return dataclasses.replace(origin, column=origin.column + len(before))

    def add(
        self,
        node: ast.AST | tuple[int, int],
        message: str,
        *,
        expected: str | None = None,
        nearest: Sequence[str] = (),
        hint: str | None = None,
    ) -> None:
        """Note a fault at a node (or line and column); what is shown as found is the line of text."""
        line, column = node if isinstance(node, tuple) else position(node)
        shown = self.lines[line - 1].strip() if 1 <= line <= len(self.lines) else None
        where = self.place(line, column)
        fault = Fault(message, self.path, where, shown, expected, nearest, hint)
        if fault not in self.faults:
            self.faults.append(fault)

    def refuse(self, node: ast.AST, what: str | None = None) -> None:
        """Note that a construct is not part of the language."""
        name, hint = construct(node)
        self.add(node, f"{what or name} is not part of the language", hint=hint)

    def parse(self, mode: Literal["exec", "eval"], max_length: int) -> ast.Module | ast.Expression | None:
        """The text's syntax tree, bounded; None with a fault noted if there is none."""
        if len(self.text) > max_length:
            return self._fail(1, f"the text is longer than {max_length} characters")
        if deepest_bracket(self.text) > MAX_BRACKETS:
            return self._fail(1, f"brackets are nested deeper than {MAX_BRACKETS} levels")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                tree = ast.parse(self.text, mode=mode)
        except PARSE_ERRORS as error:
            self.add_error(error)
            return None
        assert isinstance(tree, ast.Module | ast.Expression)
        if too_deep(tree):
            return self._fail(1, f"the code is nested deeper than {MAX_NESTING} levels")
        return tree

    def add_error(self, error: BaseException, first_line: int = 1) -> None:
        """Note what the parser or compiler raised; `first_line` is the line number that the text's first line had."""
        if not isinstance(error, SyntaxError):
            too_much = isinstance(error, RecursionError | MemoryError)
            self._fail(1, "the code is nested too deeply" if too_much else f"not Python: {_clean(error)}")
            return
        line = min(max((error.lineno or 1) - first_line + 1, 1), max(len(self.lines), 1))
        column = max((error.offset or 1) - 1, 0) if first_line == 1 else 0
        shown = self.lines[line - 1] if self.lines else ""
        self.add((line, len(shown[:column].encode("utf-8", "replace"))), f"not Python: {_clean(error)}")

    def _fail(self, line: int, message: str) -> None:
        self.add((line, 0), message)


def construct(node: ast.AST) -> tuple[str, str | None]:
    """A construct's name in plain words, and what to write in its place."""
    kind = type(node).__name__
    return CONSTRUCTS.get(kind, (f"this {kind.lower()}", None))


def position(node: ast.AST) -> tuple[int, int]:
    """Line (from 1) and column (bytes, from 0) of a node."""
    return getattr(node, "lineno", 1), getattr(node, "col_offset", 0)


def deepest_bracket(text: str) -> int:
    """The most brackets open at once; brackets inside strings count too, which errs on the safe side."""
    depth = deepest = 0
    for character in text:
        if character in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif character in ")]}":
            depth = max(depth - 1, 0)
    return deepest


def too_deep(tree: ast.AST) -> bool:
    """Whether the tree has more than `MAX_NESTING` levels; walks it without recursion."""
    level: list[ast.AST] = [tree]
    for _ in range(MAX_NESTING):
        level = [child for node in level for child in ast.iter_child_nodes(node)]
        if not level:
            return False
    return True


def in_order(tree: ast.AST) -> Iterator[ast.AST]:
    """All nodes in the order of the text."""
    yield tree
    for child in ast.iter_child_nodes(tree):
        yield from in_order(child)


def constant_problem(value: object) -> str | None:
    """Why a constant is refused, in one clause; None if it is fine."""
    if isinstance(value, bytes):
        return "a bytes constant is not part of the language"
    if isinstance(value, int) and value > MAX_INT:
        return "an integer constant is larger than 2**64"
    if isinstance(value, str) and len(value) > MAX_STRING:
        return f"a text constant is longer than {MAX_STRING} characters"
    return None


def _clean(error: BaseException) -> str:
    message = error.msg if isinstance(error, SyntaxError) else str(error)
    return message.removesuffix(" (<unknown>, line 1)").strip() or type(error).__name__
