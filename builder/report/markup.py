"""HTML put together from values: every text is escaped, unless it is markup already."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from html import escape

VOID = frozenset(("br", "img", "input", "meta"))
"""Elements without an end."""


class Markup(str):
    """HTML that was made by `tag`, and so holds no text as it was given."""


def tag(name: str, /, *children: object, **attributes: object) -> Markup:
    """An element; children are markup or anything else, which is escaped as a text. None is left out.

    A trailing underscore of an attribute is dropped (`class_`), others become hyphens; True is an attribute alone,
    False and None are none.
    """
    said = "".join(_attribute(key.rstrip("_").replace("_", "-"), value) for key, value in attributes.items())
    if name in VOID:
        return Markup(f"<{name}{said}>")
    return Markup(f"<{name}{said}>{join(children)}</{name}>")


def join(parts: Iterable[object], between: str = "") -> Markup:
    """Parts one after the other."""
    return Markup(between.join(text(part) for part in parts if part is not None))


def text(value: object) -> Markup:
    """Markup as it is, anything else escaped; what isn't seen (control characters, changes of direction) as U+FFFD."""
    if isinstance(value, Markup):
        return value
    return Markup(escape("".join("\ufffd" if _is_hidden(char) else char for char in str(value))))


def _is_hidden(char: str) -> bool:
    return not char.isprintable() and char not in "\n\t" and unicodedata.category(char) in ("Cc", "Cf", "Cs")


def _attribute(name: str, value: object) -> str:
    if value is None or value is False:
        return ""
    return f" {name}" if value is True else f' {name}="{text(value)}"'
