"""Patterns for dotted names: globs, and regular expressions that can't run for ever."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from functools import lru_cache

import regex

from builder.errors import UsageError, nearest

REGEX = "re:"
"""How a regular expression begins; all else is a glob."""

SECONDS = 1.0
"""That one match may take: a pattern can be written that backtracks for years."""


def problem(pattern: str) -> str | None:
    """Why a pattern can't be used; one clause, None if it can."""
    if not pattern.removeprefix(REGEX):
        return "it is empty"
    try:
        _compiled(pattern)
    except (regex.error, RecursionError) as error:
        what = "it is no regular expression" if pattern.startswith(REGEX) else "what stands in its [ ] can't be read"
        return f"{what}: {error.msg if isinstance(error, regex.error) else error}"
    if pattern.startswith(REGEX):
        return None
    segments = pattern.split(".")
    if not all(segments):
        return "there is nothing between two dots, or before or after one"
    if any("**" in segment and segment != "**" for segment in segments):
        return "'**' stands alone between dots"
    return None


def fits(pattern: str, name: str) -> bool:
    """Whether a pattern matches a whole dotted name.

    In a glob `*` stands for anything within a segment, `?` for one character, `[0-3]` for one of some, and `**`
    for any number of segments, none included. `re:…` is a regular expression.

    Raises:
        UsageError: the match takes too long.
    """
    text = name if pattern.startswith(REGEX) else f"{name}." if name else ""
    try:
        return _compiled(pattern).fullmatch(text, timeout=SECONDS) is not None
    except TimeoutError:
        raise UsageError(f"pattern {pattern!r} takes too long to match {name!r}; write it more simply") from None


def covers(pattern: str, name: str) -> bool:
    """Whether a pattern matches a dotted name or one of its ancestors: `encoder` covers `encoder.fc.weight`.

    Raises:
        UsageError: the match takes too long.
    """
    ends = [index for index, char in enumerate(name) if char == "."]
    return any(fits(pattern, name[:end]) for end in ends) or fits(pattern, name)


def near(pattern: str, names: Collection[str]) -> tuple[str, ...]:
    """The names, whole or first segments of them, that are most like a pattern that matches none."""
    plain = pattern.removeprefix(REGEX).replace("\\", "").replace("**.", "").replace(".**", "").strip("*^$.")
    depth = plain.count(".") + 1
    starts = dict.fromkeys(".".join(name.split(".")[:depth]) for name in names)
    return nearest(plain, [*starts, *names]) or nearest(plain.rpartition(".")[2], _segments(names))


def _segments(names: Iterable[str]) -> dict[str, None]:
    return dict.fromkeys(segment for name in names for segment in name.split("."))


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> regex.Pattern[str]:
    if pattern.startswith(REGEX):
        return regex.compile(pattern.removeprefix(REGEX), regex.V0)
    return regex.compile("".join(map(_segment, pattern.split("."))))


def _segment(segment: str) -> str:
    """A glob's segment, and the dot after it, as a regular expression."""
    if segment == "**":
        return r"(?:[^.]+\.)*"
    if segment == "*":
        return r"[^.]+\."
    text, rest = "", segment
    while rest:
        char, rest = rest[0], rest[1:]
        if char == "[" and "]" in rest[1:]:
            end = rest.index("]", 1)
            inside, rest = rest[:end], rest[end + 1 :]
            text += f"[{'^.' if inside[0] in '!^' else ''}{_chosen(inside.lstrip('!^'))}]"
        else:
            text += {"*": "[^.]*", "?": "[^.]"}.get(char) or regex.escape(char)
    return text + r"\."


def _chosen(inside: str) -> str:
    """The characters of a class with what has a meaning in a regular expression escaped, ranges kept."""
    return inside.replace("\\", r"\\").replace("[", r"\[").replace("]", r"\]").replace("&", r"\&").replace("~", r"\~")
