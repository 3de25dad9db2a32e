"""A `forward` of the model language → a method, with the comments and empty lines of the YAML."""

from __future__ import annotations

import ast
import io
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass

from builder.errors import DEFAULT
from builder.lang.forward import Forward
from builder.model.source_layout import INDENT, WIDTH, header, statement
from builder.model.source_names import ForwardNames, Imports, bound_names_of


@dataclass(frozen=True, slots=True)
class Comment:
    """A comment of the text; `alone` on its line, or after code."""

    text: str
    alone: bool


def method(forward: Forward, imports: Imports) -> list[str]:
    """The method's lines, inside a class."""
    function = forward.function
    names = ForwardNames(forward.functions, {*forward.inputs, *bound_names_of(function)}, imports)
    texts = [f"{name}=None" if optional else name for name, optional in forward.inputs.items()]
    head = f"{INDENT}def {function.name}({', '.join(['self', *texts])}):"
    if len(head) > WIDTH:
        head = "\n".join(
            [f"{INDENT}def {function.name}(", *(f"{INDENT * 2}{text}," for text in ("self", *texts)), f"{INDENT}):"]
        )
    place = "" if forward.origin == DEFAULT else f"# {forward.origin}"
    if place and len(head) + 2 + len(place) <= WIDTH:
        signature = [f"{head}  {place}"]
    else:
        signature = [f"{INDENT}{place}", head] if place else [head]
    body = ast.parse(forward.text).body
    offset = function.body[0].lineno - body[0].lineno
    printer = _Body(names, _comments(forward.text), _empty(forward.text), offset)
    return [*"\n".join(signature).split("\n"), *printer.block(function.body, 2), *printer.rest(2)]


def _comments(text: str) -> dict[int, Comment]:
    """Comments by line."""
    found = {}
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT:
            comment = "# " + token.string.lstrip("# ") if token.string.lstrip("# ") else "#"
            found[token.start[0]] = Comment(comment, not token.line[: token.start[1]].strip())
    return found


def _empty(text: str) -> set[int]:
    return {number for number, line in enumerate(text.splitlines(), 1) if not line.strip()}


@dataclass(slots=True)
class _Body:
    """Prints statements, and the comments as they are come by."""

    names: ForwardNames
    comments: dict[int, Comment]
    empty: set[int]
    offset: int
    """Lines by which the tree is further down than the text."""

    def block(self, body: list[ast.stmt], depth: int) -> Iterator[str]:
        """The lines of statements that follow each other."""
        for index, node in enumerate(body):
            yield from self._statement(self.names.visit(node), depth, index == 0)

    def rest(self, depth: int) -> Iterator[str]:
        """Comments after the last statement."""
        yield from self._before(1 << 60, depth)

    def _before(self, line: int, depth: int) -> Iterator[str]:
        for number in sorted(self.comments):
            if number < line and self.comments[number].alone:
                yield INDENT * depth + self.comments.pop(number).text

    def _statement(self, node: ast.stmt, depth: int, first: bool) -> Iterator[str]:
        line = node.lineno - self.offset
        above = min([line, *(number for number, comment in self.comments.items() if comment.alone and number < line)])
        if above - 1 in self.empty and not first:
            yield ""
        yield from self._before(line, depth)
        if not isinstance(node, ast.If | ast.For | ast.With):
            last = (node.end_lineno or node.lineno) - self.offset
            yield from self._commented(statement(node, depth), line, last, depth)
            return
        inner = node.body[0].lineno - self.offset
        yield from self._commented(header(node, depth), line, max(inner - 1, line), depth)
        yield from self.block(node.body, depth + 1)
        if isinstance(node, ast.If) and node.orelse:
            yield from self._otherwise(node, depth)

    def _otherwise(self, node: ast.If, depth: int) -> Iterator[str]:
        only = node.orelse[0]
        if len(node.orelse) == 1 and isinstance(only, ast.If) and only.col_offset == node.col_offset:
            lines = list(self._statement(only, depth, True))
            at = next(index for index, line in enumerate(lines) if line.lstrip().startswith("if"))
            lines[at] = lines[at].replace("if", "elif", 1)
            yield from lines
            return
        between = range((node.body[-1].end_lineno or 0) - self.offset + 1, only.lineno - self.offset)
        behind = [
            self.comments.pop(line).text for line in between if line in self.comments and not self.comments[line].alone
        ]
        yield "  ".join([f"{INDENT * depth}else:", *behind])
        yield from self.block(node.orelse, depth + 1)

    def _commented(self, lines: list[str], first: int, last: int, depth: int) -> list[str]:
        """Lines of code with the comments that stood in them: behind, if they fit there, else above."""
        texts = [self.comments.pop(number).text for number in range(first, last + 1) if number in self.comments]
        if len(texts) == 1 and len(lines) == 1 and len(lines[0]) + 2 + len(texts[0]) <= WIDTH:
            return [f"{lines[0]}  {texts[0]}"]
        return [*(INDENT * depth + text for text in texts), *lines]
