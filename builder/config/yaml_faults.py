"""A YAML parser's complaint in the words of someone who writes the file."""

from __future__ import annotations

import re
from typing import Any

import yaml

from builder.errors import Fault, Origin

QUOTE_FORMULA = "inside {…} and […], a formula with commas, brackets or braces stands in quotes"

_QUOTED = re.compile(r"""'[^']*'|"[^"]*"|#.*""")
_FORMULA = re.compile(r"[:,\[]\s*=")


def cut_formula(value: str, content: str, start: int) -> str | None:
    """Of a text that a flow collection's ',' ended inside of a formula's brackets, the whole formula; None of others.

    Args:
        value: what YAML read.
        content: the file.
        start: where in it the text begins.
    """
    if not value.startswith("=") or _open_brackets(value) < 1:
        return None
    line = content[start:].partition("\n")[0]
    ends = (index for index, char in enumerate(line, 1) if char in ")]}" and not _open_brackets(line[:index]))
    return line[: next(ends, len(line))].rstrip()


def _open_brackets(text: str) -> int:
    bare = _QUOTED.sub("", text)
    return sum(bare.count(char) for char in "([{") - sum(bare.count(char) for char in ")]}")


def syntax_fault(error: yaml.YAMLError, content: str, lines: list[str], shown: str) -> Fault:
    """The fault for a text that isn't YAML; `lines` are those of `content`."""
    if isinstance(error, yaml.reader.ReaderError):
        return _unreadable(content, shown)
    assert isinstance(error, yaml.MarkedYAMLError)
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return Fault(f"not YAML: {error.problem}", origin=Origin(shown))
    line, column = _within(lines, mark)
    message, hint = _words(error, lines, line, column)
    found = lines[line].strip() or None
    return Fault(message, origin=Origin(shown, line + 1, column + 1), found=found, hint=hint)


def _unreadable(content: str, shown: str) -> Fault:
    at = next((i for i, char in enumerate(content) if not (char.isprintable() or char in "\t\n")), 0)
    origin = Origin(shown, content.count("\n", 0, at) + 1, at - content.rfind("\n", 0, at))
    return Fault(f"a control character, U+{ord(content[at]):04X}", origin=origin)


def _within(lines: list[str], mark: Any) -> tuple[int, int]:
    """The place of a mark; that of the last line with text, if the mark is past the end."""
    if mark.line < len(lines) and (lines[mark.line].strip() or mark.line == 0):
        return mark.line, mark.column
    line = min(mark.line, len(lines) - 1)
    while line > 0 and not lines[line].strip():
        line -= 1
    return line, len(lines[line])


def _words(error: yaml.MarkedYAMLError, lines: list[str], line: int, column: int) -> tuple[str, str | None]:
    problem, context = error.problem or "", error.context or ""
    since = f" on line {error.context_mark.line + 1}" if error.context_mark is not None else ""
    text = lines[line]
    if "\t" in text[: len(text) - len(text.lstrip())]:
        return "a tab indents this line", "indent with spaces"
    if "cannot start any token" in problem:
        found = text[column : column + 1]
        return f"a text can't begin with {found!r}", "quote it"
    if "mapping values are not allowed" in problem:
        hint = "quote a text that holds ': '; keys of one mapping begin in one column"
        return "a ':' where no key can stand", hint
    if "flow sequence" in context:
        return f"the '[' opened{since} isn't closed, or a ',' is missing", _about_formulas(text)
    if "flow mapping" in context:
        return f"the '{{' opened{since} isn't closed, or a ',' is missing", _about_formulas(text)
    if "end of stream" in problem:
        return f"the quote opened{since} isn't closed", None
    if "expected ':'" in problem:
        return f"the key{since} has no ':'", "a key is followed by ': '; quote a text of several lines"
    if "escape" in problem:
        return "an unknown escape in double quotes", "single quotes take '\\' as it is"
    return _rarer_words(problem, context, since)


def _about_formulas(line: str) -> str | None:
    return QUOTE_FORMULA if _FORMULA.search(line) else None


def _rarer_words(problem: str, context: str, since: str) -> tuple[str, str | None]:
    if "block collection" in context:
        return f"this line doesn't fit the list begun{since}", "items of one list begin with '-' in one column"
    if "block mapping" in context:
        return f"this line doesn't fit the mapping begun{since}", "keys of one mapping begin in one column"
    if "tag" in problem:
        return "tags aren't allowed", None
    if "node content" in problem:
        return "a value is missing here", None
    if "document start" in problem:
        return "text after the end of the document", "a file holds one document"
    if "block scalar" in context:
        return "text after '|' or '>'", "the text begins on the next line"
    return f"not YAML: {problem}", None
